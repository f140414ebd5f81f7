package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sync"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// refusesAppend says that the server doesn't take APPE, or REST before STOR: ProFTPD by default answers 451 for a file
// that exists, others don't know the command.
func refusesAppend(err error) bool {
	var reply *ftpconn.ReplyError
	return errors.As(err, &reply) && !ftpconn.IsLost(err) && !errors.Is(err, ftpconn.ErrNoSpace) && !errors.Is(err, ftpconn.ErrQuota) &&
		!errors.Is(err, ftpconn.ErrTooMany) && !errors.Is(err, ftpconn.ErrLogin) && !errors.Is(err, ftpconn.ErrDataMode)
}

// reForbidden is what vsftpd 3.0.3 says of a command that it is told to refuse (cmds_denied), whatever the file, and FileZilla Server
// to users who may not append.
var reForbidden = regexp.MustCompile(`(?i)^permission denied\.?$`)

// deniesFile says that a refusal of APPE is surely for the file, so that STOR would be refused as well. vsftpd 3.0.3 and Pure-FTPd
// 1.0.50 say 553, ProFTPD 1.3.8 and others 550.
func deniesFile(err error) bool {
	var reply *ftpconn.ReplyError
	return errors.Is(err, fs.ErrPermission) && errors.As(err, &reply) &&
		(reply.Code == 553 || reply.Code == 550 && !reForbidden.MatchString(reply.Text))
}

// whole sends the whole file by STOR, after what is only on the server was fetched.
func (u *upload) whole(ctx context.Context, p string) error {
	f := u.f
	if err := u.fetchMissing(ctx, 0, u.copy.Size()); err != nil {
		return err
	}
	if err := u.fetched(); err != nil {
		return err
	}
	f.mu.Lock()
	appends := f.appends && u.copy.Base() == 0 // another client may have made the file, or written to it, meanwhile
	f.mu.Unlock()
	if !appends {
		if u.goesAside(p) {
			if err := u.aside(ctx, p); !errors.Is(err, errInPlace) {
				return err
			}
		}
		u.overwrites(p)
		plan, err := u.stream(ctx, p, false)
		if err == nil {
			u.confirmed(plan)
		}
		return err
	}
	err := u.appendFrom(ctx, p, 0, 0)
	if err != nil { // what arrived of it is replaced
		f.mu.Lock()
		f.appends = false
		f.mu.Unlock()
		if refusesAppend(err) || errors.Is(err, ftpconn.ErrMismatch) {
			return errRetry
		}
	}
	return err
}

// fetchMissing brings what of [off, end) is only on the server into the local copy.
func (u *upload) fetchMissing(ctx context.Context, off, end int64) error {
	for _, gap := range u.copy.Missing(off, end) {
		buf := make([]byte, min(256<<10, gap.Len()))
		for off := gap.Off; off < gap.End; {
			n := min(int64(len(buf)), gap.End-off)
			if err := u.f.fetch(ctx, u.copy, buf[:n], off); err != nil {
				u.again.exhaust() // the reader had its own
				return fmt.Errorf("fetching what stays of the file: %w", err)
			}
			off += n
		}
	}
	return nil
}

// append sends the bytes behind what the server has by APPE. The server's size is looked at first if it isn't known
// for sure: another writer's bytes stay where this one only ever appended, and are replaced where it didn't.
func (u *upload) append(ctx context.Context, p string, plan cache.Plan) error {
	f := u.f
	f.mu.Lock()
	sure, appends := time.Since(f.checked) < sureFor, f.appends
	f.mu.Unlock()
	if !sure {
		e, err := f.t.fresh(ctx, p, 0)
		switch {
		case err != nil && !notThere(err):
			return err
		case (err != nil || e.Size != plan.Off) && !appends:
			u.copy.MarkBroken(0)
			return errRetry
		case err != nil || e.Size != plan.Off:
			if err := u.appendFrom(ctx, p, plan.Off, 0); err != nil {
				return err
			}
			return f.resync(ctx, p)
		}
		f.mu.Lock()
		f.checked = time.Now()
		f.mu.Unlock()
	}
	from := plan.Off
	for cuts := 0; ; {
		err := u.appendFrom(ctx, p, from, from)
		if err == nil {
			return nil
		}
		// How much has arrived? The size tells, if nobody else writes.
		var e ftpconn.Entry
		for sizeErr := err; sizeErr != nil; {
			if errors.Is(sizeErr, ftpconn.ErrMismatch) && cuts < maxCuts {
				cuts++
			} else if err := u.breathe(ctx, p, sizeErr); err != nil {
				return err
			}
			if e, sizeErr = f.t.fresh(ctx, p, 0); sizeErr != nil && !broken(sizeErr) {
				return err
			}
		}
		if e.Size < from || e.Size > plan.Size || u.copy.Version() != plan.Version {
			return err
		}
		if e.Size > from {
			u.again.progressed()
		}
		if from = e.Size; from == plan.Size {
			u.confirmed(plan)
			return nil
		}
	}
}

