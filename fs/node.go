package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// node is one inode: a directory, a file or a symlink. Its path is not stored but read off the inode
// tree, so that a rename of any directory above needs no bookkeeping.
type node struct {
	fusefs.Inode
	t *tree // constant

	// changes counts what this mount did to the entries of a directory, so that a directory
	// handle knows when the listing it holds has aged.
	changes atomic.Uint64
	// lookups counts what the kernel looked up in a directory by name.
	lookups atomic.Uint64

	mu sync.Mutex // guards following
	// open is the state that the open handles of a file share; nil when there are none.
	open *file
	// last is the entry that was shown to the kernel last, as the server has it.
	last    ftpconn.Entry
	resized time.Time // when it got another size
	// pages is the version of which the kernel may hold pages; zero if that isn't known.
	pages version
	// gone is set when this mount removed the name or put another file in its place, and was is the path that it had.
	gone bool
	was  string
	// expected are the threads of which an OPEN is likely to come at once; each is closed when it has come. See expected.go.
	expected map[uint32]chan struct{}
	// hidden is the name beside its old one under which the server keeps an open file that lost its name, "" for
	// none, and hiddenIn the directory. See hidden.go.
	hidden   string
	hiddenIn *node
	// moving is closed at the end of the rename that is under way, nil if there is none; to is where the last one led. See
	// moves.go.
	moving chan struct{}
	to     *place
	// stirredAt is when a directory was changed in a way that the server doesn't know of yet, zero if it wasn't.
	stirredAt time.Time
	// leaving is closed when the removal of the name, or a rename over it, has ended; nil if there is none. See leave.
	leaving chan struct{}
	going   bool // the server was told, or is about to be
	pinned  bool // guarded by tree.pins
}

// nodeOf returns the node behind an inode, nil for nil.
func nodeOf(i *fusefs.Inode) *node {
	if i == nil {
		return nil
	}
	return i.Operations().(*node)
}

// shownPath is path for the log.
func (n *node) shownPath() string {
	p, err := n.path()
	if err != nil {
		return "(removed)"
	}
	return p
}

// childPath returns the path of name in directory n. It refuses a name that can't be sent to any
// server.
func (n *node) childPath(name string) (string, error) {
	if len(name) > 255 {
		return "", syscall.ENAMETOOLONG
	}
	if strings.ContainsAny(name, "\r\n\x00") {
		return "", ftpconn.ErrBadName
	}
	dir, err := n.path()
	if err != nil {
		return "", err
	}
	return path.Join(dir, name), nil
}

// file returns the state of an open file, nil if it isn't open.
func (n *node) file() *file {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open
}

// local returns the state of an open file whose local view differs from the server's or may do so.
func (n *node) local() *file {
	if f := n.file(); f != nil && f.isLocal() {
		return f
	}
	return nil
}

// changed tells directory handles that this mount changed an entry of directory n.
func (n *node) changed() { n.changes.Add(1) }

// stirred is changed for a name p in n that was made or removed: which changes the time of n on the server.
func (n *node) stirred(p string) {
	n.changed()
	n.t.later.dropDirTime(n)
	n.t.overrides.dropTime(path.Dir(p))
}

// passed is stirred for a name that was taken away from the file that had it.
func (n *node) passed(p string) {
	n.stirred(p)
	n.t.numbers.drop(n.StableAttr().Ino, path.Base(p))
}

// parentChanged is changed for the directory that n is in.
func (n *node) parentChanged() {
	if _, p := n.Parent(); p != nil {
		nodeOf(p).changed()
	}
}

// child returns the inode for an entry that the server told of, or that this mount made: the known
// one if it has the same type, a new one otherwise. ino is the number of a new one, 0 for any. A lookup and a
// READDIRPLUS may ask for the same name at the same time and get the same inode: whoever is first enters it.
func (n *node) child(ctx context.Context, e ftpconn.Entry, ino uint64) *fusefs.Inode {
	mode, dir := typeBits(e.Type), n.StableAttr().Ino
	n.t.births.Lock()
	defer n.t.births.Unlock()
	if known := n.GetChild(e.Name); known != nil && known.Mode()&syscall.S_IFMT == mode {
		k := nodeOf(known)
		k.mu.Lock()
		gone := k.gone
		k.mu.Unlock()
		if !gone {
			n.t.numbers.keep(dir, e.Name, k)
			return known
		}
	}
	if ino == 0 {
		ino = n.t.numbers.of(dir, e.Name, mode)
	}
	c := &node{t: n.t}
	i := n.NewInode(ctx, c, n.t.numbers.attr(mode, ino))
	n.AddChild(e.Name, i, true)
	n.t.numbers.keep(dir, e.Name, c)
	return i
}

// show fills out for an entry of directory n and returns its inode. Local state (a file
// created or written here) is shown before the server's.
func (n *node) show(ctx context.Context, e ftpconn.Entry, p string, ino uint64, out *fuse.EntryOut) *fusefs.Inode {
	i := n.child(ctx, e, ino)
	c := nodeOf(i)
	if f := c.local(); f != nil {
		f.attr(&out.Attr)
		out.SetEntryTimeout(n.t.kernelTTL)
		return i
	}
	e = c.shown(p, c.refine(e))
	n.t.attr(e, &out.Attr)
	out.SetEntryTimeout(n.t.kernelTTL)
	out.SetAttrTimeout(n.t.attrTTL(e))
	return i
}

// shown is the server's entry of the path p of n as this mount shows it.
func (n *node) shown(p string, e ftpconn.Entry) ftpconn.Entry {
	e = n.t.overrides.apply(p, e)
	n.mu.Lock()
	if n.stirredAt.After(e.ModTime) {
		e.ModTime, e.ModPrecision = n.stirredAt, time.Nanosecond
	}
	n.mu.Unlock()
	if at, ok := n.t.later.dirTime(n); ok {
		e.ModTime, e.ModPrecision = at, time.Nanosecond
	}
	return e
}

