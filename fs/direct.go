package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// writeSize is st_blksize of a file that is being written: what cp writes at once.
const writeSize = 256 << 10

// pages says in the reply to an open how the kernel is to treat its pages of the file: otherwise, or not at all. Who only writes
// gains nothing by a copy there. It is skipped (FOPEN_DIRECT_IO) if nobody else has the file open, and then for all who open it
// while it is open, because what is written past the pages isn't seen by those who read them at the same moment. Mappings go on to
// have pages, which such a write takes away (since Linux 6.6, which is what FUSE_DIRECT_IO_ALLOW_MMAP tells).
func (f *file) pages(flags, otherwise uint32) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.handles) == 1 {
		were := !f.noPages
		f.noPages = f.t.direct.Load() && flags&syscall.O_ACCMODE == syscall.O_WRONLY
		if !were && !f.noPages { // a mapping may have left pages from before a write past them
			return 0
		}
	}
	if f.noPages {
		return fuse.FOPEN_DIRECT_IO
	}
	return otherwise
}
