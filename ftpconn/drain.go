package ftpconn

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errUnsent is an upload whose end was not taken by the other side, whatever the server says of it.
var errUnsent = fmt.Errorf("%w: the data connection ended before everything was taken from it", ErrConnLost)

// drain waits until the other end has all that was sent, as long as it takes some of it within each timeout: a slow line
// needs minutes for what a socket's buffer holds, and the wait for the server's verdict begins behind it.
// The error says that something was not taken.
func (d *dataConn) drain(raw net.Conn) error {
	sc, ok := raw.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	left, since := -1, time.Now()
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		n := 0
		if err := rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || n <= 0 {
			return nil // what closes it from here knows why
		}
		if n != left {
			left, since = n, time.Now()
		}
		got, err := peek(raw)
		reset := err != nil && !errors.Is(err, unix.EAGAIN)
		if reset || time.Since(since) > d.timeout {
			d.mu.Lock()
			d.lost = true
			d.mu.Unlock()
			return errUnsent
		}
		if got == 0 && err == nil { // closed: the reply says what that means
			return nil
		}
		select {
		case <-d.over:
			return nil
		case <-time.After(pause):
		}
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
