package fs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

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

// move marks a node as being renamed until the returned function is called, with where it has gone (nil: nowhere).
func (n *node) move() (end func(to *place)) {
	done := make(chan struct{})
	n.mu.Lock()
	n.moving = done
	n.mu.Unlock()
	return func(to *place) {
		n.mu.Lock()
		if to != nil {
			n.to = to
		}
		n.moving = nil
		n.mu.Unlock()
		n.t.renames.Add(1)
		close(done)
	}
}

// beginMove brings what is not uploaded of a node, and of what is below it, to the server, and marks it as being renamed:
// no upload is running then, and none begins before the end.
func (t *tree) beginMove(ctx context.Context, n *node) (end func(to *place), err error) {
	if n == nil {
		return func(*place) {}, nil
	}
	for range 10 {
		if err := t.settle(ctx, n); err != nil {
			return nil, err
		}
		end = n.move()
		if !t.uploading(n) {
			return end, nil
		}
		end(nil) // somebody went on writing
	}
	return nil, ftpconn.ErrBusy
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

// uploading says that an upload of a file, or of one in a directory, is running.
func (t *tree) uploading(n *node) bool {
	for _, f := range t.openBelow(n) {
		f.mu.Lock()
		running := f.job != nil && !f.gone
		f.mu.Unlock()
		if running {
			return true
		}
	}
	return false
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
	for _, f := range t.files.list() {
		if p, err := f.n.path(); err == nil && strings.HasPrefix(p, dir+"/") {
			list = append(list, f)
		}
	}
	return list
}