// refine keeps an exact time that was learned of a file when a listing tells the same time
// less exactly, and remembers what the server shows.
func (n *node) refine(e ftpconn.Entry) ftpconn.Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Type == ftpconn.File && n.last.Type == ftpconn.File && e.ModPrecision != cache.Provisional && coarse(e) && !coarse(n.last) && e.Size == n.last.Size {
		if d := n.last.ModTime.Sub(e.ModTime); e.ModTime.IsZero() || d >= 0 && d < min(e.ModPrecision, 24*time.Hour) {
			e.ModTime, e.ModPrecision = n.last.ModTime, n.last.ModPrecision
		}
	}
	if n.last.Type == ftpconn.File && n.last.Size != e.Size {
		n.resized = time.Now()
	}
	n.last = e
	return e
}

// shownSize is the size that the kernel was told of a file that has its name, and when it was told of a new one, if ever; -1 if that isn't
// known.
func (n *node) shownSize() (int64, time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || n.last.Type != ftpconn.File {
		return -1, time.Time{}
	}
	return n.last.Size, n.resized
}

// coarse says that an entry doesn't have the time, or the size, that lstat() is to show.
func coarse(e ftpconn.Entry) bool {
	return e.Size < 0 || e.ModTime.IsZero() || e.ModPrecision > time.Second
}

// version identifies the content of a file as far as FTP can: by size and time.
type version struct {
	size      int64 // -1 if not known
	time      time.Time
	precision time.Duration
}

func versionOf(e ftpconn.Entry) version { return version{e.Size, e.ModTime, e.ModPrecision} }

// same says whether two versions may be one: times are compared at the precision of the coarser
// one, and what isn't known differs from nothing.
func (v version) same(w version) bool {
	if v.size >= 0 && w.size >= 0 && v.size != w.size {
		return false
	}
	if v.time.IsZero() || w.time.IsZero() {
		return true
	}
	p := max(v.precision, w.precision, time.Second)
	if p < time.Minute {
		return v.time.Truncate(p).Equal(w.time.Truncate(p))
	}
	// Listings round in the server's zone, of which the offset is in quarters of an hour, and
	// days begin anywhere.
	d := v.time.Sub(w.time).Abs()
	return d < p
}

// exact says that v can be relied on to differ from any other version, to the second.
func (v version) exact() bool { return v.size >= 0 && !v.time.IsZero() && v.precision <= time.Second }

// The extras of a Remote that remembers; the tree does without them if they are missing.
type (
	// refiner returns an entry with an exact time.
	refiner interface {
		Exact(ctx context.Context, path string) (ftpconn.Entry, error)
	}
	// refresher returns an entry that was asked for at most maxAge ago.
	refresher interface {
		Fresh(ctx context.Context, path string, maxAge time.Duration) (ftpconn.Entry, error)
	}
	// forgetter forgets what it knows of a path.
	forgetter interface{ Forget(path string) }
)

// statRoot returns the root's entry, which no listing names. It always succeeds: a mount whose server
// doesn't answer must still be one that can be entered and unmounted. A Remote without a memory isn't asked.
func (t *tree) statRoot(ctx context.Context) (ftpconn.Entry, error) {
	if _, ok := t.remote.(refresher); ok {
		if e, err := t.remote.Stat(ctx, "/"); err == nil && e.Type == ftpconn.Dir {
			return e, nil
		}
	}
	return ftpconn.Entry{Name: "/", Type: ftpconn.Dir, Size: -1, ModTime: t.started, ModPrecision: time.Second, UID: -1, GID: -1}, nil
}

// stat returns an entry as the Remote has it, which may be as old as its TTL.
func (t *tree) stat(ctx context.Context, p string) (ftpconn.Entry, error) {
	if p == "/" {
		return t.statRoot(ctx)
	}
	e, err := t.remote.Stat(ctx, p)
	if !errors.Is(err, errors.ErrUnsupported) {
		return e, err
	}
	list, err := t.remote.List(ctx, path.Dir(p))
	if err != nil {
		return ftpconn.Entry{}, err
	}
	name := path.Base(p)
	for _, e := range list {
		if e.Name == name {
			return e, nil
		}
	}
	return ftpconn.Entry{}, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
}

// exact is stat with a time that is exact to the second, if the server can tell it.
func (t *tree) exact(ctx context.Context, p string) (ftpconn.Entry, error) {
	if r, ok := t.remote.(refiner); ok && p != "/" {
		return r.Exact(ctx, p)
	}
	e, err := t.stat(ctx, p)
	if err != nil || e.Type != ftpconn.File || !coarse(e) {
		return e, err
	}
	times, err := t.remote.ModTimes(ctx, []string{p})
	if err == nil && len(times) == 1 && !times[0].IsZero() {
		e.ModTime, e.ModPrecision = times[0], time.Second
	} else if err != nil && ctx.Err() != nil {
		return e, err
	}
	return e, nil
}

// fresh is stat with an answer not older than maxAge.
func (t *tree) fresh(ctx context.Context, p string, maxAge time.Duration) (ftpconn.Entry, error) {
	if r, ok := t.remote.(refresher); ok && p != "/" {
		return r.Fresh(ctx, p, maxAge)
	}
	return t.stat(ctx, p)
}

// forget makes the Remote ask again for a path.
func (t *tree) forget(p string) {
	if f, ok := t.remote.(forgetter); ok {
		f.Forget(p)
	}
}
