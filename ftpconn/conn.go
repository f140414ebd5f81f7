package ftpconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
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

// dial makes a session: connection, TLS, log-in. Errors tell a limit (ErrTooMany) from a wrong password
// (ErrLogin) from a network that is down.
func (s *site) dial(ctx context.Context) (*Conn, error) {
	cfg := s.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	addr := net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))
	raw, err := cfg.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("can't connect to %s: %w", addr, err)
	}
	c := &Conn{site: s, id: strconv.FormatInt(sessionNumber.Add(1), 10), ctx: ctx}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Now()) })
	err = c.open(raw, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if c.l != nil {
			c.l.fail(err)
		}
		raw.Close()
		return nil, fmt.Errorf("log-in to %s: %w", addr, err)
	}
	raw.SetDeadline(time.Time{})
	return c, nil
}

func (c *Conn) open(raw net.Conn, addr string) error {
	s := c.site
	if err := c.addresses(raw, addr); err != nil {
		return err
	}
	conn := raw
	var control *tls.Config
	if s.cfg.TLS != TLSOff {
		control, c.dataTLS = s.tlsConfigs()
	}
	if s.cfg.TLS == TLSImplicit {
		t := tls.Client(raw, control)
		if err := t.HandshakeContext(c.ctx); err != nil {
			return tlsTrouble(s.cfg.Host, err)
		}
		conn = t
	}
	c.l = newLink(conn, c.id, s.cfg.Timeout, s.log)
	greeting, err := c.greeting()
	if err != nil {
		return err
	}
	if s.cfg.TLS == TLSExplicit {
		t, err := c.authTLS(raw, control)
		if err != nil {
			return err
		}
		c.l.conn, c.l.br = t, bufio.NewReaderSize(t, maxReplyLine)
	}
	c.l.onNotice = c.notice
	c.l.start()
	return c.login(greeting, addr)
}

// addresses notes both ends; behind a proxy the server's address is taken from the
// configuration, since the library and the passive modes need one.
func (c *Conn) addresses(raw net.Conn, addr string) error {
	if t, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
		ap := t.AddrPort()
		c.peer = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	} else if ap, err := netip.ParseAddrPort(addr); err == nil {
		c.peer = ap
	} else {
		c.peer = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(c.site.cfg.Port))
	}
	if a, ok := addrOf(raw.LocalAddr()); ok {
		c.local = a
	}
	s := c.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.modes == nil {
		m, err := newModes(s.cfg.Data, c.peer.Addr().Is6())
		if err != nil {
			return err
		}
		s.modes = m
	}
	return nil
}

// greeting waits for 220; 120 announces a wait (RFC 959 section 5.4).
func (c *Conn) greeting() (reply, error) {
	for range 5 {
		r, err := c.l.readReply()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return reply{}, fmt.Errorf("%w: closed before the greeting: %w", errEarlyEnd, err)
			}
			return reply{}, err
		}
		switch {
		case r.code == 120:
			continue
		case r.class() == 2:
			r.code = 220
			return r, nil
		}
		return reply{}, &ReplyError{Command: "(connect)", Code: r.code, Text: r.text(), Kind: classify(r.code, r.text(), "")}
	}
	return reply{}, errors.New("the server keeps saying that it will be ready soon")
}

// errEarlyEnd is how some servers refuse a connection too many (ProFTPD's MaxInstances).
var errEarlyEnd = errors.New("the server ended the connection")

func (c *Conn) authTLS(raw net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	if _, err := io.WriteString(raw, "AUTH TLS\r\n"); err != nil {
		return nil, err
	}
	r, err := c.l.readReply()
	if err != nil {
		return nil, err
	}
	if r.class() != 2 {
		return nil, fmt.Errorf("the server offers no TLS here (tls=off would send the password in clear): %w",
			&ReplyError{Command: "AUTH TLS", Code: r.code, Text: r.text()})
	}
	if c.l.br.Buffered() > 0 {
		return nil, errors.New("the server sent something in clear behind its consent to TLS: that may be an attack")
	}
	t := tls.Client(raw, cfg)
	if err := t.HandshakeContext(c.ctx); err != nil {
		return nil, tlsTrouble(c.site.cfg.Host, err)
	}
	return t, nil
}

