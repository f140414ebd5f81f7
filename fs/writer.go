package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

const (
	// streamFrom is how much of a new file is written before its upload begins: smaller ones go
	// at flush, in one piece.
	streamFrom = 256 << 10
	// maxAhead is how far a writer may be ahead of the running upload of what it writes.
	maxAhead = 64 << 20
	// sureFor is how long the server's size of a file is believed when bytes are appended to it.
	sureFor = time.Second
)

// errReplaced says that the local copy was replaced while it was read.
var errReplaced = errors.New("local copy replaced")

// lockPrep waits for the right to make or replace the local copy.
func (f *file) lockPrep(ctx context.Context) error {
	select {
	case f.prep <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *file) unlockPrep() { <-f.prep }

// writable returns the local copy to write to. It is made of the server's file, of which nothing is
// fetched but the size, and follows it if it was changed by others and not here.
func (f *file) writable(ctx context.Context) (*cache.SpoolFile, error) {
	if c := f.writableNow(); c != nil {
		return c, nil
	}
	if err := f.lockPrep(ctx); err != nil {
		return nil, err
	}
	defer f.unlockPrep()
	if c := f.writableNow(); c != nil {
		return c, nil
	}
	e, p, err := f.n.own(ctx, func(p string) (ftpconn.Entry, error) {
		e, err := f.t.fresh(ctx, p, sureFor)
		if err == nil && e.Size < 0 {
			e, err = f.t.exact(ctx, p)
		}
		return e, err
	})
	switch {
	case err != nil:
		return nil, err
	case e.Type == ftpconn.Dir:
		return nil, ftpconn.ErrIsDir
	case e.Size < 0:
		return nil, fmt.Errorf("%s: the server doesn't tell its size, so it can't be changed in place: %w", p, errors.ErrUnsupported)
	}
	f.mu.Lock()
	copy := f.copy
	same := copy != nil && versionOf(f.server).same(versionOf(e))
	f.mu.Unlock()
	if same {
		f.mu.Lock()
		f.checked = time.Now()
		f.mu.Unlock()
		return copy, nil
	}
	return f.renew(p, e, true)
}

// writableNow returns the local copy if it can be written to without asking the server.
func (f *file) writableNow() *cache.SpoolFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.copy != nil && (f.isLocalLocked() || time.Since(f.checked) < sureFor) {
		return f.copy
	}
	return nil
}

// renew makes the local copy anew: of the server's file e, or empty. The caller holds prep.
func (f *file) renew(p string, e ftpconn.Entry, based bool) (*cache.SpoolFile, error) {
	copy, err := f.t.spool.Create(p)
	if err != nil {
		return nil, err
	}
	var base *reader
	if based {
		if err := copy.SetBase(e.Size); err != nil {
			copy.Close()
			return nil, err
		}
		if e.Size > 0 {
			base = newReader(f.n, versionOf(e))
		}
	}
	f.mu.Lock()
	old, oldBase := f.copy, f.base
	f.copy, f.base = copy, base
	f.baseGen++
	f.server, f.checked = e, time.Now()
	f.appends = true
	f.direct = !based || e.Size == 0
	f.told, f.refused = 0, nil
	handles := f.readersLocked()
	f.mu.Unlock()
	if old != nil {
		old.Close()
	}
	if oldBase != nil {
		oldBase.close()
	}
	for _, r := range handles {
		r.quiesce() // they read from the copy now
	}
	return copy, nil
}

// readersLocked returns the readers of all handles, and that of the base.
func (f *file) readersLocked() []*reader {
	list := make([]*reader, 0, len(f.handles)+1)
	for h := range f.handles {
		list = append(list, h.r)
	}
	if f.base != nil {
		list = append(list, f.base)
	}
	return list
}

// readLocal reads from the local copy, and fetches into it what is only on the server.
func (f *file) readLocal(ctx context.Context, copy *cache.SpoolFile, dest []byte, off int64) (int, error) {
	n := 0
	for n < len(dest) {
		m, missing, err := copy.ReadAt(dest[n:], off+int64(n))
		n += m
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			if f.localCopy() != copy {
				return n, errReplaced
			}
			return n, err
		case missing != nil:
			if err := f.fetch(ctx, copy, dest[n:n+int(missing.Len())], missing.Off); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// fetch brings len(buf) bytes at off from the server into the local copy. buf is overwritten.
func (f *file) fetch(ctx context.Context, copy *cache.SpoolFile, buf []byte, off int64) error {
	f.mu.Lock()
	base, current := f.base, f.copy == copy
	f.mu.Unlock()
	if base == nil || !current {
		return errReplaced
	}
	n, err := base.readAt(ctx, buf, off)
	if err != nil {
		return err
	}
	if n < len(buf) {
		return fmt.Errorf("%s is shorter on the server than it was: %w", f.n.shownPath(), ftpconn.ErrStale)
	}
	return copy.Fill(buf, off)
}

var _ = (fusefs.FileWriter)((*handle)(nil))

// Write writes to the local copy. What the server refused of this file already is not taken again.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	if err := h.current(); err != nil {
		return 0, h.f.t.errno("write", h.f.n.shownPath(), err)
	}
	n, err := h.f.write(c, data, off, h.append && !ofPages(c, off))
	if err != nil && n == 0 {
		return 0, h.f.t.errno("write", h.f.n.shownPath(), err)
	}
	return uint32(n), 0
}

