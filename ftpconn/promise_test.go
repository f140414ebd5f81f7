package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// Test421AnywhereGoesUnnoticed has a server give up a session at each command that can be repeated.
func Test421AnywhereGoesUnnoticed(t *testing.T) {
	for _, verb := range []string{
		"USER", "PASS", "FEAT", "TYPE", "PWD", "SYST", "OPTS", "CWD", "EPSV", "MLSD", "MLST", "RETR", "REST", "SIZE", "MKD", "RMD", "DELE", "RNFR", "RNTO", "MDTM", "NOOP",
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := ftptest.NewServer(t, ftptest.Options{})
			s.WriteFile("d/f", []byte("content"))
			p := ftptest.NewProxy(t, s.Addr())
			cfg := at(p.Addr(), s.User, s.Password)
			cfg.Retry = 20 * time.Second
			cl := clientOf(t, cfg)
			if err := cl.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			for round := range 3 {
				p.On(verb).Skip(round % 2).Times(1).Reply("421 Service not available, closing control connection.").CloseAfterReply()
				p.Drop() // so that a log-in is needed
				for what, do := range map[string]func() error{
					"List":  func() error { _, err := cl.List(t.Context(), "/d"); return err },
					"Stat":  func() error { _, err := cl.Stat(t.Context(), "/d/f"); return err },
					"times": func() error { _, err := cl.ModTimes(t.Context(), []string{"/d/f"}); return err },
					"Retrieve": func() error {
						d, err := cl.Retrieve(t.Context(), "/d/f", 3)
						if err != nil {
							return err
						}
						defer d.Close()
						b, err := io.ReadAll(d)
						if err == nil && string(b) != "tent" {
							err = fmt.Errorf("content %q", b)
						}
						return err
					},
					"changes": func() error {
						if err := cl.Mkdir(t.Context(), "/e"); err != nil {
							return err
						}
						if err := cl.Rename(t.Context(), "/e", "/g"); err != nil {
							return err
						}
						return cl.Rmdir(t.Context(), "/g")
					},
				} {
					if err := do(); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				p.ClearRules()
			}
		})
	}
}

// A session that ends in a transfer is a lost connection, which the caller takes up where it was.
func Test421InATransferIsALoss(t *testing.T) {
	s := ftptest.NewScript(t)
	s.WriteFile("/f", []byte("content"))
	around(s, []string{"150 go"}, "421 Service not available.", ftptest.Hangup)
	s.Transfer("LIST", ftptest.OrdinaryTransfer())
	cl := clientOf(t, at(s.Addr(), "u", "p"))
	d, err := cl.Retrieve(t.Context(), "/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(d); !IsLost(err) {
		t.Errorf("a download: %v", err)
	}
	d.Close()
	if err := put(cl, "/g", Replace, 0, []byte("new")); !IsLost(err) {
		t.Errorf("an upload: %v", err)
	}
	if l, err := cl.List(t.Context(), "/"); err != nil || len(l) == 0 {
		t.Errorf("a listing behind them: %v, %v", l, err)
	}
}

func TestAccountThatIsMissingIsARefusedLogin(t *testing.T) {
	for _, verb := range []string{"USER", "PASS"} {
		s := ftptest.NewScript(t)
		s.Reply(verb, "332 Need account for login.")
		cl := clientOf(t, at(s.Addr(), "u", "p"))
		var re *ReplyError
		if err := cl.Connect(t.Context()); !errors.Is(err, ErrLogin) || !errors.As(err, &re) || re.Code != 332 {
			t.Errorf("332 to %s: %v", verb, err)
		}
	}
}

