package cache

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// BlockSize is the unit of a Blocks, in bytes. Blocks lie at multiples of it.
	BlockSize = 64 << 10
	// diskMemory is the least memory of a Blocks with a directory: what comes in pieces is put together there.
	diskMemory = 4 << 20
	// blockCost is what the bookkeeping of a block takes, roughly, in bytes.
	blockCost = 256
	// maxForgotten is how many forgotten paths are told apart.
	maxForgotten = 4096
)

// BlocksConfig configures a Blocks.
type BlocksConfig struct {
	// Memory is the budget in bytes. Zero keeps nothing in memory, except, with Dir, 4 MiB at most that are
	// on their way to the disk.
	Memory int64
	// Dir keeps blocks across mounts; "" doesn't. It is private to the user, as a spool directory is, and may be shared
	// by any number of mounts.
	Dir string
	// Disk bounds what all mounts together keep in Dir, in bytes of disk, at least MinDisk.
	Disk int64
	// Site names the tree of which the paths are: scheme, user, host, port and root.
	Site string
	// Logger gets what goes wrong with Dir, which is never an error to a reader; nil discards.
	Logger *slog.Logger
}

// FileVersion names the content of a file as far as FTP can: by path, size and modification time.
type FileVersion struct {
	Path string
	Size int64 // bytes
	// ModTime is in seconds since 1970. It has to be exact: of two versions of a file with times in the same minute
	// a listing shows one.
	ModTime int64
	// Owner is 0 for a version whose time is exact. Anything else, from NewOwner, keeps the blocks apart from those of all
	// others, and off the disk; who has it drops them (Drop) when he can no longer vouch for the version.
	Owner uint64
}

// BlocksStats counts since NewBlocks; Bytes and Disk are the present state.
type BlocksStats struct {
	Hits     uint64 // reads served, from memory or disk
	DiskHits uint64 // of these, from disk
	Misses   uint64 // reads for which nothing was there
	Stored   uint64 // blocks written to disk
	Bad      uint64 // files in the directory that were found damaged, and removed
	Bytes    int64  // in memory, against the budget
	Disk     int64  // of disk, by all mounts, as last counted
}

// Blocks remembers file contents, in memory and, where asked, on disk; see the package comment. A nil
// *Blocks remembers nothing. All methods may be called concurrently.
type Blocks struct {
	disk   *diskBlocks // constant; nil: none
	budget int64       // constant
	owners atomic.Uint64

	mu        sync.Mutex // guards following; never held over I/O
	lru       *simplelru.LRU[blockKey, *run]
	paths     map[string][]*blockFile
	bytes     int64
	forgotten map[string]time.Time // when a path was last forgotten
	floor     time.Time            // what began before it isn't stored
	stats     BlocksStats
}

type blockKey struct {
	f     *blockFile
	index int64
}

// blockFile is a version of a file of which there are blocks in memory.
type blockFile struct {
	v      FileVersion
	blocks map[int64]struct{} // their indexes
}

// run is what is known of a block: bytes without a gap. What data holds never changes, it only grows at its end, so that it
// may be read without the lock once its length was read with it.
type run struct {
	lo    int // in the block
	data  []byte
	dirty bool // more than what the disk was given
}

func (r *run) hi() int { return r.lo + len(r.data) }

// NewBlocks makes a Blocks; with a directory it makes that too, and checks that it is the user's alone.
func NewBlocks(cfg BlocksConfig) (*Blocks, error) {
	if cfg.Memory < 0 {
		return nil, fmt.Errorf("block cache of %d bytes of memory: can't be negative: %w", cfg.Memory, syscall.EINVAL)
	}
	b := &Blocks{budget: cfg.Memory, paths: make(map[string][]*blockFile), forgotten: make(map[string]time.Time)}
	// The LRU orders; the bound is the budget, which it can't count. Its constructor fails for sizes below one alone.
	b.lru, _ = simplelru.NewLRU[blockKey, *run](math.MaxInt, nil)
	if cfg.Dir != "" {
		d, err := openDiskBlocks(cfg)
		if err != nil {
			return nil, err
		}
		b.disk, b.budget = d, max(cfg.Memory, diskMemory)
	}
	return b, nil
}

// Close brings what is complete to the disk and ends the use of the directory. Reads find nothing any more.
func (b *Blocks) Close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	for _, k := range b.lru.Keys() {
		if r, ok := b.lru.Peek(k); ok {
			b.saveLocked(k, r)
		}
	}
	b.lru.Purge()
	clear(b.paths)
	b.bytes, b.budget = 0, 0
	b.mu.Unlock()
	if b.disk == nil {
		return nil
	}
	return b.disk.close()
}

// Persistent says that blocks of exact versions are kept across mounts.
func (b *Blocks) Persistent() bool { return b != nil && b.disk != nil }

// NewOwner returns a FileVersion.Owner that nobody else has.
func (b *Blocks) NewOwner() uint64 {
	if b == nil {
		return 0
	}
	return b.owners.Add(1)
}

