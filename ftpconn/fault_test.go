package ftpconn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// at is a configuration for what listens at addr.
func at(addr string, user, password string) Config {
	ap := netip.MustParseAddrPort(addr)
	return Config{Host: ap.Addr().String(), Port: int(ap.Port()), User: user, Password: password, Timeout: 5 * time.Second}
}

func clientOf(t *testing.T, cfg Config) *Client {
	t.Helper()
	cl, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// TestModeFallback refuses and breaks modes, and looks what is in force after a listing and a download.
func TestModeFallback(t *testing.T) {
	type script = func(*ftptest.Script)
	reply := func(pairs ...string) script {
		return func(s *ftptest.Script) {
			for i := 0; i < len(pairs); i += 2 {
				s.Reply(pairs[i], pairs[i+1])
			}
		}
	}
	noPassive := []string{"EPSV", "500 no", "PASV", "550 Permission denied."}
	for _, c := range []struct {
		name   string
		data   DataMode
		script script
		want   string // the mode, or a part of the error
	}{
		{"nothing wrong", DataAuto, reply(), "EPSV"},
		{"500 to EPSV", DataAuto, reply("EPSV", "500 unknown"), "PASV"},
		{"501 to EPSV", DataAuto, reply("EPSV", "501 unknown"), "PASV"},
		{"502 to EPSV", DataAuto, reply("EPSV", "502 unknown"), "PASV"},
		{"503 to EPSV", DataAuto, reply("EPSV", "503 sequence"), "PASV"},
		{"504 to EPSV", DataAuto, reply("EPSV", "504 parameter"), "PASV"},
		{"522 to EPSV", DataAuto, reply("EPSV", "522 use (2)"), "PASV"},
		{"530 to EPSV", DataAuto, reply("EPSV", "530 denied"), "PASV"},
		{"202 to EPSV", DataAuto, reply("EPSV", "202 OK"), "PASV"},
		{"200 to EPSV", DataAuto, reply("EPSV", "200 OK"), "PASV"},
		{"229 without a port", DataAuto, reply("EPSV", "229 Entering Extended Passive Mode"), "PASV"},
		{"no passive", DataAuto, reply(noPassive...), "EPRT"},
		{"no passive, no EPRT", DataAuto, reply(append(noPassive, "EPRT", "500 no")...), "PORT"},
		{"EPRT 522", DataAuto, reply(append(noPassive, "EPRT", "522 no")...), "PORT"},
		{"nothing works", DataAuto, reply(append(noPassive, "EPRT", "500 no", "PORT", "500 Illegal PORT command.")...), "PORT: PORT 127,0,0,1"},
		{"passive alone, refused", DataPassive, reply(noPassive...), "try data=active"},
		{"active alone, refused", DataActive, reply("EPRT", "500 no", "PORT", "501 no"), "try data=passive"},
		{"active at once", DataActive, reply(), "EPRT"},
		{"PORT alone", DataPORT, reply(), "PORT"},
		{"PASV alone", DataPASV, reply(), "PASV"},
		{"the server can't connect", DataAuto, func(s *ftptest.Script) {
			reply(noPassive...)(s)
			s.Reply("EPRT", "200 ok")
			for _, verb := range []string{"LIST", "RETR"} {
				s.On(verb, func(string) []string {
					if last := lastOf(s.Commands(), "EPRT", "PORT"); last == "EPRT" {
						return []string{"425 Failed to establish connection."}
					}
					return nil
				})
			}
		}, "PORT"},
		{"PASV out of ports for a moment", DataPASV, func(s *ftptest.Script) {
			n := 0
			s.On("PASV", func(string) []string {
				if n++; n < 3 {
					return []string{"425 Can't open passive connection"}
				}
				return nil
			})
		}, "PASV"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ftptest.NewScript(t)
			s.WriteFile("/f", []byte("content"))
			c.script(s)
			cfg := at(s.Addr(), "u", "p")
			cfg.Data = c.data
			cl := clientOf(t, cfg)
			err := cl.Connect(t.Context())
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrDataMode) {
					t.Errorf("%v; want %s", err, c.want)
				}
				return
			}
			if b := get(t, cl, "/f", 0); string(b) != "content" {
				t.Errorf("content %q", b)
			}
			if got := cl.Features().Mode; got != c.want {
				t.Errorf("mode %s, want %s; said: %v", got, c.want, s.Commands())
			}
			// What was found is remembered: further transfers ask for nothing else.
			before := len(s.Commands())
			for range 3 {
				get(t, cl, "/f", 3)
			}
			for _, cmd := range s.Commands()[before:] {
				verb, _, _ := strings.Cut(cmd, " ")
				for _, m := range []string{"EPSV", "PASV", "EPRT", "PORT"} {
					if verb == m && m != c.want {
						t.Errorf("%s was tried again", cmd)
					}
				}
			}
		})
	}
}

