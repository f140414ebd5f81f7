package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

var _ = (fusefs.NodeUnlinker)((*node)(nil))

// Unlink removes a name. Those who have the file open go on with it as with a file on a disk: what of it is only on the server
// stays there under a hidden name. What was written and not uploaded is no longer meant for the server.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	c := call(ctx)
	defer c.end()
	p, errno := n.change(c, "unlink", name)
	if errno != 0 {
		return errno
	}
	child := nodeOf(n.GetChild(name))
	defer child.leave()()
	if err := n.t.unlink(c, n, child, p); err != nil {
		return n.t.errno("unlink", p, err)
	}
	n.passed(p)
	if child != nil {
		child.vanish(p)
		n.t.dropHidden(child) // its last close may have come while it was being hidden
	}
	n.t.overrides.Drop(p)
	return 0
}

// leave is called before it is looked at who has a file open that is to lose its name, and the function returned when it has. Who opens it
// in between waits, and finds what the name stands for then. No-op for nil.
func (n *node) leave() (end func()) {
	if n == nil {
		return func() {}
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.awaitOpenLocked()
	n.leaving = done
	n.mu.Unlock()
	return func() {
		n.mu.Lock()
		if n.leaving == done {
			n.leaving, n.going = nil, false
		}
		n.mu.Unlock()
		close(done)
	}
}

// goes says that the server is to be told now: from here on the name may be another file's. For between leave and its end; no-op for nil.
func (n *node) goes() {
	if n == nil {
		return
	}
	n.mu.Lock()
	n.going = n.leaving != nil
	n.mu.Unlock()
}

// keeps says that p is the node's path, and that nothing is on its way to the server that gives the name to another file.
func (n *node) keeps(p string) bool {
	n.mu.Lock()
	going := n.going
	n.mu.Unlock()
	now, err := n.path()
	return !going && err == nil && now == p
}

// has is keeps at a moment when no rename of the file is under way either: what the server began to send from p before is of this
// file.
func (n *node) has(p string) bool {
	_, moving, err := n.trace()
	return err == nil && moving == nil && n.keeps(p)
}

// awaitName returns when it is known which path a node has that is going or moving, with ErrStale if it has none.
func (n *node) awaitName(ctx context.Context) error {
	if err := n.awaitLeave(ctx); err != nil {
		return err
	}
	_, err := n.settledPath(ctx)
	return err
}

// awaitLeave returns when the removal of the name, or the rename over it, has ended of which the server was told.
func (n *node) awaitLeave(ctx context.Context) error {
	n.mu.Lock()
	leaving, going := n.leaving, n.going
	n.mu.Unlock()
	if !going {
		return nil
	}
	select {
	case <-leaving:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stays says that the handle that was just opened is of the file that has the path p, and will be known to whoever takes that name away.
// One of which that isn't sure is dropped, and it is waited until the name's fate is known.
func (h *handle) stays(ctx context.Context, p string) bool {
	n := h.f.n
	n.mu.Lock()
	leaving := n.leaving
	n.mu.Unlock()
	now, err := n.path()
	if leaving == nil && err == nil && now == p {
		return true
	}
	h.drop()
	if leaving != nil {
		select {
		case <-leaving:
		case <-ctx.Done():
		}
	}
	return false
}

// unlink takes the file p away from directory dir on the server. child is its node, if it has one.
func (t *tree) unlink(ctx context.Context, dir, child *node, p string) error {
	t.ahead.forget(p)
	var f *file
	if child != nil {
		f = child.file()
	}
	if f == nil {
		child.goes()
		return t.remote.Remove(ctx, p)
	}
	onServer, err := f.part(ctx)
	if err != nil || !onServer {
		return err
	}
	if f.needsServer() {
		err = t.hide(ctx, dir, child, p)
		if err == nil {
			return nil
		}
		t.log.Debug("an open file can't be kept under another name; a local copy is made", "path", p, "err", err)
		f.keepCopy(ctx, p, maxKeptCopy)
	}
	child.goes()
	if err = t.remote.Remove(ctx, p); notThere(err) && f.isCreated() {
		return nil // nothing of it had arrived
	}
	if err != nil {
		f.attach()
	}
	return err
}

// part is detach for a file whose local copy may lack what the server has: the upload that completes the server's file
// is waited for then, because a file cut by breaking it off would be of no use to those who have it open.
func (f *file) part(ctx context.Context) (onServer bool, err error) {
	f.mu.Lock()
	job, copy := f.job, f.copy
	f.mu.Unlock()
	if job != nil && copy != nil && len(copy.Missing(0, copy.Size())) > 0 {
		job.finishNow()
		select {
		case <-job.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return f.detach(ctx)
}

// vanish marks a node whose path p is gone.
func (n *node) vanish(p string) {
	n.mu.Lock()
	last := n.last
	n.mu.Unlock()
	last = n.t.overrides.apply(p, last)
	n.mu.Lock()
	n.last, n.gone, n.was = last, true, p
	f := n.open
	n.mu.Unlock()
	if f != nil {
		f.setGone(last)
		f.retire()
	}
}

// needsServer says that there are bytes of an open file that are on the server alone.
func (f *file) needsServer() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.handles) == 0 {
		return false
	}
	if f.copy != nil {
		return len(f.copy.Missing(0, f.copy.Size())) > 0
	}
	return f.server.Size != 0
}

// keepCopy fetches all of the file p that is not here, if that is at most limit bytes, and says whether nothing of it is
// needed on the server any more.
func (f *file) keepCopy(ctx context.Context, p string, limit int64) bool {
	if err := f.lockPrep(ctx); err != nil {
		return false
	}
	defer f.unlockPrep()
	copy := f.localCopy()
	if copy == nil {
		e, err := f.t.fresh(ctx, p, f.t.opt.TTL)
		if err != nil || e.Size < 0 || e.Size > limit || !f.reads(versionOf(e)) {
			return false
		}
		if copy, err = f.renew(p, e, true); err != nil {
			return false
		}
	}
	missing := copy.Missing(0, copy.Size())
	var n int64
	for _, gap := range missing {
		n += gap.Len()
	}
	if n > limit {
		return false
	}
	buf := make([]byte, min(n, 256<<10))
	for _, gap := range missing {
		for off := gap.Off; off < gap.End; {
			n := min(int64(len(buf)), gap.End-off)
			if err := f.fetch(ctx, copy, buf[:n], off); err != nil {
				f.t.log.Debug("an open file can't be copied", "path", p, "err", err)
				return false
			}
			off += n
		}
	}
	return true
}

// reads says that all handles read version v.
func (f *file) reads(v version) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range f.handles {
		h.r.mu.Lock()
		same := h.r.stale == nil && h.r.ver.same(v)
		h.r.mu.Unlock()
		if !same {
			return false
		}
	}
	return true
}
