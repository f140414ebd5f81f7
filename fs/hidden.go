package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// A file that loses its name while it is open here is renamed on the server to one that nobody else uses, in the
// same directory, and removed at the last close: FTP knows files by name alone, and NFS clients do the same. This mount doesn't
// show these names, others do. Where there is no need to (a small file that another is renamed over, or a server that
// doesn't let the file be renamed), a local copy takes the place.

// ownPrefix begins all names that a mount gives to files of its own on the server.
const ownPrefix = ".ftpfs-"

// hiddenPrefix begins the name of a hidden file; 26 characters of chance follow.
const hiddenPrefix = ownPrefix + "hidden-"

const (
	// maxReplaced is up to which size an open file that another is renamed over is copied: so the new one takes its
	// place in one step, and other clients always find one of the two.
	maxReplaced = 4 << 20
	// maxKeptCopy is up to which size a file is copied that can't be hidden.
	maxKeptCopy = 64 << 20
)

// hide renames the file p of directory dir, with the node child, to a hidden name. It isn't interrupted. homes are where a crash
// is to bring it back to.
func (t *tree) hide(ctx context.Context, dir, child *node, p string, homes ...string) error {
	ctx, cancel := t.finishing(ctx)
	defer cancel()
	return t.moveToHidden(ctx, dir, child, p, homes...)
}

// moveToHidden moves a file from path from to a hidden name in directory dir.
func (t *tree) moveToHidden(ctx context.Context, dir, child *node, from string, homes ...string) error {
	in, err := dir.path()
	if err != nil {
		return err
	}
	name := hiddenPrefix + rand.Text()
	to := path.Join(in, name)
	t.note(to, homes...)
	t.hidden.reserve(name)
	end := child.move()
	defer end(nil)
	if err := t.remote.Rename(ctx, from, to); err != nil {
		if ftpconn.IsLost(err) { // it may have happened
			if back := t.remote.Rename(ctx, to, from); back == nil {
				t.log.Debug("renamed back", "path", from)
			}
		}
		t.opt.Leftovers.Done(to)
		t.hidden.passed(name)
		return err
	}
	child.mu.Lock()
	child.hidden, child.hiddenIn = name, dir
	child.mu.Unlock()
	t.hidden.add(child, dir, name)
	t.opt.Leftovers.Done(from)
	return nil
}

// note puts a file on the list for the next mount.
func (t *tree) note(p string, homes ...string) {
	if err := t.opt.Leftovers.Add(p, homes...); err != nil {
		t.log.Warn("a crash would leave a file under this name on the server", "path", p, "err", err)
	}
}

// unhide gives a hidden file its name p back.
func (t *tree) unhide(ctx context.Context, child *node, p string) error {
	from, err := child.path()
	if err != nil {
		return err
	}
	end := child.move()
	defer end(nil)
	if err := t.remote.Rename(ctx, from, p); err != nil {
		t.log.Error("a file stands under another name: it could not be replaced, nor renamed back; the next mount tries again",
			"path", p, "now", from, "err", err)
		t.hidden.end(child, false) // not to be removed at the last close
		return err
	}
	child.mu.Lock()
	child.hidden, child.hiddenIn = "", nil
	child.mu.Unlock()
	t.hidden.end(child, true)
	t.opt.Leftovers.Done(from)
	return nil
}

// dropHidden removes a hidden file that nobody has open any more.
func (t *tree) dropHidden(n *node) {
	if t.hidden.count.Load() == 0 || n.file() != nil {
		return
	}
	n.mu.Lock()
	gone := n.gone
	n.mu.Unlock()
	if gone { // else it is only stepping aside, and may get its name back
		t.removeHidden(n)
	}
}

// dropAllHidden removes all hidden files: the mount is gone. If the server is too, they are left to the next one.
func (t *tree) dropAllHidden() {
	for _, n := range t.hidden.list() {
		if ftpconn.IsLost(t.removeHidden(n)) {
			return
		}
	}
}

