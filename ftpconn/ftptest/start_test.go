package ftptest

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// each runs a test on every real server and on the embedded one.
func each(t *testing.T, opt Options, test func(t *testing.T, s *Server), except ...Kind) {
	for _, kind := range append(Kinds(), Embedded) {
		skip := false
		for _, k := range except {
			skip = skip || k == kind
		}
		if skip {
			continue
		}
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			var s *Server
			if kind == Embedded {
				s = NewServer(t, opt)
			} else {
				s = Start(t, kind, opt)
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(s.Log())
				}
			})
			test(t, s)
		})
	}
}

func TestTransfersInEveryDataMode(t *testing.T) {
	each(t, Options{Verbose: true}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		for _, mode := range []string{"EPSV", "PASV", "EPRT", "PORT"} {
			c.roundTrip(mode)
		}
		if got := string(s.ReadFile("file")); len(got) != 160000 {
			t.Errorf("file below Root has %d bytes", len(got))
		}
	})
}

func TestIPv6(t *testing.T) {
	each(t, Options{IPv6: true}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		c.roundTrip("EPSV")
		c.roundTrip("EPRT")
	})
}

func TestExplicitTLS(t *testing.T) {
	each(t, Options{TLS: Explicit}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		c.roundTrip("EPSV")
		c.roundTrip("EPRT")
	})
}

func TestImplicitTLS(t *testing.T) {
	each(t, Options{TLS: Implicit}, func(t *testing.T, s *Server) {
		login(s, s.Addr()).roundTrip("EPSV")
	}, PureFTPd, Pyftpdlib)
}

// Clients that open TLS on data without resuming the control connection's session must fail here.
func TestTLSSessionReuseIsDemanded(t *testing.T) {
	each(t, Options{TLS: Explicit}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		open := c.data("EPSV")
		c.tls = c.tls.Clone()
		c.tls.ClientSessionCache = nil
		c.send("LIST")
		if reply := c.reply(); reply[0] == '1' {
			func() {
				conn := open()
				defer conn.Close()
				io.ReadAll(conn)
			}()
			if reply := c.reply(); reply[0] != '4' && reply[0] != '5' {
				t.Errorf("LIST without a resumed session: %q", reply)
			}
		}
	}, PureFTPd, Pyftpdlib, Embedded)
}

func TestTLSIsDemanded(t *testing.T) {
	each(t, Options{TLS: Explicit}, func(t *testing.T, s *Server) {
		c := connect(t, s.Addr(), NoTLS, nil)
		c.send("USER " + s.User)
		reply := c.reply()
		if strings.HasPrefix(reply, "331") {
			c.send("PASS " + s.Password)
			reply = c.reply()
		}
		if reply[0] != '4' && reply[0] != '5' {
			t.Errorf("login in clear: %q", reply)
		}
	})
}

func TestWrongPassword(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		c := connect(t, s.Addr(), NoTLS, nil)
		c.do("331", "USER "+s.User)
		c.do("530", "PASS wrong")
	})
}

func TestNoPassive(t *testing.T) {
	each(t, Options{NoPassive: true}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		for _, verb := range []string{"EPSV", "PASV"} {
			reply := c.do("5", verb)
			t.Log(verb, reply)
		}
		c.roundTrip("PORT")
	}, PureFTPd, Embedded)
}

func TestNoActive(t *testing.T) {
	each(t, Options{NoActive: true}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		c.do("", "EPRT |1|127.0.0.1|20000|")
		if reply := c.do("", "PORT 127,0,0,1,200,200"); reply[0] != '4' && reply[0] != '5' {
			t.Errorf("PORT: %q", reply)
		}
		c.roundTrip("PASV")
	}, PureFTPd)
}

func TestPASVAddress(t *testing.T) {
	each(t, Options{PASVAddress: "10.255.255.1"}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		if reply := c.do("227", "PASV"); !strings.Contains(reply, "10,255,255,1,") {
			t.Errorf("PASV: %q", reply)
		}
		c.roundTrip("EPSV")
	})
}

func TestMaxClients(t *testing.T) {
	each(t, Options{MaxClients: 2}, func(t *testing.T, s *Server) {
		login(s, s.Addr())
		login(s, s.Addr())
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &client{t: t, addr: s.Addr(), conn: conn}
		c.r = bufio.NewReader(conn)
		reply := c.reply()
		if s.Kind == ProFTPD { // says it after the password
			c.do("331", "USER "+s.User)
			c.do("530", "PASS "+s.Password)
		} else {
			c.want(reply, "421")
		}
	})
}

func TestReadOnly(t *testing.T) {
	each(t, Options{ReadOnly: true}, func(t *testing.T, s *Server) {
		s.WriteFile("a", []byte("x"))
		c := login(s, s.Addr())
		c.do("5", "MKD d")
		c.do("5", "DELE a")
		if got, _ := c.get("EPSV", "RETR a"); got != "x" {
			t.Errorf("RETR: %q", got)
		}
	})
}

func TestNoAppend(t *testing.T) {
	each(t, Options{NoAppend: true}, func(t *testing.T, s *Server) {
		s.WriteFile("a", []byte("x"))
		c := login(s, s.Addr())
		c.data("EPSV")
		reply := c.do("", "APPE a")
		if reply[0] != '4' && reply[0] != '5' {
			t.Errorf("APPE: %q", reply)
		}
	}, PureFTPd, Embedded)
}

func TestAppendAndRestart(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		s.WriteFile("dir/a", []byte("0123"))
		c := login(s, s.Addr())
		c.want(c.put("EPSV", "APPE dir/a", "45"), "226")
		open := c.data("EPSV")
		c.do("350", "REST 6")
		c.do("1", "STOR dir/a")
		conn := open()
		io.WriteString(conn, "67")
		conn.Close()
		c.want(c.reply(), "226")
		if got := string(s.ReadFile("dir/a")); got != "01234567" {
			t.Errorf("after APPE and REST: %q", got)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	each(t, Options{IdleTimeout: 1}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		reply, _ := c.read()
		if !strings.HasPrefix(reply, "421") {
			t.Errorf("when idle: %q", reply)
		}
	}, PureFTPd)
}

func TestDropEndsSessionsNotTheServer(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		s.Drop()
		if reply, err := c.read(); err == nil {
			t.Errorf("after Drop: %q", reply)
		}
		login(s, s.Addr()).roundTrip("EPSV")
	})
}

func TestStopAndRestart(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		c.roundTrip("EPSV")
		s.Stop()
		if reply, err := c.read(); err == nil {
			t.Errorf("after Stop: %q", reply)
		}
		if conn, err := net.Dial("tcp", s.Addr()); err == nil {
			conn.Close()
			t.Error("still listening after Stop")
		}
		s.Restart()
		if got, _ := login(s, s.Addr()).get("EPSV", "RETR file"); len(got) != 160000 {
			t.Errorf("after Restart the file has %d bytes", len(got))
		}
	})
}

// Nothing a server started may outlive its test.
func TestNoProcessIsLeft(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			var all []int
			var dir string
			t.Run("server", func(t *testing.T) {
				s := Start(t, kind, Options{})
				login(s, s.Addr())
				pid := s.impl.(*process).cmd.Process.Pid
				all, dir = append(descendants(pid), pid), s.dir()
				if len(all) < 4 { // supervisor, its second shell, server, session
					t.Errorf("only %d processes found", len(all))
				}
			})
			if anyAlive(all) {
				t.Error("processes are left")
			}
			if _, err := os.Stat(dir); dir != "" && err == nil {
				t.Errorf("%s is left", dir)
			}
		})
	}
}