// appendFrom sends what is local from off on by APPE, behind what is there: before bytes at least.
func (u *upload) appendFrom(ctx context.Context, p string, off, before int64) error {
	st := u.copy.Stream(off)
	defer st.Close()
	done, err := u.send(ctx, store{p, ftpconn.Append, off, before, false}, st)
	if err == nil {
		u.confirmed(done.plan)
	}
	return err
}

// resync takes over the server's size after bytes went behind those of another client.
func (f *file) resync(ctx context.Context, p string) error {
	if err := f.lockPrep(ctx); err != nil {
		return err
	}
	defer f.unlockPrep()
	e, err := f.t.fresh(ctx, p, 0)
	f.mu.Lock()
	dirty := f.copy == nil || f.copy.Dirty()
	f.mu.Unlock()
	if err != nil || dirty || e.Size < 0 {
		f.mu.Lock()
		f.checked = time.Time{}
		f.mu.Unlock()
		return nil
	}
	_, err = f.renew(p, e, true)
	return err
}

// quiesce ends the downloads of the file: vsftpd lets a STOR wait for a RETR of the same one.
func (f *file) quiesce() {
	f.mu.Lock()
	readers := f.readersLocked()
	f.mu.Unlock()
	for _, r := range readers {
		r.quiesce()
	}
}

// store is one STOR or APPE of an upload.
type store struct {
	path   string
	mode   ftpconn.StoreMode
	off    int64 // where it begins, in the local copy
	before int64 // how much the server's file has before it at least
	aside  bool  // path is a temporary one
}

// sent is what became of a store.
type sent struct {
	plan  cache.Plan // what the server has, if it succeeded
	begun bool       // if it failed: the server had begun to store
}

// What is sent is copied in pieces of sendBuffer bytes at most, or lent: from lendUpload bytes on, where that costs less, and up
// to maxLent at once.
const (
	sendBuffer = 256 << 10
	lendUpload = 64 << 10
	maxLent    = 1 << 20
)

// sendBuffers keeps buffers for the next upload: many are of small files.
var sendBuffers = sync.Pool{New: func() any { return new([sendBuffer]byte) }}

// send makes one store of what is local from off on, where st is. It follows a writer until finish, and ends
// when everything is sent and checked.
func (u *upload) send(ctx context.Context, to store, st *cache.Stream) (done sent, err error) {
	f := u.f
	f.quiesce()
	up, err := f.t.remote.Store(ctx, to.path, to.mode, to.before)
	if err != nil {
		return done, err
	}
	if !to.aside {
		u.started.Store(true)
	}
	defer func() {
		if err != nil {
			done.begun = up.Begun()
			up.Abort()
			if to.mode == ftpconn.Append {
				u.copy.MarkBroken(to.off)
			} else {
				u.copy.MarkBroken(0)
			}
		}
	}()
	buf := sendBuffers.Get().(*[sendBuffer]byte)
	defer sendBuffers.Put(buf)
	finish, lent := u.finish, false
	for {
		changed := u.copy.Changed()
		var file *os.File
		var off, n int64
		if !u.copies {
			file, off, n, err = st.Lend(lendUpload, maxLent)
		}
		if n == 0 && err == nil {
			var m int
			m, err = st.Next(buf[:])
			file, n = nil, int64(m)
		}
		switch {
		case errors.Is(err, cache.ErrRewritten):
			return done, errRetry
		case err != nil:
			return done, err
		case n > 0:
			if file != nil {
				lent = true
				_, err = ftpconn.SendFile(up, file, off, n)
			} else {
				_, err = up.Write(buf[:n])
			}
			switch {
			case errors.Is(err, ftpconn.ErrSource) && !st.Steady(): // cut while it was lent
				return done, errRetry
			case errors.Is(err, ftpconn.ErrSource):
				return done, fmt.Errorf("local copy of %q: %w", f.n.shownPath(), err)
			case err != nil:
				if verdict := up.Close(); verdict != nil {
					return done, verdict
				}
				return done, err
			}
			u.advance(n)
			if ctx.Err() != nil {
				return done, ctx.Err()
			}
			continue
		}
		if finish == nil {
			plan := u.copy.Plan()
			if st.Pos() == plan.Size && st.Intact() {
				if to.aside { // what it is to have is set when it has its name
					err = up.Close()
				} else {
					err = u.close(up, to.path)
				}
				if err != nil {
					return done, err
				}
				if lent && !st.Steady() { // the server may have some of what was written meanwhile
					u.copies = true
					return done, errRetry
				}
				done.plan = plan
				return done, nil
			}
			if !st.Intact() {
				return done, errRetry
			}
		}
		select {
		case <-finish:
			finish = nil
		case <-changed:
		case <-ctx.Done():
			return done, ctx.Err()
		}
	}
}