func (c *Conn) login(greeting reply, addr string) error {
	s := c.site
	lc := &libConn{c: c}
	c.lib = lc
	lc.out = []byte(greeting.wire(220))
	opts := []ftp.DialOption{ftp.DialWithDialFunc(func(_, a string) (net.Conn, error) {
		if c.sc == nil {
			return lc, nil
		}
		d := lc.data
		return d, nil
	})}
	if s.cfg.TLS != TLSOff {
		opts = append(opts, ftp.DialWithTLS(c.dataTLS))
	}
	sc, err := ftp.Dial(addr, opts...)
	if err != nil {
		return err
	}
	c.sc = sc
	if err := c.sendAhead(); err != nil {
		return err
	}
	if err := sc.Login(s.cfg.User, s.cfg.Password); err != nil {
		err = lc.failure(err)
		if r := lc.refused; r != nil {
			err = r
		}
		if re := (*ReplyError)(nil); errors.As(err, &re) && re.Kind == nil {
			re.Kind = ErrLogin
		}
		return err
	}
	s.mu.Lock()
	first := !s.probed
	s.features.Banner = strings.ReplaceAll(greeting.text(), "\n", " ")
	s.mu.Unlock()
	if first {
		return c.probe()
	}
	if lc.in = nil; s.has("MLST") && !s.pipelines() {
		_, err = c.raw(c.ctx, mlstFacts)
	}
	return err
}

// mlstFacts asks for every fact that is of use: pyftpdlib 1.5.7 leaves modes and owners out otherwise.
const mlstFacts = "OPTS MLST type;size;modify;perm;unique;unix.mode;unix.owner;unix.group;unix.uid;unix.gid;unix.ownername;unix.groupname;"

// sendAhead sends the whole dialogue of a log-in whose course is known in one packet.
func (c *Conn) sendAhead() error {
	s := c.site
	s.mu.Lock()
	ok := s.probed && s.pipeline && s.cfg.Account == ""
	_, utf8 := s.feat["UTF8"]
	_, mlst := s.feat["MLST"]
	s.mu.Unlock()
	if !ok || strings.ContainsAny(s.cfg.User+s.cfg.Password, "\r\n") {
		return nil
	}
	lines := []string{"USER " + s.cfg.User, "PASS " + s.cfg.Password, "TYPE I"}
	if utf8 {
		lines = append(lines, "OPTS UTF8 ON")
	}
	if s.cfg.TLS != TLSOff {
		lines = append(lines, "PBSZ 0", "PROT P")
	}
	if mlst {
		lines = append(lines, mlstFacts)
	}
	calls := newCalls(lines)
	c.lib.presend = calls
	return c.l.send(calls, lines)
}

// probe learns what the first session of a site can learn: where the login directory is, the
// kind of server, and whether two commands in one packet get two replies.
func (c *Conn) probe() error {
	s := c.site
	lines := []string{"PWD", "SYST"}
	if s.has("MLST") {
		lines = append(lines, mlstFacts)
	}
	calls := newCalls(lines)
	if err := c.l.send(calls, lines); err != nil {
		return err
	}
	login, pipeline := "/", true
	for i, call := range calls {
		limit := c.site.cfg.Timeout
		if i > 0 {
			limit = min(limit, 10*time.Second)
		}
		r, err := c.l.wait(c.ctx, call, limit)
		if err != nil {
			if i == 0 {
				return err
			}
			s.update(func(s *site) { s.probed = true })
			s.log.Warn("the server does not answer two commands in one packet; each will wait for the one before it")
			return fmt.Errorf("%w: while looking whether commands may be sent ahead", err)
		}
		switch {
		case i == 0 && r.class() == 2:
			login = quoted(r.text())
		case i == 1 && r.class() == 2:
			s.update(func(s *site) { s.features.System = r.text() })
		}
	}
	s.locate(login)
	s.update(func(s *site) { s.probed, s.pipeline = true, pipeline })
	return nil
}

// quoted is the path of a 257 reply: between the first and the last quote, doubled ones inside
// halved (RFC 959 appendix II).
func quoted(text string) string {
	i, j := strings.IndexByte(text, '"'), strings.LastIndexByte(text, '"')
	if i < 0 || j <= i {
		return "/"
	}
	return strings.ReplaceAll(text[i+1:j], `""`, `"`)
}

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
		err = &ReplyError{Command: redact(cmd), Code: r.code, Text: r.text(), Kind: classify(r.code, r.text(), arg)}
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

// notice hears replies that nobody asked for: before they end a session, servers say 421. Called by
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
func (c *Conn) alive() bool { return !c.broken.Load() && c.l.error() == nil }

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
