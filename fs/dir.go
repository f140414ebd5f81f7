package fs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/ftpconn"
)

var _ = (fusefs.NodeLookuper)((*node)(nil))

// Lookup finds one name. Its cost is the Remote's: nothing where the listing is remembered.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	return n.lookup(c, name, out)
}

func (n *node) lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	p, err := n.childPath(name)
	if err != nil {
		return nil, n.t.errno("lookup", name, err)
	}
	if n.t.hidden.has(name) {
		return nil, syscall.ENOENT
	}
	if known := n.GetChild(name); known != nil {
		if f := nodeOf(known).local(); f != nil && !f.isGone() {
			f.attr(&out.Attr)
			out.SetEntryTimeout(n.t.kernelTTL)
			return known, 0
		}
	}
	e, err := n.t.stat(ctx, p)
	if err != nil {
		return nil, n.t.errno("lookup", p, err)
	}
	if e.Type == ftpconn.Unknown {
		if better, err := n.t.exact(ctx, p); err == nil {
			e = better
		}
	}
	e.Name = name
	return n.show(ctx, e, p, 0, out), 0
}

var _ = (fusefs.NodeOpendirHandler)((*node)(nil))

// OpendirHandle lists the directory, so that opendir() fails as it does on a disk.
func (n *node) OpendirHandle(ctx context.Context, _ uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	d := &dirHandle{n: n}
	if errno := d.load(c); errno != 0 {
		return nil, 0, errno
	}
	return d, 0, 0
}

// dirHandle is an open directory: a listing, and a position in it. Offsets are positions, so
// telldir() and seekdir() work; "." and ".." are 0 and 1. go-fuse calls one method at a time.
type dirHandle struct {
	n *node // constant

	list    []ftpconn.Entry // what the Remote gave, which is not to be changed
	added   []ftpconn.Entry // files created here that the server doesn't have yet
	changes uint64          // of n, when list was fetched
	next    int             // position of the next entry
	ino     uint64          // number shown for the entry before next
	cut     error           // why there are more entries on the server than in list, nil if there aren't
}

// load fetches the listing.
func (d *dirHandle) load(ctx context.Context) syscall.Errno {
	p, err := d.n.path()
	if err != nil {
		return d.n.t.errno("readdir", "", err)
	}
	changes := d.n.changes.Load()
	list, err := d.n.t.remote.List(ctx, p)
	d.cut = nil
	switch {
	case errors.Is(err, ftpconn.ErrIncomplete):
		d.cut = err
	case err != nil:
		return d.n.t.errno("readdir", p, err)
	}
	list = d.n.t.hidden.without(list)
	d.list, d.changes, d.added = list, changes, nil
	d.n.t.ahead.listed(p, list)
	created := d.n.createdHere()
	for i := range list {
		delete(created, list[i].Name)
	}
	for name := range created {
		d.added = append(d.added, ftpconn.Entry{Name: name, Type: ftpconn.File, Size: -1, UID: -1, GID: -1})
	}
	return 0
}

// createdHere returns the names of the files in directory n that were created through this
// mount and aren't on the server yet.
func (n *node) createdHere() map[string]bool {
	if n.t.files.count.Load() == 0 {
		return nil
	}
	var names map[string]bool
	for _, f := range n.t.files.list() {
		name, parent := f.n.Parent()
		if parent != n.EmbeddedInode() || !f.isCreated() || f.isGone() {
			continue
		}
		if names == nil {
			names = make(map[string]bool)
		}
		names[name] = true
	}
	return names
}

// at returns the entry at a position, false at the end.
func (d *dirHandle) at(i int) (ftpconn.Entry, bool) {
	switch {
	case i < 0:
		return ftpconn.Entry{}, false
	case i < len(d.list):
		return d.list[i], true
	case i-len(d.list) < len(d.added):
		return d.added[i-len(d.list)], true
	}
	return ftpconn.Entry{}, false
}

var _ = (fusefs.FileReaddirenter)((*dirHandle)(nil))

