package fs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// With Options.Writeback a close() puts its upload off: it returns when the local copy, and what has to be known of it, are
// safe on the local disk (cache.SpoolFile.Journal), and the file goes to the server from a queue, in the order of the closes. A file stays in
// the tree, open in all but handles (file.behind), until the server has it. What a mount leaves behind, by a crash or because
// its server was gone, the next one of the same URL takes over (writeback_resume.go).

// errConflict says that the server's file is not the one that was changed here.
var errConflict = fmt.Errorf("it was changed on the server meanwhile: %w", ftpconn.ErrStale)

// putOff is close() in a mount with writeback. Where the local disk doesn't take it, the upload is made at once.
func (f *file) putOff(ctx context.Context) error {
	f.mu.Lock()
	copy := f.copy
	if copy == nil || f.gone || f.away || !f.owesLocked() || f.behind && f.said == f.toSayLocked() {
		f.mu.Unlock()
		return nil
	}
	f.mu.Unlock()
	if _, err := f.n.settledPath(ctx); err != nil {
		return err
	}
	if f.t.later.crowded() {
		return f.upload(ctx)
	}
	f.keepTime()
	if err := f.journal(copy, true); err != nil {
		f.t.log.Warn("an upload isn't put off, because the local disk fails", "path", f.n.shownPath(), "err", err)
		return f.upload(ctx)
	}
	f.n.pin()
	if _, dir := f.n.Parent(); dir != nil && f.isCreated() {
		f.stirLater(time.Now(), nodeOf(dir))
	}
	f.t.later.addClosed(f)
	f.t.later.start(f.t)
	return nil
}

// owesLocked says that the server lacks something of the file.
func (f *file) owesLocked() bool {
	return f.created || f.copy != nil && (f.copy.Dirty() || f.hasMode || !f.setTime.IsZero())
}

// keepTime makes the time of the last write the one that the server is to have: without it the file's time would jump, some
// time after the close, to that of its upload.
func (f *file) keepTime() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.t.overrides.strict && f.t.remote.Features().SetTime == "" || f.mtime.IsZero() || !f.setTime.IsZero() || !f.copy.Dirty() && !f.created {
		return
	}
	f.mtime = f.mtime.Truncate(time.Second)
	f.setTime = f.mtime
}

// journal makes the file, as it is, safe on the local disk. closing says that its upload is put off by that.
func (f *file) journal(copy *cache.SpoolFile, closing bool) error {
	f.journalMu.Lock()
	defer f.journalMu.Unlock()
	p, err := f.n.path()
	if err != nil {
		return err
	}
	f.mu.Lock()
	if f.copy != copy || f.gone || !closing && !f.behind { // done with meanwhile
		f.mu.Unlock()
		return nil
	}
	if f.since.IsZero() {
		f.since = time.Now()
	}
	pending, saying := f.pendingLocked(p), f.toSayLocked()
	f.mu.Unlock()
	if err := copy.Journal(pending); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.copy != copy || f.gone {
		copy.Unjournal()
		return nil
	}
	f.said = saying
	if closing {
		f.behind, f.late = true, nil // the next attempt says whether what was late is still true
	}
	return nil
}

// unjournal takes a file of which the server has everything out of the journal, and with done out of what waits. False if it was
// changed again.
func (f *file) unjournal(copy *cache.SpoolFile, done bool) bool {
	f.journalMu.Lock()
	defer f.journalMu.Unlock()
	f.mu.Lock()
	if f.copy == copy && copy != nil && !f.gone && f.owesLocked() {
		f.mu.Unlock()
		return false
	}
	if done {
		f.behind, f.late, f.since = false, nil, time.Time{}
	}
	f.mu.Unlock()
	if copy != nil {
		copy.Unjournal()
	}
	return true
}

// said is what the journal has of a file, as far as that changes.
type said struct {
	version uint64
	mode    uint32
	hasMode bool
	time    time.Time
}

func (f *file) toSayLocked() said {
	return said{f.copy.Version(), f.setMode, f.hasMode, f.setTime}
}