// Who connects to the port of an active transfer before the server does gets nothing, and brings nothing: RFC 2577.
func TestOnlyTheServerMayConnect(t *testing.T) {
	for _, mode := range []DataMode{DataPORT, DataEPRT} {
		s := ftptest.NewScript(t)
		s.WriteFile("/f", []byte("content"))
		var intruders atomic.Int32
		intrude := func(arg string) []string {
			var at string
			if f := strings.Split(arg, "|"); len(f) == 5 {
				at = net.JoinHostPort(f[2], f[3])
			} else if ap, err := parse227(arg); err == nil {
				at = ap.String()
			}
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			if c, err := d.Dial("tcp", at); err == nil {
				intruders.Add(1)
				io.WriteString(c, "-rw-r--r-- 1 0 0 9 Jan 02 2024 evil\r\n")
				t.Cleanup(func() { c.Close() })
			}
			return nil
		}
		s.On("PORT", intrude)
		s.On("EPRT", intrude)
		cfg := at(s.Addr(), "u", "p")
		cfg.Data, cfg.MaxConns = mode, 1
		cl := clientOf(t, cfg)
		if l, err := cl.List(t.Context(), "/"); err != nil || len(l) != 1 || l[0].Name != "f" {
			t.Errorf("%v: List: %v, %v", mode, l, err)
		}
		if b := get(t, cl, "/f", 0); string(b) != "content" {
			t.Errorf("%v: content %q", mode, b)
		}
		if err := put(cl, "/g", Replace, 0, []byte("new")); err != nil {
			t.Errorf("%v: upload: %v", mode, err)
		}
		if b, _ := s.File("/g"); string(b) != "new" || intruders.Load() == 0 {
			t.Errorf("%v: uploaded %q, with %d intruders", mode, b, intruders.Load())
		}
	}
}

func TestActiveAddressIsAnnounced(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Reply("PORT", "500 Illegal PORT command.")
	s.Reply("EPRT", "500 Illegal EPRT command.")
	cfg := at(s.Addr(), "u", "p")
	cfg.Data, cfg.ActiveAddress = DataActive, netip.MustParseAddr("192.0.2.7")
	cfg.ActivePorts = PortRange{51210, 51213}
	if err := clientOf(t, cfg).Connect(t.Context()); !errors.Is(err, ErrDataMode) {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"EPRT |1|192.0.2.7|512", "PORT 192,0,2,7,200,"} {
		if !slices.ContainsFunc(s.Commands(), func(c string) bool { return strings.HasPrefix(c, want) }) {
			t.Errorf("no %s in %v", want, s.Commands())
		}
	}
}

// A foreign address in a PASV reply is followed only when the user trusts it, and one that is none never.
func TestForeignPASVAddress(t *testing.T) {
	for _, c := range []struct {
		said  string
		trust bool
		want  string
	}{
		{"127,0,0,2", false, "127.0.0.1:4660"},
		{"127,0,0,2", true, "127.0.0.2:4660 127.0.0.1:4660"},
		{"0,0,0,0", false, "127.0.0.1:4660"},
		{"0,0,0,0", true, "127.0.0.1:4660"},
	} {
		s := ftptest.NewScript(t)
		s.PASV("227 Entering Passive Mode (" + c.said + ",18,52)")
		cfg := at(s.Addr(), "u", "p")
		cfg.Data, cfg.MaxConns, cfg.TrustPASV = DataPASV, 1, c.trust
		var dialled []string
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == s.Addr() {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			if !slices.Contains(dialled, addr) {
				dialled = append(dialled, addr)
			}
			return nil, syscall.ECONNREFUSED
		}
		if err := clientOf(t, cfg).Connect(t.Context()); !errors.Is(err, ErrDataMode) {
			t.Errorf("%s, trusted %v: %v", c.said, c.trust, err)
		}
		if got := strings.Join(dialled, " "); got != c.want {
			t.Errorf("%s, trusted %v: connected to %s, want %s", c.said, c.trust, got, c.want)
		}
	}
}

// The data connections of some sites are made at another address than the control connection: who trusts the server's PASV replies gets
// there, by data=auto too, and who doesn't stays away.
func TestDataAtAnotherAddress(t *testing.T) {
	for _, c := range []struct {
		data  DataMode
		trust bool
	}{{DataAuto, true}, {DataPASV, true}, {DataPASV, false}, {DataPassive, false}} {
		s := ftptest.NewScript(t)
		s.DataHost("127.0.0.2")
		s.WriteFile("/f", []byte("content"))
		cfg := at(s.Addr(), "u", "p")
		cfg.Data, cfg.MaxConns, cfg.TrustPASV = c.data, 1, c.trust
		var there atomic.Int32
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "127.0.0.2:") {
				there.Add(1)
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		cl := clientOf(t, cfg)
		err := cl.Connect(t.Context())
		if !c.trust {
			if !errors.Is(err, ErrDataMode) || there.Load() != 0 {
				t.Errorf("data=%v, not trusted: %v, with %d connections to the other address", c.data, err, there.Load())
			}
			continue
		}
		if err != nil {
			t.Errorf("data=%v: %v", c.data, err)
			continue
		}
		if b := get(t, cl, "/f", 0); string(b) != "content" || cl.Features().Mode != "PASV" {
			t.Errorf("data=%v: %q by %s", c.data, b, cl.Features().Mode)
		}
		if err := put(cl, "/g", Replace, 0, []byte("new")); err != nil {
			t.Errorf("data=%v: upload: %v", c.data, err)
		}
		if b, _ := s.File("/g"); string(b) != "new" {
			t.Errorf("data=%v: uploaded %q", c.data, b)
		}
	}
}

