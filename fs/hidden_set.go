package fs

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"ftpfs/ftpconn"
)

// hidden is the set of hidden files.
type hidden struct {
	count   atomic.Int64
	waiting atomic.Int64 // callers of removed, for tests

	mu    sync.Mutex // guards following
	nodes map[*node]*hiddenFile
	names map[string]struct{} // not to be shown
	past  []string            // those of names that are gone from the server: a listing that is older may have them
}

// hiddenFile is one of them.
type hiddenFile struct {
	name    string        // constant
	dir     *node         // constant; pinned, so that there is a path for the removal, which may come after the kernel forgot it
	removal chan struct{} // closed when it was tried to remove the file; nil before that begins
}

// maxPast is how many names that are gone are still not shown.
const maxPast = 1024

// reserve has a name that is given to a file now not shown.
func (h *hidden) reserve(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.nodes, h.names = make(map[*node]*hiddenFile), make(map[string]struct{})
	}
	h.names[name] = struct{}{}
}

// add enters a node under a name in directory dir that was reserved, in place of the one it may have had.
func (h *hidden) add(n, dir *node, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.nodes[n]
	h.nodes[n] = &hiddenFile{name: name, dir: dir}
	dir.pin()
	if before != nil {
		h.passedLocked(before.name)
		h.leftLocked(before.dir)
	}
	h.count.Store(int64(len(h.nodes)))
}

// leftLocked lets the kernel forget a directory that has no hidden file any more.
func (h *hidden) leftLocked(dir *node) {
	for _, f := range h.nodes {
		if f.dir == dir {
			return
		}
	}
	dir.unpin()
}

// begin says that a node's file is to be removed by the caller, who calls end then; false if there is none, or somebody else does.
func (h *hidden) begin(n *node) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.nodes[n]
	if f == nil || f.removal != nil {
		return false
	}
	f.removal = make(chan struct{})
	return true
}

// end takes a node out. gone says that there is no file of that name any more; one that stays is shown from now on.
func (h *hidden) end(n *node, gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.nodes[n]
	if f == nil {
		return
	}
	delete(h.nodes, n)
	if gone {
		h.passedLocked(f.name)
	} else {
		delete(h.names, f.name)
	}
	if f.removal != nil {
		close(f.removal)
	}
	h.leftLocked(f.dir)
	h.count.Store(int64(len(h.nodes)))
}

// passed is for a name that was reserved and isn't in use.
func (h *hidden) passed(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passedLocked(name)
}

func (h *hidden) passedLocked(name string) {
	h.past = append(h.past, name)
	if len(h.past) > maxPast {
		delete(h.names, h.past[0])
		h.past = h.past[1:]
	}
}

// has says that name is one of ours.
func (h *hidden) has(name string) bool {
	if !strings.HasPrefix(name, hiddenPrefix) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.names[name]
	return ok
}

// without returns a listing without what is ours. The one it gets stays as it is.
func (h *hidden) without(list []ftpconn.Entry) []ftpconn.Entry {
	var kept []ftpconn.Entry
	for i, e := range list {
		switch {
		case !h.has(e.Name):
			if kept != nil {
				kept = append(kept, e)
			}
		case kept == nil:
			kept = append(make([]ftpconn.Entry, 0, len(list)), list[:i]...)
		}
	}
	if kept == nil {
		return list
	}
	return kept
}

func (h *hidden) list() []*node {
	if h.count.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*node, 0, len(h.nodes))
	for n := range h.nodes {
		list = append(list, n)
	}
	return list
}

// removed returns when a removal that is under way has ended.
func (h *hidden) removed(ctx context.Context, n *node) {
	var removal <-chan struct{}
	h.mu.Lock()
	if f := h.nodes[n]; f != nil {
		removal = f.removal
	}
	h.mu.Unlock()
	if removal == nil {
		return
	}
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	select {
	case <-removal:
	case <-ctx.Done():
	}
}
