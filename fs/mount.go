package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

const (
	// maxKernelTTL bounds what the kernel keeps without asking: asking costs microseconds, the
	// Remote remembers for the whole TTL, and the two ages would add up.
	maxKernelTTL = time.Second
	maxRequest   = 1 << 20 // bytes in a read or write request
	// background is how many readahead requests the kernel may have under way.
	background = 32
)

// tree is what all nodes of a mount share.
type tree struct {
	// dependencies
	remote ftpconn.Remote
	spool  *cache.Spool
	log    *slog.Logger

	// constant
	opt       Options
	kernelTTL time.Duration
	started   time.Time
	root      *node
	ctx       context.Context // ends after the last upload
	cancel    context.CancelFunc

	noResume     atomic.Bool // the server refuses REST before STOR
	lost         atomic.Bool // see patience
	direct       atomic.Bool // see file.pages
	atomic       atomicity
	tails        tails
	noHash       sync.Once // says in the log that the server has no hash
	numbers      numbers
	reads        atomic.Uint64 // requests of the kernel
	readBytes    atomic.Int64
	files        fileSet
	overrides    overrides
	hidden       hidden
	places       places
	buffers      budget
	doubtful     doubtful
	missed       missed
	ahead        *ahead
	found        finding
	renames      atomic.Int64   // that have ended
	dirRenames   atomic.Int64   // of them, those of directories
	cleaning     sync.WaitGroup // removal of what dead mounts left
	stopCleaning context.CancelFunc

	later writeback
	pins  sync.Mutex // held while a node is pinned or unpinned

	births sync.Mutex // held while an entry is given its inode

	spaceMu   sync.Mutex // guards following
	spaceSeen ftpconn.Space
	spaceAt   time.Time

	pendingMu sync.Mutex // guards following
	pending   []error    // failed uploads of which nobody was told
}

// Mounted is a mount that answers.
type Mounted struct {
	t      *tree
	server *fuse.Server
	done   chan struct{} // closed when the mount is gone and its uploads are done
}

// Mount mounts remote at mountpoint and returns when it answers. spool holds the local copies of files being
// written; it stays the caller's, as remote does: both may be closed after Wait. Run by root it
// calls mount(2) itself, else, or if that fails, fusermount.
func Mount(mountpoint string, remote ftpconn.Remote, spool *cache.Spool, opt Options) (*Mounted, error) {
	t := newTree(remote, spool, opt)
	fuseOpt := fuse.MountOptions{
		AllowOther:    opt.AllowOther,
		FsName:        opt.Source,
		Name:          "ftpfs",
		MaxWrite:      maxRequest,
		MaxReadAhead:  maxRequest,
		MaxBackground: background,
		DisableXAttrs: true,
		Debug:         opt.Debug,
		DirectMount:   os.Geteuid() == 0,
		// With it open() carries O_TRUNC, instead of a truncate by path behind it that can't be told
		// from truncate(2). For the other one see file.pages.
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
	}
	if opt.DefaultPermissions {
		fuseOpt.Options = append(fuseOpt.Options, "default_permissions")
	}
	if opt.ReadOnly {
		fuseOpt.Options = append(fuseOpt.Options, "ro")
	}
	fuseOpt.Logger = slog.NewLogLogger(t.log.Handler(), slog.LevelDebug)
	server, err := fusefs.Mount(mountpoint, t.root, &fusefs.Options{
		MountOptions:    fuseOpt,
		NegativeTimeout: &t.kernelTTL,
		NullPermissions: true,
		RootStableAttr:  &fusefs.StableAttr{Ino: 1},
		OnAdd:           func(context.Context) { t.resume() },
		Logger:          fuseOpt.Logger,
	})
	if err != nil {
		t.cancel()
		return nil, fmt.Errorf("mounting at %s: %w", mountpoint, err)
	}
	t.direct.Store(server.KernelSettings().Flags64()&fuse.CAP_DIRECT_IO_ALLOW_MMAP != 0)
	clean, stop := context.WithCancel(t.ctx)
	t.stopCleaning = stop
	t.cleaning.Go(func() { t.dropLeftovers(clean) })
	if err := raiseReadAhead(mountpoint); err != nil {
		t.log.Debug("the kernel reads ahead as far as it does by itself", "err", err)
	}
	m := &Mounted{t: t, server: server, done: make(chan struct{})}
	go m.finish()
	return m, nil
}

