package ftptest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A slot is a range of ports: the first for control, the others for passive data. The ranges lie
// below Linux' ephemeral ports (32768 and up), which any connection may happen to use.
const (
	firstPort = 20000
	slotPorts = 100
	slotCount = 120
)

// claimPorts reserves a slot until the test ends. Test processes run side by side, and a port that
// was free a moment ago need not be; so a slot belongs to the process that has bound its
// name as an abstract Unix socket: the kernel gives it to one only, and frees it with the process.
func claimPorts(t testing.TB, host string) int {
	t.Helper()
	for slot := range slotCount {
		mark, err := net.Listen("unix", fmt.Sprintf("@ftpfs-ftptest-%d", slot))
		if err != nil {
			continue
		}
		port := firstPort + slot*slotPorts
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil { // somebody who knows nothing of slots
			mark.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { mark.Close() })
		return port
	}
	t.Fatalf("no free ports between %d and %d: %d servers are running", firstPort, firstPort+slotPorts*slotCount, slotCount)
	return 0
}

// listening says whether any process listens on a TCP port. It doesn't connect to find out: a
// connection would be a session for the server.
func listening(port int) bool {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		found := false
		for sc := bufio.NewScanner(f); sc.Scan(); {
			fields := strings.Fields(sc.Text())
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				found = true
				break
			}
		}
		f.Close()
		if found {
			return true
		}
	}
	return false
}
