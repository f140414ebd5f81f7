package fs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

var _ = (fusefs.NodeLookuper)((*node)(nil))

// Lookup finds one name. Its cost is the Remote's: nothing where the listing is remembered.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	n.lookups.Add(1)
	return n.lookup(c, name, out)
}

func (n *node) lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	for tries := 0; ; tries++ {
		since := n.t.dirRenames.Load()
		p, err := n.childPath(name)
		if err != nil {
			return nil, n.t.errno("lookup", name, err)
		}
		if n.t.hidden.has(name) {
			return nil, syscall.ENOENT
		}
		known := n.GetChild(name)
		if known != nil {
			if f := nodeOf(known).local(); f != nil && !f.isGone() {
				f.attr(&out.Attr)
				out.SetEntryTimeout(n.t.kernelTTL)
				return known, 0
			}
		}
		e, err := n.t.stat(ctx, p)
		if err == nil && e.Type == ftpconn.Unknown {
			if better, err := n.t.exact(ctx, p); err == nil {
				e = better
			}
		}
		switch {
		case ctx.Err() != nil:
		case n.dirMovedFrom(ctx, path.Dir(p), since, err):
			continue
		case err == nil && tries < maxLookups && n.passes(ctx, name, p, nodeOf(known), tries):
			continue
		}
		if err != nil {
			return nil, n.t.errno("lookup", p, err)
		}
		e.Name = name
		i := n.show(ctx, e, p, 0, out)
		if !nodeOf(i).lookedUp(ctx, p) && tries < maxLookups {
			continue
		}
		return i, 0
	}
}

// maxLookups is how often a name is looked up again because a file lost it meanwhile, and another may have got it.
const maxLookups = 20

