package fs

import (
	"context"
	"errors"
	"time"

	"ftpfs/ftpconn"
)

// close ends an upload, together with the mode and time that were asked for while the file was written. What the server
// didn't take of these stays for attributes.
func (u *upload) close(up ftpconn.Upload, p string) error {
	f := u.f
	f.mu.Lock()
	a := ftpconn.Attrs{Mode: f.setMode, HasMode: f.hasMode, ModTime: f.setTime, New: f.created}
	version := u.copy.Version()
	f.mu.Unlock()
	set, err := ftpconn.CloseWith(up, a)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if set.HasMode {
		f.hasMode = f.setMode != set.Mode
		f.server.Mode, f.server.HasMode = uint16(set.Mode), true // as it is shown until the end of the upload
		f.t.modeSet(p, set.Mode)
	}
	if !set.ModTime.IsZero() {
		if f.setTime.Equal(set.ModTime) && u.copy.Version() == version { // what was written since is to have it, too
			f.setTime, f.mtime = time.Time{}, set.ModTime
		}
		f.t.timeSet(p, set.ModTime)
		u.timed = true
	}
	return nil
}

// attributes sets the mode and time that were asked for while the file was being written. The time of what was written since is
// for the next upload, which would change it again.
func (u *upload) attributes(ctx context.Context) error {
	f := u.f
	f.mu.Lock()
	mode, hasMode, mtime := f.setMode, f.hasMode, f.setTime
	if u.copy.Version() != u.upTo {
		mtime = time.Time{}
	}
	f.mu.Unlock()
	if !hasMode && mtime.IsZero() {
		return nil
	}
	p, err := u.place(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if hasMode {
		err := f.t.setMode(ctx, p, mode)
		if err != nil {
			f.t.errno("chmod", p, err)
			errs = append(errs, err)
		}
		f.mu.Lock()
		f.hasMode = f.hasMode && f.setMode != mode
		if err == nil { // it is shown until the end of the upload
			f.server.Mode, f.server.HasMode = uint16(mode), true
		}
		f.mu.Unlock()
	}
	if !mtime.IsZero() {
		f.retimed()
		err := f.t.setTime(ctx, p, mtime)
		f.retimed()
		if err != nil {
			f.t.errno("utimens", p, err)
			errs = append(errs, err)
		}
		f.mu.Lock()
		if f.setTime.Equal(mtime) && u.copy.Version() == u.upTo {
			f.setTime, f.mtime = time.Time{}, mtime
		}
		f.server.ModTime, f.server.ModPrecision = time.Time{}, 0
		f.mu.Unlock()
	}
	if f.t.overrides.strict { // fchmod() and futimens() could not say so
		return errors.Join(errs...)
	}
	return nil
}
