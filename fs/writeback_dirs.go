package fs

import (
	"time"

	"ftpfs/ftpconn"
)

// An upload that makes a file changes its directory's time on the server. On a disk the directory has what utimensat() set last, behind
// the files that were closed before (cp -a, tar, rsync do it in this order). So a time that is set on a directory in which files wait
// for their upload is set again behind the last of them.

// stirLater has directories shown as changed at a moment at which the server wasn't told of it: rsync looks whether it has to set the
// time again. It is so until the file, which did it, was uploaded, or a time is set.
func (f *file) stirLater(at time.Time, dirs ...*node) {
	f.mu.Lock()
	f.stirs = at
	f.mu.Unlock()
	for _, n := range dirs {
		n.mu.Lock()
		n.stirredAt = at
		n.mu.Unlock()
	}
}

// dirTime is a time that a directory is to have in the end.
type dirTime struct {
	at    time.Time
	files map[*file]struct{} // that wait
}

// setDirTime notes a time that was set on directory n.
func (t *tree) setDirTime(n *node, at time.Time) {
	var inside []*file
	for _, f := range t.files.list() {
		if _, dir := f.n.Parent(); dir != n.EmbeddedInode() {
			continue
		}
		f.mu.Lock()
		if f.behind && !f.gone {
			f.dirTime = at
			inside = append(inside, f)
		}
		f.mu.Unlock()
	}
	if len(inside) == 0 {
		return
	}
	t.later.noteDirTime(n, at, inside...)
	for _, f := range inside {
		f.mu.Lock()
		ended := !f.behind // meanwhile, and maybe before it was noted
		if ended {
			f.dirTime = at
		}
		f.mu.Unlock()
		if ended {
			f.settleDir()
		} else {
			f.touched()
		}
	}
}

// owesDir says that a time is noted for the directory of f.
func (f *file) owesDir() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dirTime.IsZero()
}

// setDirTimeNow sets the time of directory n on the server. The directory may be renamed meanwhile: that waits for the uploads alone.
func (t *tree) setDirTimeNow(n *node, at time.Time) {
	for {
		since := t.dirRenames.Load()
		p, err := n.settledPath(t.ctx)
		if err != nil {
			return // it was removed
		}
		err = t.setTime(t.ctx, p, at)
		if err != nil && !unreached(err) {
			if _, gone := n.settledPath(t.ctx); gone == nil && t.dirRenames.Load() != since {
				continue // it may not have been there
			}
		}
		if err != nil {
			t.errno("utimens", p, err)
		}
		n.mu.Lock()
		n.last = ftpconn.Entry{}
		n.mu.Unlock()
		return
	}
}

func (w *writeback) noteDirTime(n *node, at time.Time, inside ...*file) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirs == nil {
		w.dirs = make(map[*node]*dirTime)
	}
	d := w.dirs[n]
	if d == nil {
		d = &dirTime{files: make(map[*file]struct{})}
		w.dirs[n] = d
	}
	d.at = at
	for _, f := range inside {
		d.files[f] = struct{}{}
	}
}

// dropDirTime says that directory n is changed by what follows: it gets a time of its own.
func (w *writeback) dropDirTime(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.dirs, n)
}

// dirTime returns the time that directory n is to have in the end, if one is noted.
func (w *writeback) dirTime(n *node) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[n]
	if d == nil {
		return time.Time{}, false
	}
	return d.at, true
}

// settleDir is called when f doesn't wait any more, and gives its directory the time that was set on it if no other file in it does.
func (f *file) settleDir() {
	f.mu.Lock()
	noted := !f.dirTime.IsZero()
	f.dirTime = time.Time{}
	stirs := f.stirs
	f.mu.Unlock()
	_, parent := f.n.Parent()
	if n := nodeOf(parent); n != nil {
		n.mu.Lock()
		if !n.stirredAt.After(stirs) { // the server knows of it
			n.stirredAt = time.Time{}
		}
		n.mu.Unlock()
	}
	if !noted || parent == nil {
		return
	}
	n, w := nodeOf(parent), &f.t.later
	w.mu.Lock()
	d := w.dirs[n]
	if d != nil {
		delete(d.files, f)
	}
	last := d != nil && len(d.files) == 0
	var at time.Time
	if last {
		at = d.at
	}
	w.mu.Unlock()
	if !last {
		return
	}
	f.t.setDirTimeNow(n, at)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirs[n] == d && len(d.files) == 0 { // else another time was set, or for more files
		delete(w.dirs, n)
	}
}
