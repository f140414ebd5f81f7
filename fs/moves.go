package fs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/ftpconn"
)

// A rename takes a round trip, at the end of which the server has the new name; go-fuse's tree has it a moment later.
// In between, what is going on with the file or below the directory follows by way of node.moving and node.place.

// place is where a node goes: known from the server's confirmation on, and the truth as long as the tree still has it where it
// was.
type place struct {
	oldParent *fusefs.Inode
	oldName   string
	parent    *fusefs.Inode
	name      string
}

// where returns a node's directory and name; nil if it has none, a hidden name if that is what it has.
func (n *node) where() (dir *fusefs.Inode, name string) {
	n.mu.Lock()
	gone, hidden, in, to := n.gone, n.hidden, n.hiddenIn, n.to
	n.mu.Unlock()
	switch {
	case hidden != "":
		return in.EmbeddedInode(), hidden
	case gone:
		return nil, ""
	}
	name, dir = n.EmbeddedInode().Parent()
	if to != nil && dir == to.oldParent && name == to.oldName {
		return to.parent, to.name
	}
	return dir, name
}

// path returns the node's absolute path on the server, or ErrStale if it has none any more.
func (n *node) path() (string, error) {
	p, _, err := n.trace()
	return p, err
}

// trace is path with the first rename under way that concerns it: a channel that is closed at its end, nil if
// there is none.
func (n *node) trace() (p string, moving <-chan struct{}, err error) {
	var names []string
	for at := n; at != n.t.root; {
		at.mu.Lock()
		if at.moving != nil && moving == nil {
			moving = at.moving
		}
		at.mu.Unlock()
		dir, name := at.where()
		if dir == nil {
			return "", nil, ftpconn.ErrStale
		}
		names = append(names, name)
		at = nodeOf(dir)
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/"), moving, nil
}

// settledPath is path at a moment when no rename is under way that would change it.
func (n *node) settledPath(ctx context.Context) (string, error) {
	for {
		p, moving, err := n.trace()
		if err != nil || moving == nil {
			return p, err
		}
		select {
		case <-moving:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// movedFrom says that err, which says that there is nothing at p, is so because the node has gone to another path. since
// is what tree.renames was when p was the node's path: it may have come back by now.
func (n *node) movedFrom(ctx context.Context, p string, since int64, err error) bool {
	if !notThere(err) && !errors.Is(err, fs.ErrPermission) { // vsftpd gives no reasons: what was missing and is there again looks like that
		return false
	}
	now, err := n.settledPath(ctx)
	return err == nil && (now != p || n.t.renames.Load() != since)
}

// dirMovedFrom is movedFrom for a directory n, what isn't there being a name in it; since is what tree.dirRenames was: names that
// don't exist are asked for all the time, and files renamed.
func (n *node) dirMovedFrom(ctx context.Context, p string, since int64, err error) bool {
	if !notThere(err) && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	now, err := n.settledPath(ctx)
	return err == nil && (now != p || n.t.dirRenames.Load() != since)
}

// own asks for n's entry by ask, which is given n's path, until the answer is certainly n's, and not that of a file which took the
// name meanwhile. It returns the path too; without one, ErrStale and "".
func (n *node) own(ctx context.Context, ask func(p string) (ftpconn.Entry, error)) (ftpconn.Entry, string, error) {
	for {
		since := n.t.renames.Load()
		p, err := n.path()
		if err != nil {
			return ftpconn.Entry{}, "", err
		}
		e, err := ask(p)
		switch {
		case ctx.Err() != nil:
			return e, p, err
		case n.movedFrom(ctx, p, since, err):
		case n.keeps(p):
			return e, p, err
		}
		if err := n.awaitLeave(ctx); err != nil {
			return e, p, err
		}
	}
}

// places makes that an upload takes its path, and that a rename begins, one after the other.
type places struct {
	mu      sync.Mutex // guards following and upload.placed
	changed chan struct{}
}

// waitLocked returns a channel that is closed when an upload has given its path up.
func (s *places) waitLocked() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// place is settledPath for an upload: no rename that would change the path begins until unplace, or the next place.
func (u *upload) place(ctx context.Context) (string, error) {
	for {
		u.unplace()
		s := &u.f.t.places
		s.mu.Lock()
		p, moving, err := u.f.n.trace()
		u.placed = err == nil && moving == nil
		s.mu.Unlock()
		if err != nil || moving == nil {
			return p, err
		}
		select {
		case <-moving:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (u *upload) unplace() {
	s := &u.f.t.places
	s.mu.Lock()
	defer s.mu.Unlock()
	u.placed = false
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// move marks a node as being renamed until the returned function is called, with where it has gone (nil: nowhere).
func (n *node) move() (end func(to *place)) {
	done := make(chan struct{})
	n.t.places.mu.Lock()
	n.mu.Lock()
	n.moving = done
	n.mu.Unlock()
	n.t.places.mu.Unlock()
	return func(to *place) {
		n.mu.Lock()
		if to != nil {
			n.to = to
		}
		n.moving = nil
		n.mu.Unlock()
		n.t.renames.Add(1)
		if n.IsDir() {
			n.t.dirRenames.Add(1)
		}
		close(done)
	}
}

// beginMove is for renames that the server makes (renameLater has the others). It brings what is not uploaded of a node, and of what is
// below it, to the server, and marks it as being renamed: when it returns no upload is running, and none begins before the end.
func (t *tree) beginMove(ctx context.Context, n *node) (end func(to *place), err error) {
	if n == nil {
		return func(*place) {}, nil
	}
	if err := t.settle(ctx, n); err != nil {
		return nil, err
	}
	end = n.move()
	for {
		t.places.mu.Lock()
		changed, running := t.places.waitLocked(), t.runningLocked(n)
		t.places.mu.Unlock()
		if len(running) == 0 {
			return end, nil
		}
		for _, u := range running { // somebody went on writing
			u.finishNow()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			end(nil)
			return nil, ctx.Err()
		}
	}
}

// runningLocked returns the uploads of a file, or of those in a directory, that have a path.
func (t *tree) runningLocked(n *node) (list []*upload) {
	for _, f := range t.openBelow(n) {
		f.mu.Lock()
		if f.job != nil && f.job.placed {
			list = append(list, f.job)
		}
		f.mu.Unlock()
	}
	return list
}

// settle brings what is not uploaded of a file, or of the open files in a directory, to the server.
func (t *tree) settle(ctx context.Context, n *node) error {
	if n == nil {
		return nil
	}
	for _, f := range t.openBelow(n) {
		if err := f.upload(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openBelow returns the open files at or below a node.
func (t *tree) openBelow(n *node) (list []*file) {
	if !n.IsDir() {
		if f := n.file(); f != nil {
			return []*file{f}
		}
		return nil
	}
	dir, err := n.path()
	if err != nil {
		return nil
	}
	dir = strings.TrimSuffix(dir, "/") + "/"
	for _, f := range t.files.list() {
		if p, err := f.n.path(); err == nil && strings.HasPrefix(p, dir) {
			list = append(list, f)
		}
	}
	return list
}
