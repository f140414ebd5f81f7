package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// leave says what stays for the next mount, because the server is gone or refuses it.
func (t *tree) leave(left []leftFile) {
	if len(left) == 0 {
		return
	}
	var waiting, lost []error
	for _, l := range left {
		why := fmt.Errorf("%s: %w", l.f.n.shownPath(), l.err)
		if copy := l.f.localCopy(); copy != nil && copy.IsRemoved() {
			lost = append(lost, why)
		} else {
			waiting = append(waiting, why)
		}
	}
	t.log.Error("unmounted before everything was uploaded", "files", len(left), "lost", len(lost), "dir", t.opt.SpoolDir)
	t.pendingMu.Lock()
	defer t.pendingMu.Unlock()
	if len(waiting) > 0 {
		t.pending = append(t.pending, fmt.Errorf("files wait in %s, and the next mount of the same URL sends them: %w", t.opt.SpoolDir, some(waiting)))
	}
	if len(lost) > 0 {
		t.pending = append(t.pending, fmt.Errorf("files are lost, because what waited in %s was removed: %w", t.opt.SpoolDir, some(lost)))
	}
}

// some is errors in one, the first ten of many.
func some(errs []error) error {
	const most = 10
	if over := len(errs) - most; over > 0 {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", over))
	}
	return errors.Join(errs...)
}

// resume takes over what earlier mounts of this site left, before anybody can look.
func (t *tree) resume() {
	if t.opt.Site == "" || t.opt.ReadOnly {
		return
	}
	list, err := t.spool.Resume(t.opt.Site)
	if err != nil {
		t.log.Error("files that an earlier mount could not upload stay where they are", "err", err)
	}
	var bytes int64
	newest := make(map[string]*cache.SpoolFile)
	for _, r := range list {
		newest[r.Path] = r.File
	}
	for _, r := range list {
		var why error
		switch {
		case r.Cut: // a part of it is no better than what the server has
			why = errors.New("it was being written again when the earlier mount ended, and the rest of it is lost")
		case newest[r.Path] != r.File:
			why = errors.New("another version of it that was closed later waits, too")
		case !t.resumeOne(r):
			why = errors.New("a file waits under the name of its directory, or the other way round")
		}
		if why != nil {
			t.untold(r.Path, why)
			t.keep(r.Path, r.File)
			continue
		}
		bytes += r.File.Size()
		if r.Torn {
			t.log.Warn("a file was being written again when the earlier mount ended: it is what had been written by then", "path", r.Path)
		}
	}
	if len(list) > 0 {
		t.log.Warn("files that an earlier mount had closed and not uploaded are uploaded now", "files", len(list), "bytes", bytes)
		t.later.start(t)
	}
}

// resumeOne puts a file back into the tree, as it was after its close. False if something else is in its place.
func (t *tree) resumeOne(r cache.Resumed) bool {
	ctx := context.Background()
	dir := t.root
	names := strings.Split(strings.TrimPrefix(r.Path, "/"), "/")
	for _, name := range names[:len(names)-1] {
		if known := dir.GetChild(name); known != nil && !known.IsDir() {
			return false
		}
		dir = nodeOf(dir.child(ctx, ftpconn.Entry{Name: name, Type: ftpconn.Dir}, 0))
	}
	name := names[len(names)-1]
	if dir.GetChild(name) != nil {
		return false
	}
	n := nodeOf(dir.child(ctx, ftpconn.Entry{Name: name, Type: ftpconn.File}, 0))
	f := newFile(n, r.Entry())
	f.copy, f.created, f.replaces, f.appends, f.mtime = r.File, r.Created, r.Replaces, r.Appends, r.ModTime
	f.setMode, f.hasMode, f.setTime = r.Mode, r.HasMode, r.SetTime
	f.behind, f.resumed, f.since, f.said = true, true, r.Closed, f.toSayLocked()
	if f.patched, f.begun = r.Patched, r.Patched; r.Patched {
		f.server.ModTime = time.Time{} // which that has changed
	}
	if r.File.Base() > 0 {
		f.base = newReader(n, versionOf(f.server))
	}
	n.mu.Lock()
	n.open = f
	n.mu.Unlock()
	t.files.add(f)
	if f.dirTime = r.DirTime; !f.dirTime.IsZero() {
		t.later.noteDirTime(dir, f.dirTime, f)
	}
	n.pin()
	t.later.add(f)
	return true
}
