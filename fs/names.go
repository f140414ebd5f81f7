package fs

import (
	"context"
	"errors"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/ftpconn"
)

// change checks that an entry of directory n may be changed, and returns its path at a moment when none above it is being
// renamed.
func (n *node) change(ctx context.Context, op, name string) (string, syscall.Errno) {
	if n.t.opt.ReadOnly {
		return "", syscall.EROFS
	}
	if _, err := n.settledPath(ctx); err != nil {
		return "", n.t.errno(op, name, err)
	}
	p, err := n.childPath(name)
	if err != nil {
		return "", n.t.errno(op, name, err)
	}
	return p, 0
}

var _ = (fusefs.NodeMkdirer)((*node)(nil))

// Mkdir makes a directory. The server chooses its mode; one that has no rights for others
// (mode&077 == 0) is asked for where the server can chmod.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	p, errno := n.change(c, "mkdir", name)
	if errno != 0 {
		return nil, errno
	}
	if err := n.t.remote.Mkdir(c, p); err != nil {
		return nil, n.t.errno("mkdir", p, err)
	}
	n.stirred(p)
	n.t.overrides.Drop(p)
	if mode&0o077 == 0 {
		n.t.chmod(c, p, mode&0o7777)
	}
	e, err := n.t.stat(c, p)
	if err != nil || e.Type != ftpconn.Dir {
		e = ftpconn.Entry{Type: ftpconn.Dir, Size: -1, UID: -1, GID: -1}
	}
	e.Name = name
	return n.show(c, e, p, 0, out), 0
}

var _ = (fusefs.NodeRmdirer)((*node)(nil))

// Rmdir removes an empty directory.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	c := call(ctx)
	defer c.end()
	p, errno := n.change(c, "rmdir", name)
	if errno != 0 {
		return errno
	}
	child := nodeOf(n.GetChild(name))
	if child != nil && len(child.createdHere()) > 0 {
		return syscall.ENOTEMPTY
	}
	n.t.clearOut(c, child, p)
	if err := n.t.remote.Rmdir(c, p); err != nil {
		return n.t.errno("rmdir", p, err)
	}
	n.passed(p)
	if child != nil {
		child.vanish(p)
	}
	n.t.overrides.Drop(p)
	return 0
}

var _ = (fusefs.NodeMknoder)((*node)(nil))

// Mknod makes an empty regular file; FTP has no other kinds.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	if mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, syscall.EPERM
	}
	p, errno := n.change(c, "mknod", name)
	if errno != 0 {
		return nil, errno
	}
	if _, err := n.t.stat(c, p); err == nil {
		return nil, syscall.EEXIST
	}
	if err := n.t.storeEmpty(c, p); err != nil {
		return nil, n.t.errno("mknod", p, err)
	}
	n.stirred(p)
	e := ftpconn.Entry{Name: name, Type: ftpconn.File, UID: -1, GID: -1}
	if got, err := n.t.stat(c, p); err == nil {
		e = got
		e.Name = name
	}
	return n.show(c, e, p, 0, out), 0
}

// storeEmpty makes an empty file on the server, or empties one.
func (t *tree) storeEmpty(ctx context.Context, p string) error {
	up, err := t.remote.Store(ctx, p, ftpconn.Replace, 0)
	if err != nil {
		return err
	}
	return up.Close()
}

var _ = (fusefs.NodeSymlinker)((*node)(nil))

// Symlink makes a symbolic link where the server has a command for it. Elsewhere it fails as on a filesystem that has none
// (symlink(2)).
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	p, errno := n.change(c, "symlink", name)
	if errno != 0 {
		return nil, errno
	}
	linker, ok := n.t.remote.(ftpconn.Linker)
	if !ok {
		return nil, n.noLinks()
	}
	switch err := linker.Symlink(c, target, p); {
	case errors.Is(err, errors.ErrUnsupported):
		n.t.log.Debug("no symbolic link", "path", p, "err", err)
		return nil, n.noLinks()
	case err != nil:
		return nil, n.t.errno("symlink", p, err)
	}
	n.stirred(p)
	n.t.overrides.Drop(p)
	e, err := n.t.stat(c, p)
	if err != nil || e.Type != ftpconn.Symlink {
		e = ftpconn.Entry{Type: ftpconn.Symlink, Target: target, Size: int64(len(target)), UID: -1, GID: -1}
	}
	e.Name = name
	return n.show(c, e, p, 0, out), 0
}

var _ = (fusefs.NodeLinker)((*node)(nil))

// Link fails as on a filesystem that has none (link(2)).
func (n *node) Link(context.Context, fusefs.InodeEmbedder, string, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, n.noLinks()
}

func (n *node) noLinks() syscall.Errno {
	if n.t.opt.ReadOnly {
		return syscall.EROFS
	}
	return syscall.EPERM
}

// chmod is setMode for callers whose main work is done: a failure is logged.
func (t *tree) chmod(ctx context.Context, p string, mode uint32) {
	if err := t.setMode(ctx, p, mode); err != nil {
		t.errno("chmod", p, err)
	}
}
