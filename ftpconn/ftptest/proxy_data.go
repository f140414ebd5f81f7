package ftptest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// dataFault is what happens to a data connection after some bytes.
type dataFault struct {
	kind  dataFaultKind
	after int64
}

type dataFaultKind int

const (
	passData dataFaultKind = iota
	cutData
	resetData
	stallData
)

// dataConn is one data connection through the proxy: from the listener that waits for one side to the
// end of both.
type dataConn struct {
	p        *Proxy
	listener *net.TCPListener
	over     chan struct{} // closed by close
	wanted   chan struct{} // closed by want

	mu     sync.Mutex // guards following fields
	used   bool
	fault  dataFault
	passed int64
	from   net.Conn // the side that connected, nil before
	to     net.Conn
	done   bool
}

// newDataConn listens on host; the first connection is led on to target.
func newDataConn(p *Proxy, host, target string) (*dataConn, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	d := &dataConn{p: p, listener: l.(*net.TCPListener), over: make(chan struct{}), wanted: make(chan struct{})}
	p.tasks.Go(func() { d.run(target) })
	return d, nil
}

func (d *dataConn) port() int { return d.listener.Addr().(*net.TCPAddr).Port }

// forget stops waiting for a connection; one that is there goes on.
func (d *dataConn) forget() {
	if d != nil {
		d.listener.Close()
	}
}

// close ends it all.
func (d *dataConn) close() {
	if d == nil {
		return
	}
	d.listener.Close()
	d.mu.Lock()
	from, to := d.from, d.to
	if !d.done {
		d.done = true
		close(d.over)
	}
	d.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
		if c != nil {
			d.p.drop(c)
		}
	}
}

func (d *dataConn) setFault(f dataFault) {
	if d == nil || f.kind == passData {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// want says that the command that the connection is for is known, and so its fault.
func (d *dataConn) want() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.used {
		d.used = true
		close(d.wanted)
	}
}

// keep enters one side, false if close was called meanwhile.
func (d *dataConn) keep(side *net.Conn, c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || !d.p.track(c) {
		return false
	}
	*side = c
	return true
}

func (d *dataConn) run(target string) {
	from, err := d.listener.Accept()
	d.listener.Close()
	if err != nil {
		return
	}
	if !d.keep(&d.from, from) {
		from.Close()
		return
	}
	defer d.p.drop(from)
	d.p.mu.Lock()
	d.p.dataSeen++
	d.p.mu.Unlock()

	d.p.sleep(d.p.latency() * 3 / 2)
	to, err := net.Dial("tcp", target)
	if err != nil {
		reset(from)
		return
	}
	if !d.keep(&d.to, to) {
		to.Close()
		return
	}
	defer d.p.drop(to)
	var both sync.WaitGroup
	both.Go(func() { d.copy(to, from) })
	both.Go(func() { d.copy(from, to) })
	both.Wait()
}

// copy leads one direction on until its end, and ends the other side alike.
func (d *dataConn) copy(dst, src net.Conn) {
	l := newLane(d.p, dst)
	defer func() { <-l.gone }()
	for {
		buf := make([]byte, chunkSize)
		n, err := src.Read(buf)
		if n > 0 { // clients send data on the heels of the command, or before
			select {
			case <-d.wanted:
			case <-d.over:
			}
		}
		pass, kind := d.take(int64(n))
		half := d.p.latency() / 2
		if pass > 0 && !l.send(buf[:pass], half) { // the receiver is gone
			reset(src)
			return
		}
		switch {
		case kind == resetData:
			l.end(abort, half)
			<-l.gone
			reset(src)
			return
		case kind == cutData:
			l.end(finish, half)
			io.Copy(io.Discard, src)
			return
		case kind == stallData:
			<-d.over
			l.stop()
			return
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			l.end(finish, half)
			return
		case err != nil:
			l.end(abort, half)
			return
		}
	}
}

// take counts n bytes that came and says how many of them may pass, and what happens behind them.
func (d *dataConn) take(n int64) (pass int64, kind dataFaultKind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.fault.after - d.passed
	if d.fault.kind == passData || n < left {
		d.passed += n
		return n, passData
	}
	pass = max(0, left)
	d.passed += pass
	return pass, d.fault.kind
}

// refusedPort is one where nobody listens: it was free a moment ago.
func refusedPort(host string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// blackhole is a port on loopback that drops what comes: a listener whose queue is full, so that Linux
// ignores further SYNs. It holds until the files are closed.
func blackhole(v6 bool) (port int, hold []*os.File, err error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if v6 {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	open := func() (int, error) {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			hold = append(hold, os.NewFile(uintptr(fd), "blackhole"))
		}
		return fd, err
	}
	fd, err := open()
	if err != nil {
		return 0, hold, err
	}
	if err := errors.Join(unix.Bind(fd, addr), unix.Listen(fd, 0)); err != nil {
		return 0, hold, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, hold, err
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	for range 2 { // a queue of length 0 has room for one
		c, err := open()
		if err != nil {
			return 0, hold, err
		}
		if err := unix.Connect(c, bound); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return 0, hold, err
		}
	}
	return port, hold, nil
}