func newTree(remote ftpconn.Remote, spool *cache.Spool, opt Options) *tree {
	t := &tree{
		remote:    remote,
		spool:     spool,
		log:       opt.Logger,
		opt:       opt,
		kernelTTL: min(max(opt.TTL, 0), maxKernelTTL),
		started:   time.Now(),
	}
	t.overrides.Attrs, t.overrides.strict = opt.Attrs, opt.StrictAttrs
	if t.overrides.Attrs == nil || opt.StrictAttrs {
		t.overrides.Attrs = cache.NewAttrs(cache.MaxAttrs)
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.root = &node{t: t}
	t.ahead = newAhead(t)
	return t
}

// finish waits for the kernel to let go and uploads what is left.
func (m *Mounted) finish() {
	defer close(m.done)
	m.server.Wait()
	var all sync.WaitGroup
	for _, f := range m.t.files.list() { // at once: with a server that is gone each waits for its timeout
		all.Go(f.finish)
	}
	all.Wait()
	m.t.leave(m.t.later.drain(m.t))
	m.t.dropAllHidden()
	m.t.stopCleaning() // the next mount goes on
	m.t.cleaning.Wait()
	m.t.clearTemps()
	m.t.cancel()
}

// Backlog says what is waiting for its upload behind its close (Options.Writeback).
func (m *Mounted) Backlog() Backlog { return m.t.later.backlog() }

// WaitGone returns when the mount is gone, by whatever way; what was written may still be on its way to the server.
func (m *Mounted) WaitGone() { m.server.Wait() }

// Wait returns when the mount is gone, by whatever way, and what was written is on the server or has
// failed; see PendingErr.
func (m *Mounted) Wait() { <-m.done }

// Unmount takes the mount away and waits like Wait. It fails while files are open (EBUSY).
func (m *Mounted) Unmount() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	m.Wait()
	return nil
}

// PendingErr says which uploads failed that no close() or fsync() could report, nil if there were
// none: what was written through mmap() after close(), or by a caller that was killed.
func (m *Mounted) PendingErr() error {
	m.t.pendingMu.Lock()
	defer m.t.pendingMu.Unlock()
	const most = 10
	lost := m.t.pending
	if len(lost) <= most {
		return errors.Join(lost...)
	}
	return errors.Join(append(slices.Clone(lost[:most]), fmt.Errorf("and %d more: see the log", len(lost)-most))...)
}

// untold records a failure of which no caller can be told.
func (t *tree) untold(p string, err error) {
	t.log.Error("an upload failed after the file was closed", "path", p, "err", err)
	t.pendingMu.Lock()
	defer t.pendingMu.Unlock()
	t.pending = append(t.pending, fmt.Errorf("upload of %s: %w", p, err))
}

// fileSet is the set of open files.
type fileSet struct {
	count atomic.Int64 // of the set

	mu  sync.Mutex // guards following
	set map[*file]struct{}
}

func (s *fileSet) add(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[*file]struct{})
	}
	s.set[f] = struct{}{}
	s.count.Store(int64(len(s.set)))
}

func (s *fileSet) remove(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, f)
	s.count.Store(int64(len(s.set)))
}

func (s *fileSet) list() []*file {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*file, 0, len(s.set))
	for f := range s.set {
		list = append(list, f)
	}
	return list
}

// budget bounds the bytes that all read buffers of a mount take.
type budget struct{ used atomic.Int64 }

// maxBuffers is where read buffers stop growing, in bytes.
const maxBuffers = 128 << 20

//
