package fs

import (
	"context"
	"errors"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/ftpconn"
)

const (
	blockSize = 4096 // st_blksize, and the unit of statfs
	statBlock = 512  // the unit of st_blocks
)

// typeBits is the S_IFMT part of a mode. What FTP can neither read nor enter is a regular file that
// nobody may read; a type that the server didn't say is taken for a file.
func typeBits(t ftpconn.Type) uint32 {
	switch t {
	case ftpconn.Dir:
		return syscall.S_IFDIR
	case ftpconn.Symlink:
		return syscall.S_IFLNK
	}
	return syscall.S_IFREG
}

// entryType is what has these type bits.
func entryType(mode uint32) ftpconn.Type {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return ftpconn.Dir
	case syscall.S_IFLNK:
		return ftpconn.Symlink
	}
	return ftpconn.File
}

// attr fills out from an entry. The inode number is go-fuse's to set.
func (t *tree) attr(e ftpconn.Entry, out *fuse.Attr) {
	var perm uint32
	switch {
	case e.Type == ftpconn.Symlink:
		perm = 0o777
	case e.Type == ftpconn.Other:
		perm = 0
	case e.HasMode:
		perm = uint32(e.Mode) & 0o7777 &^ t.opt.Umask
	case e.Type == ftpconn.Dir:
		perm = 0o755 &^ t.opt.Umask
	default:
		perm = 0o644 &^ t.opt.Umask
	}
	out.Mode = typeBits(e.Type) | perm
	out.Owner = fuse.Owner{Uid: t.opt.UID, Gid: t.opt.GID}
	out.Nlink = 1
	out.Blksize = blockSize
	size := max(e.Size, 0)
	switch e.Type {
	case ftpconn.Dir:
		out.Nlink = 2
		if e.Size <= 0 {
			size = blockSize
		}
	case ftpconn.Symlink:
		if e.Target != "" {
			size = int64(len(e.Target))
		}
	case ftpconn.Other:
		size = 0
	}
	setSize(out, size)
	mtime := e.ModTime
	if mtime.IsZero() {
		mtime = time.Unix(0, 0)
	}
	setTimes(out, mtime)
}

func setSize(out *fuse.Attr, size int64) {
	out.Size = uint64(size)
	out.Blocks = uint64((size + statBlock - 1) / statBlock)
}

// setTimes sets all three times: FTP has one.
func setTimes(out *fuse.Attr, mtime time.Time) { out.SetTimes(&mtime, &mtime, &mtime) }

// attrTTL is how long the kernel may keep the attributes of e: not at all where lstat() would
// show a coarser time, or no size, when Getattr could say better.
func (t *tree) attrTTL(e ftpconn.Entry) time.Duration {
	if (e.Type == ftpconn.File || e.Type == ftpconn.Unknown) && coarse(e) {
		return 0
	}
	return t.kernelTTL
}

var _ = (fusefs.NodeGetattrer)((*node)(nil))

// Getattr answers stat() and fstat(). The handle is ignored: the kernel rarely sends the right one.
func (n *node) Getattr(ctx context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	c := call(ctx)
	defer c.end()
	return n.getattr(c, out)
}

