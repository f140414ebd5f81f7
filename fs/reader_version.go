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
	e, p, err := r.n.own(ctx, func(p string) (ftpconn.Entry, error) { return r.n.t.fresh(ctx, p, time.Second) })
	if err == nil {
		_, err = r.grow(ctx, p, versionOf(e))
	}
	if err != nil && ctx.Err() != nil {
		return false, ctx.Err()
	}
	return pos >= r.size(), nil // what was removed won't grow
}

// surelyTold is how long after it was shown a size may not have been taken up by the kernel yet.
const surelyTold = 200 * time.Millisecond

// outgrown says that there is more behind end, where a read that began at a certain time came to the end of the file. If the kernel is told
// of a larger size while it waits for what is read, it takes what isn't filled for zeros: so that is ErrStale where the larger file is
// another one.
func (r *reader) outgrown(ctx context.Context, end int64, began time.Time) (bool, error) {
	shown, resized := r.n.shownSize()
	if shown <= end || r.size() > end {
		return false, nil
	}
	_, err := r.end(ctx, end)
	switch {
	case err != nil || r.size() > end:
		return err == nil, err
	case resized.After(began.Add(-surelyTold)):
		return false, fmt.Errorf("%s changed while it was read: %w", r.n.shownPath(), ftpconn.ErrStale)
	}
	return false, nil
}

// grow goes on with version now of the file at p if that is this one with more behind it, and says whether it is. Another file that has the
// name by now is none of this reader's business: all of its own was read.
func (r *reader) grow(ctx context.Context, p string, now version) (bool, error) {
	r.mu.Lock()
	known := r.other == now
	r.mu.Unlock()
	if known {
		return false, nil
	}
	more, err := r.extended(ctx, p, now)
	if more {
		r.adopt(now)
	} else if err == nil {
		r.mu.Lock()
		r.other = now
		r.mu.Unlock()
	}
	return more, err
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
// the size was out of date from the start; and growth, as of a log, where what was read first and last still stands.
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
	patching := r.patching()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.stale = err
		return err
	case patching && now.size == r.ver.size:
		r.moved = false
	case r.ver.same(now) && !r.moved:
		r.odd = r.odd || errors.Is(broke, errStamp)
		if now.exact() && now.size == r.ver.size {
			r.ver = now
		}
	case errors.Is(broke, errShort) && r.opened == 1 && now.size == pos:
		r.ver = now
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
	r.ver, r.streams, r.checked, r.stale = v, nil, time.Now(), nil
	r.unstampLocked()
	r.mu.Unlock()
	for _, s := range old {
		r.retire(s)
	}
}
