package fs

import (
	"context"
	"slices"
	"sync"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/cache"
)

// Whoever asks for the attributes of each entry of a huge directory (ls -l) makes the kernel keep a node for each, and
// that costs this process 600 bytes and more. The kernel lets go of them when its own memory runs short, which is no
// help here: it is told to forget those that were shown a while ago. They are looked up again if they are asked for, in the listing.

const (
	manyNodes = 112 << 10 // so many in one pass over a directory are left alone
	keepNodes = 32 << 10  // what longer passes leave with the kernel from then on
	dropNodes = 4 << 10   // how many it is told to forget at a time
)

// window is which places of a listing the kernel was given nodes for by a pass over it.
type window struct {
	mu      sync.Mutex // guards following
	from    int        // the first that it may still have
	next    int        // behind the last
	running bool       // it is being told of the oldest
}

// made notes that the node of a place was given out, and has the oldest forgotten.
func (w *window) made(d *dirHandle, place int) {
	w.mu.Lock()
	if place < w.from || place > w.next+dropNodes {
		w.from = place // a pass begins, or goes on elsewhere
	}
	w.next = place + 1
	if w.next < manyNodes || w.running {
		w.mu.Unlock()
		return
	}
	old := w.oldestLocked(d.n, d.dir)
	w.mu.Unlock()
	pruned := true // by Linux 6.18 and later
	for some := range slices.Chunk(old, dropNodes) {
		pruned = pruned && d.n.NotifyPrune(some) == 0
	}
	if pruned {
		return
	}
	w.mu.Lock()
	w.running = true
	w.mu.Unlock()
	// The kernel takes the directory's lock for this, and holds it while it waits for the answer that is being made.
	go w.forget(d.n, d.dir, old)
}

// oldestLocked takes the oldest nodes out of the window, if there are enough of them to be worth it. Those of open files and of
// directories stay.
func (w *window) oldestLocked(n *node, dir *cache.Dir) (old []*fusefs.Inode) {
	to := w.next - keepNodes
	if to-w.from < dropNodes {
		return nil
	}
	for i := w.from; i < to; i++ {
		e, _, _ := dir.At(context.Background(), i) // has been there
		if c := n.GetChild(e.Name); c != nil && !c.IsDir() && nodeOf(c).file() == nil {
			old = append(old, c)
		}
	}
	w.from = to
	return old
}

// forget has the kernel forget names one by one, until it has caught up with the pass.
func (w *window) forget(n *node, dir *cache.Dir, old []*fusefs.Inode) {
	for {
		for _, i := range old {
			name, _ := i.Parent()
			if n.t.ctx.Err() == nil && name != "" {
				n.NotifyEntry(name)
			}
		}
		w.mu.Lock()
		if old = w.oldestLocked(n, dir); len(old) == 0 || n.t.ctx.Err() != nil {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// full says that the kernel is slow to forget: it gets names without nodes meanwhile.
func (w *window) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running && w.next-w.from > manyNodes
}