func (t *tree) removeHidden(n *node) error {
	if !t.hidden.begin(n) {
		return nil
	}
	var p string
	var err error
	for again := true; again; {
		since := t.renames.Load()
		if p, err = n.settledPath(t.ctx); err == nil {
			err = t.remote.Remove(t.ctx, p)
		}
		again = n.movedFrom(t.ctx, p, since, err) // a directory above it was renamed meanwhile
	}
	gone := err == nil || notThere(err)
	defer t.hidden.end(n, gone)
	if !gone {
		t.log.Warn("a removed file is still on the server; the next mount removes it", "path", p, "err", err)
		return err
	}
	n.mu.Lock()
	n.hidden, n.hiddenIn = "", nil
	n.mu.Unlock()
	t.opt.Leftovers.Done(p)
	return nil
}

// dropLeftovers ends what mounts that crashed have begun: what lost its name or never had one is removed, what only made room gets
// its name back if nothing has taken it.
func (t *tree) dropLeftovers(ctx context.Context) {
	if t.opt.ReadOnly {
		return
	}
	for _, left := range t.opt.Leftovers.Old() {
		err := t.settleLeftover(ctx, left)
		switch {
		case err == nil || notThere(err):
			t.opt.Leftovers.Done(left.Path)
		default:
			t.log.Warn("a file that an earlier mount has left is still there", "path", left.Path, "err", err)
			if ftpconn.IsLost(err) || ctx.Err() != nil {
				return
			}
		}
	}
}

func (t *tree) settleLeftover(ctx context.Context, left cache.Leftover) error {
	e, err := ftpconn.Entry{}, error(nil)
	base := path.Base(left.Path)
	if len(left.Homes) > 0 || !strings.HasPrefix(base, hiddenPrefix) && !strings.HasPrefix(base, tempPrefix) {
		if e, err = t.fresh(ctx, left.Path, 0); err != nil {
			return err
		}
	}
	for _, home := range left.Homes {
		_, err := t.fresh(ctx, home, 0)
		if err == nil {
			continue
		}
		if notThere(err) {
			err = t.remote.Rename(ctx, left.Path, home)
		}
		if err == nil {
			t.log.Warn("an earlier mount ended in the middle of a rename: a file has its name back", "path", home, "was", left.Path)
		}
		return err
	}
	switch {
	case !strings.HasPrefix(base, ownPrefix):
		t.log.Error("the list of what an earlier mount has left names a file that is none of its own: it stays", "path", left.Path)
		return nil
	case len(left.Homes) > 1:
		t.log.Error("an earlier mount ended in the middle of an exchange of two files, and both names are in use: the file stays where it is",
			"path", left.Path, "belongs", left.Homes)
		return nil
	case e.Type == ftpconn.Dir:
		err = t.remote.Rmdir(ctx, left.Path)
	default:
		err = t.remote.Remove(ctx, left.Path)
	}
	if err == nil {
		t.log.Info("removed a file that an earlier mount had left", "path", left.Path)
	}
	return err
}

// clearOut moves the hidden files out of directory p, with the node dir, into the one above, if there is nothing else
// in it: so that it can be removed or replaced. What fails shows in the caller's own request.
func (t *tree) clearOut(ctx context.Context, dir *node, p string) {
	if dir == nil || t.hidden.count.Load() == 0 {
		return
	}
	var inside []*node
	for _, n := range t.hidden.list() {
		n.mu.Lock()
		if n.hiddenIn == dir {
			inside = append(inside, n)
		}
		n.mu.Unlock()
	}
	for _, n := range inside {
		t.hidden.removed(ctx, n)
	}
	inside = slices.DeleteFunc(inside, func(n *node) bool { // what is gone now, or somewhere else
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.hiddenIn != dir
	})
	_, parent := dir.Parent()
	if len(inside) == 0 || parent == nil {
		return
	}
	if list, err := t.remote.List(ctx, p); err != nil || len(t.hidden.without(list)) > 0 {
		return
	}
	ctx, cancel := t.finishing(ctx)
	defer cancel()
	for _, n := range inside {
		if from, err := n.path(); err == nil {
			if err := t.moveToHidden(ctx, nodeOf(parent), n, from); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.log.Debug("a hidden file stays where it is", "path", from, "err", err)
			}
		}
	}
}

// hiddenMoved notes that the hidden files below a directory have moved with it.
func (t *tree) hiddenMoved(from, to string) {
	for _, n := range t.hidden.list() {
		p, err := n.path()
		if err != nil {
			continue
		}
		if rest, ok := strings.CutPrefix(p, from+"/"); ok {
			t.note(to + "/" + rest)
			t.opt.Leftovers.Done(p)
		}
	}
}