// Stats returns counters.
func (b *Blocks) Stats() BlocksStats {
	if b == nil {
		return BlocksStats{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.stats
	st.Bytes = b.bytes
	if b.disk != nil {
		st.Stored, st.Bad, st.Disk = b.disk.stored.Load(), b.disk.bad.Load(), b.disk.total.Load()
	}
	return st
}

// ReadAt copies to dest what is known of v at off, up to the first gap, and returns how much that was: 0 says that off
// isn't known. It reads the local disk, and never the network.
func (b *Blocks) ReadAt(v FileVersion, dest []byte, off int64) int {
	if b == nil || off < 0 || off >= v.Size {
		return 0
	}
	if int64(len(dest)) > v.Size-off {
		dest = dest[:v.Size-off]
	}
	began := time.Now()
	n, fromDisk := 0, false
	for n < len(dest) {
		pos := off + int64(n)
		if m := b.readMemory(v, dest[n:], pos); m > 0 {
			n += m
			continue
		}
		if b.disk == nil || v.Owner != 0 {
			break
		}
		m, last, lastAt := b.disk.read(v, dest[n:], pos)
		if m == 0 {
			break
		}
		if last != nil { // small reads of one block follow each other
			b.put(v, began, lastAt, last, false, true)
		}
		n += m
		fromDisk = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case n == 0:
		b.stats.Misses++
	default:
		b.stats.Hits++
		if fromDisk {
			b.stats.DiskHits++
		}
	}
	return n
}

func (b *Blocks) readMemory(v FileVersion, dest []byte, pos int64) int {
	b.mu.Lock()
	f := b.fileLocked(v)
	if f == nil {
		b.mu.Unlock()
		return 0
	}
	r, ok := b.lru.Get(blockKey{f, pos / BlockSize})
	if !ok {
		b.mu.Unlock()
		return 0
	}
	lo, data := r.lo, r.data
	b.mu.Unlock()
	at := int(pos%BlockSize) - lo
	if at < 0 || at >= len(data) {
		return 0
	}
	return copy(dest, data[at:])
}

// Put remembers that v has data, which is copied, at off. began is when the bytes were asked for: what was asked for before
// the path was forgotten isn't stored. passing says that the bytes belong to much that is read once, in order: they don't
// push anything out of memory, and only go to the disk.
func (b *Blocks) Put(v FileVersion, began time.Time, off int64, data []byte, passing bool) {
	if b == nil || v.Size <= 0 || passing && (b.disk == nil || v.Owner != 0) {
		return
	}
	b.put(v, began, off, data, passing, false)
}

// put stores; saved says that the disk has it already.
func (b *Blocks) put(v FileVersion, began time.Time, off int64, data []byte, passing, saved bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.budget <= 0 || !began.After(b.floor) || !began.After(b.forgotten[v.Path]) {
		return
	}
	for len(data) > 0 && off < v.Size {
		lo := int(off % BlockSize)
		part := data[:min(int64(len(data)), int64(BlockSize-lo), v.Size-off)]
		b.mergeLocked(v, off/BlockSize, lo, part, passing, saved)
		off += int64(len(part))
		data = data[len(part):]
	}
	b.evictLocked()
}

// mergeLocked adds a part to what is known of a block. Of two parts with a gap between them the newer one stays.
func (b *Blocks) mergeLocked(v FileVersion, index int64, lo int, part []byte, passing, saved bool) {
	f := b.fileLocked(v)
	if f == nil {
		f = &blockFile{v: v, blocks: make(map[int64]struct{})}
		b.paths[v.Path] = append(b.paths[v.Path], f)
	}
	k, changed := blockKey{f, index}, true
	r, ok := b.lru.Get(k)
	if !ok {
		r = &run{lo: lo, data: slices.Clone(part), dirty: !saved}
		b.lru.Add(k, r)
		f.blocks[index] = struct{}{}
		b.bytes += blockCost + int64(len(r.data))
	} else {
		before := len(r.data)
		if changed = r.merge(lo, part); changed {
			r.dirty = r.dirty || !saved
		}
		b.bytes += int64(len(r.data) - before)
	}
	if changed && r.lo == 0 && int64(r.hi()) == min(BlockSize, v.Size-index*BlockSize) {
		b.saveLocked(k, r)
		if passing {
			b.removeLocked(k, r)
		}
	}
}

// merge adds a part, or if there is a gap between them takes it in place of what was there. It says whether r has changed.
func (r *run) merge(lo int, part []byte) bool {
	hi := lo + len(part)
	switch {
	case lo >= r.lo && hi <= r.hi():
		return false
	case lo >= r.lo && lo <= r.hi():
		r.data = append(r.data, part[r.hi()-lo:]...)
	case lo < r.lo && hi >= r.lo:
		joined := append(make([]byte, 0, max(hi, r.hi())-lo), part...)
		if hi < r.hi() {
			joined = append(joined, r.data[hi-r.lo:]...)
		}
		r.lo, r.data = lo, joined
	default: // what is read in order from now on is to become whole
		r.lo, r.data = lo, slices.Clone(part)
	}
	return true
}

// saveLocked gives a block to the disk.
func (b *Blocks) saveLocked(k blockKey, r *run) {
	if r.dirty && b.disk != nil && k.f.v.Owner == 0 {
		b.disk.put(k.f.v, k.index, r.lo, r.data)
	}
	r.dirty = false
}

func (b *Blocks) evictLocked() {
	for b.bytes > b.budget {
		k, r, ok := b.lru.GetOldest()
		if !ok {
			return
		}
		b.saveLocked(k, r)
		b.removeLocked(k, r)
	}
}

func (b *Blocks) removeLocked(k blockKey, r *run) {
	b.lru.Remove(k)
	b.bytes -= blockCost + int64(len(r.data))
	if delete(k.f.blocks, k.index); len(k.f.blocks) == 0 {
		b.unlinkLocked(k.f)
	}
}

func (b *Blocks) unlinkLocked(f *blockFile) {
	p := f.v.Path
	if b.paths[p] = slices.DeleteFunc(b.paths[p], func(o *blockFile) bool { return o == f }); len(b.paths[p]) == 0 {
		delete(b.paths, p)
	}
}

func (b *Blocks) fileLocked(v FileVersion) *blockFile {
	for _, f := range b.paths[v.Path] {
		if f.v == v {
			return f
		}
	}
	return nil
}
