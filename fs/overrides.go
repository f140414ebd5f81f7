package fs

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// overrides is what chmod() and utimensat() set and the server doesn't keep, so that cp -a, tar, rsync and make find what they
// set: all of it on a server without a command for it, of others what theirs cuts off. What somebody else
// sets or writes later on the server shows.
type overrides struct {
	*cache.Attrs
	strict bool // nothing is remembered; what the server can't keep is refused

	modesLost, timesLost sync.Once // that was logged
}

// setMode remembers permission bits. server is what the server is to show meanwhile, if that is known.
func (o *overrides) setMode(p string, mode uint32, server uint32, known bool) {
	o.Update(p, func(v *cache.Attr) {
		v.Mode, v.HasMode = mode&0o7777, true
		v.ServerMode, v.HasServerMode = server, known
	})
}

func (o *overrides) dropMode(p string) {
	o.Update(p, func(v *cache.Attr) { v.Mode, v.HasMode, v.ServerMode, v.HasServerMode = 0, false, 0, false })
}

// setTime remembers a time for the file of which the server shows this version. What isn't known of it is learned from the next
// entry.
func (o *overrides) setTime(p string, mtime time.Time, server version) {
	o.Update(p, func(v *cache.Attr) {
		v.ModTime, v.Size, v.ServerTime, v.Precision = mtime, server.size, server.time, server.precision
		if server.precision == cache.Provisional {
			v.ServerTime, v.Precision = time.Time{}, 0
		}
	})
}

func (o *overrides) dropTime(p string) {
	o.Update(p, func(v *cache.Attr) { v.ModTime, v.Size, v.ServerTime, v.Precision = time.Time{}, 0, time.Time{}, 0 })
}

// apply returns an entry of the server as this mount shows it.
func (o *overrides) apply(p string, e ftpconn.Entry) ftpconn.Entry {
	v, ok := o.Get(p)
	if !ok {
		return e
	}
	if v.HasMode {
		seen := uint32(e.Mode)
		switch {
		case !e.HasMode, v.HasServerMode && seen == v.ServerMode, seen == v.Mode:
			e.Mode, e.HasMode = uint16(v.Mode), true
		case !v.HasServerMode:
			o.Update(p, func(v *cache.Attr) { v.ServerMode, v.HasServerMode = seen, true })
			e.Mode = uint16(v.Mode)
		default:
			o.dropMode(p)
		}
	}
	if v.ModTime.IsZero() {
		return e
	}
	was, now := version{v.Size, v.ServerTime, v.Precision}, versionOf(e)
	if e.Type != ftpconn.File {
		was.size = -1
	}
	if !was.same(now) {
		o.dropTime(p)
		return e
	}
	if !now.time.IsZero() && now.precision != cache.Provisional && (was.time.IsZero() || now.precision < was.precision) {
		o.Update(p, func(v *cache.Attr) { v.ServerTime, v.Precision = now.time, now.precision })
	}
	e.ModTime, e.ModPrecision = v.ModTime, time.Nanosecond
	return e
}

// lost says that the server can't keep what it was asked to set: it has no command for it, or doesn't take this value (odd).
// It may also be that the file is somebody else's, which is no reason to pretend.
func lost(err error, odd bool) bool {
	var reply *ftpconn.ReplyError
	refused := errors.As(err, &reply) && !reply.Temporary() && !ftpconn.IsLost(err) && !errors.Is(err, fs.ErrNotExist)
	return errors.Is(err, errors.ErrUnsupported) || odd && refused
}

// setMode sets permission bits: on the server, and what it doesn't keep or show of them here.
func (t *tree) setMode(ctx context.Context, p string, mode uint32) error {
	o := &t.overrides
	err := t.remote.Chmod(ctx, p, mode)
	switch {
	case err == nil:
		t.modeSet(p, mode)
	case o.strict:
	case lost(err, mode&0o400 == 0): // Pure-FTPd 1.0.50 doesn't let owners lock themselves out
		o.modesLost.Do(func() {
			t.log.Info("the server doesn't set permission bits, or not all; they are remembered here (attrs=strict refuses instead)", "path", p, "err", err)
		})
		o.setMode(p, mode, 0, false)
		return nil
	}
	return err
}

// modeSet remembers what the server doesn't keep or show of permission bits that it has set.
func (t *tree) modeSet(p string, mode uint32) {
	o := &t.overrides
	switch {
	case o.strict:
	case mode&0o7000 != 0: // vsftpd 3.0.3 takes 0777 of them
		o.setMode(p, mode, mode&0o777, true)
	case !t.remote.Features().Modes:
		o.setMode(p, mode, 0, false)
	default:
		o.dropMode(p)
	}
}

// setTime sets a modification time: on the server, and what it doesn't keep of it here.
func (t *tree) setTime(ctx context.Context, p string, mtime time.Time) error {
	o := &t.overrides
	err := t.remote.SetModTime(ctx, p, mtime)
	switch {
	case err == nil:
		t.timeSet(p, mtime)
	case o.strict:
	case lost(err, mtime.Unix() < 0): // before 1970: Apache FtpServer 550
		o.timesLost.Do(func() {
			t.log.Info("the server doesn't set times, or not all; they are remembered here (attrs=strict refuses instead)", "path", p, "err", err)
		})
		return t.rememberTime(ctx, p, mtime)
	}
	return err
}

// timeSet remembers what the server doesn't keep of a time that it has set.
func (t *tree) timeSet(p string, mtime time.Time) {
	o := &t.overrides
	switch {
	case o.strict:
	case mtime.Nanosecond() != 0:
		o.setTime(p, mtime, version{-1, mtime.Truncate(time.Second), time.Second})
	default:
		o.dropTime(p)
	}
}

// rememberTime is setTime for what the server has no time of its own for.
func (t *tree) rememberTime(ctx context.Context, p string, mtime time.Time) error {
	e, err := t.stat(ctx, p)
	if err == nil && e.Type == ftpconn.Dir && e.ModPrecision != cache.Provisional {
		e, err = t.fresh(ctx, p, 0) // what was made in it since has changed the server's time
	}
	if err != nil {
		return err
	}
	t.overrides.setTime(p, mtime, versionOf(e))
	return nil
}
