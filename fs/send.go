package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// refusesAppend says that the server doesn't take APPE: ProFTPD by default answers 451 for a file that exists,
// others don't know the command.
func refusesAppend(err error) bool {
	var reply *ftpconn.ReplyError
	return errors.As(err, &reply) && !ftpconn.IsLost(err) && !errors.Is(err, ftpconn.ErrNoSpace) && !errors.Is(err, ftpconn.ErrQuota) &&
		!errors.Is(err, ftpconn.ErrTooMany) && !errors.Is(err, ftpconn.ErrLogin) && !errors.Is(err, ftpconn.ErrDataMode)
}

// whole sends the whole file by STOR, after what is only on the server was fetched.
func (u *upload) whole(ctx context.Context, p string) error {
	f := u.f
	buf := make([]byte, 256<<10)
	for _, gap := range u.copy.Missing(0, u.copy.Size()) {
		for off := gap.Off; off < gap.End; {
			n := min(int64(len(buf)), gap.End-off)
			if err := f.fetch(ctx, u.copy, buf[:n], off); err != nil {
				return fmt.Errorf("fetching what stays of the file: %w", err)
			}
			off += n
		}
	}
	f.mu.Lock()
	mode := ftpconn.Replace
	if f.appends && u.copy.Base() == 0 {
		mode = ftpconn.Append // another client may have made the file, or written to it, meanwhile
	}
	f.mu.Unlock()
	err := u.send(ctx, p, mode, 0, buf)
	if mode == ftpconn.Append && err != nil { // what arrived of it is replaced
		f.mu.Lock()
		f.appends = false
		f.mu.Unlock()
		if refusesAppend(err) {
			return errRetry
		}
	}
	return err
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
			if err := u.send(ctx, p, ftpconn.Append, plan.Off, nil); err != nil {
				return err
			}
			return f.resync(ctx, p)
		}
		f.mu.Lock()
		f.checked = time.Now()
		f.mu.Unlock()
	}
	from := plan.Off
	for lost := 1; ; lost++ {
		err := u.send(ctx, p, ftpconn.Append, from, nil)
		if err == nil || !ftpconn.IsLost(err) || ctx.Err() != nil || lost == maxAttempts {
			return err
		}
		// How much has arrived? The size tells, if nobody else writes.
		e, sizeErr := f.t.fresh(ctx, p, 0)
		if sizeErr != nil || e.Size < from || e.Size > plan.Size || u.copy.Version() != plan.Version {
			return err
		}
		if from = e.Size; from == plan.Size {
			u.confirmed(plan)
			return nil
		}
	}
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

// send runs one STOR or APPE of what is local from off on. It follows a writer until finish, and ends
// when everything is sent.
func (u *upload) send(ctx context.Context, p string, mode ftpconn.StoreMode, off int64, buf []byte) (err error) {
	f := u.f
	f.mu.Lock()
	readers := f.readersLocked()
	f.mu.Unlock()
	for _, r := range readers {
		r.quiesce()
	}
	if buf == nil {
		buf = make([]byte, 256<<10)
	}
	st := u.copy.Stream(off)
	defer st.Close()
	up, err := f.t.remote.Store(ctx, p, mode, 0)
	if err != nil {
		return err
	}
	u.started.Store(true)
	defer func() {
		if err != nil {
			up.Abort()
			u.copy.MarkBroken(off)
		}
	}()
	finish := u.finish
	for {
		changed := u.copy.Changed()
		n, err := st.Next(buf)
		switch {
		case errors.Is(err, cache.ErrRewritten):
			return errRetry
		case err != nil:
			return err
		case n > 0:
			if _, err := up.Write(buf[:n]); err != nil {
				if verdict := up.Close(); verdict != nil {
					return verdict
				}
				return err
			}
			u.advance(int64(n))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		if finish == nil {
			plan := u.copy.Plan()
			if st.Pos() == plan.Size && st.Intact() {
				if err := up.Close(); err != nil {
					return err
				}
				u.confirmed(plan)
				return nil
			}
			if !st.Intact() {
				return errRetry
			}
		}
		select {
		case <-finish:
			finish = nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