// passes says that the server may have told of the file that gets the name from known, or that got it already: known being what the tree had
// under it before the server was asked. It returns when there is a point in asking again.
func (n *node) passes(ctx context.Context, name, p string, known *node, tries int) bool {
	now := nodeOf(n.GetChild(name))
	if now == known && (known == nil || known.keeps(p)) {
		return false
	}
	if known != nil {
		known.mu.Lock()
		leaving := known.leaving
		known.mu.Unlock()
		if leaving != nil {
			select {
			case <-leaving:
			case <-ctx.Done():
			}
			return true
		}
	}
	if now == known { // the tree learns of it in a moment
		select {
		case <-time.After(time.Duration(tries) * 100 * time.Microsecond):
		case <-ctx.Done():
		}
	}
	return true
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
//
// A huge listing is read while it arrives. If it breaks off, or the server cut it short, readdir fails where it ends: rsync
// --delete must not take the rest for absent.
type dirHandle struct {
	n *node // constant

	dir     *cache.Dir      // what the server has
	created map[string]bool // files created here that were not passed in dir yet
	added   []ftpconn.Entry // those that are not in dir at all, once its end was reached
	changes uint64          // of n, when dir was asked for
	lookups uint64          // likewise
	next    int             // position of the next entry
	entry   ftpconn.Entry   // the one before next
	ino     uint64          // number shown for it
	cut     error           // why there are more entries on the server than in dir, nil if there aren't
	kept    window
}

// load asks for the listing.
func (d *dirHandle) load(ctx context.Context) syscall.Errno {
	since := d.n.t.dirRenames.Load()
	p, err := d.n.path()
	if err != nil {
		return d.n.t.errno("readdir", "", err)
	}
	changes, lookups := d.n.changes.Load(), d.n.lookups.Load()
	created := d.n.createdHere()
	dir, err := cache.Open(ctx, d.n.t.remote, p)
	if d.n.dirMovedFrom(ctx, p, since, err) {
		return d.load(ctx)
	}
	d.cut = nil
	switch {
	case errors.Is(err, ftpconn.ErrIncomplete):
		d.cut = err
	case err != nil:
		return d.n.t.errno("readdir", p, err)
	}
	d.close()
	d.dir, d.changes, d.lookups, d.created, d.added = dir, changes, lookups, created, nil
	d.n.t.ahead.listed(p, d.n.t.hidden.without(d.beginning(ctx)))
	return 0
}

func (d *dirHandle) close() {
	if d.dir != nil {
		d.dir.Close()
	}
}

// beginning is the listing or, of a huge one, what is there of its first entries.
func (d *dirHandle) beginning(ctx context.Context) []ftpconn.Entry {
	list, ok := d.dir.Small()
	if ok {
		return list
	}
	n, _ := d.dir.Len()
	for i := range min(n, bigListing) {
		if e, ok, _ := d.dir.At(ctx, i); ok && e.Name != "" {
			list = append(list, e)
		}
	}
	return list
}

var _ = (fusefs.FileReleasedirer)((*dirHandle)(nil))

// Releasedir ends a listing that is still arriving, if nobody else reads it.
func (d *dirHandle) Releasedir(context.Context, uint32) { d.close() }

var _ = (fusefs.FileFsyncdirer)((*dirHandle)(nil))

// Fsyncdir returns when the server has all that was written below the directory, which writeback may have put off: sync(1) with the
// name of a directory. (syncfs(2), sync -f, isn't passed on by the kernel.)
func (d *dirHandle) Fsyncdir(ctx context.Context, _ uint32) syscall.Errno {
	c := call(ctx)
	defer c.end()
	return d.n.t.errno("fsync", d.n.shownPath(), d.n.t.settle(c, d.n))
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

// at returns the entry in a place of the listing or behind it, false at the end.
func (d *dirHandle) at(ctx context.Context, i int) (e ftpconn.Entry, ok bool, err error) {
	if d.added == nil {
		if e, ok, err = d.dir.At(ctx, i); ok || err != nil {
			delete(d.created, e.Name)
			return e, ok, err
		}
		d.added = make([]ftpconn.Entry, 0, len(d.created))
		for name := range d.created {
			d.added = append(d.added, ftpconn.Entry{Name: name, Type: ftpconn.File, Size: -1, UID: -1, GID: -1})
		}
	}
	n, _ := d.dir.Len()
	switch {
	case i < n:
		return d.dir.At(ctx, i)
	case i-n < len(d.added):
		return d.added[i-n], true, nil
	}
	return e, false, d.cut
}

var _ = (fusefs.FileReaddirenter)((*dirHandle)(nil))

// Readdirent returns the next entry, nil at the end. The number of an entry is the one that a
// lookup will give it.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	de := &fuse.DirEntry{}
	switch d.next {
	case 0, 1:
		de.Name, de.Mode, de.Ino = ".", syscall.S_IFDIR, d.n.StableAttr().Ino
		if d.next == 1 {
			de.Name = ".."
			if _, p := d.n.Parent(); p != nil {
				de.Ino = p.StableAttr().Ino
			}
		}
		d.entry = ftpconn.Entry{}
	default:
		e, errno := d.following(ctx)
		if e.Name == "" {
			return nil, errno
		}
		de.Name = e.Name
		if e.Type != ftpconn.Unknown {
			de.Mode = typeBits(e.Type)
		}
		if known := d.n.GetChild(e.Name); known != nil {
			de.Ino = known.StableAttr().Ino
		} else {
			de.Ino = d.n.t.numbers.of(d.n.StableAttr().Ino, e.Name, typeBits(e.Type))
		}
		d.entry, d.ino = e, de.Ino
	}
	d.next++
	de.Off = uint64(d.next)
	return de, 0
}

// following moves to the next entry that was not removed or hidden, and returns it; one without a name is the end.
func (d *dirHandle) following(ctx context.Context) (ftpconn.Entry, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	for {
		e, ok, err := d.at(c, d.next-2)
		if err != nil {
			return ftpconn.Entry{}, d.n.t.errno("readdir", d.n.shownPath(), err)
		}
		if !ok || e.Name != "" && !d.n.t.hidden.has(e.Name) {
			return e, 0
		}
		d.next++
	}
}

var _ = (fusefs.FileLookuper)((*dirHandle)(nil))

// replay is how far back READDIRPLUS may go to entries that it was given already.
const replay = 4096

// Lookup answers READDIRPLUS from the listing that Readdirent walks, as long as this mount
// changed nothing in the directory. An entry of unknown type, of which only the server can say more, is
// left to a later lookup. So are those of a huge directory until somebody has looked one up: nodes for names that are only
// printed would cost more than the names.
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	e, ino := d.entry, d.ino
	if e.Name != name { // a replay after a seek
		ino = 0
		for i := d.next - 3; e.Name != name && i >= 0 && i > d.next-replay; i-- {
			e, _, _ = d.at(ctx, i)
		}
	}
	if e.Name != name || d.n.changes.Load() != d.changes {
		c := call(ctx)
		defer c.end()
		return d.n.lookup(c, name, out)
	}
	n, all := d.dir.Len()
	huge := n > bigListing || !all
	if e.Type == ftpconn.Unknown || huge && (d.n.lookups.Load() == d.lookups || d.kept.full()) {
		return nil, syscall.EAGAIN
	}
	p, err := d.n.childPath(name)
	if err != nil {
		return nil, syscall.EINVAL
	}
	i := d.n.show(ctx, e, p, ino, out)
	if huge {
		if e.Size >= 0 {
			out.SetAttrTimeout(d.n.t.kernelTTL)
		}
		d.kept.made(d, d.next-3)
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
	if n, _ := d.dir.Len(); off > uint64(2+n+len(d.added)) {
		return syscall.EINVAL
	}
	d.next = int(off)
	return 0
}

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
