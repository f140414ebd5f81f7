package fs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// upload brings what is local of a file to the server. It runs in a goroutine of its own, so
// that whoever waits for it can be interrupted; there is at most one for a file.
type upload struct {
	f    *file            // constant
	copy *cache.SpoolFile // constant

	finish chan struct{} // closed when somebody waits for the end: send what is there, and no more
	once   sync.Once     // closes finish
	cancel context.CancelFunc
	done   chan struct{} // closed when the upload has ended
	err    error         // its verdict, once done is closed
	upTo   uint64        // version of copy that the server has, once done is closed

	sent    atomic.Int64 // bytes given to the server, while streaming
	started atomic.Bool  // something was sent: the server may have the file
	timed   bool         // the time that the file is to have was set along with its end; of the goroutine
	parked  atomic.Bool  // streaming did not work out: the writer doesn't wait for it any more
	copies  bool         // nothing is lent: it was changed on its way once; of the goroutine
	again   patience     // of run

	placed bool // it uses its file's path; guarded by places.mu

	mu    sync.Mutex // guards following
	moved chan struct{}
}

// errRetry says that an upload has to begin again, by a new plan.
var errRetry = errors.New("upload begins again")

// startStreaming begins the upload of a file that is written from its start, once there is enough of it.
func (f *file) startStreaming(copy *cache.SpoolFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.t.opt.Writeback || f.job != nil || !f.direct || f.refused != nil || f.away || f.gone || f.copy != copy || copy.LocalFrom(0) < streamFrom {
		return
	}
	f.direct = false // once: what can't be streamed goes at flush
	f.startLocked(copy)
}

// startLocked begins an upload.
func (f *file) startLocked(copy *cache.SpoolFile) *upload {
	ctx, cancel := context.WithCancel(f.t.ctx)
	u := &upload{f: f, copy: copy, finish: make(chan struct{}), cancel: cancel, done: make(chan struct{}),
		again: f.t.patience()}
	f.job = u
	go u.run(ctx)
	return u
}

// upload returns when the server has the content as it is now, and its mode and time, or with the reason
// why not. If ctx ends first, the upload goes on.
func (f *file) upload(ctx context.Context) error {
	f.mu.Lock()
	copy := f.copy
	if copy == nil || f.gone || f.away {
		f.mu.Unlock()
		return nil
	}
	if err := f.refused; err != nil {
		// Reported once to everybody who writes; the next flush tries again.
		f.refused, f.told = nil, copy.Version()+1
		f.mu.Unlock()
		return err
	}
	version := copy.Version()
	for {
		job := f.job
		if job == nil {
			if !f.owesLocked() {
				f.mu.Unlock()
				return nil
			}
			job = f.startLocked(copy)
		}
		f.mu.Unlock()
		job.finishNow()
		select {
		case <-job.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.mu.Lock()
		switch {
		case errors.Is(job.err, errConflict):
			f.mu.Unlock()
			return job.err
		case f.copy != copy || f.gone || f.away:
			f.mu.Unlock()
			return nil
		case job.err != nil:
			f.told, f.refused = copy.Version()+1, nil
			f.mu.Unlock()
			return job.err
		case job.upTo >= version:
			f.mu.Unlock()
			return nil
		}
	}
}

// finish uploads what is left when nobody waits any more: at the last close by a writer, and when
// the mount goes. What failed and was reported is given up.
func (f *file) finish() {
	if f.t.opt.Writeback {
		if err := f.putOff(context.WithoutCancel(f.t.ctx)); err == nil {
			return
		}
	}
	f.mu.Lock()
	job, copy := f.job, f.copy
	pending := copy != nil && !f.gone && !f.away && f.owesLocked()
	if pending && f.behind { // an older version is in the journal, and the queue says what became of this one
		f.mu.Unlock()
		f.t.later.add(f)
		f.t.later.start(f.t)
		return
	}
	told := pending && job == nil && f.told == copy.Version()+1
	f.mu.Unlock()
	switch {
	case told:
		f.abandon(f.n.shownPath())
	case pending:
		if err := f.upload(context.WithoutCancel(f.t.ctx)); err != nil {
			f.t.untold(f.n.shownPath(), err)
			f.abandon(f.n.shownPath())
		}
	case job != nil:
		job.finishNow()
		<-job.done
	}
}

// lastWriter says that no other handle than h writes.
func (f *file) lastWriter(h *handle) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for o := range f.handles {
		if o != h && o.write {
			return false
		}
	}
	return true
}

// abandon gives up what could not be uploaded to p: from now on the server's file is shown. The content is kept on this machine.
func (f *file) abandon(p string) {
	if copy := f.letGo(); copy != nil {
		f.t.keep(p, copy)
	}
}

