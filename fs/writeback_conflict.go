package fs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"ftpfs/ftpconn"
)

// guard looks, before an upload that was put off, whether the server's file is still the one that was changed here. If it isn't, the
// local version is put beside it, and the answer is errConflict.
func (u *upload) guard(ctx context.Context, p string) error {
	f := u.f
	f.mu.Lock()
	behind := f.behind && !f.appends && !f.begun && time.Since(f.checked) >= sureFor
	created, was, resumed := f.created, versionOf(f.server), f.resumed
	f.mu.Unlock()
	if !behind {
		return nil
	}
	e, err := f.t.fresh(ctx, p, sureFor)
	if err == nil && !created && coarse(e) && !was.time.IsZero() && was.precision <= time.Second {
		e, err = f.t.exact(ctx, p)
	}
	switch {
	case notThere(err):
		return nil
	case err != nil:
		return err
	case e.Type == ftpconn.Dir:
		return ftpconn.ErrIsDir
	case !created && was.same(versionOf(e)):
	case resumed:
		switch ours, err := u.continues(ctx, p, e); {
		case err != nil:
			return err
		case !ours:
			return u.giveWay(ctx, p, e)
		}
		if e.Size == u.copy.Size() { // nothing but the confirmation was lost
			plan := u.copy.Plan()
			u.confirmed(plan)
		}
	default:
		return u.giveWay(ctx, p, e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked, f.resumed = time.Now(), false
	return nil
}

// continues says that what the server has at p is the beginning of the local copy, or all of it: an upload by the mount
// that this one has taken over from.
func (u *upload) continues(ctx context.Context, p string, e ftpconn.Entry) (bool, error) {
	if e.Size < 0 || e.Size > u.copy.Size() || len(u.copy.Missing(0, e.Size)) > 0 {
		return false, nil
	}
	if e.Size == 0 {
		return true, nil
	}
	d, err := u.f.t.remote.Retrieve(ctx, p, 0)
	if err != nil {
		return false, err
	}
	defer d.Close()
	there, here := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); off < e.Size; {
		n, err := io.ReadFull(d, there[:min(int64(len(there)), e.Size-off)])
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

// giveWay leaves the server's file e at p as it is, and puts the local version beside it.
func (u *upload) giveWay(ctx context.Context, p string, e ftpconn.Entry) error {
	f, t := u.f, u.f.t
	beside := conflictName(p, time.Now())
	if len(u.copy.Missing(0, u.copy.Size())) > 0 { // which can't be had any more
		t.reportConflict(fmt.Errorf("%s: %w; the parts that were changed here are kept on this machine", p, errConflict))
		f.abandon(p)
		return errConflict
	}
	if _, err := u.stream(ctx, beside, true); err != nil {
		return fmt.Errorf("putting the local version beside a file that was changed on the server meanwhile: %w", err)
	}
	t.reportConflict(fmt.Errorf("%s: %w; the local version is %s", p, errConflict, path.Base(beside)))
	if copy := f.letGo(); copy != nil {
		copy.Close()
	}
	f.mu.Lock()
	f.server, f.checked = e, time.Now()
	f.mu.Unlock()
	return errConflict
}

// conflictName is a name beside p that says what it is, with the ending of p.
func conflictName(p string, at time.Time) string {
	dir, name := path.Split(p)
	end := path.Ext(name)
	if end == name { // .profile
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
