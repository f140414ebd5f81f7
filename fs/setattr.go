package fs

import (
	"context"
	"io/fs"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/ftpconn"
)

var _ = (fusefs.NodeSetattrer)((*node)(nil))

// Setattr answers truncate(), chmod(), chown() and utimensat(). On a file that is being written, mode and
// time are shown at once and set behind the upload, which would change the time again.
func (n *node) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	c := call(ctx)
	defer c.end()
	if n.t.opt.ReadOnly {
		return syscall.EROFS
	}
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if setUID && uid != n.t.opt.UID || setGID && gid != n.t.opt.GID {
		return syscall.EPERM // FTP can't chown; to the owner that is shown it has happened
	}
	if size, ok := in.GetSize(); ok {
		h, _ := fh.(*handle)
		if err := n.truncate(c, h, int64(size)); err != nil {
			return n.t.errno("truncate", n.shownPath(), err)
		}
	}
	if mode, ok := in.GetMode(); ok {
		if errno := n.chmod(c, mode); errno != 0 {
			return errno
		}
	}
	if mtime, ok := in.GetMTime(); ok {
		now := in.Valid&fuse.FATTR_MTIME_NOW != 0
		if errno := n.setTime(c, mtime, now); errno != 0 {
			return errno
		}
	}
	if f := n.file(); f != nil {
		f.touched()
	}
	n.parentChanged()
	return n.getattr(c, out)
}

// truncate sets a file's size: through a handle at its next flush, by path at once.
func (n *node) truncate(ctx context.Context, h *handle, size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	if h != nil && h.write {
		if err := h.current(); err != nil {
			return err
		}
		return h.f.truncate(ctx, size)
	}
	var e ftpconn.Entry
	if f := n.local(); f != nil {
		e = f.entry()
	} else {
		var err error
		if e, _, err = n.own(ctx, func(p string) (ftpconn.Entry, error) { return n.t.fresh(ctx, p, sureFor) }); err != nil {
			return err
		}
		if surelyReadOnly(e) {
			return fs.ErrPermission
		}
	}
	tmp := n.openFile(syscall.O_WRONLY, e)
	defer tmp.drop()
	tmp.f.follow(e)
	if err := tmp.f.truncate(ctx, size); err != nil {
		return err
	}
	return tmp.f.close(ctx)
}

// chmod sets permission bits.
func (n *node) chmod(ctx context.Context, mode uint32) syscall.Errno {
	mode &= 0o7777
	if f := n.local(); f != nil {
		if n.t.overrides.strict && !n.t.remote.Features().Chmod {
			return syscall.ENOTSUP
		}
		if f.setLater(func() { f.setMode, f.hasMode = mode, true }) {
			return 0
		}
	}
	p, err := n.path()
	if err != nil {
		return n.t.errno("chmod", "", err)
	}
	if e, err := n.t.stat(ctx, p); err == nil {
		if e = n.t.overrides.apply(p, e); e.HasMode && uint32(e.Mode) == mode {
			return 0
		}
	}
	return n.owned("chmod", p, n.t.setMode(ctx, p, mode))
}

// setLater notes what is to be set behind the upload. False if that is over by now.
func (f *file) setLater(note func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isLocalLocked() {
		return false
	}
	note()
	return true
}

// setTime sets the modification time; FTP has no other.
func (n *node) setTime(ctx context.Context, mtime time.Time, now bool) syscall.Errno {
	if f := n.local(); f != nil {
		if f.setLater(func() {
			f.setTime = mtime
			if now { // the upload does that
				f.setTime, f.mtime = time.Time{}, mtime
			}
		}) {
			return 0
		}
	}
	p, err := n.path()
	if err != nil {
		return n.t.errno("utimens", "", err)
	}
	if f := n.file(); f != nil {
		f.retimed()
		defer f.retimed()
	}
	if n.IsDir() { // first: an upload that ends meanwhile would change it again
		n.t.setDirTime(n, mtime)
	}
	switch {
	case n.Mode() != syscall.S_IFLNK:
		err = n.t.setTime(ctx, p, mtime)
	case n.t.overrides.strict:
		return syscall.ENOTSUP
	default: // a server would follow the link
		err = n.t.rememberTime(ctx, p, mtime)
	}
	n.mu.Lock()
	n.last, n.pages, n.stirredAt = ftpconn.Entry{}, version{}, time.Time{}
	n.mu.Unlock()
	if err != nil && n.IsDir() {
		n.t.later.dropDirTime(n)
	}
	return n.owned("utimens", p, err)
}

// owned is errno for what only an owner may do: the refusal is EPERM there (chmod(2), utimensat(2)).
func (n *node) owned(op, p string, err error) syscall.Errno {
	errno := n.t.errno(op, p, err)
	if errno == syscall.EACCES {
		return syscall.EPERM
	}
	return errno
}
