package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

const (
	// predecessor is how long a large read that continues nothing waits for the one before it:
	// the kernel sends readahead in order, but it arrives by several goroutines.
	predecessor     = time.Millisecond
	predecessorSize = 64 << 10
)

// reader reads one version of a file from the blocks or from the server, for one open handle. Any number of
// reads may run at once.
type reader struct {
	n *node // constant

	mu      sync.Mutex // guards following; never held over network I/O
	ver     version
	checked time.Time // when ver was last compared with what the Remote knows
	streams []*source // the one that was not used for longest first
	opened  int       // downloads so far
	left    []int64   // where the last of them were left
	descent descent
	atEnd   bool // the end was read once
	closed  bool
	stale   error // the version is gone from the server: the handle is of no more use
	stamps

	identified bool
	owner      uint64                         // of blocks that are this reader's alone; 0: none yet
	owned      map[cache.FileVersion]struct{} // these
}

func newReader(n *node, ver version) *reader {
	return &reader{n: n, ver: ver, checked: time.Now(), owned: make(map[cache.FileVersion]struct{})}
}

// readAt fills dest with what is at off. It returns fewer bytes without an error only at the end
// of the file. A download that breaks is taken up where it broke if the file is still the same
// version; if it isn't the answer is ErrStale, never bytes of two versions.
func (r *reader) readAt(ctx context.Context, dest []byte, off int64) (int, error) {
	return r.read(ctx, dest, off, nil)
}

// read is readAt, except that what is in one piece in a download may be made l, if there is one, instead of being copied
// to dest. Without an error l has all that is returned, or nothing.
func (r *reader) read(ctx context.Context, dest []byte, off int64, l *loan) (int, error) {
	n, from := 0, int64(-1)
	again := r.n.t.patience()
	if err := r.identify(ctx); err != nil {
		return 0, err
	}
	for n < len(dest) {
		pos := off + int64(n)
		atEnd, err := r.end(ctx, pos)
		if atEnd || err != nil {
			return n, err
		}
		if m := r.fromBlocks(dest[n:], pos); m > 0 {
			n += m
			if r.reached(off + int64(n)) {
				return n, nil
			}
			continue
		}
		s, err := r.stream(ctx, pos, len(dest)-n, from)
		if err != nil && broken(err) && !r.isClosed() { // whether the file is the same can't be told, at present
			err = again.wait(ctx, err)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return n, err
		}
		to := l
		if n > 0 {
			to = nil
		}
		m, err := s.bring(ctx, dest[n:], pos, to)
		if l != nil && l.n > 0 {
			r.used(s, pos, l.parts...)
			if m < len(dest) && !r.reached(pos+int64(m)) {
				l.copy(dest)
				l.Done()
			}
		} else {
			r.used(s, pos, dest[n:n+m])
		}
		n += m
		if m > 0 {
			again.progressed()
		}
		switch {
		case err == nil:
			if r.reached(off + int64(n)) {
				return n, nil
			}
			continue
		case err == io.EOF:
			r.reached(off + int64(n))
			return n, nil
		case ctx.Err() != nil:
			return n, ctx.Err()
		}
		from = r.drop(s)
		if madeRoom(err) {
			again.progressed()
		}
		if errors.Is(err, errStamp) {
			if err = r.compare(ctx, pos, 0, err); err == nil {
				continue
			}
			if !broken(err) {
				return n, err
			}
		}
		if r.isClosed() {
			return n, fmt.Errorf("read of a closed file: %w", fs.ErrClosed)
		}
		if errors.Is(err, ftpconn.ErrStale) {
			return n, r.outdated(err)
		}
		if errors.Is(err, errAway) {
			if err := r.n.awaitName(ctx); err != nil {
				return n, err
			}
			continue
		}
		if r.n.movedFrom(ctx, s.path, s.since, err) {
			continue
		}
		for broke := err; err != nil; {
			if definite(err) || !broken(err) && again.tries+1 >= maxAttempts {
				return n, err
			}
			if err := again.wait(ctx, err); err != nil {
				return n, err
			}
			if err = r.recheck(ctx, s, off+int64(n), broke); err != nil && !broken(err) {
				return n, err
			}
		}
	}
	return n, nil
}

