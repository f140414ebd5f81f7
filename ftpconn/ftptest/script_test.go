package ftptest

import (
	"bufio"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// scripted is a session on a script, logged in.
func scripted(t *testing.T, s *Script) *client {
	c := connect(t, s.Addr(), NoTLS, nil)
	c.do("331", "USER u")
	c.do("230", "PASS p")
	return c
}

func TestScriptTransfersInEveryDataMode(t *testing.T) {
	s := NewScript(t)
	c := scripted(t, s)
	for _, mode := range []string{"EPSV", "PASV", "EPRT", "PORT"} {
		c.roundTrip(mode)
	}
	if data, ok := s.File("file"); !ok || len(data) != 160000 {
		t.Errorf("the tree has %d bytes, %v", len(data), ok)
	}
}

func TestScriptTree(t *testing.T) {
	s := NewScript(t)
	s.WriteFile("/dir/a", []byte("0123456789"))
	s.WriteFile("/b", nil)
	c := scripted(t, s)
	if list, _ := c.get("EPSV", "NLST"); list != "b\r\ndir\r\n" {
		t.Errorf("NLST: %q", list)
	}
	c.do("550", "CWD nowhere")
	c.do("250", "CWD dir")
	c.do(`257 "/dir"`, "PWD")
	c.do("213 10", "SIZE a")
	c.do("350", "REST 8")
	if data, _ := c.get("EPSV", "RETR a"); data != "89" {
		t.Errorf("RETR behind REST 8: %q", data)
	}
	c.put("EPSV", "APPE a", "ab")
	c.do("350", "REST 1")
	c.put("EPSV", "STOR a", "x")
	c.do("350", "RNFR a")
	c.do("250", "RNTO /c")
	c.do("250", "DELE /b")
	want := map[string][]byte{"/c": []byte("0x23456789ab")}
	if got := s.Files(); !reflect.DeepEqual(got, want) {
		t.Errorf("tree %q, want %q", got, want)
	}
}

func TestScriptGreeting(t *testing.T) {
	s := NewScript(t)
	s.Greeting("120 in a minute", "220-Hello\n 230 you\n220 ready")
	conn := dial(t, s.Addr())
	c := &client{t: t, addr: s.Addr(), conn: conn, r: bufio.NewReader(conn)}
	c.want(c.reply(), "120")
	if got := c.reply(); got != "220-Hello\r\n 230 you\r\n220 ready" {
		t.Errorf("greeting %q", got)
	}
	s.Greeting(Hangup)
	if all, err := io.ReadAll(dial(t, s.Addr())); len(all) > 0 || err != nil {
		t.Errorf("greeting %q, %v; want the end", all, err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func TestScriptReplies(t *testing.T) {
	s := NewScript(t)
	s.Reply("PASS", "332 Account?")
	s.Reply("ACCT", "202 Superfluous.")
	s.Reply("NOOP")
	s.On("SIZE", func(arg string) []string {
		if arg == "secret" {
			return []string{"550-No\n 213 5\n550 No"}
		}
		return nil
	})
	s.WriteFile("a", []byte("x"))
	c := connect(t, s.Addr(), NoTLS, nil)
	c.do("331", "USER u")
	c.do("332", "PASS p")
	c.do("202", "ACCT q")
	if got := c.do("550", "SIZE secret"); got != "550-No\r\n 213 5\r\n550 No" {
		t.Errorf("SIZE: %q", got)
	}
	c.do("213 1", "SIZE a")
	c.send("NOOP") // silence
	c.do("215", "SYST")
	want := []string{"USER u", "PASS ***", "ACCT ***", "SIZE secret", "SIZE a", "NOOP", "SYST"}
	if got := s.Commands(); !reflect.DeepEqual(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

func TestScriptHangsUp(t *testing.T) {
	s := NewScript(t)
	s.Reply("CWD", "421 Shutting down.", Hangup)
	c := scripted(t, s)
	c.do("421", "CWD /")
	if reply, err := c.read(); err == nil {
		t.Errorf("after Hangup: %q", reply)
	}
}

func TestScriptTransferReplies(t *testing.T) {
	for _, test := range []struct {
		name     string
		transfer Transfer
		dialog   string // codes after RETR
	}{
		{"ordinary", OrdinaryTransfer(), "150 226"},
		{"no 1yz", Transfer{After: []string{"226 ok"}}, "226"},
		{"two 226", Transfer{Before: []string{"125 ok"}, After: []string{"226 ok", "226 again"}}, "125 226 226"},
		{"mark", Transfer{Before: []string{"150 ok", "110 MARK 1 = 2"}, After: []string{"250 ok"}}, "150 110 250"},
		{"226 first", Transfer{Before: []string{"150 ok"}, After: []string{"226 ok"}, FinalFirst: true}, "150 226"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := NewScript(t)
			s.WriteFile("a", []byte("x"))
			s.Transfer("RETR", test.transfer)
			c := scripted(t, s)
			open := c.data("EPSV")
			c.send("RETR a")
			conn := open()
			defer conn.Close()
			var codes []string
			for range strings.Fields(test.dialog) {
				codes = append(codes, c.reply()[:3])
			}
			if got := strings.Join(codes, " "); got != test.dialog {
				t.Errorf("replies %s, want %s", got, test.dialog)
			}
			c.do("200", "NOOP") // nothing more came
		})
	}
}

func TestScriptPassiveTexts(t *testing.T) {
	s := NewScript(t)
	s.WriteFile("a", []byte("x"))
	c := scripted(t, s)
	for _, text := range []string{
		"227 Entering passive mode. %s", "227 =%s", "227 entering passive mode (%s)",
	} {
		s.PASV(text)
		if data, _ := c.get("PASV", "RETR a"); data != "x" {
			t.Errorf("%s: RETR %q", text, data)
		}
	}
	s.EPSV("229 no port here")
	if got := c.do("229", "EPSV"); got != "229 no port here" {
		t.Errorf("EPSV: %q", got)
	}
	s.EPSV("229 (!!!%s!)")
	if got := c.do("229", "EPSV"); !strings.HasPrefix(got, "229 (!!!") || strings.Contains(got, "%s") {
		t.Errorf("EPSV: %q", got)
	}
}

func TestScriptListing(t *testing.T) {
	s := NewScript(t)
	const raw = "01-02-24  03:04AM       <DIR>          odd\r\n"
	s.Listing(raw)
	s.Features("MLST type*;size*;modify*;")
	c := scripted(t, s)
	if list, _ := c.get("EPSV", "LIST -a"); list != raw {
		t.Errorf("LIST: %q", list)
	}
	if feat := c.do("211", "FEAT"); !strings.Contains(feat, "\r\n MLST type*;size*;modify*;\r\n") {
		t.Errorf("FEAT: %q", feat)
	}
}
