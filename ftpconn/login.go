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
	"time"

	"github.com/jlaffaye/ftp"
)

// dial makes a session: connection, TLS, log-in. Errors tell a limit (ErrTooMany) from a wrong password
// (ErrLogin) from a network that is down.
func (s *site) dial(ctx context.Context) (_ *Conn, err error) {
	limit := s.silence.limit(s.cfg.Timeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func(began time.Time) {
		switch {
		case err == nil:
			s.silence.over(time.Since(began))
		case limit == s.cfg.Timeout && ctx.Err() == context.DeadlineExceeded:
			s.silence.met(limit)
		}
	}(time.Now())
	c, err := s.session(ctx)
	if badTicket(err) && s.avoidTLS13() {
		s.log.Info("TLS 1.2 is used: the server's tickets for TLS 1.3 are valid for longer than the seven days that RFC 8446 allows", "reason", err)
		c, err = s.session(ctx)
	}
	return c, err
}

func (s *site) session(ctx context.Context) (*Conn, error) {
	cfg := s.cfg
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
		return reply{}, refusalOf(connecting, r, "")
	}
	return reply{}, errors.New("the server keeps saying that it will be ready soon")
}

// errEarlyEnd is how some servers refuse a connection too many (ProFTPD's MaxInstances), and what is seen of one that is
// just being stopped.
var errEarlyEnd = fmt.Errorf("%w: the server ended it", ErrConnLost)

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
			refusalOf("AUTH TLS", r, ""))
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
	c.l.inside.Store(true)
	s.mu.Lock()
	first := !s.probed
	s.features.Banner = strings.ReplaceAll(greeting.text(), "\n", " ")
	s.mu.Unlock()
	proftpd := s.proftpd()
	c.l.telnet.Store(proftpd || s.telnet())
	c.l.forgetful.Store(proftpd)
	c.l.portsFirst.Store(s.isPyftpdlib())
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