func TestSpaceIsWhatAVBLSays(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Features("EPSV", "AVBL")
	s.Reply("AVBL", "213 123456789012")
	cl := clientOf(t, at(s.Addr(), "u", "p"))
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sp, err := cl.Space(t.Context(), "/d"); err != nil || sp != (Space{Total: -1, Free: 123456789012}) {
		t.Errorf("%+v, %v", sp, err)
	}
}

// LIST's times are in a zone of the server's own; one question finds it for good.
func TestZoneIsFoundOnce(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Features("EPSV", "MDTM")
	s.Listing("-rw-r--r-- 1 0 0 1 Jan 10 2024 old\r\n-rw-r--r-- 1 0 0 1 " + time.Now().UTC().Add(90*time.Minute).Format("Jan _2 15:04") + " f\r\n")
	s.Reply("MDTM", "213 "+time.Now().UTC().Format("20060102150405"))
	cfg := at(s.Addr(), "u", "p")
	cl := clientOf(t, cfg)
	for range 3 {
		l, err := cl.List(t.Context(), "/")
		if err != nil || len(l) != 2 {
			t.Fatalf("%v, %v", l, err)
		}
		if d := time.Since(l[1].ModTime).Abs(); d > 3*time.Minute {
			t.Errorf("%s is listed %v away from now", l[1].Name, d)
		}
	}
	n := 0
	for _, cmd := range s.Commands() {
		if strings.HasPrefix(cmd, "MDTM") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("MDTM was asked %d times", n)
	}
}

// A line that can't be read wholly is shown by its name, and a warning tells of it.
func TestLineThatCannotBeReadIsKeptAndTold(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Listing("-rw-r--r-- 1 0 0 1 Jan 10 2024 good\r\n-rw-r--r-- 1 0 0 1 Foo 99 2024 strange\r\n")
	var log strings.Builder
	cfg := at(s.Addr(), "u", "p")
	cfg.MaxConns, cfg.Logger = 1, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	l, err := clientOf(t, cfg).List(t.Context(), "/")
	if err != nil || len(l) != 2 {
		t.Errorf("%v, %v", l, err)
	}
	if !strings.Contains(log.String(), "could not be read wholly") || !strings.Contains(log.String(), "strange") {
		t.Errorf("log: %s", log.String())
	}
}

// Hidden files are shown: by LIST -a where the server takes it so, and whatever it makes of it nothing is lost.
func TestHiddenFilesAreAskedFor(t *testing.T) {
	const shown, hidden = "-rw-r--r-- 1 0 0 1 Jan 10 2024 f\r\n", "-rw-r--r-- 1 0 0 1 Jan 10 2024 .hidden\r\n"
	for name, c := range map[string]struct {
		all  string // what LIST -a gives
		want int
	}{
		"takes -a":                 {shown + hidden, 2},
		"takes -a for a name":      {"", 1},
		"refuses -a":               {"550", 1},
		"ignores -a, shows no dot": {shown, 1},
	} {
		s := ftptest.NewScript(t)
		s.On("LIST", func(arg string) []string {
			s.Listing(shown)
			if arg == "-a" {
				if s.Listing(c.all); c.all == "550" {
					return []string{"550 -a: No such file or directory"}
				}
			}
			return nil
		})
		cfg := at(s.Addr(), "u", "p")
		cfg.MaxConns = 1
		cl := clientOf(t, cfg)
		for range 2 {
			if l, err := cl.List(t.Context(), "/"); err != nil || len(l) != c.want {
				t.Errorf("a server that %s: %v, %v", name, l, err)
			}
		}
	}
}
