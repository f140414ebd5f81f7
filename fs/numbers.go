package fs

import (
	"sync"
	"weak"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// FTP has no inode numbers. A name keeps the one that it was shown with when the kernel forgets the node, as it does when memory is short:
// cp and others compare the file that they have opened with the one that they looked at before, and walkers of trees the directories.
// Numbers go up in the order of listings: cp -r reads a directory's files in the order of their numbers, and what is fetched ahead
// is what comes next in the listing.

// maxNumbers is how many names keep their numbers, those that were shown last.
const maxNumbers = 16 << 10

// numbers gives inodes their numbers.
type numbers struct {
	mu    sync.Mutex // guards following
	last  uint64
	nodes uint64
	seen  *simplelru.LRU[numbered, number] // nil until there is one
}

// numbered is a name in the directory of a number.
type numbered struct {
	dir  uint64
	name string
}

// number is a node's, with the type of file that it is for.
type number struct {
	ino  uint64
	mode uint32
	of   weak.Pointer[node]
}

// free says that no inode has the number.
func (n number) free() bool {
	before := n.of.Value()
	return before == nil || before.Forgotten()
}

// nextLocked returns a number that no inode has had. 1 is the root.
func (s *numbers) nextLocked() uint64 {
	s.last++
	return s.last + 1
}

// of returns the number for a file of some type in a directory.
func (s *numbers) of(dir uint64, name string, mode uint32) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != nil {
		if n, ok := s.seen.Get(numbered{dir, name}); ok && n.mode == mode && n.free() {
			return n.ino
		}
	}
	return s.nextLocked()
}

// attr is what identifies a new inode with the number ino, 0 for one that no inode has had.
func (s *numbers) attr(mode uint32, ino uint64) fusefs.StableAttr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ino == 0 {
		ino = s.nextLocked()
	}
	// The generation sets it apart from a node that may have the number still: go-fuse would make one of them.
	s.nodes++
	return fusefs.StableAttr{Mode: mode, Ino: ino, Gen: s.nodes}
}

// keep remembers the number of the node that was shown under a name.
func (s *numbers) keep(dir uint64, name string, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen, _ = simplelru.NewLRU[numbered, number](maxNumbers, nil) // fails for sizes below 1 alone
	}
	s.seen.Add(numbered{dir, name}, number{n.StableAttr().Ino, n.Mode(), weak.Make(n)})
}

// drop is for a name that was taken from a file, which may live on with its number: what has the name next is another one.
func (s *numbers) drop(dir uint64, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != nil {
		s.seen.Remove(numbered{dir, name})
	}
}