// touched notes, for a file that waits for its upload, that its mode or time was changed.
func (f *file) touched() {
	f.mu.Lock()
	copy, behind := f.copy, f.behind && !f.gone
	f.mu.Unlock()
	if !behind || copy == nil {
		return
	}
	if err := f.journal(copy, false); err != nil {
		f.t.log.Warn("a crash would lose the mode or time that was set", "path", f.n.shownPath(), "err", err)
	}
	f.t.later.add(f)
	f.t.later.start(f.t)
}

// renamed has the journal follow a node that was renamed: what was closed while the rename was under way is in it with the old path.
func (t *tree) renamed(n *node) {
	if n == nil {
		return
	}
	for _, f := range t.openBelow(n) {
		f.touched()
	}
}

// lateError returns why the file could not be uploaded behind its close(), once.
func (f *file) lateError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.late
	f.late = nil
	return err
}

// deliver makes that the server has the file, and lets it go if nobody has it open. Nil also if there is nothing to be delivered, or
// not now: a file that is being written is delivered after its next close.
func (f *file) deliver(ctx context.Context) error {
	for {
		f.mu.Lock()
		copy, job := f.copy, f.job
		switch {
		case copy == nil || f.gone || !f.owesLocked():
			f.mu.Unlock()
			f.settleDir()
			if !f.unjournal(copy, true) { // written meanwhile
				continue
			}
			if f.owesDir() { // noted in between
				f.settleDir()
			}
			f.retire()
			return nil
		case f.away: // about to lose its name; if it doesn't, it is queued again
			f.mu.Unlock()
			return nil
		case job == nil && copy.Version() != f.said.version && f.writersLocked():
			f.mu.Unlock()
			return nil
		case job == nil:
			job = f.startLocked(copy)
		}
		f.mu.Unlock()
		job.finishNow()
		<-job.done
		err := job.err
		if err == nil {
			f.t.log.Debug("uploaded behind its close", "path", f.n.shownPath())
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !unreached(err) && f.homeless(ctx, err) {
			continue
		}
		f.mu.Lock()
		gone := f.gone || f.away || f.copy != copy
		over := !gone && !f.owesLocked() // the server has the content, and refused its mode or time
		first := f.late == nil
		if !gone && !over && !unreached(err) {
			f.late = err
		}
		f.mu.Unlock()
		switch {
		case gone:
			continue
		case over:
			f.t.untold(f.n.shownPath(), err)
			continue
		case !unreached(err) && first:
			f.t.log.Error("an upload behind its close was refused; the content stays on this machine, and is sent again from time to time",
				"path", f.n.shownPath(), "local copy", copy.LocalPath(), "err", err)
		}
		f.mu.Lock()
		if f.job == nil && f.copy == copy {
			copy.Rest()
		}
		f.mu.Unlock()
		return err
	}
}

// homeless gives up a file whose upload was refused because others have removed its directory, or have something else in its
// place: nobody could reach it. The content is kept on this machine.
func (f *file) homeless(ctx context.Context, err error) bool {
	p, pathErr := f.n.path()
	if pathErr == nil {
		dir, dirErr := f.t.fresh(ctx, path.Dir(p), 0)
		if !notThere(dirErr) && (dirErr != nil || dir.Type != ftpconn.File) {
			return false
		}
	} else {
		f.n.mu.Lock()
		gone := f.n.gone
		f.n.mu.Unlock()
		if gone { // removed by us
			return false
		}
		name, _ := f.n.Parent()
		p = path.Join("(removed directory)", name)
	}
	f.t.untold(p, fmt.Errorf("its directory was removed on the server: %w", err))
	f.abandon(p)
	return true
}

// unreached says that an upload failed for the connection or the session, and not for the file.
func unreached(err error) bool {
	return broken(err) || errors.Is(err, ftpconn.ErrLogin) || errors.Is(err, ftpconn.ErrTooMany)
}

// writersLocked says that somebody has the file open for writing.
func (f *file) writersLocked() bool {
	for h := range f.handles {
		if h.write {
			return true
		}
	}
	return false
}
