package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

const (
	// maxStreams is how many downloads one open file may have: one that goes on and one that jumps.
	maxStreams = 2
	// predecessor is how long a large read that continues nothing waits for the one before it:
	// the kernel sends readahead in order, but it arrives by several goroutines.
	predecessor     = time.Millisecond
	predecessorSize = 64 << 10
)

// reader reads one version of a file from the server, for one open handle. Any number of
// reads may run at once.
type reader struct {
	n *node // constant

	mu      sync.Mutex // guards following; never held over network I/O
	ver     version
	checked time.Time // when ver was last compared with what the Remote knows
	streams []*stream
	opened  int  // downloads so far
	atEnd   bool // the end was read once
	closed  bool
	stale   error // the version is gone from the server: the handle is of no more use
}

func newReader(n *node, ver version) *reader {
	return &reader{n: n, ver: ver, checked: time.Now()}
}

// readAt fills dest with what is at off. It returns fewer bytes without an error only at the end
// of the file. A download that breaks is taken up where it broke if the file is still the same
// version; if it isn't the answer is ErrStale, never bytes of two versions.
func (r *reader) readAt(ctx context.Context, dest []byte, off int64) (int, error) {
	n, broken, from := 0, false, int64(-1)
	for n < len(dest) {
		pos := off + int64(n)
		atEnd, err := r.end(ctx, pos)
		if atEnd || err != nil {
			return n, err
		}
		s, err := r.stream(ctx, pos, len(dest)-n, from)
		if err != nil {
			return n, err
		}
		m, err := s.read(ctx, dest[n:], pos)
		n += m
		switch {
		case err == nil:
			r.reached(off + int64(n))
			if size := r.size(); size >= 0 && off+int64(n) >= size {
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
		if m > 0 || madeRoom(err) {
			broken = false
		}
		if r.isClosed() {
			return n, fmt.Errorf("read of a closed file: %w", fs.ErrClosed)
		}
		if definite(err) || broken {
			return n, err
		}
		broken = true
		if err := r.recheck(ctx, off+int64(n), err); err != nil {
			return n, err
		}
	}
	return n, nil
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

// end says that pos is at or behind the end of the file. There the server is asked whether the file has
// grown, so that tail -f goes on; at most once a second.
func (r *reader) end(ctx context.Context, pos int64) (bool, error) {
	size := r.size()
	if size < 0 || pos < size {
		return false, nil
	}
	r.reached(pos)
	p, err := r.n.path()
	if err != nil {
		return true, nil // removed: it won't grow
	}
	e, err := r.n.t.fresh(ctx, p, time.Second)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return true, nil
	}
	if e.Size > size {
		r.adopt(versionOf(e))
		return pos >= e.Size, nil
	}
	return true, nil
}

// stream returns a running download that serves a read of n bytes at pos, the one in use or a new one. That
// begins at from if this is where another broke: all who waited for that one are to share the next.
func (r *reader) stream(ctx context.Context, pos int64, n int, from int64) (*stream, error) {
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
		for i, s := range r.streams {
			if s.accepts(pos) {
				r.streams = append(slices.Delete(r.streams, i, i+1), s)
				r.mu.Unlock()
				return s, nil
			}
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
		aged := r.opened > 0 && time.Since(r.checked) > max(r.n.t.opt.TTL, time.Second)
		r.mu.Unlock()
		if aged {
			if err := r.compare(ctx, pos, r.n.t.opt.TTL, nil); err != nil {
				return nil, err
			}
			continue
		}
		p, err := r.n.path()
		if err != nil {
			return nil, err
		}
		if from < 0 || from > pos || pos-from > minWindow+minSkip {
			from = pos
		}
		return r.start(p, pos, from), nil
	}
}

// start opens a download for pos at from, or for a small file at 0, unless another read did so meanwhile.
func (r *reader) start(p string, pos, from int64) *stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		if s.accepts(pos) {
			return s
		}
	}
	limit := r.ver.size
	if limit >= 0 && limit <= smallFile {
		from = 0
	}
	for len(r.streams) >= maxStreams {
		r.streams[0].close() // the one that was not used for longest
		r.streams = slices.Delete(r.streams, 0, 1)
	}
	var s *stream
	if from == 0 && limit >= 0 && limit <= smallFile {
		s = r.n.t.ahead.take(p, r.ver)
	}
	if s == nil {
		s = openStream(r.n.t.ctx, r.n.t, p, from, limit, nil)
	}
	r.opened++
	if r.closed {
		s.close()
		return s
	}
	r.streams = append(r.streams, s)
	return s
}

// recheck looks whether the file is still the same after a download broke at pos with err.
func (r *reader) recheck(ctx context.Context, pos int64, err error) error {
	if madeRoom(err) {
		return r.compare(ctx, pos, r.n.t.opt.TTL, err)
	}
	return r.compare(ctx, pos, 0, err)
}

// compare asks for the file's entry, not older than maxAge, and returns ErrStale if it is of another
// version. Two changes are taken for the same file: one that ended where the only download so far ended, because
// the size was out of date from the start; and growth behind an end that was read already, as of a log.
func (r *reader) compare(ctx context.Context, pos int64, maxAge time.Duration, broke error) error {
	p, err := r.n.path()
	if err != nil {
		return err
	}
	e, err := r.n.t.fresh(ctx, p, maxAge)
	switch {
	case notThere(err):
		err = fmt.Errorf("%s was removed while it was read: %w", p, ftpconn.ErrStale)
	case err != nil:
		return err
	}
	now := versionOf(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.stale = err
		return err
	case r.ver.same(now):
	case errors.Is(broke, errShort) && r.opened == 1 && now.size == pos:
		r.ver = now
	case r.atEnd && now.size > r.ver.size:
		r.ver = now
	default:
		r.stale = fmt.Errorf("%s changed while it was read: %w", p, ftpconn.ErrStale)
		return r.stale
	}
	r.checked = time.Now()
	return nil
}

// adopt goes on with a version that has grown.
func (r *reader) adopt(v version) {
	r.mu.Lock()
	old := r.streams
	r.ver, r.streams, r.checked, r.stale = v, nil, time.Now(), nil
	r.mu.Unlock()
	for _, s := range old {
		s.close()
	}
}

// reached notes that the end was read.
func (r *reader) reached(pos int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos >= r.ver.size {
		r.atEnd = true
	}
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

// drop gives a broken download up, and returns where it broke. What it brought stays readable until another
// download needs its place: reads arrive out of order, and an earlier one may be still to come.
func (r *reader) drop(s *stream) int64 { return s.position() }

// quiesce closes the downloads; the next read opens one again. Before an upload of the same file: vsftpd
// lets a STOR wait for a RETR that nobody drains.
func (r *reader) quiesce() {
	r.mu.Lock()
	old := r.streams
	r.streams = nil
	r.mu.Unlock()
	for _, s := range old {
		s.close()
	}
}

// close ends all downloads; reads fail from now on.
func (r *reader) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.quiesce()
}
