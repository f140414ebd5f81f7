package ftptest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is the least that can speak to an FTP server. It stands on its own, so that servers are
// not tested with the client they are made to test.
type client struct {
	t    testing.TB
	addr string
	conn net.Conn
	r    *bufio.Reader
	tls  *tls.Config // nil: in clear
}

const patience = 20 * time.Second

// connect reads the greeting and, with TLS, makes the control connection secure.
func connect(t testing.TB, addr string, mode TLS, config *tls.Config) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{t: t, addr: addr, conn: conn, tls: config}
	if mode == Implicit {
		c.conn = tls.Client(conn, config)
	}
	c.r = bufio.NewReader(c.conn)
	c.want(c.reply(), "220")
	if mode == Explicit {
		c.do("234", "AUTH TLS")
		c.conn = tls.Client(conn, config)
		c.r = bufio.NewReader(c.conn)
	}
	if mode != NoTLS {
		c.do("200", "PBSZ 0")
		c.do("200", "PROT P")
	}
	return c
}

// login is a session on s, through addr.
func login(s *Server, addr string) *client {
	s.t.Helper()
	var config *tls.Config
	if s.TLS != NoTLS {
		config = s.TLSConfig()
		if s.Kind == VSFTPD {
			config.MaxVersion = tls.VersionTLS12 // 3.0.5 with OpenSSL 3 gives tickets for decades, which crypto/tls refuses in 1.3
		}
	}
	c := connect(s.t, addr, s.TLS, config)
	c.do("331", "USER "+s.User)
	c.do("230", "PASS "+s.Password)
	c.do("200", "TYPE I")
	return c
}

func (c *client) send(command string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
}

// read is one whole reply, or an error.
func (c *client) read() (string, error) {
	first, err := c.r.ReadString('\n')
	all := first
	for err == nil && len(first) > 3 && first[3] == '-' {
		var line string
		line, err = c.r.ReadString('\n')
		all += line
		if strings.HasPrefix(line, first[:3]+" ") {
			break
		}
	}
	return strings.TrimRight(all, "\r\n"), err
}

func (c *client) reply() string {
	c.t.Helper()
	reply, err := c.read()
	if err != nil {
		c.t.Fatalf("reading a reply: %q, %v", reply, err)
	}
	return reply
}

func (c *client) want(reply, prefix string) string {
	c.t.Helper()
	if !strings.HasPrefix(reply, prefix) {
		c.t.Fatalf("reply %q, want %s", reply, prefix)
	}
	return reply
}

// do sends a command whose reply must begin with prefix.
func (c *client) do(prefix, command string) string {
	c.t.Helper()
	c.send(command)
	reply := c.reply()
	if !strings.HasPrefix(reply, prefix) {
		c.t.Fatalf("%s: reply %q, want %s", command, reply, prefix)
	}
	return reply
}

var (
	re227 = regexp.MustCompile(`(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)`)
	re229 = regexp.MustCompile(`\(\|\|\|(\d+)\|\)`)
)

// data asks for a data connection by EPSV, PASV, EPRT or PORT; the function returned gives it, to
// be called after the transfer command was answered.
func (c *client) data(verb string) func() net.Conn {
	c.t.Helper()
	host, _, _ := net.SplitHostPort(c.addr)
	var conn net.Conn
	var err error
	switch verb {
	case "EPSV":
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(host, re229.FindStringSubmatch(c.do("229", verb))[1]), patience)
	case "PASV":
		m := re227.FindStringSubmatch(c.do("227", verb))
		hi, _ := strconv.Atoi(m[5])
		lo, _ := strconv.Atoi(m[6])
		conn, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", strings.Join(m[1:5], "."), hi<<8|lo), patience)
	default:
		return c.active(verb, host)
	}
	if err != nil {
		c.t.Fatalf("%s: %v", verb, err)
	}
	return func() net.Conn { return c.secure(conn) }
}

func (c *client) active(verb, host string) func() net.Conn {
	c.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	switch {
	case verb == "PORT":
		c.do("200", fmt.Sprintf("PORT %s,%d,%d", strings.ReplaceAll(host, ".", ","), port>>8, port&255))
	case strings.Contains(host, ":"):
		c.do("200", fmt.Sprintf("EPRT |2|%s|%d|", host, port))
	default:
		c.do("200", fmt.Sprintf("EPRT |1|%s|%d|", host, port))
	}
	return func() net.Conn {
		c.t.Helper()
		l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		conn, err := l.Accept()
		if err != nil {
			c.t.Fatal(err)
		}
		return c.secure(conn)
	}
}

func (c *client) secure(conn net.Conn) net.Conn {
	c.t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if c.tls == nil {
		return conn
	}
	secure := tls.Client(conn, c.tls)
	if err := secure.Handshake(); err != nil {
		c.t.Fatalf("TLS on the data connection: %v", err)
	}
	return secure
}

// get is RETR, LIST, MLSD: what comes over the data connection, and the final reply.
func (c *client) get(mode, command string) (string, string) {
	c.t.Helper()
	open := c.data(mode)
	c.do("1", command)
	conn := open()
	data, _ := io.ReadAll(conn)
	conn.Close()
	return string(data), c.reply()
}

// put is STOR and APPE.
func (c *client) put(mode, command, content string) string {
	c.t.Helper()
	open := c.data(mode)
	c.do("1", command)
	conn := open()
	if _, err := io.WriteString(conn, content); err != nil {
		c.t.Fatal(err)
	}
	if secure, ok := conn.(*tls.Conn); ok { // a plain Close would reset over unread session tickets
		secure.CloseWrite()
		secure.NetConn().(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, secure.NetConn())
	}
	conn.Close()
	return c.reply()
}

// roundTrip stores, lists and retrieves a file.
func (c *client) roundTrip(mode string) {
	c.t.Helper()
	content := strings.Repeat("0123456789abcdef", 10000)
	c.want(c.put(mode, "STOR file", content), "226")
	list, reply := c.get(mode, "LIST")
	c.want(reply, "226")
	if !strings.Contains(list, " file\r\n") || !strings.Contains(list, "160000") {
		c.t.Errorf("LIST: %q", list)
	}
	got, reply := c.get(mode, "RETR file")
	c.want(reply, "226")
	if got != content {
		c.t.Errorf("RETR: %d bytes of %d came back", len(got), len(content))
	}
}
