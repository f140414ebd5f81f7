package ftptest

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxied is a proxy before an embedded server that has a file of 100,000 bytes.
func proxied(t *testing.T) (*Server, *Proxy) {
	s := NewServer(t, Options{})
	s.WriteFile("big", []byte(strings.Repeat("0123456789", 10000)))
	p := NewProxy(t, s.Addr())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.Dialog())
		}
	})
	return s, p
}

// retrieve is RETR by hand: the data, the data connection's error, and the session for what follows.
func retrieve(c *client, name string) (string, error) {
	c.t.Helper()
	open := c.data("EPSV")
	c.do("150", "RETR "+name)
	conn := open()
	defer conn.Close()
	data, err := io.ReadAll(conn)
	return string(data), err
}

func TestProxyPassesTransfersInEveryDataMode(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		p := NewProxy(t, s.Addr())
		c := login(s, p.Addr())
		for _, mode := range []string{"EPSV", "PASV", "EPRT", "PORT"} {
			c.roundTrip(mode)
		}
		if n := p.DataConns(); n != 12 {
			t.Errorf("%d data connections went through the proxy, want 12", n)
		}
	})
}

func TestProxyIPv6(t *testing.T) {
	s := NewServer(t, Options{IPv6: true})
	p := NewProxy(t, s.Addr())
	c := login(s, p.Addr())
	c.roundTrip("EPSV")
	c.roundTrip("EPRT")
	if n := p.DataConns(); n != 6 {
		t.Errorf("%d data connections went through the proxy, want 6", n)
	}
}

func TestProxyPassesTLS(t *testing.T) {
	for _, mode := range []TLS{Explicit, Implicit} {
		s := NewServer(t, Options{TLS: mode})
		p := NewProxy(t, s.Addr())
		login(s, p.Addr()).roundTrip("EPSV")
		p.Drop()
	}
}

func TestProxyKeepsAWrongPASVAddress(t *testing.T) {
	s := NewServer(t, Options{PASVAddress: "10.255.255.1"})
	p := NewProxy(t, s.Addr())
	c := login(s, p.Addr())
	if reply := c.do("227", "PASV"); !strings.Contains(reply, "(10,255,255,1,") {
		t.Errorf("PASV: %q", reply)
	}
}

func TestProxyRecordsCommandsWithoutPasswords(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	c.get("EPSV", "LIST")
	want := []string{"USER " + s.User, "PASS ***", "TYPE I", "EPSV", "LIST"}
	if got := p.Commands(); !reflect.DeepEqual(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
	if strings.Contains(p.Dialog(), s.Password) {
		t.Error("the dialog has the password")
	}
	if n := p.Count("LIST|MLSD"); n != 1 {
		t.Errorf("LIST or MLSD counted %d times", n)
	}
	if n := p.Count("LI"); n != 0 {
		t.Errorf("a part of a verb was counted %d times", n)
	}
	p.ResetRecord()
	if got := p.Commands(); len(got) != 0 {
		t.Errorf("after ResetRecord: %q", got)
	}
}

func TestProxyCountsRounds(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.ResetRecord()
	c.do("200", "NOOP")
	c.do("200", "NOOP")
	if n := p.Rounds(); n != 2 {
		t.Errorf("two commands one after the other: %d rounds", n)
	}
	p.ResetRecord()
	c.send("NOOP\r\nNOOP\r\nNOOP")
	for range 3 {
		c.want(c.reply(), "200")
	}
	if n := p.Rounds(); n != 1 {
		t.Errorf("three commands in one go: %d rounds", n)
	}
}

func TestProxyReplies(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.On("EPSV").Times(1).Reply("502 not here")
	rule := p.On("SIZE /a.*").Skip(1).Reply("550-no\n550 no")
	c.do("502", "EPSV")
	c.do("229", "EPSV")
	c.do("550", "SIZE /aa")
	if got := c.do("550", "size /ab"); got != "550-no\r\n550 no" {
		t.Errorf("second SIZE: %q", got)
	}
	if rule.Hits() != 1 {
		t.Errorf("rule has %d hits", rule.Hits())
	}
	p.On("SIZE").FinalReply("213 7")
	if got := c.do("213", "SIZE big"); got != "213 7" {
		t.Errorf("SIZE: %q", got)
	}
	p.ClearRules()
	c.do("213 100000", "SIZE big")
}

// A reply of the proxy's own waits for the server's to the commands before.
func TestProxyKeepsTheOrderOfReplies(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.On("STAT").Reply("211 mine")
	c.send("NOOP\r\nSTAT\r\nSIZE big\r\nSTAT\r\nNOOP")
	for _, want := range []string{"200", "211 mine", "213", "211 mine", "200"} {
		c.want(c.reply(), want)
	}
}

func TestProxyGreeting(t *testing.T) {
	_, p := proxied(t)
	p.OnConnect().Times(1).Reply("421 too many users")
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if all, err := io.ReadAll(conn); string(all) != "421 too many users\r\n" || err != nil {
		t.Errorf("greeting %q, %v", all, err)
	}
	connect(t, p.Addr(), NoTLS, nil)
}

func TestProxyDropsReplies(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.On("MKD").DropReply()
	c.send("MKD d")
	c.do("213", "SIZE big") // the next reply is that of the next command
	if _, err := os.Stat(s.Path("d")); err != nil {
		t.Error(err)
	}
}

func TestProxyClosesSessions(t *testing.T) {
	for _, test := range []struct {
		name          string
		rule          func(*Rule)
		done, replied bool
	}{
		{"before", func(r *Rule) { r.CloseBefore() }, false, false},
		{"after", func(r *Rule) { r.CloseAfter() }, true, false},
		{"after the reply", func(r *Rule) { r.CloseAfterReply() }, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, p := proxied(t)
			c := login(s, p.Addr())
			test.rule(p.On("MKD").Times(1))
			c.send("MKD d")
			reply, err := c.read()
			if replied := err == nil; replied != test.replied {
				t.Errorf("reply %q, %v", reply, err)
			}
			if _, err := c.read(); err == nil {
				t.Error("the session goes on")
			}
			if _, err := os.Stat(s.Path("d")); (err == nil) != test.done {
				t.Errorf("after MKD: %v", err)
			}
		})
	}
}

