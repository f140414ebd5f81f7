package ftpconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime bounds the wait for the server's end of a TLS data connection.
const drainTime = 2 * time.Second

// dataConn is one data connection as the FTP library sees it. In the passive modes it is connected
// when it is made; in the active modes it listens, and accepts when it is first used. TLS begins when it is first
// used, which is after the transfer command: ProFTPD 1.3.8 and Pure-FTPd 1.0.50 hang otherwise.
//
// Read and Write belong to one goroutine; Close and abort may come from any.
type dataConn struct {
	// constant
	mode    Mode
	peer    netip.Addr    // who may connect, in the active modes
	timeout time.Duration // for each step and each movement of data
	accept  time.Duration // for the server to connect
	tlsCfg  *tls.Config   // nil: clear
	made    time.Time
	over    <-chan struct{} // closed when the control connection ends
	dialing chan struct{}   // closed when a connection being made ahead stands or failed; nil if none is

	more bool // the last Read got all that it had room for; of the goroutine that reads

	use sync.Mutex // held while the connection is being set up

	mu      sync.Mutex // guards the following
	ln      net.Listener
	raw     net.Conn
	tls     *tls.Conn
	ready   bool
	err     error // why the connection can't be used any more
	aborted bool
	closed  bool
	wrote   bool
	lost    bool // it broke in the middle: a reply comes soon or not at all

	hasty bool  // the end may be hastened; constant once the transfer runs
	sent  int64 // bytes written
	// hurried says that the end was hastened. It is read when the transfer is over.
	hurried bool
}

// fresh says that an idle data connection is still open at both ends, as far as can be told
// without asking the server.
func (d *dataConn) fresh(maxAge time.Duration) bool {
	if time.Since(d.made) > maxAge {
		return false
	}
	d.mu.Lock()
	raw, err := d.raw, d.err
	d.mu.Unlock()
	if err != nil {
		return false
	}
	return raw == nil || socketOpen(raw)
}

// socketOpen looks at a socket without reading from it: closed or reset by the peer, or with
// bytes where none are due, it is of no use.
func socketOpen(c net.Conn) bool {
	_, err := peek(c)
	return errors.Is(err, unix.EAGAIN)
}

// peek is recv(2) of one byte that stays where it is, without waiting.
func peek(c net.Conn) (n int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, unix.EAGAIN
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var e error
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, e = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	})
	if err != nil {
		return 0, err
	}
	return n, e
}

// conn sets the connection up if that is still to be done.
func (d *dataConn) conn() (net.Conn, error) {
	d.use.Lock()
	defer d.use.Unlock()
	d.mu.Lock()
	ln, raw, ready, err := d.ln, d.raw, d.ready, d.err
	t := d.tls
	d.mu.Unlock()
	if !ready && err == nil && d.dialing != nil {
		<-d.dialing // bounded by the dial
		d.mu.Lock()
		raw, err = d.raw, d.err
		d.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	if ready {
		if t != nil {
			return t, nil
		}
		return raw, nil
	}
	if raw == nil {
		if raw, err = d.acceptFrom(ln); err != nil {
			return nil, d.broken(fmt.Errorf("%w: %w", ErrDataMode, err))
		}
	}
	quickAck(raw)
	d.mu.Lock()
	d.raw, d.ready = raw, true
	if d.tlsCfg != nil {
		d.tls = tls.Client(raw, d.tlsCfg)
	}
	t, err = d.tls, d.err
	d.mu.Unlock()
	if err != nil {
		raw.Close()
		return nil, err
	}
	if t == nil {
		return raw, nil
	}
	raw.SetDeadline(time.Now().Add(d.timeout))
	if err := t.Handshake(); err != nil {
		return nil, d.broken(fmt.Errorf("TLS on the data connection: %w", err))
	}
	raw.SetDeadline(time.Time{})
	return t, nil
}

// connected takes the connection that was made ahead, unless d was given up meanwhile.
func (d *dataConn) connected(raw net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || d.closed {
		raw.Close()
		return
	}
	d.raw = raw
}

// refusedSoon says that the transfer that d is for has been refused, or is within a moment: the reply may be on its way.
func (d *dataConn) refusedSoon(over <-chan struct{}) bool {
	const moment, step = 500 * time.Millisecond, 10 * time.Millisecond
	for range moment / step {
		d.mu.Lock()
		err := d.err
		d.mu.Unlock()
		if err != nil {
			return true
		}
		select {
		case <-over:
			return false
		case <-time.After(step):
		}
	}
	return false
}

// acceptFrom takes the server's connection. Connections from elsewhere are closed: RFC 2577 section 3.
func (d *dataConn) acceptFrom(ln net.Listener) (net.Conn, error) {
	if ln == nil {
		return nil, net.ErrClosed
	}
	defer ln.Close()
	if tl, ok := ln.(*net.TCPListener); ok {
		tl.SetDeadline(time.Now().Add(d.accept))
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				return nil, fmt.Errorf("the server did not connect to %v within %v", ln.Addr(), d.accept)
			}
			return nil, err
		}
		if a, ok := addrOf(c.RemoteAddr()); ok && a == d.peer {
			return c, nil
		}
		c.Close()
	}
}

