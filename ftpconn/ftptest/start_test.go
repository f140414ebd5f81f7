package ftptest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
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

// A data connection is no session.
func TestMaxClientsCountsSessionsOnly(t *testing.T) {
	each(t, Options{MaxClients: 2}, func(t *testing.T, s *Server) {
		login(s, s.Addr()).data("EPSV")
		login(s, s.Addr()).data("EPSV")
	})
}

func TestVerboseLogHasTheCommands(t *testing.T) {
	each(t, Options{Verbose: true}, func(t *testing.T, s *Server) {
		c := login(s, s.Addr())
		c.do("550", "SIZE no-such-file")
		c.do("221", "QUIT")
		for deadline := time.Now().Add(patience); !strings.Contains(s.Log(), "no-such-file"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log doesn't have the command:\n%s", s.Log())
			}
		}
		if strings.Contains(s.Log(), s.Password) {
			t.Error("the log has the password")
		}
	}, PureFTPd)
}

// Dropped or stopped in the middle of a transfer, a server doesn't make the test wait.
func TestStopInATransfer(t *testing.T) {
	each(t, Options{}, func(t *testing.T, s *Server) {
		s.WriteFile("huge", make([]byte, 16<<20))
		c := login(s, s.Addr())
		c.data("EPSV") // not used any more
		open := c.data("EPSV")
		c.do("1", "RETR huge")
		defer open().Close()
		idle := login(s, s.Addr())
		idle.do("229", "EPSV") // never connected to
		begin := time.Now()
		s.Stop()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("Stop took %v", took)
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

// ProFTPD and Pure-FTPd tell MDTM in UTC always; vsftpd (use_localtime) and pyftpdlib (use_gmt_times) as set.
func TestLocalTime(t *testing.T) {
	each(t, Options{LocalTime: "XST-8"}, func(t *testing.T, s *Server) {
		s.WriteFile("a", nil)
		when := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		if err := os.Chtimes(s.Path("a"), when, when); err != nil {
			t.Fatal(err)
		}
		want := "213 20200102030405"
		if s.Kind == VSFTPD || s.Kind == Pyftpdlib {
			want = "213 20200102110405"
		}
		c := login(s, s.Addr())
		if got := c.do("213", "MDTM a"); got != want {
			t.Errorf("MDTM: %q, want %q", got, want)
		}
	}, Embedded)
}

// A test process that is killed can't clean up; its servers end all the same.
func TestServersEndWithAKilledTestProcess(t *testing.T) {
	if os.Getenv("FTPTEST_CHILD") != "" {
		var pids []string
		for _, kind := range Kinds() {
			if ok, _ := Installed(kind); !ok {
				continue
			}
			s := Start(t, kind, Options{})
			login(s, s.Addr())
			pid := s.impl.(*process).cmd.Process.Pid
			for _, p := range append(descendants(pid), pid) {
				pids = append(pids, strconv.Itoa(p))
			}
		}
		fmt.Printf("pids %s\n", strings.Join(pids, " "))
		select {} // until killed
	}
	dir := tempDir(t)
	child := exec.Command(os.Args[0], "-test.run=^TestServersEndWithAKilledTestProcess$")
	child.Env = append(os.Environ(), "FTPTEST_CHILD=1", "TMPDIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for sc := bufio.NewScanner(out); len(pids) == 0 && sc.Scan(); {
		if list, ok := strings.CutPrefix(sc.Text(), "pids "); ok {
			for _, f := range strings.Fields(list) {
				pid, _ := strconv.Atoi(f)
				pids = append(pids, pid)
			}
			break
		}
	}
	child.Process.Kill()
	child.Wait()
	if len(pids) == 0 {
		Unavailable(t, "no server could be started")
	}
	for deadline := time.Now().Add(10 * time.Second); anyAlive(pids); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("servers have outlived the process that started them")
		}
	}
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
