package main

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// df is what df says of a mount, in bytes.
func (m *toolMount) df() (size, used, avail int64) {
	m.t.Helper()
	out, err := exec.Command("df", "-B1", "--output=size,used,avail", m.mnt).CombinedOutput()
	if err != nil {
		m.t.Fatalf("df: %v: %s", err, out)
	}
	_, numbers, _ := strings.Cut(string(out), "\n")
	var n [3]int64
	for i, f := range strings.Fields(numbers) {
		if n[i], err = strconv.ParseInt(f, 10, 64); err != nil {
			m.t.Fatalf("df: %v: %s", err, out)
		}
	}
	return n[0], n[1], n[2]
}

// TestToolsSpace runs df where the server tells its free space, where it tells nonsense, and where it tells nothing: then
// nothing may look full.
func TestToolsSpace(t *testing.T) {
	const unknown = 1 << 50
	for _, tt := range []struct {
		name, reply string // to AVBL; "": not offered
		want        int64
	}{
		{"tells", "213 123456789012", 123456789012 / 4096 * 4096},
		{"is full", "213 0", 0},
		{"has more than can be", "213 9223372036854775807", 9223372036854775807 / 4096 * 4096},
		{"tells nonsense", "213 plenty", unknown},
		{"tells less than nothing", "213 -1", unknown},
		{"refuses", "550 Permission denied.", unknown},
		{"tells nothing", "", unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := ftptest.NewScript(t)
			s.WriteFile("/f", []byte("text\n"))
			if tt.reply != "" {
				s.Features("EPSV", "SIZE", "AVBL")
				s.Reply("AVBL", tt.reply)
			}
			m := mountURL(t, nil, "ftp://u:p@"+s.Addr()+"/")
			if size, used, avail := m.df(); avail != tt.want || size != tt.want || used != 0 {
				t.Errorf("%d bytes, %d used, %d available; want %d", size, used, avail, tt.want)
			}
		})
	}
	t.Run("of the disk below", func(t *testing.T) {
		server := ftptest.NewServer(t, ftptest.Options{})
		var st syscall.Statfs_t
		if err := syscall.Statfs(server.Root, &st); err != nil {
			t.Fatal(err)
		}
		_, _, avail := mountServer(t, server).df()
		if want := int64(st.Bavail) * st.Bsize; avail < want/2 || avail > 2*want {
			t.Errorf("%d bytes available, and %d on the server's disk", avail, want)
		}
	})
	t.Run("vsftpd", func(t *testing.T) {
		if _, _, avail := mountServer(t, startServer(t, ftptest.VSFTPD, ftptest.Options{})).df(); avail != unknown {
			t.Errorf("%d bytes available", avail)
		}
	})
}
