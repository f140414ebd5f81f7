package fs

import (
	"context"
	"slices"
	"sync/atomic"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
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
	from    int // the first that it may still have
	next    int // behind the last
	running atomic.Bool
}

// made notes that the node of a place was given out, and has the oldest forgotten.
func (w *window) made(d *dirHandle, place int) {
	if place < w.from || place > w.next+dropNodes {
		w.from = place // a pass begins, or goes on elsewhere
	}
	w.next = place + 1
	if w.next < manyNodes || w.next-w.from < keepNodes+dropNodes || w.running.Load() {
		return
	}
	var old []*fusefs.Inode
	var names []string
	for i := w.from; i < w.next-keepNodes; i++ {
		e, _, _ := d.dir.At(context.Background(), i) // has been there
		if c := d.n.GetChild(e.Name); c != nil && !c.IsDir() && nodeOf(c).file() == nil {
			old, names = append(old, c), append(names, e.Name)
		}
	}
	w.from = w.next - keepNodes
	pruned := true // by Linux 6.18 and later
	for some := range slices.Chunk(old, dropNodes) {
		pruned = pruned && d.n.NotifyPrune(some) == 0
	}
	if pruned {
		return
	}
	// The kernel takes the directory's lock for this, and holds it while it waits for the answer that is being made.
	w.running.Store(true)
	go func() {
		defer w.running.Store(false)
		for _, name := range names {
			if d.n.t.ctx.Err() != nil || d.n.NotifyEntry(name) == syscall.ENOSYS {
				return
			}
		}
	}()
}

// full says that the kernel is slow to forget: it gets names without nodes meanwhile.
func (w *window) full() bool { return w.running.Load() && w.next-w.from > manyNodes }