func lastOf(commands []string, verbs ...string) string {
	for i := len(commands) - 1; i >= 0; i-- {
		for _, v := range verbs {
			if strings.HasPrefix(commands[i], v) {
				return v
			}
		}
	}
	return ""
}

// TestPassivePortsClosed has passive replies that lead nowhere, before a real server.
func TestPassivePortsClosed(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	s.WriteFile("f", []byte("content"))
	for _, c := range []struct {
		name   string
		refuse []string
		want   string
	}{{"EPSV", []string{"EPSV"}, "PASV"}, {"both", []string{"EPSV", "PASV"}, "EPRT"}} {
		p := ftptest.NewProxy(t, s.Addr())
		for _, verb := range c.refuse {
			p.On(verb).RefuseData()
		}
		cl := clientOf(t, at(p.Addr(), s.User, s.Password))
		if err := cl.Connect(t.Context()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if b := get(t, cl, "/f", 0); string(b) != "content" || cl.Features().Mode != c.want {
			t.Errorf("%s: %q by %s, want %s", c.name, b, cl.Features().Mode, c.want)
		}
	}
}

// TestServersByMode runs each mode alone, and the refusals that servers can be configured for.
func TestServersByMode(t *testing.T) {
	work := func(t *testing.T, cl *Client, s *ftptest.Server, want string) {
		t.Helper()
		data := random(300_000)
		if err := put(cl, "/f", Replace, 0, data); err != nil {
			t.Fatalf("upload: %v", err)
		}
		if !bytes.Equal(get(t, cl, "/f", 0), data) || !bytes.Equal(get(t, cl, "/f", 1000), data[1000:]) {
			t.Error("what came back is not what went")
		}
		if got := cl.Features().Mode; want != "" && got != want {
			t.Errorf("mode %s, want %s", got, want)
		}
	}
	for _, k := range ftptest.Kinds() {
		t.Run(k.String(), func(t *testing.T) {
			s := ftptest.Start(t, k, ftptest.Options{})
			for _, m := range []DataMode{DataEPSV, DataPASV, DataEPRT, DataPORT, DataActive, DataPassive} {
				t.Run(m.String(), func(t *testing.T) {
					work(t, dialTo(t, s, func(c *Config) { c.Data = m }), s, "")
				})
			}
			t.Run("active ports", func(t *testing.T) {
				p := ftptest.NewProxy(t, s.Addr())
				cfg := at(p.Addr(), s.User, s.Password)
				cfg.Data, cfg.ActivePorts = DataPORT, PortRange{51200, 51203}
				cl := clientOf(t, cfg)
				work(t, cl, s, "PORT")
				for _, cmd := range p.Commands() {
					if arg, ok := strings.CutPrefix(cmd, "PORT "); ok && !strings.HasPrefix(arg, "127,0,0,1,200,") {
						t.Errorf("%s is outside of 51200-51203", cmd)
					}
				}
			})
			if k != ftptest.PureFTPd {
				t.Run("no passive", func(t *testing.T) {
					s := ftptest.Start(t, k, ftptest.Options{NoPassive: true})
					work(t, dialTo(t, s), s, "EPRT")
				})
				t.Run("no active", func(t *testing.T) {
					s := ftptest.Start(t, k, ftptest.Options{NoActive: true})
					cl := newClient(t, s, func(c *Config) { c.Data = DataActive })
					if err := cl.Connect(t.Context()); !errors.Is(err, ErrDataMode) {
						t.Errorf("active alone where it is forbidden: %v", err)
					}
					work(t, dialTo(t, s), s, "EPSV")
				})
			}
			t.Run("wrong PASV address", func(t *testing.T) {
				s := ftptest.Start(t, k, ftptest.Options{PASVAddress: "10.255.255.1"})
				work(t, dialTo(t, s, func(c *Config) { c.Data = DataPASV }), s, "PASV")
			})
			t.Run("IPv6", func(t *testing.T) {
				s := ftptest.Start(t, k, ftptest.Options{IPv6: true})
				work(t, dialTo(t, s), s, "EPSV")
				work(t, dialTo(t, s, func(c *Config) { c.Data = DataActive }), s, "EPRT")
			})
		})
	}
}

// TestReplySequences has a server answer in every order that RFC 959 section 5.4 and the field know.
func TestReplySequences(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(*ftptest.Script)
	}{
		{"120 before 220", func(s *ftptest.Script) { s.Greeting("120 ready in 1 minute", "220 now") }},
		{"a long greeting", func(s *ftptest.Script) { s.Greeting("220-Welcome\n226 not the end\n 220 nor this\n220 ready") }},
		{"USER is enough", func(s *ftptest.Script) { s.Reply("USER", "230 come in"); s.Reply("PASS", "503 not now") }},
		{"PASS is superfluous", func(s *ftptest.Script) { s.Reply("PASS", "202 superfluous") }},
		{"an account after PASS", func(s *ftptest.Script) { s.Reply("PASS", "332 account?"); s.Reply("ACCT", "230 in") }},
		{"an account after USER", func(s *ftptest.Script) { s.Reply("USER", "332 account?"); s.Reply("PASS", "503 not now") }},
		{"no FEAT", func(s *ftptest.Script) { s.Reply("FEAT", "500 what?") }},
		{"no SYST, no PWD", func(s *ftptest.Script) { s.Reply("SYST", "502 no"); s.Reply("PWD", "502 no") }},
		{"125", func(s *ftptest.Script) { around(s, []string{"125 open already"}, "226 done") }},
		{"250 at the end", func(s *ftptest.Script) { around(s, []string{"150 go"}, "250 done") }},
		{"no 1yz", func(s *ftptest.Script) { around(s, nil, "226 done") }},
		{"110 between", func(s *ftptest.Script) { around(s, []string{"150 go", "110 MARK 1 = 2"}, "226 done") }},
		{"226 twice", func(s *ftptest.Script) { around(s, []string{"150 go"}, "226 done", "226 done") }},
		{"many lines at the end", func(s *ftptest.Script) { around(s, []string{"150 go"}, "226-fast\n226 done") }},
		{"250 to TYPE", func(s *ftptest.Script) { s.Reply("TYPE", "250 ok") }},
		{"421 to a listing, once", func(s *ftptest.Script) {
			n := 0
			s.On("LIST", func(string) []string {
				if n++; n == 2 {
					return []string{"421 going down", ftptest.Hangup}
				}
				return nil
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ftptest.NewScript(t)
			s.WriteFile("/f", []byte("content"))
			c.script(s)
			cfg := at(s.Addr(), "u", "p")
			cfg.Account = "a"
			cl := clientOf(t, cfg)
			for range 3 { // the third session or transfer still has to be in step
				if l, err := cl.List(t.Context(), "/"); err != nil || len(l) == 0 || l[0].Name != "f" {
					t.Fatalf("List: %v, %v\n%v", l, err, s.Commands())
				}
				if b := get(t, cl, "/f", 0); string(b) != "content" {
					t.Errorf("content %q", b)
				}
				if err := put(cl, "/g", Replace, 0, []byte("new")); err != nil {
					t.Errorf("upload: %v", err)
				}
				if b, _ := s.File("/g"); string(b) != "new" {
					t.Errorf("uploaded %q", b)
				}
			}
		})
	}
}

func around(s *ftptest.Script, before []string, after ...string) {
	for _, verb := range []string{"RETR", "STOR", "LIST"} {
		s.Transfer(verb, ftptest.Transfer{Before: before, After: after})
	}
}

func TestLoginRefused(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	cl := newClient(t, s, func(c *Config) { c.Password = "not-the-secret" })
	err := cl.Connect(t.Context())
	if !errors.Is(err, ErrLogin) {
		t.Errorf("a wrong password: %v", err)
	}
	if strings.Contains(err.Error(), "not-the-secret") {
		t.Errorf("the password is in %q", err)
	}
}

// TestRoundTrips counts what goes over the line with a warm session.
func TestRoundTrips(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	s.WriteFile("dir/f", random(5000))
	p := ftptest.NewProxy(t, s.Addr())
	cl := clientOf(t, at(p.Addr(), s.User, s.Password))
	ctx := t.Context()
	if err := cl.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	settle := func() { // the next data connection is asked for behind a transfer
		for range 200 {
			if st := cl.Stats(); st.Idle == st.Up {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		p.ResetRecord()
	}
	for _, c := range []struct {
		name string
		do   func() error
		want int
	}{
		{"listing of another directory", func() error { _, err := cl.List(ctx, "/dir"); return err }, 1},
		{"a small file", func() error { get(t, cl, "/dir/f", 0); return nil }, 1},
		{"a far read", func() error { get(t, cl, "/dir/f", 4000); return nil }, 1},
		{"a small upload", func() error { return put(cl, "/dir/g", Replace, 0, []byte("x")) }, 1},
		{"rename", func() error { return cl.Rename(ctx, "/dir/g", "/dir/h") }, 1},
		{"stat", func() error { _, err := cl.Stat(ctx, "/dir/h"); return err }, 1},
		{"set times", func() error { return cl.SetModTime(ctx, "/dir/h", time.Unix(1e9, 0)) }, 1},
		{"remove", func() error { return cl.Remove(ctx, "/dir/h") }, 1},
	} {
		settle()
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := p.Rounds(); got > c.want+1 { // the data connection that is asked for ahead is one more

			t.Errorf("%s took %d round trips: %v", c.name, got, p.Commands())
		}
	}
}

func TestLostConnections(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	s.WriteFile("f", random(400_000))
	p := ftptest.NewProxy(t, s.Addr())
	cfg := at(p.Addr(), s.User, s.Password)
	cfg.Timeout = 2 * time.Second
	cl := clientOf(t, cfg)
	ctx := t.Context()
	if err := cl.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("idle sessions that died are replaced", func(t *testing.T) {
		for range 3 {
			p.Drop()
			if _, err := cl.List(ctx, "/"); err != nil {
				t.Error(err)
			}
			p.Drop()
			if b := get(t, cl, "/f", 0); len(b) != 400_000 {
				t.Errorf("%d bytes", len(b))
			}
			p.Drop()
			err := put(cl, "/g", Replace, 0, []byte("x"))
			if errors.Is(err, ErrConnLost) { // an upload that had begun when the end was noticed is the caller's to repeat
				err = put(cl, "/g", Replace, 0, []byte("x"))
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a session that dies under a command is replaced", func(t *testing.T) {
		for _, verb := range []string{"MLSD", "MLST", "DELE", "MKD", "RNFR"} {
			p.On(verb).Times(1).CloseAfter()
		}
		if _, err := cl.List(ctx, "/"); err != nil {
			t.Errorf("List: %v", err)
		}
		if _, err := cl.Stat(ctx, "/f"); err != nil {
			t.Errorf("Stat: %v", err)
		}
		if err := cl.Mkdir(ctx, "/d"); err != nil {
			t.Errorf("Mkdir: %v", err)
		}
		if err := cl.Rename(ctx, "/d", "/e"); err != nil {
			t.Errorf("Rename: %v", err)
		}
		if err := cl.Remove(ctx, "/g"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	t.Run("a reset download is an error", func(t *testing.T) {
		p.On("RETR").Times(1).ResetData(100_000)
		d, err := cl.Retrieve(ctx, "/f", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if n, err := io.Copy(io.Discard, d); err == nil || n >= 400_000 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("silence ends in time", func(t *testing.T) {
		p.On("MLST").Times(1).DropReply()
		start := time.Now()
		_, err := cl.Stat(ctx, "/f")
		if !errors.Is(err, context.DeadlineExceeded) || !IsLost(err) || time.Since(start) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
	t.Run("a cancelled wait ends at once", func(t *testing.T) {
		p.Freeze()
		defer p.Thaw()
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := cl.List(short, "/"); err == nil || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
	if _, err := cl.List(ctx, "/"); err != nil {
		t.Errorf("in the end: %v", err)
	}
}

// TestConnectionLimit has a server that takes fewer sessions than are wanted.
func TestConnectionLimit(t *testing.T) {
	servers(t, ftptest.Options{MaxClients: 2}, func(t *testing.T, s *ftptest.Server) {
		s.WriteFile("f", random(200_000))
		cl := dialTo(t, s)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				d, err := cl.Retrieve(context.Background(), "/f", 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer d.Close()
				if n, err := io.Copy(io.Discard, d); err != nil || n != 200_000 {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		st := cl.Stats()
		for i := 0; i < 500 && st.Dialing > 0; i++ { // the last readers may have been served meanwhile
			time.Sleep(10 * time.Millisecond)
			st = cl.Stats()
		}
		if st.Up > 2 || st.Refused > 0 && st.Limit > 2 {
			t.Errorf("the limit was not learned: %+v", st)
		}
	})
}

// TestOopsIsTheEndOfASession has a vsftpd die in the middle: its 500 says nothing of the command, nor of the mode.
func TestOopsIsTheEndOfASession(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	s.WriteFile("f", []byte("content"))
	proxy := ftptest.NewProxy(t, s.Addr())
	cl := clientOf(t, at(proxy.Addr(), s.User, s.Password))
	if _, err := cl.List(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"EPSV", "SIZE", "CWD", "RNFR"} {
		proxy.On(verb).Times(1).Reply("500 OOPS: priv_sock_send_cmd").CloseAfterReply()
		for _, do := range []func() error{
			func() error { _, err := cl.List(t.Context(), "/"); return err },
			func() error {
				d, err := cl.Retrieve(t.Context(), "/f", 0)
				if err == nil {
					_, err = io.ReadAll(d)
					err = errors.Join(err, d.Close())
				}
				return err
			},
			func() error { return cl.Rename(t.Context(), "/f", "/f") },
		} {
			if err := do(); err != nil && !IsLost(err) {
				t.Errorf("%s: %v", verb, err)
			}
		}
		if got := get(t, cl, "/f", 0); string(got) != "content" {
			t.Errorf("after %s: %q", verb, got)
		}
	}
	if n := proxy.Count("PASV|EPRT|PORT"); n > 0 {
		t.Errorf("the mode was given up: %d commands of others", n)
	}
	err := error(&ReplyError{Command: "PASS", Code: 500, Text: "OOPS: child died", Kind: classify(500, "OOPS: child died", "")})
	if !IsLost(err) {
		t.Errorf("in a log-in: %v", err)
	}
}

// A server that opens a transfer and then makes no data connection, as in active mode behind NAT, is evidence against the mode, which no listing
// need have met with.
func TestModeThatFailsBehindThe150(t *testing.T) {
	for _, code := range []string{"425 Failed to establish connection.", "426 Connection closed; transfer aborted."} {
		for _, bad := range [][]string{{"EPSV"}, {"EPSV", "PASV"}, {"EPSV", "PASV", "EPRT"}} {
			for name, move := range map[string]func(cl *Client) error{
				"RETR": func(cl *Client) error {
					d, err := cl.Retrieve(t.Context(), "/f", 0)
					if err != nil {
						return err
					}
					defer d.Close()
					b, err := io.ReadAll(d)
					if err == nil && string(b) != "content" {
						t.Errorf("content %q", b)
					}
					return err
				},
				"STOR": func(cl *Client) error { return put(cl, "/g", Replace, 0, []byte("new")) },
				"LIST": func(cl *Client) error { _, err := cl.List(t.Context(), "/"); return err },
			} {
				t.Run(name+" by "+bad[len(bad)-1]+" "+code[:3], func(t *testing.T) {
					t.Parallel()
					s := ftptest.NewScript(t)
					s.WriteFile("/f", []byte("content"))
					s.On(name, func(string) []string {
						if slices.Contains(bad, lastOf(s.Commands(), "EPSV", "PASV", "EPRT", "PORT")) {
							return []string{"150 Opening BINARY mode data connection.", code}
						}
						return nil
					})
					cfg := at(s.Addr(), "u", "p")
					cfg.MaxConns = 1 // so that the last command is of the session
					cl := clientOf(t, cfg)
					err := move(cl)
					for n := 0; IsLost(err) && n < 2*len(bad); n++ { // to be taken up by the caller
						err = move(cl)
					}
					if err != nil {
						t.Fatalf("%v; said: %q", err, s.Commands())
					}
					want := []string{"PASV", "EPRT", "PORT"}[len(bad)-1]
					if mode := cl.Features().Mode; mode != want {
						t.Errorf("mode %s, want %s", mode, want)
					}
				})
			}
		}
	}
}

// A mode that worked, for listings say, is reconsidered when downloads don't come about in it.
func TestModeThatWorkedFailsBehindThe150(t *testing.T) {
	s := ftptest.NewScript(t)
	s.WriteFile("/f", []byte("content"))
	s.On("RETR", func(string) []string {
		if lastOf(s.Commands(), "EPSV", "PASV") == "EPSV" {
			return []string{"150 Opening BINARY mode data connection.", "425 Failed to establish connection."}
		}
		return nil
	})
	cfg := at(s.Addr(), "u", "p")
	cfg.MaxConns = 1
	cl := clientOf(t, cfg)
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var b []byte
	var err error
	for range 6 {
		var d Download
		if d, err = cl.Retrieve(t.Context(), "/f", 0); err == nil {
			b, err = io.ReadAll(d)
			d.Close()
		}
		if !IsLost(err) {
			break
		}
	}
	if err != nil || string(b) != "content" || cl.Features().Mode != "PASV" {
		t.Errorf("%q, %v by %s; said: %q", b, err, cl.Features().Mode, s.Commands())
	}
}
