package cache

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"syscall"
)

// maxFileSize keeps sums of offsets and lengths far from overflow.
const maxFileSize = 1 << 62

// unknownSize stands for the size of a file that is not on the server, or of which nobody knows what is.
const unknownSize = -1

// SpoolFile is the local copy of one file that is being written. All methods may be called concurrently.
//
// Each byte of [0, Size) is one of:
//
//	remote  only on the server, unchanged; always below Base. ReadAt reports it as missing, Fill makes it clean.
//	clean   local, and on the server it is the same.
//	dirty   local, and the server has another or none. A hole that a write or a Truncate left is dirty zeros.
//
// The bytes [Base, Size) are dirty always. Changes are atomic to each other; a read sees each change of a
// size wholly or not at all, and of an overlapping write at the same time any part, as on a local disk.
//
// Errors name the file and wrap the errno of the local disk; ENOSPC comes before the disk or the Spool's limit is
// exceeded, and then nothing has changed. After Close everything fails with os.ErrClosed.
type SpoolFile struct {
	spool *Spool
	name  string // for messages
	local string // path within the spool directory
	file  diskFile

	// mu guards the following fields. It isn't held during I/O: who changes the bytes of a range
	// holds a claim on it instead. The fields change when the I/O has succeeded.
	mu      sync.Mutex
	free    *sync.Cond // a claim ended
	claims  []*Range   // in order of arrival; the first of overlapping ones has the range, the others wait
	closed  bool
	moved   bool // the local copy has another name: it is kept
	noted   bool // see Overwrites
	named   bool // a journal has named it
	size    int64
	base    int64   // at most size
	server  int64   // size of the server's file, or unknownSize
	known   Extents // local bytes, holes included
	dirty   Extents // within known
	alloc   Extents // blocks that hold data on the local disk, what the budget counts
	version uint64
	cuts    uint64 // counts what takes local bytes away: shrinking, SetBase
	plans   []planMark
	synced  syncMark
	streams map[*Stream]struct{}
	changed chan struct{} // closed at the next change; nil if nobody asked
}

// diskFile is the os.File of a SpoolFile; tests put a failing one in its place.
type diskFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

func newSpoolFile(s *Spool, name, local string, file diskFile) *SpoolFile {
	f := &SpoolFile{spool: s, name: name, local: local, file: file, server: unknownSize,
		streams: make(map[*Stream]struct{})}
	f.free = sync.NewCond(&f.mu)
	return f
}

