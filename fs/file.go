package fs

import (
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// file is what the open handles of one inode share. While nothing was written it is little more than
// a count; the first write gives it a local copy, and from then on all handles read and write that
// one, until the last is closed.
type file struct {
	n *node // constant
	t *tree // constant

	prep chan struct{} // holding its one element: making or replacing the local copy, which takes a round trip

	// journalMu makes what the journal says and what is known of it here one. It is held while the local disk is written, and comes before
	// all others.
	journalMu sync.Mutex

	// appendMu makes finding the end and writing there one step. It comes before mu.
	appendMu sync.Mutex

	mu      sync.Mutex // guards following; never held over network I/O
	handles map[*handle]struct{}
	copy    *cache.SpoolFile // nil: nothing was written
	base    *reader          // of the server's version that copy is based on; nil if based on none
	baseGen int              // counts changes of base
	server  ftpconn.Entry    // the server's file as last seen; Size -1 and no time if not known
	checked time.Time        // when the server's size was last known for sure
	created bool             // not on the server yet
	appends bool             // all that is dirty was written with O_APPEND
	direct  bool             // stream at once: the server has nothing below what is written
	mtime   time.Time        // shown while there are changes
	setTime time.Time        // to be set behind the upload, zero for none
	setMode uint32           // to be set behind the upload, if hasMode
	hasMode bool
	noPages bool    // see pages
	gone    bool    // has no name any more
	away    bool    // about to lose its name: nothing may be uploaded
	job     *upload // the upload under way
	told    uint64  // version of copy whose failed upload was reported, plus one
	refused error   // why the server will not take more of what is being written

	// With writeback, see writeback.go.
	behind   bool      // closed, safe on the local disk, and to be uploaded: stays in the tree without handles
	since    time.Time // of the first close that put an upload off, zero if none is
	said     said      // in the journal
	dirTime  time.Time // that its directory is to have in the end, zero for none
	stirs    time.Time // when it last changed its directory without the server, zero for never
	late     error     // why that upload failed, until somebody was told
	replaces bool      // it was renamed over the server's file: to be replaced in one step
	patched  bool      // some of the changes may have been put into the server's file
	begun    bool      // an upload of this content broke: what the server has may be of it
	resumed  bool      // taken over from an earlier mount, which may have begun
	beside   string    // name under which it is being put beside the server's file, "" for none
}

// handle is one open().
type handle struct {
	f      *file   // constant
	r      *reader // constant; for reading while there is no local copy
	write  bool    // constant
	append bool    // constant

	stale atomic.Bool // what it wrote was put beside the server's file: it can't write to that one
}

// newFile is a file without handles; e is the server's as last seen.
func newFile(n *node, e ftpconn.Entry) *file {
	return &file{n: n, t: n.t, prep: make(chan struct{}, 1), handles: make(map[*handle]struct{}), server: e}
}

// openFile adds a handle to the file's state, which it makes if this is the first one.
func (n *node) openFile(flags uint32, e ftpconn.Entry) *handle {
	acc := flags & syscall.O_ACCMODE
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.open
	if f == nil {
		f = newFile(n, e)
		n.open = f
		n.t.files.add(f)
	}
	h := &handle{f: f, write: acc != syscall.O_RDONLY, append: flags&syscall.O_APPEND != 0}
	h.r = newReader(n, versionOf(e))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handles[h] = struct{}{}
	return h
}

var _ = (fusefs.NodeOpener)((*node)(nil))

// Open opens a file. Pages that the kernel has of it stay if the file is the version they are of.
func (n *node) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if n.t.opt.ReadOnly && (write || flags&syscall.O_TRUNC != 0) {
		return nil, 0, syscall.EROFS
	}
	if f := n.local(); f != nil {
		if err := f.lateError(); err != nil {
			return nil, 0, n.t.errno("open", n.shownPath(), err)
		}
		h := n.openFile(flags, f.entry())
		if h.f != f { // the server has it by now, and it was let go
			h.drop()
			return n.Open(ctx, flags)
		}
		if flags&syscall.O_TRUNC != 0 {
			if err := f.truncate(c, 0); err != nil {
				h.drop()
				return nil, 0, n.t.errno("open", n.shownPath(), err)
			}
		}
		n.opened(c.pid)
		return h, h.f.pages(flags, fuse.FOPEN_KEEP_CACHE), 0
	}
	e, p, err := n.own(c, func(p string) (ftpconn.Entry, error) { return n.t.fresh(c, p, max(n.t.opt.TTL, 0)) })
	switch {
	case err != nil && p == "":
		n.missed(c.pid)
		return nil, 0, n.t.errno("open", "", err)
	case notThere(err):
		return nil, 0, syscall.ESTALE // the kernel looks the name up again: another file may have it by now, or O_CREAT makes one
	case err != nil:
		return nil, 0, n.t.errno("open", p, err)
	}
	if e.Type == ftpconn.Dir {
		n.t.forget(p)
		return nil, 0, syscall.ESTALE
	}
	if write && flags&syscall.O_TRUNC == 0 && surelyReadOnly(e) {
		return nil, 0, syscall.EACCES
	}
	n.mu.Lock()
	shown := n.last
	n.mu.Unlock()
	e = n.refine(e)
	if shown.Type != ftpconn.Unknown && (shown.Size != e.Size || !shown.ModTime.Equal(e.ModTime)) {
		// The kernel would read no further than the size that it was told last. A negative offset makes it
		// ask for the attributes and leave the pages alone, for which it might wait.
		n.NotifyContent(-1, 0)
	}
	h := n.openFile(flags, e)
	if !h.stays(c, p) {
		if c.Err() != nil {
			return nil, 0, syscall.EINTR
		}
		return n.Open(ctx, flags)
	}
	n.opened(c.pid)
	h.f.follow(e)
	if write {
		n.t.ahead.forget(p)
	}
	if flags&syscall.O_TRUNC != 0 {
		err := h.f.truncate(c, 0)
		if err == nil && (surelyReadOnly(e) || n.t.doubtful.has(path.Dir(p))) {
			err = h.f.upload(c)
		}
		if err != nil {
			h.drop()
			return nil, 0, n.t.errno("open", p, err)
		}
		return h, h.f.pages(flags, 0), 0
	}
	if e.Size < 0 {
		return h, fuse.FOPEN_DIRECT_IO, 0
	}
	var keep uint32
	n.mu.Lock()
	first := n.pages == version{}
	if v := versionOf(e); v.exact() && v == n.pages {
		keep = fuse.FOPEN_KEEP_CACHE
	} else {
		n.pages = v
	}
	n.mu.Unlock()
	if first && !write && !n.t.blocks().Persistent() {
		n.t.ahead.begin(p, e)
	}
	return h, h.f.pages(flags, keep), 0
}