// current says that what is changed through the handle is for the file that now has its name.
func (h *handle) current() error {
	if h.stale.Load() {
		return errConflict
	}
	return nil
}

// ofPages says that the kernel writes back pages of a mapped file: it uses any handle that writes, one with O_APPEND too, and
// has no caller to name. Whole pages tell them from calls out of PID namespaces that aren't seen from here.
func ofPages(c *callContext, off int64) bool { return c.pid == 0 && off%int64(os.Getpagesize()) == 0 }

func (f *file) write(ctx context.Context, data []byte, off int64, atEnd bool) (int, error) {
	copy, err := f.writable(ctx)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	refused := f.refused
	f.mu.Unlock()
	if refused != nil {
		return 0, refused
	}
	if err := f.throttle(ctx, off+int64(len(data))); err != nil {
		return 0, err
	}
	n, err := f.store(copy, data, off, atEnd)
	for errors.Is(err, syscall.ENOSPC) && n == 0 && f.t.later.room(ctx, f.t) {
		n, err = f.store(copy, data, off, atEnd)
	}
	if n > 0 {
		f.mu.Lock()
		f.mtime, f.setTime = time.Now(), time.Time{}
		f.appends = f.appends && atEnd
		f.mu.Unlock()
		f.startStreaming(copy)
	}
	return n, err
}

// store writes to the local copy.
func (f *file) store(copy *cache.SpoolFile, data []byte, off int64, atEnd bool) (int, error) {
	if !atEnd {
		return copy.WriteAt(data, off)
	}
	f.appendMu.Lock()
	defer f.appendMu.Unlock()
	return copy.WriteAt(data, copy.Size())
}

// throttle waits while a writer is too far ahead of the upload of what it writes.
func (f *file) throttle(ctx context.Context, end int64) error {
	for {
		f.mu.Lock()
		job := f.job
		f.mu.Unlock()
		if job == nil {
			return nil
		}
		progress := job.progress()
		if !job.streaming() || job.parked.Load() || end-job.sent.Load() <= maxAhead {
			return nil
		}
		select {
		case <-progress:
		case <-job.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// truncate sets the size. To 0 it needs nothing of the server's file.
func (f *file) truncate(ctx context.Context, size int64) error {
	if f.localCopy() == nil && size == 0 {
		if err := f.lockPrep(ctx); err != nil {
			return err
		}
		defer f.unlockPrep()
		if f.localCopy() == nil {
			p, err := f.n.path()
			if err != nil {
				return err
			}
			f.mu.Lock()
			e := f.server
			f.mu.Unlock()
			if _, err := f.renew(p, e, false); err != nil {
				return err
			}
			f.cut()
			return nil
		}
	}
	copy, err := f.writable(ctx)
	if err != nil {
		return err
	}
	if size == copy.Size() {
		return nil
	}
	if err := copy.Truncate(size); err != nil {
		return err
	}
	f.cut()
	return nil
}

// cut notes a change of the size.
func (f *file) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mtime, f.setTime = time.Now(), time.Time{}
	f.appends = false
	if f.copy != nil && f.copy.Size() == 0 {
		f.direct = true
	}
}

var _ = (fusefs.FileAllocater)((*handle)(nil))

// Allocate grows a file. Space on the server can't be reserved; holes are beyond FTP.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode&^keepSize != 0 {
		return syscall.ENOTSUP
	}
	if mode == keepSize {
		return 0
	}
	if err := h.current(); err != nil {
		return h.f.t.errno("fallocate", h.f.n.shownPath(), err)
	}
	c := call(ctx)
	defer c.end()
	copy, err := h.f.writable(c)
	if err == nil && int64(off+size) > copy.Size() {
		if err = copy.Truncate(int64(off + size)); err == nil {
			h.f.cut()
		}
	}
	return h.f.t.errno("fallocate", h.f.n.shownPath(), err)
}

var _ = (fusefs.FileFlusher)((*handle)(nil))

// Flush is close(): it returns when the server has what was written, or has refused it; with writeback when the local disk has.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	if !h.write {
		return 0
	}
	return h.sync(ctx, "close", h.f.close)
}

var _ = (fusefs.FileFsyncer)((*handle)(nil))

// Fsync returns when the server has what was written, by whoever, or has refused it: sync(1) opens a file to read it.
func (h *handle) Fsync(ctx context.Context, _ uint32) syscall.Errno {
	return h.sync(ctx, "fsync", h.f.fsync)
}

func (f *file) close(ctx context.Context) error {
	if f.t.opt.Writeback {
		return f.putOff(ctx)
	}
	return f.upload(ctx)
}

func (f *file) fsync(ctx context.Context) error {
	err := f.upload(ctx)
	if late := f.lateError(); err == nil && f.isLocal() {
		err = late
	}
	return err
}

func (h *handle) sync(ctx context.Context, op string, bring func(context.Context) error) syscall.Errno {
	c := call(ctx)
	defer c.end()
	return h.f.t.errno(op, h.f.n.shownPath(), bring(c))
}