// WriteAt writes p at off (bytes), marks it dirty, and grows the file as needed: what lies between the
// old end and off becomes a hole. n < len(p) only with an error, and then exactly n bytes are written and marked.
// An empty p changes nothing. EINVAL for a negative off, EFBIG beyond 2^62.
func (f *SpoolFile) WriteAt(p []byte, off int64) (n int, err error) {
	if err := f.checkRange("write", off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.unclaimLocked(f.claimLocked(off, off+int64(len(p))))
	if f.closed {
		return 0, f.errorf("write", off, os.ErrClosed)
	}
	n, err = f.storeLocked(p, off)
	if n > 0 {
		f.wroteLocked(off, off+int64(n))
	}
	if err != nil {
		err = f.errorf("write", off, err)
	}
	return n, err
}

// wroteLocked marks [off, end) as written.
func (f *SpoolFile) wroteLocked(off, end int64) {
	from := min(off, f.size) // a hole is written too
	if end > f.size {
		f.size = end
		f.known.Add(from, end)
		f.dirty.Add(from, end)
	} else {
		f.known.Add(off, end)
		f.dirty.Add(off, end)
	}
	f.touchedLocked(from)
}

// Fill stores bytes of the server's file, which a reader found missing: p is what is there at off. It marks them
// clean. Of p only what is still remote is used, so a Fill that comes late harms nothing; but none may
// be under way across SetBase. An error leaves marked what was stored before it.
func (f *SpoolFile) Fill(p []byte, off int64) error {
	if err := f.checkRange("fill", off, int64(len(p))); err != nil || len(p) == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.unclaimLocked(f.claimLocked(off, off+int64(len(p))))
	if f.closed {
		return f.errorf("fill", off, os.ErrClosed)
	}
	for _, gap := range f.known.Gaps(off, min(off+int64(len(p)), f.base)) {
		n, err := f.storeLocked(p[gap.Off-off:gap.End-off], gap.Off)
		if n > 0 {
			f.known.Add(gap.Off, gap.Off+int64(n))
			f.notifyLocked()
		}
		if err != nil {
			return f.errorf("fill", gap.Off, err)
		}
	}
	return nil
}

// storeLocked puts p on the local disk at off, within the budget, and returns how much of it is there. The caller
// has claimed the range; the lock is open during I/O.
func (f *SpoolFile) storeLocked(p []byte, off int64) (int, error) {
	blocks := inBlocks(off, off+int64(len(p)))
	need := blocks.Len() - f.alloc.Covered(blocks.Off, blocks.End)
	f.mu.Unlock()
	n, err := 0, f.spool.reserve(need)
	if err != nil {
		need = 0
	} else {
		n, err = f.file.WriteAt(p, off)
	}
	f.mu.Lock()
	if n > 0 {
		// A neighbour may have taken a block that both write to: what counts is what is new now.
		blocks = inBlocks(off, off+int64(n))
		need -= f.alloc.Add(blocks.Off, blocks.End)
	}
	f.spool.release(need)
	return n, err
}

// inBlocks widens [off, end) to whole blocks.
func inBlocks(off, end int64) Range {
	return Range{off &^ (allocUnit - 1), (end + allocUnit - 1) &^ (allocUnit - 1)}
}

// ReadAt reads len(p) bytes at off, or up to what stops it: a range that is only on the server (missing, cut to
// what was asked for; the caller fetches it, calls Fill and goes on at off+n), the end of the file (io.EOF), or an
// error. All three empty mean that p is full.
func (f *SpoolFile) ReadAt(p []byte, off int64) (n int, missing *Range, err error) {
	if err := f.checkRange("read", off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end, cuts := off+int64(len(p)), f.cuts
	for pos := off; pos < end; pos = off + int64(n) {
		if f.closed {
			return n, nil, f.errorf("read", pos, os.ErrClosed)
		}
		if pos >= f.size {
			return n, nil, io.EOF
		}
		limit := min(end, f.size)
		run := min(f.known.RunEnd(pos), limit)
		if run == pos {
			gap, _ := f.known.NextGap(pos, limit)
			return n, &gap, nil
		}
		f.mu.Unlock()
		got, err := f.file.ReadAt(p[n:run-off], pos)
		f.mu.Lock()
		if f.cuts != cuts { // the bytes just read may have been gone before
			n, cuts = 0, f.cuts
			continue
		}
		n += got
		if off+int64(n) < run {
			return n, nil, f.readError(off+int64(n), err)
		}
	}
	return n, nil, nil
}

// readError makes an error of a read that came too short: the local file always reaches as far as the marks.
func (f *SpoolFile) readError(off int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the local copy was cut from outside: %w", io.ErrUnexpectedEOF)
	}
	return f.errorf("read", off, err)
}

// Truncate sets the size (bytes). Shrinking below Base lowers it: those bytes are gone, and growing again
// gives zeros. Growing leaves a hole, which costs no space. The present size changes nothing.
func (f *SpoolFile) Truncate(size int64) error {
	if err := f.checkRange("truncate", size, 0); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.unclaimLocked(f.claimLocked(0, math.MaxInt64))
	if f.closed {
		return f.errorf("truncate", size, os.ErrClosed)
	}
	if size == f.size {
		return nil
	}
	// Under the lock, unlike other I/O, because it may cut what a reader relies on. It is quick.
	if err := f.file.Truncate(size); err != nil {
		return f.errorf("truncate", size, err)
	}
	old := f.size
	f.size = size
	if size > old {
		f.known.Add(old, size)
		f.dirty.Add(old, size)
	} else {
		f.cuts++
		f.base = min(f.base, size)
		f.known.Remove(size, math.MaxInt64)
		f.dirty.Remove(size, math.MaxInt64)
		f.spool.release(f.alloc.Remove(inBlocks(0, size).End, math.MaxInt64))
	}
	f.touchedLocked(min(old, size))
	return nil
}

// Sync writes the local copy to the local disk (fsync).
func (f *SpoolFile) Sync() error {
	if err := f.file.Sync(); err != nil {
		return fmt.Errorf("local copy of %q: sync: %w", f.name, err)
	}
	return nil
}

// Close gives the local copy up, dirty or not, and its entry in the journal, and wakes who waits for a change. A second Close does
// nothing.
func (f *SpoolFile) Close() error { return f.end(false) }

// end is Close, except that with keepJournaled a copy in the journal stays on the disk.
func (f *SpoolFile) end(keepJournaled bool) error {
	f.mu.Lock()
	c := f.claimLocked(0, math.MaxInt64)
	if f.closed {
		f.unclaimLocked(c)
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	spare := !f.moved && !f.named && len(f.streams) == 0 && f.size <= maxSpareSize // who streams may still read from it
	f.spool.release(f.alloc.Bytes())
	f.alloc.Clear()
	clear(f.streams)
	f.notifyLocked()
	f.unclaimLocked(c)
	f.mu.Unlock()

	f.Overwritten()
	stay := f.Journaled()
	if stay && !keepJournaled {
		f.Unjournal()
		stay = false
	}
	if d, ok := f.file.(*diskCopy); ok && spare && !stay && f.spool.recycle(d) {
		stay = true
	}
	if err := errors.Join(f.file.Close(), f.spool.forget(f, stay)); err != nil {
		return fmt.Errorf("local copy of %q: %w", f.name, err)
	}
	return nil
}

// claimLocked waits until nobody who came earlier changes any of [off, end).
func (f *SpoolFile) claimLocked(off, end int64) *Range {
	c := &Range{off, end}
	f.claims = append(f.claims, c)
	for f.waitsLocked(c) {
		f.free.Wait()
	}
	return c
}

func (f *SpoolFile) waitsLocked(c *Range) bool {
	for _, other := range f.claims {
		if other == c {
			return false
		}
		if other.Off < c.End && c.Off < other.End {
			return true
		}
	}
	return false
}

func (f *SpoolFile) unclaimLocked(c *Range) {
	for i, other := range f.claims {
		if other == c {
			f.claims = append(f.claims[:i], f.claims[i+1:]...)
			break
		}
	}
	f.free.Broadcast()
}

func (f *SpoolFile) checkRange(op string, off, n int64) error {
	if off < 0 {
		return f.errorf(op, off, syscall.EINVAL)
	}
	if off > maxFileSize || n > maxFileSize-off {
		return f.errorf(op, off, syscall.EFBIG)
	}
	return nil
}

func (f *SpoolFile) errorf(op string, off int64, err error) error {
	return fmt.Errorf("local copy of %q: %s at %d: %w", f.name, op, off, err)
}
