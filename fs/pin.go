package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

// pinName can't be the name of anything.
const pinName = "/"

// pin keeps a node and its directories in the tree although the kernel forgets them: go-fuse keeps what has children, and
// can't be told to keep an inode that is there already.
func (n *node) pin() {
	n.t.pins.Lock()
	defer n.t.pins.Unlock()
	if n.pinned {
		return
	}
	n.pinned = true
	n.AddChild(pinName, n.NewPersistentInode(context.Background(), &fusefs.Inode{}, n.t.numbers.attr(syscall.S_IFREG, 0)), true)
}

func (n *node) unpin() {
	n.t.pins.Lock()
	defer n.t.pins.Unlock()
	if !n.pinned {
		return
	}
	n.pinned = false
	pin := n.GetChild(pinName)
	n.RmChild(pinName)
	pin.ForgetPersistent()
}
