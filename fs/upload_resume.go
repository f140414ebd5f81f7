package fs

import (
	"context"
	"errors"
	"net"
	"syscall"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// stream sends the whole file to p, which is its own path or, aside, a temporary one, by STOR. When the connection breaks it
// goes on where the server's copy ends, by REST and STOR at the end of file: all servers measured do that alike, except
// ProFTPD, which by default refuses both that and APPE; there the file is sent again. Unlike APPE it does no harm if the session
// before is still writing what it had received: both write the same to the same place.
//
// What the server has is taken for the beginning of what was sent only if it said so (1yz to STOR), if it isn't more
// than was given out, and if nothing of that has been changed since.
func (u *upload) stream(ctx context.Context, p string, aside bool) (plan cache.Plan, err error) {
	st := u.copy.Stream(0)
	defer st.Close()
	var reached int64 // the furthest place where the upload was taken up
	cuts := 0         // confirmed and wrong, since then
	for at, ours := int64(0), false; ; {
		mode := ftpconn.Replace
		if at > 0 {
			mode = ftpconn.Restart
		}
		var done sent
		if plan = u.copy.Plan(); at == 0 || at < plan.Size || u.streaming() || !st.Intact() {
			done, err = u.send(ctx, store{p, mode, at, at, aside}, st)
			plan = done.plan
		} // else nothing but the confirmation was lost
		if err == nil {
			err = u.verify(ctx, p, plan)
		}
		ours = ours || done.begun
		switch {
		case err == nil:
			return plan, nil
		case errors.Is(err, ftpconn.ErrMismatch) && cuts < maxCuts:
			// A connection that broke, and a server that doesn't say so. If going on doesn't help, the pieces don't make the whole.
			cuts++
			ours = ours && cuts < maxCuts
			u.f.t.log.Info("an upload was cut and goes on", "path", p, "err", err)
		case at > 0 && refusesAppend(err):
			u.f.t.log.Info("the server doesn't go on with broken uploads: they are sent again from the start", "path", p, "err", err)
			u.f.t.noResume.Store(true)
		default:
			if err := u.breathe(ctx, p, err); err != nil {
				return plan, err
			}
		}
		if at, err = u.arrived(ctx, p, st, ours); err != nil {
			return plan, err
		}
		if at > reached {
			reached, cuts = at, 0
			u.again.progressed()
		}
	}
}

// maxCuts is how often what the server confirmed and has not is sent again: first from where it ends, then as a whole.
const maxCuts = 2

// breathe waits before an upload of p that broke with err is taken up again. Its answer is err if that makes no sense.
func (u *upload) breathe(ctx context.Context, p string, err error) error {
	if !broken(err) {
		return err
	}
	u.parked.Store(true) // the writer goes on meanwhile
	u.advance(0)
	if errors.Is(err, ftpconn.ErrPreempted) && u.streaming() {
		// Nothing was written for a while, and somebody else needs the session.
		select {
		case <-u.finish:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := u.again.wait(ctx, err); err != nil {
		return err
	}
	u.f.t.log.Info("an upload lost its connection and goes on", "path", p, "err", err)
	return nil
}

// broken says that the connection failed, and neither the server's will nor the local disk, whose errno
// ftpconn can't tell from a socket's.
func broken(err error) bool {
	var errno syscall.Errno
	var socket *net.OpError
	if errors.As(err, &errno) && !errors.As(err, &socket) && !errors.Is(err, ftpconn.ErrConnLost) {
		return false
	}
	return ftpconn.IsLost(err) || errors.Is(err, ftpconn.ErrDataMode)
}

// arrived sets st to how much of a broken upload to p the server has: 0 if that isn't known for sure. ours says that
// what is there is of this upload. It goes on asking while the server doesn't answer.
func (u *upload) arrived(ctx context.Context, p string, st *cache.Stream, ours bool) (int64, error) {
	var at int64
	for ours && !u.f.t.noResume.Load() {
		e, err := u.f.t.fresh(ctx, p, 0)
		if err == nil && e.Type == ftpconn.File && e.Size > 0 && st.Rewind(e.Size) {
			at = e.Size
		}
		if err == nil || !broken(err) {
			break
		}
		if err := u.breathe(ctx, p, err); err != nil {
			return 0, err
		}
	}
	if at == 0 && !st.Rewind(0) {
		return 0, errRetry
	}
	u.sent.Store(at)
	return at, nil
}