// fromBlocks reads what is at pos from the blocks, unless a running download has it: that one is to see that it is read
// on.
func (r *reader) fromBlocks(dest []byte, pos int64) int {
	r.mu.Lock()
	for _, s := range r.streams {
		if s.holds(pos) {
			r.mu.Unlock()
			return 0
		}
	}
	r.mu.Unlock()
	for _, v := range r.contents() {
		if n := r.n.t.blocks().ReadAt(v, dest, pos); n > 0 {
			r.mu.Lock()
			r.rememberLocked(pos, dest[:n])
			r.mu.Unlock()
			return n
		}
	}
	return 0
}

// madeRoom says that a download was ended on purpose, and says nothing of the file.
func madeRoom(err error) bool {
	return errors.Is(err, errIdle) || errors.Is(err, errClosed) || errors.Is(err, ftpconn.ErrPreempted) || errors.Is(err, ftpconn.ErrNoneFree)
}

// definite says that asking again would bring the same answer.
func definite(err error) bool {
	for _, kind := range []error{fs.ErrNotExist, fs.ErrPermission, ftpconn.ErrIsDir, ftpconn.ErrNotDir,
		ftpconn.ErrLogin, ftpconn.ErrBadName, errors.ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// stream returns a running download that serves a read of n bytes at pos, the one in use or a new one; used ends the use. The
// new one begins at from if this is where another broke: all who waited for that one are to share the next.
func (r *reader) stream(ctx context.Context, pos int64, n int, from int64) (*source, error) {
	waited := false
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, fmt.Errorf("read of a closed file: %w", fs.ErrClosed)
		}
		if err := r.stale; err != nil {
			r.mu.Unlock()
			return nil, err
		}
		if from < 0 {
			from = r.brokenLocked(pos)
		}
		if s := r.acceptsLocked(pos, from); s != nil {
			r.mu.Unlock()
			return s, nil
		}
		if !waited && from < 0 && pos > 0 && n >= predecessorSize {
			r.mu.Unlock()
			waited = true
			select {
			case <-time.After(predecessor):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			continue
		}
		aged := r.opened > 0 && r.stamp.Text == "" && time.Since(r.checked) > max(r.n.t.opt.TTL, time.Second)
		over, why := r.givenUpLocked()
		r.mu.Unlock()
		if over != nil {
			if err := r.recheck(ctx, over, pos, why); err != nil {
				return nil, err
			}
			r.mu.Lock()
			over.asked = true
			r.mu.Unlock()
			continue
		}
		if aged {
			if err := r.compare(ctx, pos, r.n.t.opt.TTL, nil); err != nil {
				return nil, err
			}
			continue
		}
		since := r.n.t.renames.Load()
		p, err := r.n.path()
		if err != nil {
			return nil, err
		}
		return r.start(p, since, pos, from), nil
	}
}

// reached notes that the file was read up to pos, and says whether that is its end as far as it is known.
func (r *reader) reached(pos int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos >= r.ver.size {
		r.atEnd = true
	}
	return r.ver.size >= 0 && pos >= r.ver.size
}

func (r *reader) hasReachedEnd() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atEnd
}

func (r *reader) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ver.size
}

func (r *reader) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// drop takes note that a download broke, and returns where. What has come of it may still be asked for: the kernel's
// requests come out of order.
func (r *reader) drop(s *source) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.broken = true
	return s.position()
}

// quiesce closes the downloads; the next read opens one again. Before an upload of the same file: vsftpd
// lets a STOR wait for a RETR that nobody drains.
func (r *reader) quiesce() {
	r.mu.Lock()
	old := r.streams
	r.streams = nil
	r.mu.Unlock()
	for _, s := range old {
		r.retire(s)
	}
}

// close ends all downloads; reads fail from now on.
func (r *reader) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.quiesce()
	r.mu.Lock()
	owned := r.owned
	r.owned = make(map[cache.FileVersion]struct{})
	r.mu.Unlock()
	for v := range owned {
		r.n.t.blocks().Drop(v)
	}
}
