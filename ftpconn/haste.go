package ftpconn

import (
	"net"

	"golang.org/x/sys/unix"
)

// vsftpd 3.0.3 closes an upload's data connection before it confirms, and close() waits there (SO_LINGER) until this
// machine has acknowledged the end: a second round trip for each file. A reset that comes right behind the end of
// the data lets that close() return at once. Linux has taken the end of the data for what it is by then: read() gives all bytes and 0,
// whatever comes behind it (tcp_recvmsg looks at SOCK_DONE before sk_err). If a packet is lost on the way the reset wins,
// and the server says 426; no server can be made to say 226 by it.
//
// Something in between that carries the bytes from one TCP connection to another could: it may turn the reset into an end. So it is
// done only where the size is checked (check.go).

// maxHasty is how large an upload may be whose end is hastened: it is begun again if a packet is lost.
const maxHasty = 64 << 10

// hastens says that the end of an upload may be hastened: with a server that lingers, over TCP connections that end at the
// server, after a SIZE behind a STOR was right once, and as long as few of them come to harm.
func (c *Conn) hastens() bool {
	queues := c.site.queues()
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	return queues && c.site.cfg.CheckUploads && !c.site.noSize && c.site.direct && c.dataTLS == nil && c.site.sized && !c.site.noHaste &&
		8*c.site.harmed <= c.site.hastened
}

// hasten ends a connection on which everything was sent with a reset behind the end of the data. It reports
// false if it didn't, and the connection is to be closed as usual.
func hasten(raw net.Conn) bool {
	t, ok := raw.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil {
		return false
	}
	rc, err := t.SyscallConn()
	if err != nil {
		return false
	}
	sent := false
	err = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		sent = err == nil && info.Notsent_bytes == 0
	})
	if err != nil || !sent {
		return false
	}
	reset(t)
	t.Close()
	return true
}