func addrOf(a net.Addr) (netip.Addr, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	return ip, ip.IsValid()
}

// broken notes the first error and closes what there is.
func (d *dataConn) broken(err error) error {
	d.mu.Lock()
	if d.err == nil {
		d.err = err
	}
	err = d.err
	ln, raw := d.ln, d.raw
	d.mu.Unlock()
	if ln != nil {
		ln.Close()
	}
	if raw != nil {
		raw.Close()
	}
	return err
}

// interrupt ends the connection from another goroutine: Read and Write return err.
func (d *dataConn) interrupt(err error) {
	d.mu.Lock()
	if d.raw != nil {
		reset(d.raw)
	}
	d.mu.Unlock()
	d.broken(err)
}

// abort ends the transfer so that the server doesn't take it for complete.
func (d *dataConn) abort() {
	d.mu.Lock()
	d.aborted = true
	d.mu.Unlock()
	d.interrupt(errAborted)
}

var errAborted = errors.New("transfer aborted")

// reset makes Close send RST instead of FIN.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
}

// quickAck asks for acknowledgements at once: servers that linger until the last byte is
// acknowledged confirm 40 ms sooner (vsftpd 3.0.3). The kernel forgets it, so it is asked for again.
// Failure is harmless.
func quickAck(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if rc, err := sc.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

func (d *dataConn) Read(p []byte) (int, error) {
	c, err := d.conn()
	if err != nil {
		return 0, err
	}
	c.SetReadDeadline(time.Now().Add(d.timeout))
	if !d.more { // else it is far from its last byte
		quickAck(d.raw)
	}
	n, err := c.Read(p)
	d.more = n == len(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.reason(err)
	}
	return n, err
}

func (d *dataConn) Write(p []byte) (int, error) {
	c, err := d.conn()
	if err != nil {
		return 0, err
	}
	d.wrote = true
	// The limit is for standing still, so each piece has its own.
	done := 0
	for done < len(p) {
		c.SetWriteDeadline(time.Now().Add(d.timeout))
		n, err := c.Write(p[done:min(done+256<<10, len(p))])
		done += n
		d.sent += int64(n)
		if err != nil {
			return done, d.reason(err)
		}
	}
	return done, nil
}

// reason prefers why the connection was broken from here over what the socket says of it.
func (d *dataConn) reason(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
	if d.err != nil {
		return d.err
	}
	return fmt.Errorf("%w: data connection: %w", ErrConnLost, err)
}

// Handshake is called by the library for an upload of no bytes, where nothing else would set
// the connection up.
func (d *dataConn) Handshake() error {
	_, err := d.conn()
	return err
}

// Close ends the connection. For an upload over TLS 1.3 the order matters: a plain close over the
// server's unread session tickets resets the connection and cuts the upload short, so both
// halves are closed in turn and the server's half is read to its end.
func (d *dataConn) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	aborted, wrote, ready, err := d.aborted, d.wrote, d.ready, d.err
	raw, t, ln := d.raw, d.tls, d.ln
	d.mu.Unlock()
	if ln != nil {
		defer ln.Close()
	}
	if raw == nil {
		return nil
	}
	defer raw.Close()
	if aborted || err != nil || !ready {
		return nil
	}
	if t == nil && d.hasty && wrote && d.sent <= maxHasty {
		if d.hurried = hasten(raw); d.hurried {
			return nil
		}
	}
	if t != nil {
		raw.SetDeadline(time.Now().Add(drainTime))
		t.CloseWrite()
	}
	if !wrote {
		return nil
	}
	if tc, ok := raw.(*net.TCPConn); ok {
		tc.CloseWrite()
	}
	if err := d.drain(raw); err != nil {
		return err
	}
	if t != nil {
		raw.SetDeadline(time.Now().Add(drainTime))
		io.Copy(io.Discard, raw)
	}
	return nil
}

func (d *dataConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (d *dataConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (d *dataConn) SetDeadline(time.Time) error      { return nil }
func (d *dataConn) SetReadDeadline(time.Time) error  { return nil }
func (d *dataConn) SetWriteDeadline(time.Time) error { return nil }
