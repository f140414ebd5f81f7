package fs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// guard looks, before an upload that was put off, whether the server's file is still the one that was changed here. If it isn't, the
// local version is put beside it, and the answer is errConflict.
func (u *upload) guard(ctx context.Context, p string) error {
	f := u.f
	f.mu.Lock()
	behind := f.behind && !f.begun && time.Since(f.checked) >= sureFor
	created, appends, was, resumed := f.created, f.appends, versionOf(f.server), f.resumed
	f.mu.Unlock()
	switch {
	case !behind || appends && !resumed: // appends go behind whatever is there
		return nil
	case appends:
		return u.catchUp(ctx, p)
	}
	if was.precision == cache.Provisional { // by our clock, which need not be the server's
		was.time = time.Time{}
	}
	e, err := f.t.fresh(ctx, p, sureFor)
	if err == nil && !created && coarse(e) && !was.time.IsZero() && was.precision <= time.Second {
		e, err = f.t.exact(ctx, p)
	}
	begun := false
	switch {
	case notThere(err) && !created && len(u.copy.Missing(0, u.copy.Size())) > 0: // which nobody has any more
		return u.giveWay(ctx, p, e)
	case notThere(err):
		return nil
	case err != nil:
		return err
	case e.Type == ftpconn.Dir:
		return u.giveWay(ctx, p, e)
	case !created && was.same(versionOf(e)):
	case resumed:
		plan := u.copy.Plan()
		ours, err := u.continues(ctx, p, e)
		switch {
		case u.copy.Version() != plan.Version: // what was compared isn't what there is
			return errRetry
		case err != nil:
			return err
		case !ours:
			return u.giveWay(ctx, p, e)
		}
		if begun = true; e.Size == plan.Size { // nothing but the confirmation was lost
			u.confirmed(plan)
		}
	default:
		return u.giveWay(ctx, p, e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked, f.resumed, f.begun = time.Now(), false, begun
	return nil
}

// continues says that what the server has at p is the beginning of the local copy, or all of it: an upload by the mount
// that this one has taken over from.
func (u *upload) continues(ctx context.Context, p string, e ftpconn.Entry) (bool, error) {
	if e.Size < 0 || e.Size > u.copy.Size() || len(u.copy.Missing(0, e.Size)) > 0 {
		return false, nil
	}
	return u.holds(ctx, p, 0, e.Size)
}

// holds says that the server's file has at [from, to) what the local copy has there.
func (u *upload) holds(ctx context.Context, p string, from, to int64) (bool, error) {
	if from == to {
		return true, nil
	}
	d, err := u.f.t.remote.Retrieve(ctx, p, from)
	if err != nil {
		return false, err
	}
	defer d.Close()
	there, here := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := from; off < to; {
		n, err := io.ReadFull(d, there[:min(int64(len(there)), to-off)])
		if err != nil {
			return false, err
		}
		if _, _, err := u.copy.ReadAt(here[:n], off); err != nil {
			return false, err
		}
		if !bytes.Equal(here[:n], there[:n]) {
			return false, nil
		}
		off += int64(n)
	}
	return true, nil
}

// catchUp finds out how much of what is to be appended was brought there already by the mount that this one has taken over from: sent
// again it would be there twice.
func (u *upload) catchUp(ctx context.Context, p string) error {
	f := u.f
	e, err := f.t.fresh(ctx, p, 0)
	if err != nil && !notThere(err) {
		return err
	}
	plan, base := u.copy.Plan(), u.copy.Base()
	if upTo := min(e.Size, plan.Size); err == nil && e.Type == ftpconn.File && upTo > base {
		switch ours, err := u.holds(ctx, p, base, upTo); {
		case u.copy.Version() != plan.Version:
			return errRetry
		case err != nil:
			return err
		case ours && !u.copy.Arrived(plan.Version, upTo):
			return errRetry
		case ours:
			f.mu.Lock()
			f.created, f.checked = false, time.Now()
			if f.server = (ftpconn.Entry{Type: ftpconn.File, Size: upTo, UID: -1, GID: -1}); e.Size > upTo {
				f.checked = time.Time{} // others have gone on behind it
			}
			f.mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resumed = false
	return nil
}

// giveWay leaves the server's file e at p as it is, and puts the local version beside it.
func (u *upload) giveWay(ctx context.Context, p string, e ftpconn.Entry) error {
	f, t := u.f, u.f.t
	if len(u.copy.Missing(0, u.copy.Size())) > 0 { // which can't be had any more
		t.reportConflict(fmt.Errorf("%s: %w; the parts that were changed here are kept on this machine", p, errConflict))
		f.abandon(p)
		return errConflict
	}
	f.mu.Lock()
	if f.beside == "" {
		f.beside = path.Base(conflictName(p, time.Now()))
	}
	beside := path.Join(path.Dir(p), f.beside)
	f.mu.Unlock()
	plan, err := u.stream(ctx, beside, true)
	switch {
	case err != nil:
		return fmt.Errorf("putting the local version beside a file that was changed on the server meanwhile: %w", err)
	case u.copy.Version() != plan.Version: // written to meanwhile
		return errRetry
	}
	f.mu.Lock()
	f.server, f.checked, f.beside = e, time.Now(), ""
	for h := range f.handles {
		h.stale.Store(h.write) // it isn't for the server's file what is still written
	}
	f.mu.Unlock()
	copy := f.letGo()
	t.reportConflict(fmt.Errorf("%s: %w; the local version is %s", p, errConflict, path.Base(beside)))
	switch {
	case copy == nil:
	case copy.Version() != plan.Version: // in this moment
		t.keep(p, copy)
	default:
		copy.Close()
	}
	return errConflict
}

// conflictName is a name beside p that says what it is, with the ending of p.
func conflictName(p string, at time.Time) string {
	dir, name := path.Split(p)
	end := path.Ext(name)
	const longestEnd = 32
	if end == name || len(end) > longestEnd { // .profile
		end = ""
	}
	mark := ".ftpfs-conflict-" + at.UTC().Format("20060102-150405.000000")
	stem := strings.TrimSuffix(name, end)
	if over := len(stem) + len(mark) + len(end) - 255; over > 0 {
		stem = stem[:max(len(stem)-over, 1)]
	}
	return dir + stem + mark + end
}

func (t *tree) reportConflict(err error) {
	t.log.Error("conflict", "err", err)
	t.pendingMu.Lock()
	defer t.pendingMu.Unlock()
	t.pending = append(t.pending, err)
}

// fetched has what was fetched of the server's file in the journal, before the upload destroys it there.
func (u *upload) fetched() error {
	f := u.f
	f.mu.Lock()
	behind := f.behind && f.copy == u.copy
	f.mu.Unlock()
	if !behind || u.copy.Base() == 0 {
		return nil
	}
	return f.journal(u.copy, false)
}