var _ = (fusefs.NodeCreater)((*node)(nil))

// Create makes a file that only this mount sees until it is written to some length, flushed or
// closed: creating, writing and closing a small file is one upload. Where the server is likely to
// refuse, it is asked at once, so that open() fails and not a close() that nobody looks at.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	p, errno := n.change(c, "create", name)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	// Without O_EXCL, O_TRUNC and O_APPEND, what another client has put there since is to be kept.
	if flags&(syscall.O_EXCL|syscall.O_TRUNC|syscall.O_APPEND) == 0 {
		e, err := n.t.fresh(c, p, time.Second)
		if err == nil && e.Type != ftpconn.Dir {
			e.Name = name
			i := n.show(c, e, p, 0, out)
			h := nodeOf(i).openFile(flags, e)
			return i, h, h.f.pages(flags, 0), 0
		} else if err == nil {
			return nil, nil, 0, syscall.EISDIR
		} else if !notThere(err) {
			return nil, nil, 0, n.t.errno("create", p, err)
		}
	}
	e := ftpconn.Entry{Name: name, Type: ftpconn.File, ModTime: time.Now(), UID: -1, GID: -1}
	dir := path.Dir(p)
	asked := n.doubts(dir)
	if asked {
		if err := n.t.storeEmpty(c, p); err != nil {
			n.t.doubt(p, err)
			return nil, nil, 0, n.t.errno("create", p, err)
		}
		n.t.doubtful.set(dir, time.Time{})
	}
	child := &node{t: n.t}
	i := n.NewInode(c, child, n.t.numbers.attr(syscall.S_IFREG, n.t.numbers.of(n.StableAttr().Ino, name, syscall.S_IFREG)))
	h := child.openFile(flags, e)
	f := h.f
	spoolFile, err := n.t.spool.Create(p)
	if err != nil {
		h.drop()
		return nil, nil, 0, n.t.errno("create", p, err)
	}
	f.mu.Lock()
	f.copy, f.created, f.direct, f.mtime, f.checked = spoolFile, !asked, true, e.ModTime, e.ModTime
	if asked {
		spoolFile.MarkClean(spoolFile.Version(), 0)
	}
	f.appends = h.append
	if mode&0o111 != 0 || mode&0o077 == 0 {
		f.setMode, f.hasMode = mode&0o7777, true
	}
	f.mu.Unlock()
	n.t.overrides.Drop(p)
	n.stirred(p)
	n.t.numbers.keep(n.StableAttr().Ino, name, child)
	f.attr(&out.Attr)
	out.SetEntryTimeout(n.t.kernelTTL)
	return i, h, f.pages(flags, 0), 0
}

