package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

var _ = (fusefs.FileReleaser)((*handle)(nil))

// Release ends a handle. Nobody waits for it, and nobody hears of what fails here; usually Flush
// has left nothing to do.
func (h *handle) Release(context.Context) syscall.Errno {
	h.drop()
	h.f.t.dropHidden(h.f.n)
	return 0
}

// drop takes the handle away, and with the last one that writes uploads what is left.
func (h *handle) drop() {
	f := h.f
	h.r.close()
	if h.write && f.lastWriter(h) {
		f.finish()
	}
	if f.leave(h) {
		f.t.later.add(f)
		f.t.later.start(f.t)
	}
}

// leave takes a handle away, and with the last one what is kept of the file, unless that waits for its upload. True if
// the queue is to look at it: it passes over what is being written, and fsync() doesn't tell it.
func (f *file) leave(h *handle) (waits bool) {
	f.mu.Lock()
	delete(f.handles, h)
	if len(f.handles) > 0 || !f.behind || f.gone {
		f.mu.Unlock()
		f.retire()
		return false
	}
	defer f.mu.Unlock()
	if f.job == nil && f.copy != nil {
		f.copy.Rest()
	}
	return f.copy == nil || !f.owesLocked() || f.copy.Version() != f.said.version
}

// retire ends a file that nobody has open and that doesn't wait for its upload. Of any other nothing is done.
func (f *file) retire() {
	f.n.mu.Lock()
	f.mu.Lock()
	if len(f.handles) > 0 || f.behind && !f.gone || f.n.open != f {
		f.mu.Unlock()
		f.n.mu.Unlock()
		return
	}
	f.n.open = nil
	copy, base := f.copy, f.base
	f.copy, f.base = nil, nil
	f.mu.Unlock()
	f.n.mu.Unlock()
	f.t.files.remove(f)
	if copy != nil {
		copy.Close()
	}
	if base != nil {
		base.close()
	}
	f.n.unpin()
}
