package ftpconn

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drain waits until the other end has all that was sent, as long as it takes some of it within each timeout: a slow line
// needs minutes for what a socket's buffer holds, and the wait for the server's verdict begins behind it.
func (d *dataConn) drain(raw net.Conn) {
	sc, ok := raw.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	left, since := -1, time.Now()
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		n := 0
		if err := rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || n <= 0 {
			return
		}
		if n != left {
			left, since = n, time.Now()
		} else if time.Since(since) > d.timeout {
			d.mu.Lock()
			d.lost = true
			d.mu.Unlock()
			return
		}
		time.Sleep(pause)
	}
}

// patience is how long the reply that ends a transfer is waited for once the data is over.
func (d *dataConn) patience() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost || d.err != nil {
		return min(d.timeout, settleTime)
	}
	return d.timeout
}
