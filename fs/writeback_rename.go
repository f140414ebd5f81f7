package fs

import (
	"context"
	"path"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// A file that waits for its upload, and of which the server has nothing, is renamed without the server: in the tree and in the
// journal. So rsync, and whatever else writes to a temporary name, needn't wait. A file of the server's that it is renamed over is replaced
// by the upload, in one step (upload.goesAside), if it is then still the one that was there: else that is a conflict.

// renameLater renames source, which is at src, to dst, where target is, if it can be done so. If not (false), nothing was done.
func (t *tree) renameLater(ctx context.Context, source, target *node, src, dst string, way place, flags uint32) bool {
	if source == nil || source == target || flags&^renameNoReplace != 0 {
		return false
	}
	f := source.file()
	if f == nil || !f.isUnsent() || nodeOf(way.parent).doubts(path.Dir(dst)) {
		return false
	}
	was, giveBack, ok := t.replaceable(ctx, target, dst)
	if !ok || flags&renameNoReplace != 0 && (target != nil || was.Type != ftpconn.Unknown) {
		giveBack()
		return false
	}
	end := source.move()
	f.journalMu.Lock()
	defer f.journalMu.Unlock()
	if err := f.journalAs(dst, was); err != nil {
		t.log.Debug("a rename waits for the upload", "path", src, "err", err)
		end(nil)
		giveBack()
		return false
	}
	f.stirLater(time.Now(), nodeOf(way.oldParent), nodeOf(way.parent))
	end(&way)      // from here on the journal's path is the file's
	t.later.add(f) // if the server refused it under the old name
	t.later.start(t)
	t.log.Debug("renamed before its upload", "path", src, "to", dst)
	return true
}

// replaceable returns the server's file at dst, of the type Unknown if there is none. False if what is there, or target, which is
// its node, isn't to be replaced by an upload. An upload of target's own doesn't begin any more, unless giveBack is called.
func (t *tree) replaceable(ctx context.Context, target *node, dst string) (was ftpconn.Entry, giveBack func(), ok bool) {
	giveBack = func() {}
	if target != nil {
		if target.IsDir() {
			return was, giveBack, false
		}
		if f := target.file(); f != nil {
			if was, ok = f.stepAside(); ok {
				giveBack = f.attach
			}
			return was, giveBack, ok
		}
	}
	e, err := t.stat(ctx, dst)
	switch {
	case notThere(err):
		return was, giveBack, true
	case err != nil || e.Type != ftpconn.File || surelyReadOnly(e):
		return was, giveBack, false
	case target != nil:
		e = target.refine(e)
	}
	return e, giveBack, true
}

// isUnsent says that a file waits for its upload, and that the server has nothing of it.
func (f *file) isUnsent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsentLocked()
}

func (f *file) unsentLocked() bool { return f.waitsLocked() && f.created && f.copy.Base() == 0 }

// waitsLocked says that a file waits for its upload, and that nothing of what is to be sent can have arrived.
func (f *file) waitsLocked() bool {
	return f.behind && f.copy != nil && f.job == nil && f.late == nil && f.beside == "" &&
		!f.gone && !f.away && !f.begun && !f.resumed && !f.patched
}

// stepAside keeps a file that waits and that nobody has open from being uploaded, because another takes its place, and returns the
// server's file that it was to replace itself, of the type Unknown for none.
func (f *file) stepAside() (was ftpconn.Entry, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.waitsLocked() || len(f.handles) > 0 {
		return was, false
	}
	f.away = true
	if !f.created {
		was = f.server
		was.Type = ftpconn.File
	}
	return was, true
}

// journalAs makes it durable that the file is p from now on, and replaces the server's file was, if that has a type. The caller holds
// journalMu, and has marked the node as being renamed. An error if the file's upload has begun meanwhile.
func (f *file) journalAs(p string, was ftpconn.Entry) error {
	f.mu.Lock()
	if !f.unsentLocked() {
		f.mu.Unlock()
		return errRetry
	}
	copy, saying := f.copy, f.toSayLocked()
	pending := f.pendingLocked(p)
	pending.Appends, pending.DirTime, pending.Closed = false, time.Time{}, time.Now()
	if was.Type != ftpconn.Unknown {
		pending.Created, pending.Replaces = false, true
		pending.ServerSize, pending.ServerTime, pending.ServerPrecision = was.Size, was.ModTime, was.ModPrecision
	}
	f.mu.Unlock()
	if err := copy.JournalNow(pending); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said, f.since, f.appends, f.dirTime = saying, pending.Closed, false, time.Time{}
	f.checked = time.Time{} // the upload looks at what is there then
	if f.created, f.replaces = pending.Created, pending.Replaces; f.replaces {
		f.server = pending.Entry()
	}
	return nil
}

// pendingLocked is what the journal is to have of the file, at path p.
func (f *file) pendingLocked(p string) cache.Pending {
	return cache.Pending{
		Site: f.t.opt.Site, Path: p, Created: f.created, Replaces: f.replaces, Patched: f.patched, Appends: f.appends,
		ServerSize: f.server.Size, ServerTime: f.server.ModTime, ServerPrecision: f.server.ModPrecision,
		Mode: f.setMode, HasMode: f.hasMode, SetTime: f.setTime, ModTime: f.mtime, Closed: f.since, DirTime: f.dirTime,
	}
}
