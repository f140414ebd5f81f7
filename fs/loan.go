package fs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// lendFrom is how many bytes a read has to be of for its bytes to be lent; fewer are copied.
const lendFrom = 32 << 10

// loan is the answer to a read where it is, in the chunks of a stream, so that the kernel copies it from there. It is
// given back by Done. The zero loan has nothing.
type loan struct {
	s      *stream
	chunks []*chunk
	parts  [][]byte
	n      int
}

var _ fuse.ReadResult = (*loan)(nil)

// Size returns how many bytes there are.
func (l *loan) Size() int { return l.n }

// Slices returns the bytes; go-fuse writes them to the kernel from where they are.
func (l *loan) Slices() ([][]byte, fuse.Status) { return l.parts, fuse.OK }

// Bytes copies to buf, which has room for all.
func (l *loan) Bytes(buf []byte) ([]byte, fuse.Status) { return buf[:l.copy(buf)], fuse.OK }

// answer is what a read gives the kernel: l, or data if l has nothing.
func (t *tree) answer(l *loan, data []byte) fuse.ReadResult {
	t.reads.Add(1)
	t.readBytes.Add(int64(len(data)))
	if l.n > 0 {
		return l
	}
	return fuse.ReadResultData(data)
}

func (l *loan) copy(dest []byte) (n int) {
	for _, p := range l.parts {
		n += copy(dest[n:], p)
	}
	return n
}

// Done gives the chunks back. A second call does nothing.
func (l *loan) Done() {
	if l.s == nil {
		return
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for _, c := range l.chunks {
		if c.lent--; c.lent == 0 && c.gone {
			c.gone = false
			l.s.letGoLocked(c)
		}
	}
	*l = loan{}
}

// bring is read, or lend where there is an l and enough is asked for and comes.
func (s *stream) bring(ctx context.Context, dest []byte, off int64, l *loan) (int, error) {
	if l != nil && len(dest) >= lendFrom {
		if n, err := s.lend(ctx, l, len(dest), off); err == nil {
			return n, nil
		}
	}
	return s.read(ctx, dest, off)
}

// lend is read without a copy: it waits for all of [off, off+n) that the file has, and makes it l. If not all comes it
// lends nothing, and returns why.
func (s *stream) lend(ctx context.Context, l *loan, n int, off int64) (int, error) {
	end := off + int64(n)
	if s.limit >= 0 {
		end = min(end, s.limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.base {
		return 0, errClosed // was dropped since accepts looked
	}
	s.askLocked(end)
	defer s.dropLocked()
	if s.end < end {
		w := &waiter{pos: off, end: end, ready: make(chan struct{}, 1)}
		s.waitLocked(w)
		defer func() {
			s.waitedLocked(w)
			if s.closed && len(s.waiting) == 0 {
				s.releaseLocked()
			}
		}()
		for s.end < end {
			if s.err != nil {
				return 0, s.err
			}
			s.mu.Unlock()
			select {
			case <-w.ready:
			case <-ctx.Done():
			}
			s.mu.Lock()
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
		}
	}
	s.lendLocked(l, off, end)
	return l.n, nil
}

// lendLocked makes l of [off, end), which has come.
func (s *stream) lendLocked(l *loan, off, end int64) {
	if off >= end {
		return
	}
	first, last := (off-s.base)/chunkSize, (end-1-s.base)/chunkSize
	l.s, l.n = s, int(end-off)
	l.chunks = make([]*chunk, 0, last-first+1)
	l.parts = make([][]byte, 0, last-first+1)
	for i := first; i <= last; i++ {
		c, at := s.chunks[i], s.base+i*chunkSize
		c.lent++
		l.chunks = append(l.chunks, c)
		part := c.data[max(off-at, 0):min(end-at, chunkSize)]
		c.taken += len(part)
		l.parts = append(l.parts, part)
	}
}
