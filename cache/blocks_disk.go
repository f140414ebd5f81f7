package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MinDisk is the least BlocksConfig.Disk, in bytes: a few groups of blocks.
	MinDisk = 16 << 20
	// maxQueue is how many bytes may wait to be written. What comes faster than the local disk takes it isn't kept.
	maxQueue = 16 << 20
	// touchAfter is how exactly a file's modification time tells when it was last used.
	touchAfter = time.Minute
	// newLife is after which time a file that a process was about to put in place is a dead one's.
	newLife = time.Hour

	evictLock = "blocks.lock"
)

// diskBlocks is the part of a Blocks that is on disk: a directory of group files (see blocks_file.go), in 256
// subdirectories, shared with other processes. Nobody waits for anybody: files are made complete and put in place, any of
// them may vanish at any time, and only who removes what was not used for longest takes a lock, for which the others
// don't wait but do without writing.
type diskBlocks struct {
	dir   string
	root  *os.Root
	lock  *os.File
	site  string
	limit int64
	log   *slog.Logger
	space func() (free, total int64, err error)

	total  atomic.Int64 // bytes of disk that all take, as last counted, and written since
	stored atomic.Uint64
	bad    atomic.Uint64

	wake chan struct{} // capacity 1
	done chan struct{} // closed when the writer has ended

	writing sync.Mutex // held while a group is written and while files are removed
	counted int64      // guarded by writing: written by this process since the last count
	warned  time.Time  // guarded by writing

	mu     sync.Mutex // guards following; a leaf
	queue  []diskBlock
	queued int64
	closed bool
}

// diskBlock is a run on its way to the disk.
type diskBlock struct {
	v     FileVersion
	index int64
	lo    int
	data  []byte
}