// Readdirent returns the entry at the position and moves on.
func (d *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	de := &fuse.DirEntry{Off: uint64(d.next + 1)}
	switch d.next {
	case 0, 1:
		de.Name, de.Mode, de.Ino = ".", syscall.S_IFDIR, d.n.StableAttr().Ino
		if d.next == 1 {
			de.Name = ".."
			if _, p := d.n.Parent(); p != nil {
				de.Ino = p.StableAttr().Ino
			}
		}
	default:
		e, ok := d.at(d.next - 2)
		if !ok && d.cut != nil { // rsync --delete must not take the rest for absent
			return nil, d.n.t.errno("readdir", d.n.shownPath(), d.cut)
		}
		if !ok {
			return nil, 0
		}
		de.Name = e.Name
		if e.Type != ftpconn.Unknown {
			de.Mode = typeBits(e.Type)
		}
		if known := d.n.GetChild(e.Name); known != nil {
			de.Ino = known.StableAttr().Ino
		} else {
			de.Ino = d.n.t.nextIno()
		}
		d.ino = de.Ino
	}
	d.next++
	return de, 0
}

var _ = (fusefs.FileLookuper)((*dirHandle)(nil))

// Lookup answers READDIRPLUS from the listing that Readdirent walks, as long as this mount
// changed nothing in the directory. An entry of unknown type, of which only the server can say more, is
// left to a later lookup.
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	e, ok := d.at(d.next - 3)
	ino := d.ino
	if !ok || e.Name != name { // a replay after a seek
		ino = 0
		for i := d.next - 3; i >= 0; i-- {
			if e, ok = d.at(i); ok && e.Name == name {
				break
			}
			ok = false
		}
	}
	if !ok || d.n.changes.Load() != d.changes {
		c := call(ctx)
		defer c.end()
		return d.n.lookup(c, name, out)
	}
	if e.Type == ftpconn.Unknown {
		return nil, syscall.EAGAIN
	}
	p, err := d.n.childPath(name)
	if err != nil {
		return nil, syscall.EINVAL
	}
	i := d.n.show(ctx, e, p, ino, out)
	if len(d.list) > bigListing && e.Size >= 0 {
		out.SetAttrTimeout(d.n.t.kernelTTL)
	}
	return i, 0
}

// bigListing is from how many entries on a listing's times are left as coarse as they are: `ls -l` would ask for
// each, and the cache gives exact times of smaller directories alone.
const bigListing = 5000

var _ = (fusefs.FileSeekdirer)((*dirHandle)(nil))

// Seekdir moves the position. Going back to the start shows the directory anew (rewinddir).
func (d *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	if off == 0 && d.next > 0 {
		c := call(ctx)
		defer c.end()
		if errno := d.load(c); errno != 0 {
			return errno
		}
	}
	if off > uint64(2+len(d.list)+len(d.added)) {
		return syscall.EINVAL
	}
	d.next = int(off)
	return 0
}

var _ = (fusefs.FileFsyncdirer)((*dirHandle)(nil))

// Fsyncdir has nothing to do: changes of directories are on the server when they return.
func (d *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno { return 0 }

var _ = (fusefs.NodeReadlinker)((*node)(nil))

// Readlink returns a symlink's target as the server printed it: it may lead out of the mount, as
// on any filesystem. Facts (MLSD) have no target; a server that tells it nowhere leaves EIO.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	p, err := n.path()
	if err != nil {
		return nil, n.t.errno("readlink", "", err)
	}
	e, err := n.t.stat(c, p)
	if err == nil && e.Type == ftpconn.Symlink && e.Target == "" { // MLST of Pure-FTPd 1.0.50 doesn't tell it
		var list []ftpconn.Entry
		list, err = n.t.remote.List(c, path.Dir(p))
		for _, l := range list {
			if l.Name == path.Base(p) {
				e = l
			}
		}
	}
	switch {
	case err != nil:
	case e.Type != ftpconn.Symlink:
		return nil, syscall.EINVAL
	case e.Target == "":
		err = errors.New("the server's listing shows a symlink without its target")
	default:
		return []byte(e.Target), 0
	}
	return nil, n.t.errno("readlink", p, err)
}

// notThere says that an error is evidence of absence.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