// isLocal says that what this mount shows of the file is not the server's.
func (f *file) isLocal() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isLocalLocked()
}

func (f *file) isLocalLocked() bool {
	return f.gone || f.created || f.job != nil || f.copy != nil && (f.copy.Dirty() || f.hasMode || !f.setTime.IsZero())
}

func (f *file) isCreated() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.created
}

func (f *file) isGone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone
}

// setGone says that the file lost its name; fstat() goes on showing what was shown last.
func (f *file) setGone(last ftpconn.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isLocalLocked() && last.Type == ftpconn.File {
		f.server, f.mtime = last, time.Time{}
	}
	f.gone = true
	if f.behind && f.copy != nil {
		f.copy.Unjournal()
	}
}

// entry returns the file as this mount shows it.
func (f *file) entry() ftpconn.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.server
	e.Type = ftpconn.File
	if f.copy != nil {
		e.Size = f.copy.Size()
	}
	if (f.isLocalLocked() || e.ModTime.IsZero()) && !f.mtime.IsZero() { // an upload may have ended since somebody looked
		e.ModTime, e.ModPrecision = f.mtime, time.Nanosecond
	}
	if !f.setTime.IsZero() {
		e.ModTime, e.ModPrecision = f.setTime, time.Nanosecond
	}
	if f.hasMode {
		e.Mode, e.HasMode = uint16(f.setMode), true
	}
	return e
}

// attr fills out with the file as this mount shows it.
func (f *file) attr(out *fuse.Attr) {
	f.t.attr(f.entry(), out)
	if f.isGone() {
		out.Nlink = 0
	} else if f.localCopy() != nil {
		out.Blksize = writeSize
	}
}

var _ = (fusefs.FileReader)((*handle)(nil))

// Read reads from the local copy if there is one, else from the server.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	l := new(loan)
	n, err := h.read(c, dest, off, l)
	if err != nil {
		l.Done()
		return nil, h.f.t.errno("read", h.f.n.shownPath(), err)
	}
	return h.f.t.answer(l, dest[:n]), 0
}

// read fills dest with what is at off or, if that is in one piece, makes it l.
func (h *handle) read(ctx context.Context, dest []byte, off int64, l *loan) (int, error) {
	for {
		copy := h.f.localCopy()
		if copy == nil {
			began := time.Now()
			n, err := h.r.read(ctx, dest, off, l)
			again := err != nil && ctx.Err() == nil && h.f.localCopy() != nil // made meanwhile, for a file that lost its name
			if err == nil && n < len(dest) {
				again, err = h.r.outgrown(ctx, off+int64(n), began)
			}
			if again {
				l.Done()
				continue
			}
			return n, err
		}
		n, err := h.f.readLocal(ctx, copy, dest, off)
		if errors.Is(err, errReplaced) {
			continue
		}
		return n, err
	}
}

func (f *file) localCopy() *cache.SpoolFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copy
}
