package ftpconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jlaffaye/ftp"
)

// Conn is one logged-in session: the library's connection over a link, and its data connections.
// It belongs to the goroutine that borrowed it from the pool.
type Conn struct {
	// constant
	site    *site
	l       *link
	lib     *libConn
	sc      *ftp.ServerConn
	id      string
	peer    netip.AddrPort // the server, as the control connection sees it
	local   netip.Addr     // this machine, likewise
	dataTLS *tls.Config    // nil: data in clear

	ctx      context.Context // of the running operation
	cwd      string          // the server's idea of the current directory, "" unknown
	armed    *arming
	lastText string // text of the last transfer's final reply
	spent    bool   // a transfer was made since the last arming
	broken   atomic.Bool
}

var sessionNumber atomic.Int64

// raw sends a command that the library has no call for.
func (c *Conn) raw(ctx context.Context, cmd string) (reply, error) {
	if err := checkArgument(cmd); err != nil {
		return reply{}, err
	}
	asked := newCall(redact(cmd))
	if err := c.l.send([]*call{asked}, []string{cmd}); err != nil {
		return reply{}, err
	}
	r, err := c.l.wait(ctx, asked, 0)
	if err != nil {
		c.broken.Store(true)
	}
	return r, err
}

// ask is raw with a refusal as an error.
func (c *Conn) ask(ctx context.Context, verb, arg string) (reply, error) {
	cmd := verb
	if arg != "" {
		cmd += " " + arg
	}
	r, err := c.raw(ctx, cmd)
	if err == nil && r.class() >= 4 {
		err = refusalOf(cmd, r, arg)
	}
	return r, err
}

// checkArgument refuses what would end a command early: RFC 959 section 5.3.1.
func checkArgument(s string) error {
	if strings.ContainsAny(s, "\r\n\x00") {
		return fmt.Errorf("%w: %q contains a line end or NUL", ErrBadName, redact(s))
	}
	return nil
}

// notice hears replies that nobody asked for, and 421, which servers say before they end a session, to a command or to none. Called by
// the link's reader.
func (c *Conn) notice(r reply) {
	text := strings.ToLower(r.text())
	if r.code == 421 && (strings.Contains(text, "data") || strings.Contains(text, "passive")) {
		return // pyftpdlib 1.5.7 gives up an unused data connection, not the session
	}
	c.broken.Store(true)
	if r.code != 421 { // replies and commands are out of step: nothing can be believed any more
		c.l.fail(fmt.Errorf("%w: an unexpected reply came: %d %.80s", ErrConnLost, r.code, r.text()))
	}
}

// alive is for the pool: no I/O.
func (c *Conn) alive() bool {
	return !c.broken.Load() && c.l.error() == nil && !c.site.silence.covers(c.l.heard.Load())
}

// ready is for the pool: a data connection stands. No I/O.
func (c *Conn) ready() bool {
	a := c.armed
	if a == nil {
		return false
	}
	select {
	case <-a.done:
	default:
		return false
	}
	if a.err != nil || time.Since(a.d.made) >= armedLife {
		return false
	}
	if a.d.dialing == nil {
		return true
	}
	select {
	case <-a.d.dialing:
		return true
	default: // it could begin, and would wait for the connection
		return false
	}
}

// keepalive is for the pool: one exchange, and a new data connection in place of one that has grown
// old.
func (c *Conn) keepalive(ctx context.Context) error {
	_, err := c.raw(ctx, "NOOP")
	if err == nil && c.armed != nil && !c.ready() {
		c.dropArmed()
		c.spent = true
		c.armAhead()
	}
	return err
}

// close ends the session. It says QUIT and doesn't wait for the answer.
func (c *Conn) close() {
	c.dropArmed()
	if c.l.error() == nil {
		c.l.send([]*call{newCall("QUIT")}, []string{"QUIT"})
	}
	c.l.fail(fmt.Errorf("%w: closed here", net.ErrClosed))
}
