package fs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// readAhead is how far the kernel is to read ahead, in bytes. By itself it goes no further than 128 KiB on FUSE, whatever
// it was offered (Linux 6.18, VM_READAHEAD_PAGES). Much more makes a reader wait for requests that take long on
// a slow line.
const readAhead = 512 << 10

// raiseReadAhead sets readAhead for a mount. Only root may; without it large files are read in smaller requests.
func raiseReadAhead(mountpoint string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, mountpoint, unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return fmt.Errorf("statx of %s: %w", mountpoint, err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", st.Dev_major, st.Dev_minor)
	return os.WriteFile(name, strconv.AppendInt(nil, readAhead>>10, 10), 0)
}
