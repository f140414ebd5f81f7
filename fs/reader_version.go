package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ftpfs/ftpconn"
)

// end says that pos is at or behind the end of the file. There the server is asked whether the file has
// grown, so that tail -f goes on; at most once a second.
func (r *reader) end(ctx context.Context, pos int64) (bool, error) {
	size := r.size()
	if size < 0 || pos < size {
		return false, nil
	}
	r.reached(pos)
	e, _, err := r.n.own(ctx, func(p string) (ftpconn.Entry, error) { return r.n.t.fresh(ctx, p, time.Second) })
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return true, nil // what was removed won't grow
	}
	if e.Size > size {
		r.adopt(versionOf(e))
		return pos >= e.Size, nil
	}
	return true, nil
}

// recheck looks whether the file is still the same after s, a download of it, broke at pos with err.
func (r *reader) recheck(ctx context.Context, s *source, pos int64, err error) error {
	switch {
	case givenUp(err):
		r.mu.Lock()
		ver, stamped := r.ver, r.stamp.Text != ""
		r.mu.Unlock()
		if stamped { // the next download will tell
			return nil
		}
		if !ver.exact() {
			break
		}
		// The server's own word, for the price of one round trip: the download that was given up had its file open there, and the
		// next one opens what has the name now.
		switch now, lookErr := s.look(ctx); {
		case lookErr == nil && now.same(ver):
			return nil
		case lookErr != nil && (ctx.Err() != nil || broken(lookErr)):
			return lookErr
		case lookErr == nil || notThere(lookErr):
			return r.compare(ctx, pos, 0, err)
		}
	case !madeRoom(err):
		return r.compare(ctx, pos, 0, err)
	}
	return r.compare(ctx, pos, r.n.t.opt.TTL, err)
}

// compare asks for the file's entry, not older than maxAge, and returns ErrStale if it is of another
// version. Two changes are taken for the same file: one that ended where the only download so far ended, because
// the size was out of date from the start; and growth, as of a log, behind an end that was read already, or where what was read
// first and last still stands.
func (r *reader) compare(ctx context.Context, pos int64, maxAge time.Duration, broke error) error {
	e, p, err := r.n.own(ctx, func(p string) (ftpconn.Entry, error) { return r.n.t.fresh(ctx, p, maxAge) })
	switch {
	case notThere(err):
		err = fmt.Errorf("%s was removed while it was read: %w", p, ftpconn.ErrStale)
	case err != nil:
		return err
	}
	now := versionOf(e)
	if err == nil {
		if more, err := r.extended(ctx, p, now); err != nil {
			return err
		} else if more {
			r.adopt(now)
			return nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.stale = err
		return err
	case r.ver.same(now) && !r.moved:
		r.odd = r.odd || errors.Is(broke, errStamp)
		if now.exact() && now.size == r.ver.size {
			r.ver = now
		}
	case errors.Is(broke, errShort) && r.opened == 1 && now.size == pos:
		r.ver = now
	case r.atEnd && now.size > r.ver.size:
		r.ver, r.stamp, r.moved = now, ftpconn.Stamp{}, false
	default:
		r.stale = fmt.Errorf("%s changed while it was read: %w", p, ftpconn.ErrStale)
		return r.stale
	}
	r.checked = time.Now()
	return nil
}

// outdated takes note that the version is gone from the server.
func (r *reader) outdated(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale == nil {
		r.stale = err
	}
	return r.stale
}

// adopt goes on with a version that has grown.
func (r *reader) adopt(v version) {
	r.mu.Lock()
	old := r.streams
	r.ver, r.streams, r.checked, r.stale, r.stamp, r.moved = v, nil, time.Now(), nil, ftpconn.Stamp{}, false
	r.mu.Unlock()
	for _, s := range old {
		r.retire(s)
	}
}
