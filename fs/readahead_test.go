package fs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn/ftptest"
)

func TestKernelReadsFurtherAhead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may set it")
	}
	if err := unix.Access("/sys/class/bdi", unix.W_OK); err != nil {
		t.Skip("sysfs can't be written here: ", err)
	}
	mnt, _, _ := mountFar(t, true, func(*ftptest.Server) {})
	var st unix.Stat_t
	must(t, unix.Stat(mnt, &st))
	b, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
	must(t, err)
	if got, want := strings.TrimSpace(string(b)), fmt.Sprint(readAhead>>10); got != want {
		t.Errorf("%s KiB, want %s", got, want)
	}
}