func (n *node) getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno {
	f := n.file()
	if f != nil && f.isLocal() {
		f.attr(&out.Attr)
		return 0
	}
	e, p, err := n.own(ctx, func(p string) (e ftpconn.Entry, err error) {
		switch {
		case f != nil && f.wantsGrowth():
			e, err = n.t.fresh(ctx, p, time.Second)
			if err == nil && coarse(e) {
				e, err = n.t.exact(ctx, p)
			}
			return e, err
		case n.IsDir() || n.Mode() == syscall.S_IFLNK:
			return n.t.stat(ctx, p)
		}
		return n.t.exact(ctx, p)
	})
	if p == "" && errors.Is(err, ftpconn.ErrStale) {
		n.mu.Lock()
		last, gone := n.last, n.gone
		n.mu.Unlock()
		switch {
		case f != nil:
			f.attr(&out.Attr)
			return 0
		case gone:
			if last.Type == ftpconn.Unknown { // nothing was asked since it was changed
				last = ftpconn.Entry{Type: entryType(n.Mode()), ModTime: time.Now()}
			}
			n.t.attr(last, &out.Attr)
			out.Nlink = 0
			return 0
		}
	}
	if err != nil {
		return n.t.errno("getattr", n.shownPath(), err)
	}
	if typeBits(e.Type) != n.Mode()&syscall.S_IFMT {
		return syscall.ESTALE // another kind of thing has the name now: the kernel looks it up again
	}
	e = n.shown(p, n.refine(e))
	n.t.attr(e, &out.Attr)
	if coarse(e) {
		out.SetTimeout(min(n.t.kernelTTL, time.Second)) // this is the best there is
	} else {
		out.SetTimeout(n.t.attrTTL(e))
	}
	if f != nil && f.wantsGrowth() {
		out.SetTimeout(0)
	}
	return 0
}

var _ = (fusefs.NodeAccesser)((*node)(nil))

// Access answers access() and chdir() by the mode bits that stat() shows. The kernel asks
// only without the option default_permissions. What the server itself would refuse is not asked.
func (n *node) Access(ctx context.Context, mask uint32) syscall.Errno {
	c := call(ctx)
	defer c.end()
	const read, write, exec = 4, 2, 1
	if mask&write != 0 && n.t.opt.ReadOnly {
		return syscall.EROFS
	}
	if mask == 0 {
		return 0
	}
	var out fuse.AttrOut
	if errno := n.getattr(c, &out); errno != 0 {
		return errno
	}
	var uid, gid uint32
	if fc, ok := ctx.(*fuse.Context); ok {
		uid, gid = fc.Uid, fc.Gid
	}
	mode := out.Mode & 0o777
	if uid == 0 {
		if mask&exec != 0 && !n.IsDir() && mode&0o111 == 0 {
			return syscall.EACCES
		}
		return 0
	}
	switch {
	case uid == out.Uid:
		mode >>= 6
	case gid == out.Gid:
		mode >>= 3
	}
	if mask&(read|write|exec)&^mode != 0 {
		return syscall.EACCES
	}
	return 0
}

var _ = (fusefs.NodeStatfser)((*node)(nil))

// unknownSpace is shown as total and free where the server says nothing of its space: so much that no
// program refuses to write because of it.
const unknownSpace = 1 << 50

// Statfs answers df and statvfs().
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	c := call(ctx)
	defer c.end()
	sp := n.t.space(c, n)
	total, free := sp.Total, sp.Free
	if free < 0 {
		free = unknownSpace
	}
	if total < free {
		total = free
	}
	out.Bsize, out.Frsize = blockSize, blockSize
	out.Blocks, out.Bfree, out.Bavail = uint64(total/blockSize), uint64(free/blockSize), uint64(free/blockSize)
	out.Files, out.Ffree = 1<<32, 1<<32
	out.NameLen = 255
	return 0
}

// space returns the server's space, at most a TTL old. A failure is no reason for df to fail.
func (t *tree) space(ctx context.Context, n *node) ftpconn.Space {
	t.spaceMu.Lock()
	sp, at := t.spaceSeen, t.spaceAt
	t.spaceMu.Unlock()
	if !at.IsZero() && time.Since(at) < max(t.opt.TTL, time.Second) {
		return sp
	}
	sp = ftpconn.Space{Total: -1, Free: -1}
	if p, err := n.path(); err == nil {
		got, err := t.remote.Space(ctx, p)
		switch {
		case err == nil:
			sp = got
		case !errors.Is(err, errors.ErrUnsupported):
			t.log.Debug("free space not known", "path", p, "err", err)
		}
	}
	if ctx.Err() == nil {
		t.spaceMu.Lock()
		t.spaceSeen, t.spaceAt = sp, time.Now()
		t.spaceMu.Unlock()
	}
	return sp
}