// letGo has the server's file shown from now on, and returns the local copy.
func (f *file) letGo() *cache.SpoolFile {
	f.mu.Lock()
	copy, base := f.copy, f.base
	f.copy, f.base, f.created, f.replaces, f.hasMode, f.setTime = nil, nil, false, false, false, time.Time{}
	f.baseGen++
	f.mu.Unlock()
	if base != nil {
		base.close()
	}
	if p, err := f.n.path(); err == nil {
		f.t.forget(p)
	}
	f.n.parentChanged()
	return copy
}

// detach keeps a file that is about to lose its name from being uploaded, and ends the upload that runs. It
// returns whether the server may have the file.
func (f *file) detach(ctx context.Context) (onServer bool, err error) {
	f.mu.Lock()
	f.away = true
	job, may := f.job, !f.created || f.begun || f.resumed // a part of it may have arrived
	f.mu.Unlock()
	if job == nil {
		return may, nil
	}
	job.cancel()
	select {
	case <-job.done:
	case <-ctx.Done():
		f.attach()
		return false, ctx.Err()
	}
	return may || job.started.Load(), nil
}

// attach undoes detach.
func (f *file) attach() {
	f.mu.Lock()
	f.away = false
	behind := f.behind
	f.mu.Unlock()
	if behind {
		f.t.later.add(f)
		f.t.later.start(f.t)
	}
}

func (u *upload) finishNow() { u.once.Do(func() { close(u.finish) }) }

// streaming says that nobody waits for the end yet.
func (u *upload) streaming() bool {
	select {
	case <-u.finish:
		return false
	default:
		return true
	}
}

// progress returns a channel that is closed when more was sent.
func (u *upload) progress() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.moved == nil {
		u.moved = make(chan struct{})
	}
	return u.moved
}

func (u *upload) advance(n int64) {
	u.sent.Add(n)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.moved != nil {
		close(u.moved)
		u.moved = nil
	}
}

// run is the goroutine of an upload.
func (u *upload) run(ctx context.Context) {
	defer u.cancel()
	err := u.attempts(ctx)
	if err == nil {
		err = u.attributes(ctx)
	} else if ctx.Err() == nil {
		u.report(err)
	}
	f := u.f
	u.err = err
	f.mu.Lock()
	f.job = nil
	if err != nil && u.streaming() && !f.away {
		f.refused = err
	}
	f.begun = err != nil && (f.begun || u.started.Load())
	safe := f.behind && f.copy == u.copy && !f.owesLocked()
	f.mu.Unlock()
	if safe {
		f.unjournal(u.copy, false)
	}
	f.n.parentChanged()
	f.n.mu.Lock()
	f.n.last, f.n.pages = ftpconn.Entry{}, version{}
	f.n.mu.Unlock()
	u.unplace()
	close(u.done)
}

// attempts repeats an upload that lost its connection, from the local copy.
func (u *upload) attempts(ctx context.Context) error {
	noAppend, guarded := false, false
	for {
		streamed := u.streaming()
		plan := u.copy.Plan()
		if plan.Kind == cache.Clean && !u.f.isCreated() {
			u.upTo = plan.Version
			return nil
		}
		p, err := u.place(ctx)
		if err != nil {
			return err
		}
		if !guarded {
			if err = u.guard(ctx, p); err == nil {
				guarded = true
				continue // what it found may have changed the plan
			}
		} else if plan.Kind == cache.AppendFrom && !noAppend {
			err = u.append(ctx, p, plan)
			if refusesAppend(err) && !deniesFile(err) {
				noAppend, err = true, errRetry
			}
		} else if err = u.patch(ctx, p, plan); errors.Is(err, errWhole) {
			err = u.whole(ctx, p)
		}
		switch {
		case err == nil:
			if !u.timed {
				u.f.t.overrides.dropTime(p)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errRetry):
		case broken(err):
			if err := u.breathe(ctx, p, err); err != nil {
				return err
			}
		default:
			u.f.t.doubt(p, err)
			return err
		}
		u.sent.Store(0)
		if streamed { // what began early and did not succeed goes when the writer is done
			u.parked.Store(true)
			u.advance(0)
			select {
			case <-u.finish:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// confirmed notes that the server has the file as of a plan.
func (u *upload) confirmed(plan cache.Plan) {
	u.upTo = plan.Version
	u.again.progressed()
	clean := u.copy.MarkClean(plan.Version, plan.Size)
	u.copy.Overwritten()
	f := u.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.created, f.replaces, f.patched, f.told = false, false, false, 0
	f.server.Size, f.server.ModTime, f.server.ModPrecision = plan.Size, time.Time{}, 0
	f.checked = time.Now()
	if clean {
		f.appends = true
	}
	for _, r := range f.readersLocked() {
		r.adopt(versionOf(f.server)) // for the time when there is no local copy any more
	}
}
