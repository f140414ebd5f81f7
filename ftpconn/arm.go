package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

const (
	// armedLife is how long a data connection made ahead of need is trusted: below the 30 s data time-out of IIS
	// no server gives it up, and of the measured five none before 280 s.
	armedLife = 28 * time.Second
	// firstTry bounds the wait for a mode that has not worked yet.
	firstTry = 8 * time.Second
)

// arming is a data connection being made ahead of need.
type arming struct {
	done chan struct{} // closed when d and err are set
	d    *dataConn
	err  error
}

// makeData makes a data connection for the transfer command cmd in the mode in force, falling back by the evidence. An error that
// IsLost asks for another session.
func (c *Conn) makeData(ctx context.Context, cmd string) (*dataConn, error) {
	m := c.site.modes
	for busy := 0; ; {
		mode, confirmed := m.current()
		d, err := c.make(ctx, mode, confirmed, cmd)
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.l.error() != nil {
			return nil, err
		}
		var re *ReplyError
		refused := errors.As(err, &re)
		if refused && re.Code == 421 {
			c.broken.Store(true)
			return nil, err
		}
		if ofPRET(err) || errors.Is(err, errPortsInUse) {
			return nil, err
		}
		if refused && re.Code == 425 && busy < 3 { // out of ports, for the moment
			busy++
			select {
			case <-time.After(time.Duration(50<<busy) * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		busy = 0
		c.site.log.Info("a data mode does not work", "mode", mode, "reason", err)
		if all := m.failed(mode, c.id, refused || errors.Is(err, errNot229), err); all != nil {
			return nil, all
		}
		if now, still := m.current(); still && now == mode {
			c.broken.Store(true)
			return nil, fmt.Errorf("%w: %w", ErrConnLost, err)
		}
	}
}

// make makes a data connection in one mode.
func (c *Conn) make(ctx context.Context, mode Mode, confirmed bool, cmd string) (*dataConn, error) {
	d := c.newData(mode, confirmed)
	if !mode.Passive() {
		ln, at, err := c.listen(ctx)
		if err != nil {
			return nil, err
		}
		d.ln = ln
		if _, err := c.ask(ctx, mode.String(), portArgument(mode, at)); err != nil {
			ln.Close()
			return nil, err
		}
		return d, nil
	}
	r, err := c.askPassive(ctx, mode, cmd)
	if err != nil {
		return nil, err
	}
	return d, c.connect(ctx, d, r, confirmed)
}

func portArgument(mode Mode, at netip.AddrPort) string {
	if mode == PORT {
		return formatPORT(at)
	}
	return formatEPRT(at)
}

func (c *Conn) newData(mode Mode, confirmed bool) *dataConn {
	d := &dataConn{mode: mode, peer: c.peer.Addr(), timeout: c.site.cfg.Timeout, accept: c.site.cfg.Timeout, tlsCfg: c.dataTLS, made: time.Now(), over: c.l.done}
	if !confirmed {
		d.accept = min(d.accept, firstTry)
	}
	return d
}

// connect follows the reply to EPSV or PASV.
func (c *Conn) connect(ctx context.Context, d *dataConn, r reply, confirmed bool) error {
	hosts, port, err := c.passiveTarget(d.mode, r)
	if err != nil {
		return err
	}
	raw, err := c.dialData(ctx, hosts, port, confirmed)
	d.raw = raw
	return err
}

// passiveTarget is where the reply to EPSV or PASV says to connect to.
func (c *Conn) passiveTarget(mode Mode, r reply) (hosts []netip.Addr, port uint16, err error) {
	if mode == EPSV {
		port, err = parse229(r.text())
		if err != nil || r.code != 229 {
			return nil, 0, fmt.Errorf("%w: %d %.80s", errNot229, r.code, r.text())
		}
		return []netip.Addr{c.peer.Addr()}, port, nil
	}
	ap, err := parse227(r.text())
	if err != nil {
		return nil, 0, err
	}
	return pasvHosts(ap.Addr(), c.peer.Addr(), c.site.cfg.TrustPASV), ap.Port(), nil
}

func (c *Conn) dialData(ctx context.Context, hosts []netip.Addr, port uint16, confirmed bool) (net.Conn, error) {
	limit := c.site.cfg.Timeout
	if !confirmed || len(hosts) > 1 {
		limit = min(limit, firstTry)
	}
	var first error
	for _, h := range hosts {
		addr := netip.AddrPortFrom(h, port).String()
		if h.IsUnspecified() { // behind a proxy that resolves names
			addr = net.JoinHostPort(c.site.cfg.Host, strconv.Itoa(int(port)))
		}
		dctx, cancel := context.WithTimeout(ctx, limit)
		raw, err := c.site.cfg.DialContext(dctx, "tcp", addr)
		cancel()
		if err == nil {
			return raw, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if first == nil {
			first = fmt.Errorf("the passive address %s does not answer: %w", addr, err)
		}
	}
	return nil, first
}

// errPortsInUse says that this machine has no port left of those that the user allows. That is no evidence against a mode.
var errPortsInUse = fmt.Errorf("%w: %w", ErrDataMode, ErrPortsInUse)

// listen opens a port for the server to connect to, in the configured range, and says what
// address to announce. If the range is used up it waits for a port, as long as the timeout.
func (c *Conn) listen(ctx context.Context) (net.Listener, netip.AddrPort, error) {
	limit := time.After(c.site.cfg.Timeout)
	for {
		ln, at, err := c.listenNow()
		if !errors.Is(err, errPortsInUse) {
			return ln, at, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-limit:
			return nil, at, err
		case <-c.l.done:
			return nil, at, c.l.error()
		case <-ctx.Done():
			return nil, at, ctx.Err()
		}
	}
}

// listenNow is listen without the wait.
func (c *Conn) listenNow() (net.Listener, netip.AddrPort, error) {
	rng := c.site.cfg.ActivePorts
	n := int(rng.Hi) - int(rng.Lo) + 1
	start := rand.IntN(n)
	for i := range n {
		port := uint16(0)
		if rng.Lo != 0 {
			port = rng.Lo + uint16((start+i)%n)
		}
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.local, port)))
		if errors.Is(err, syscall.EADDRINUSE) && port != 0 {
			continue
		}
		if err != nil {
			return nil, netip.AddrPort{}, fmt.Errorf("can't listen for the server's data connection: %w", err)
		}
		announced := c.local
		if a := c.site.cfg.ActiveAddress; a.IsValid() {
			announced = a
		}
		return ln, netip.AddrPortFrom(announced, uint16(ln.Addr().(*net.TCPAddr).Port)), nil
	}
	return nil, netip.AddrPort{}, fmt.Errorf("%w: active_ports=%d-%d", errPortsInUse, rng.Lo, rng.Hi)
}

// armAhead asks for the next data connection without waiting for it: the next transfer then starts
// after one round trip. Only in a mode that is known to work, and after a transfer that used one up.
func (c *Conn) armAhead() {
	s := c.site
	mode, confirmed := s.modes.current()
	if !confirmed || !c.spent || c.armed != nil || !c.alive() || !s.pipelines() || s.wantsPRET() {
		return
	}
	if rng := s.cfg.ActivePorts; !mode.Passive() && rng.Lo != 0 && int(rng.Hi)-int(rng.Lo) < 2*s.cfg.MaxConns {
		return
	}
	c.spent = false
	d := c.newData(mode, true)
	cmd := mode.String()
	if !mode.Passive() {
		ln, at, err := c.listenNow()
		if err != nil {
			return
		}
		d.ln = ln
		cmd += " " + portArgument(mode, at)
	}
	asked := newCall(cmd)
	if err := c.l.send([]*call{asked}, []string{cmd}); err != nil {
		d.Close()
		return
	}
	c.await(d, asked, nil)
}

// queueNext is the command that asks for the next data connection, to be sent behind a transfer command, for
// a server that is known to keep it until the transfer is over.
func (c *Conn) queueNext() (cmd string, d *dataConn) {
	mode, confirmed := c.site.modes.current()
	if !confirmed || !mode.Passive() || !c.site.queues() {
		return "", nil
	}
	return mode.String(), c.newData(mode, true)
}

// await makes d the next data connection once the reply to asked has come: within the timeout, which begins when behind is
// closed, the end of the transfer that the server does first. In the passive modes the
// transfer command needn't wait for the connection to stand: server and client meet on the way.
func (c *Conn) await(d *dataConn, asked *call, behind <-chan struct{}) {
	a := &arming{done: make(chan struct{}), d: d}
	c.armed = a
	go func() {
		if behind != nil {
			select {
			case <-behind:
			case <-c.l.done:
			}
		}
		r, err := c.l.wait(context.Background(), asked, c.site.cfg.Timeout)
		var hosts []netip.Addr
		var port uint16
		switch {
		case err != nil:
		case r.class() >= 4:
			err = refusalOf(asked.cmd, r, "")
		case d.mode.Passive():
			hosts, port, err = c.passiveTarget(d.mode, r)
		}
		a.err = err
		d.made = time.Now()
		if err != nil {
			c.site.log.Debug("no data connection ahead of need", "session", c.id, "reason", err)
			d.Close()
			close(a.done)
			return
		}
		if !d.mode.Passive() {
			close(a.done)
			return
		}
		d.dialing = make(chan struct{})
		defer close(d.dialing)
		close(a.done)
		raw, err := c.dialData(context.Background(), hosts, port, true)
		if err != nil {
			if d.refusedSoon(c.l.done) {
				return // the server has refused the transfer, and closed the port with it
			}
			// A server that waits for this connection says nothing for minutes.
			err = fmt.Errorf("%w: %w", ErrConnLost, err)
			d.broken(err)
			c.site.modes.failed(d.mode, c.id, false, err)
			c.l.fail(err)
			return
		}
		d.connected(raw)
	}()
}

// takeArmed gives the connection made ahead if it can be used; nil means to make one.
func (c *Conn) takeArmed(ctx context.Context) *dataConn {
	a := c.armed
	if a == nil {
		return nil
	}
	c.armed = nil
	select {
	case <-a.done:
	case <-ctx.Done():
		go func() { <-a.done; a.d.Close() }()
		return nil
	}
	mode, _ := c.site.modes.current()
	if a.err != nil || a.d.mode != mode || !a.d.fresh(armedLife) {
		a.d.Close()
		return nil
	}
	return a.d
}

func (c *Conn) dropArmed() {
	if a := c.armed; a != nil {
		c.armed = nil
		go func() { <-a.done; a.d.Close() }()
	}
}

// breakOff aborts a transfer and reads the reply that ends it, so that the session is in step
// again. If no reply comes soon the session is given up.
func (c *Conn) breakOff(d *dataConn, running *call) {
	c.l.settleAny(running)
	d.abort()
	d.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	if _, err := c.l.wait(ctx, running, 0); err != nil {
		c.broken.Store(true)
	}
}

// settleTime bounds the wait for the reply to an aborted transfer. On the measured servers it comes
// within 50 ms and a round trip; Pure-FTPd over TLS 1.3 sends none.
const settleTime = 3 * time.Second

var _ io.ReadWriteCloser = (*dataConn)(nil)