func openDiskBlocks(cfg BlocksConfig) (_ *diskBlocks, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cache directory %s: %w", cfg.Dir, err)
		}
	}()
	if cfg.Disk < MinDisk {
		return nil, fmt.Errorf("a limit of %d bytes is less than the %d that it needs: %w", cfg.Disk, MinDisk, syscall.EINVAL)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := (&ownDir{dir: cfg.Dir, root: root}).checkPrivate(); err != nil {
		root.Close()
		return nil, err
	}
	lock, err := root.OpenFile(evictLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		root.Close()
		return nil, err
	}
	d := &diskBlocks{
		dir: cfg.Dir, root: root, lock: lock, site: cfg.Site, limit: cfg.Disk, log: cfg.Logger,
		space: func() (int64, int64, error) { return diskSpace(cfg.Dir) },
		wake:  make(chan struct{}, 1), done: make(chan struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.wake <- struct{}{} // counts what is there
	go d.write()
	return d, nil
}

func (d *diskBlocks) close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.signal()
	<-d.done
	return errors.Join(d.lock.Close(), d.root.Close())
}

func (d *diskBlocks) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// put queues a run. data must not change.
func (d *diskBlocks) put(v FileVersion, index int64, lo int, data []byte) {
	d.mu.Lock()
	if !d.closed && d.queued+int64(len(data)) <= maxQueue {
		d.queue = append(d.queue, diskBlock{v, index, lo, data})
		d.queued += int64(len(data))
	}
	d.mu.Unlock()
	d.signal()
}

// read copies what is on disk of v at off to dest, up to the end of the group at most. last is the run of the block in which
// dest ends, if dest takes only a part of it, and lastAt where in the file it begins.
func (d *diskBlocks) read(v FileVersion, dest []byte, off int64) (n int, last []byte, lastAt int64) {
	index := off / BlockSize
	id, ok := newGroupID(d.site, v, index/groupBlocks)
	if !ok {
		return 0, nil, 0
	}
	g, err := d.openGroup(&id, false)
	if err != nil {
		return 0, nil, 0
	}
	defer g.Close()
	for place := int(index % groupBlocks); place < groupBlocks && n < len(dest); place++ {
		at := int((off + int64(n)) % BlockSize)
		s, err := g.slot(place)
		if err == nil && (s.n == 0 || at < s.lo || at >= s.lo+s.n) {
			break
		}
		buf := dest[n:]
		direct := err == nil && at == s.lo && len(buf) >= s.n
		if direct {
			buf = buf[:s.n]
		} else if err == nil {
			buf = make([]byte, s.n)
		}
		if err == nil {
			err = g.read(place, s, buf)
		}
		if err != nil {
			if errors.Is(err, errDamaged) {
				d.damaged(id.name)
			}
			return n, nil, 0
		}
		if direct {
			n += s.n
		} else {
			lastAt = off + int64(n-at+s.lo)
			if n += copy(dest[n:], buf[at-s.lo:]); n == len(dest) {
				last = buf
			}
		}
		if s.lo+s.n < BlockSize {
			break
		}
	}
	if now := time.Now(); n > 0 && now.Sub(g.info.ModTime()) > touchAfter {
		d.root.Chtimes(id.name, now, now)
	}
	return n, last, lastAt
}

// damaged removes a file of which something is wrong.
func (d *diskBlocks) damaged(name string) {
	d.bad.Add(1)
	d.log.Info("removed a damaged file of the block cache", "dir", d.dir, "file", name)
	d.root.Remove(name)
}

// write is the goroutine that writes what is queued.
func (d *diskBlocks) write() {
	defer close(d.done)
	d.writing.Lock()
	d.evict(0)
	d.writing.Unlock()
	for {
		<-d.wake
		for {
			d.writing.Lock()
			d.mu.Lock()
			batch := d.takeLocked()
			closed := d.closed
			d.mu.Unlock()
			if len(batch) == 0 {
				d.writing.Unlock()
				if closed {
					return
				}
				break
			}
			d.writeGroup(batch)
			d.writing.Unlock()
		}
	}
}

// takeLocked takes the oldest run off the queue, with those behind it of the same group.
func (d *diskBlocks) takeLocked() (batch []diskBlock) {
	for i, q := range d.queue {
		if i > 0 && (q.v != batch[0].v || q.index/groupBlocks != batch[0].index/groupBlocks) {
			break
		}
		batch = append(batch, q)
		d.queued -= int64(len(q.data))
	}
	clear(d.queue[:len(batch)])
	if d.queue = d.queue[len(batch):]; len(d.queue) == 0 {
		d.queue = nil
	}
	return batch
}

// writeGroup writes runs of one group. The caller holds writing.
func (d *diskBlocks) writeGroup(batch []diskBlock) {
	id, ok := newGroupID(d.site, batch[0].v, batch[0].index/groupBlocks)
	if !ok {
		return
	}
	need := int64(2 * groupHeader)
	for _, q := range batch {
		need += int64(len(q.data)) + allocUnit
	}
	if !d.room(need) {
		return
	}
	g, err := d.openGroup(&id, true)
	if errors.Is(err, errDamaged) { // it is removed
		g, err = d.openGroup(&id, true)
	}
	if err != nil {
		d.failed(err)
		return
	}
	defer g.Close()
	if g.fresh {
		d.took(groupHeader)
	}
	for _, q := range batch {
		wrote, err := g.write(int(q.index%groupBlocks), q.lo, q.data)
		switch {
		case errors.Is(err, errDamaged):
			d.damaged(id.name)
			return
		case err != nil:
			d.failed(err)
			return
		case wrote:
			d.stored.Add(1)
			d.took((int64(len(q.data)) + allocUnit - 1) / allocUnit * allocUnit)
		}
	}
}

func (d *diskBlocks) took(n int64) {
	d.total.Add(n)
	d.counted += n
}

// failed tells of an error of the local disk, at most once a minute.
func (d *diskBlocks) failed(err error) {
	if time.Since(d.warned) > time.Minute {
		d.warned = time.Now()
		d.log.Warn("the block cache can't write; what it doesn't keep is fetched again", "dir", d.dir, "err", err)
	}
}