func TestProxyCutsData(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.On("RETR|STOR").Times(2).CutData(1000)
	data, err := retrieve(c, "big")
	if len(data) != 1000 || err != nil {
		t.Errorf("%d bytes, %v; want 1000 and a clean end", len(data), err)
	}
	c.want(c.reply(), "226")
	c.want(c.put("EPSV", "STOR new", strings.Repeat("x", 50000)), "226")
	if got := s.ReadFile("new"); len(got) != 1000 {
		t.Errorf("%d bytes were stored, want 1000", len(got))
	}
	if data, _ := c.get("EPSV", "RETR big"); len(data) != 100000 {
		t.Errorf("%d bytes when the rule is used up", len(data))
	}
}

func TestProxyResetsData(t *testing.T) {
	s, p := proxied(t)
	s.WriteFile("huge", make([]byte, 16<<20)) // more than all buffers on the way hold
	c := login(s, p.Addr())
	p.On("RETR").ResetData(1000)
	data, err := retrieve(c, "huge")
	if len(data) > 1000 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want a reset", len(data), err)
	}
	if reply := c.reply(); reply[0] != '4' && reply[0] != '5' {
		t.Errorf("after a reset: %q", reply)
	}
	c.do("213", "SIZE big")
}

func TestProxyStallsData(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.On("RETR").StallData(1000)
	open := c.data("EPSV")
	c.do("150", "RETR big")
	conn := open()
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the stall: %d bytes, %v", n, err)
	}
}

func TestProxyDataPorts(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	dial := func(verb string) error {
		port := re229.FindStringSubmatch(c.do("229", verb))[1]
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, 200*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err
	}
	p.On("EPSV").Times(1).RefuseData()
	p.On("EPSV").Times(1).BlackholeData()
	if err := dial("EPSV"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused port: %v", err)
	}
	var ne net.Error
	if err := dial("EPSV"); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("black hole: %v", err)
	}
	if err := dial("EPSV"); err != nil {
		t.Errorf("without a rule: %v", err)
	}
}

func TestProxyLatency(t *testing.T) {
	s, p := proxied(t)
	const rtt = 40 * time.Millisecond
	p.SetLatency(rtt)
	measure := func(what string, rounds float64, f func()) {
		t.Helper()
		begin := time.Now()
		f()
		took := time.Since(begin)
		if min := time.Duration(rounds * float64(rtt)); took < min {
			t.Errorf("%s took %v, want %v or more", what, took, min)
		}
	}
	var c *client
	measure("connecting and logging in", 2+3, func() { c = login(s, p.Addr()) })
	measure("NOOP", 1, func() { c.do("200", "NOOP") })
	measure("EPSV and RETR", 1+2, func() { c.get("EPSV", "RETR big") })
	measure("PORT and RETR", 1+1, func() { c.get("PORT", "RETR big") })
}

func TestProxyFreezes(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.Freeze()
	c.send("NOOP")
	c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("on a frozen line: %v", err)
	}
	c.conn.SetReadDeadline(time.Now().Add(patience))
	p.Thaw()
	c.want(c.reply(), "200")
}

func TestProxyDropAndRefuse(t *testing.T) {
	s, p := proxied(t)
	c := login(s, p.Addr())
	p.Refuse(true)
	p.Drop()
	if reply, err := c.read(); err == nil {
		t.Errorf("after Drop: %q", reply)
	}
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		conn.SetDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("refused: %d bytes, %v", n, err)
		}
		conn.Close()
	}
	p.Refuse(false)
	login(s, p.Addr())
	if n := p.Sessions(); n != 3 {
		t.Errorf("%d sessions, want 3", n)
	}
}
