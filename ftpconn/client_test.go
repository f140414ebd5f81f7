package ftpconn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// servers runs f on the embedded server and on every real one.
func servers(t *testing.T, opt ftptest.Options, f func(t *testing.T, s *ftptest.Server)) {
	t.Run("embedded", func(t *testing.T) { f(t, ftptest.NewServer(t, opt)) })
	for _, k := range ftptest.Kinds() {
		t.Run(k.String(), func(t *testing.T) { f(t, ftptest.Start(t, k, opt)) })
	}
}

// dialTo makes a Client of s and connects it.
func dialTo(t *testing.T, s *ftptest.Server, change ...func(*Config)) *Client {
	t.Helper()
	cl := newClient(t, s, change...)
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatalf("Connect: %v\nserver log:\n%s", err, s.Log())
	}
	return cl
}

func newClient(t *testing.T, s *ftptest.Server, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Host: s.Host, Port: s.Port, User: s.User, Password: s.Password, Timeout: 10 * time.Second}
	if testing.Verbose() && os.Getenv("FTPFS_DEBUG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if s.CACert != "" {
		pem, err := os.ReadFile(s.CACert)
		if err != nil {
			t.Fatal(err)
		}
		cfg.TLS, cfg.TLSConfig = TLSExplicit, &tls.Config{RootCAs: x509.NewCertPool()}
		cfg.TLSConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	for _, f := range change {
		f(&cfg)
	}
	cl, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

func get(t *testing.T, r Remote, path string, offset int64) []byte {
	t.Helper()
	d, err := r.Retrieve(t.Context(), path, offset)
	if err != nil {
		t.Fatalf("Retrieve %s at %d: %v", path, offset, err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatalf("reading %s at %d: %v", path, offset, err)
	}
	return b
}

func put(r Remote, path string, mode StoreMode, offset int64, data []byte) error {
	u, err := r.Store(context.Background(), path, mode, offset)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), 100_000)
		if _, err := u.Write(data[:n]); err != nil {
			u.Abort()
			return err
		}
		data = data[n:]
	}
	return u.Close()
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// TestRemote is what every Remote owes its callers, on every server.
func TestRemote(t *testing.T) {
	servers(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server) {
		s.WriteFile("hello.txt", []byte("hello, world\n"))
		s.WriteFile("dir/.hidden", []byte("x"))
		s.WriteFile("dir/a b.txt", []byte("space"))
		big := random(3 << 20)
		s.WriteFile("big", big)
		cl := dialTo(t, s)
		ctx := t.Context()

		t.Run("list", func(t *testing.T) {
			l, err := cl.List(ctx, "/")
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(l, func(e Entry) bool { return e.Name == "hello.txt" })
			if i < 0 || l[i].Size != 13 || l[i].Type != File {
				t.Fatalf("hello.txt is not in %+v", l)
			}
			if age := time.Since(l[i].ModTime); age < -2*time.Minute || age > 2*time.Minute {
				t.Errorf("time of a new file is off by %v", age)
			}
			if l, err = cl.List(ctx, "/dir"); err != nil || len(l) != 2 {
				t.Errorf("dir: %d entries, %v: %+v", len(l), err, l)
			}
		})
		t.Run("read", func(t *testing.T) {
			if b := get(t, cl, "/hello.txt", 7); string(b) != "world\n" {
				t.Errorf("from 7: %q", b)
			}
			if b := get(t, cl, "/big", 0); !bytes.Equal(b, big) {
				t.Errorf("big is not what it was (%d bytes)", len(b))
			}
			if b := get(t, cl, "/big", 1_000_003); !bytes.Equal(b, big[1_000_003:]) {
				t.Errorf("big from the middle is not what it was")
			}
			if b := get(t, cl, "/hello.txt", 13); len(b) != 0 {
				t.Errorf("at the end: %q", b)
			}
			if b := get(t, cl, "/hello.txt", 5000); len(b) != 0 {
				t.Errorf("beyond the end: %q", b)
			}
		})
		t.Run("early close keeps the session", func(t *testing.T) {
			ended := func() int { // sessions; that the pool grows meanwhile is another matter
				st := cl.Stats()
				return int(st.Dials-st.Failed) - st.Dialing - st.Up
			}
			before := ended()
			for range 10 {
				d, err := cl.Retrieve(ctx, "/big", 5)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(d, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				d.Close()
				if b := get(t, cl, "/hello.txt", 0); string(b) != "hello, world\n" {
					t.Fatalf("after an early close: %q", b)
				}
			}
			if n := ended() - before; n > 0 {
				t.Errorf("ten early closes cost %d sessions", n)
			}
		})
		t.Run("write", func(t *testing.T) {
			for _, data := range [][]byte{nil, []byte("x"), random(5_000_000)} {
				if err := put(cl, "/new", Replace, 0, data); err != nil {
					t.Fatalf("%d bytes: %v", len(data), err)
				}
				if got := s.ReadFile("new"); !bytes.Equal(got, data) {
					t.Fatalf("%d bytes written, %d on the server", len(data), len(got))
				}
			}
			if err := put(cl, "/appended", Append, 0, []byte("one,")); err != nil {
				t.Fatal(err)
			}
			if err := put(cl, "/appended", Append, 0, []byte("two")); err != nil {
				t.Fatal(err)
			}
			if got := s.ReadFile("appended"); string(got) != "one,two" {
				t.Errorf("appended: %q", got)
			}
		})
		t.Run("names", func(t *testing.T) {
			if err := cl.Mkdir(ctx, "/odd [1]"); err != nil {
				t.Fatal(err)
			}
			names := []string{" lead", "in side", "'q\" #%$~{}", "-la", "[a]*?", "ünï", "a -> b", strings.Repeat("n", 255)}
			if s.Kind != ftptest.Pyftpdlib { // which takes names for UTF-8 and puts U+FFFD for what isn't
				names = append(names, "\xe9", "\xff", "\xff\xfe", "z\xff\xff\xf4z")
			}
			for _, name := range names {
				p := "/odd [1]/" + name
				if err := put(cl, p, Replace, 0, []byte(name)); err != nil {
					t.Errorf("%q: %v", name, err)
					continue
				}
				if b := get(t, cl, p, 0); string(b) != name {
					t.Errorf("%q holds %q", name, b)
				}
				l, err := cl.List(ctx, "/odd [1]")
				if err != nil || !slices.ContainsFunc(l, func(e Entry) bool { return e.Name == name }) {
					t.Errorf("%q is not listed: %v", name, err)
				}
			}
			for _, name := range []string{"a\nDELE hello.txt", "a\rb", "a\x00b"} {
				if err := put(cl, "/"+name, Replace, 0, nil); !errors.Is(err, ErrBadName) {
					t.Errorf("%q: %v", name, err)
				}
			}
		})
		t.Run("tree", func(t *testing.T) {
			check := func(what string, err, want error) {
				t.Helper()
				if want == nil && err != nil || want != nil && !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			check("mkdir", cl.Mkdir(ctx, "/d1"), nil)
			check("mkdir again", cl.Mkdir(ctx, "/d1"), fs.ErrExist)
			check("mkdir in nothing", cl.Mkdir(ctx, "/nothing/d"), fs.ErrNotExist)
			check("store", put(cl, "/d1/f", Replace, 0, []byte("f")), nil)
			check("rmdir full", cl.Rmdir(ctx, "/d1"), ErrNotEmpty)
			check("rename", cl.Rename(ctx, "/d1/f", "/d1/g"), nil)
			check("rename over", cl.Rename(ctx, "/d1/g", "/appended"), nil)
			check("rename of nothing", cl.Rename(ctx, "/d1/nothing", "/d1/x"), fs.ErrNotExist)
			check("remove", cl.Remove(ctx, "/appended"), nil)
			check("remove nothing", cl.Remove(ctx, "/appended"), fs.ErrNotExist)
			check("remove a directory", cl.Remove(ctx, "/dir"), ErrIsDir)
			check("rmdir", cl.Rmdir(ctx, "/d1"), nil)
			check("rmdir nothing", cl.Rmdir(ctx, "/d1"), fs.ErrNotExist)
			_, err := cl.List(ctx, "/nothing")
			check("list nothing", err, fs.ErrNotExist)
			_, err = cl.Retrieve(ctx, "/nothing", 0)
			check("read nothing", err, fs.ErrNotExist)
			if s.Kind != ftptest.Embedded { // it says 150 first
				_, err = cl.Retrieve(ctx, "/dir", 0)
				check("read a directory", err, ErrIsDir)
			}
			check("store in nothing", put(cl, "/nothing/f", Replace, 0, []byte("x")), fs.ErrNotExist)
			if _, err := cl.Stat(ctx, "/nothing"); !errors.Is(err, errors.ErrUnsupported) {
				check("stat nothing", err, fs.ErrNotExist)
			}
		})
		t.Run("attributes", func(t *testing.T) {
			when := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
			if err := cl.SetModTime(ctx, "/hello.txt", when); err != nil {
				t.Errorf("SetModTime: %v", err)
			}
			fi, err := os.Stat(s.Path("hello.txt"))
			if err != nil || !fi.ModTime().Equal(when) {
				t.Errorf("time on the server: %v, %v", fi.ModTime(), err)
			}
			ts, err := cl.ModTimes(ctx, []string{"/hello.txt", "/nothing", "/dir/a b.txt"})
			if err != nil || !ts[0].Equal(when) || !ts[1].IsZero() || ts[2].IsZero() {
				t.Errorf("ModTimes: %v, %v", ts, err)
			}
			if err := cl.Chmod(ctx, "/hello.txt", 0o640); err != nil {
				t.Errorf("Chmod: %v", err)
			}
			if fi, _ := os.Stat(s.Path("hello.txt")); fi.Mode().Perm() != 0o640 {
				t.Errorf("mode on the server: %v", fi.Mode())
			}
		})
	})
}

// TestParallel has many readers and writers at once on few sessions.
func TestParallel(t *testing.T) {
	servers(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server) {
		data := random(400_000)
		s.WriteFile("in", data)
		cl := dialTo(t, s, func(c *Config) { c.MaxConns = 4 })
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if i%2 == 0 {
					d, err := cl.Retrieve(context.Background(), "/in", int64(i))
					if err != nil {
						t.Error(err)
						return
					}
					defer d.Close()
					if b, err := io.ReadAll(d); err != nil || !bytes.Equal(b, data[i:]) {
						t.Errorf("reader %d: %d bytes, %v", i, len(b), err)
					}
					return
				}
				name := "/out" + string(rune('a'+i))
				if err := put(cl, name, Replace, 0, data[:i*1000]); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
				if l, err := cl.List(context.Background(), "/"); err != nil || !slices.ContainsFunc(l, func(e Entry) bool { return e.Name == name[1:] && e.Size == int64(i*1000) }) {
					t.Errorf("writer %d: not listed, %v", i, err)
				}
			})
		}
		wg.Wait()
		if st := cl.Stats(); st.Up > 4 {
			t.Errorf("%d sessions with a limit of 4", st.Up)
		}
	})
}

// TestOneConnection does everything over a single session: an idle reader makes room.
func TestOneConnection(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	s.WriteFile("big", random(8<<20))
	cl := dialTo(t, s, func(c *Config) { c.MaxConns = 1 })
	d, err := cl.Retrieve(t.Context(), "/big", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := io.ReadFull(d, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.List(t.Context(), "/"); err != nil {
		t.Errorf("listing while a reader rests: %v", err)
	}
	if _, err := io.Copy(io.Discard, d); !errors.Is(err, ErrPreempted) {
		t.Errorf("the reader that made room: %v", err)
	}
}

// TestTLS moves files of 8 MiB and of nothing, up and down, 50 times each, on the servers that are strict about
// data connections.
func TestTLS(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	data := random(8 << 20)
	sum := sha256.Sum256(data)
	for _, k := range []ftptest.Kind{ftptest.VSFTPD, ftptest.ProFTPD, ftptest.PureFTPd} {
		for _, v := range []struct {
			name    string
			mode    DataMode
			version uint16
			rounds  int
		}{
			{"passive", DataPassive, tls.VersionTLS13, rounds},
			{"active", DataActive, tls.VersionTLS13, rounds},
			{"passive TLS 1.2", DataPassive, tls.VersionTLS12, min(rounds, 10)},
			{"active TLS 1.2", DataActive, tls.VersionTLS12, min(rounds, 10)},
		} {
			t.Run(k.String()+"/"+v.name, func(t *testing.T) {
				s := ftptest.Start(t, k, ftptest.Options{TLS: ftptest.Explicit})
				cl := dialTo(t, s, func(c *Config) { c.Data, c.TLSConfig.MaxVersion = v.mode, v.version })
				n := v.rounds
				for i := range n {
					if err := put(cl, "/up", Replace, 0, data); err != nil {
						t.Fatalf("upload %d: %v", i, err)
					}
					if sha256.Sum256(s.ReadFile("up")) != sum {
						t.Fatalf("upload %d is not what was sent", i)
					}
					if sha256.Sum256(get(t, cl, "/up", 0)) != sum {
						t.Fatalf("download %d is not what is there", i)
					}
					if err := put(cl, "/none", Replace, 0, nil); err != nil {
						t.Fatalf("upload %d of nothing: %v", i, err)
					}
					if b := get(t, cl, "/none", 0); len(b) != 0 || len(s.ReadFile("none")) != 0 {
						t.Fatalf("nothing became %d bytes", len(b))
					}
				}
			})
		}
	}
}

// TestImplicitTLS has TLS from the first byte.
func TestImplicitTLS(t *testing.T) {
	for _, k := range []ftptest.Kind{ftptest.VSFTPD, ftptest.ProFTPD} {
		t.Run(k.String(), func(t *testing.T) {
			s := ftptest.Start(t, k, ftptest.Options{TLS: ftptest.Implicit})
			cl := dialTo(t, s, func(c *Config) { c.TLS = TLSImplicit })
			data := random(500_000)
			if err := put(cl, "/f", Replace, 0, data); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(get(t, cl, "/f", 0), data) {
				t.Error("what came back is not what went")
			}
		})
	}
}

// Asked-for TLS never becomes clear text, and a certificate that nobody signed is refused.
func TestTLSIsNotGivenUp(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	p := ftptest.NewProxy(t, s.Addr())
	p.On("AUTH").Reply("502 no")
	cfg := at(p.Addr(), s.User, s.Password)
	cfg.TLS = TLSExplicit
	if err := clientOf(t, cfg).Connect(t.Context()); err == nil {
		t.Error("logged in without TLS")
	}
	if p.Count("USER|PASS") != 0 {
		t.Error("the user or password went over a clear line")
	}
	s = ftptest.NewServer(t, ftptest.Options{TLS: ftptest.Explicit})
	cl := newClient(t, s, func(c *Config) { c.TLSConfig = nil })
	if err := cl.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "cacert=") {
		t.Errorf("a certificate of unknown origin: %v", err)
	}
}

// TestLocalTimes has servers whose clocks show a zone, in listings and, on vsftpd, in MDTM too.
func TestLocalTimes(t *testing.T) {
	for _, zone := range []string{"Asia/Shanghai", "America/St_Johns", "UTC"} {
		t.Run(zone, func(t *testing.T) {
			s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{LocalTime: zone})
			s.WriteFile("before", []byte("x"))
			cl := dialTo(t, s)
			if err := put(cl, "/f", Replace, 0, []byte("x")); err != nil {
				t.Fatal(err)
			}
			l, err := cl.List(t.Context(), "/")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range l {
				if d := time.Since(e.ModTime).Abs(); d > 3*time.Minute {
					t.Errorf("%s is listed %v away from now", e.Name, d)
				}
			}
			when := time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)
			if err := cl.SetModTime(t.Context(), "/f", when); err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Stat(s.Path("f")); err != nil || !fi.ModTime().Equal(when) {
				t.Errorf("on the server: %v, want %v", fi.ModTime().UTC(), when)
			}
			ts, err := cl.ModTimes(t.Context(), []string{"/f", "/before"})
			if err != nil || !ts[0].Equal(when) || time.Since(ts[1]).Abs() > 3*time.Minute {
				t.Errorf("ModTimes: %v, %v", ts, err)
			}
		})
	}
}

// Pure-FTPd cuts long listings, and says so in the last line of the reply.
func TestCutListing(t *testing.T) {
	s := ftptest.Start(t, ftptest.PureFTPd, ftptest.Options{Extra: []string{"-L", "20:8"}})
	for i := range 40 {
		s.WriteFile(fmt.Sprintf("d/f%02d", i), nil)
	}
	cl := dialTo(t, s)
	l, err := cl.List(t.Context(), "/d")
	if !errors.Is(err, ErrIncomplete) || len(l) < 10 || len(l) >= 40 {
		t.Errorf("%d of 40 entries, %v", len(l), err)
	}
}

// Who connects has a second session at hand, where the limit leaves one to others beside it.
func TestConnectOpensASecondSession(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	for limit, want := range map[int]int{1: 1, 2: 1, 8: 2} {
		cl := dialTo(t, s, func(c *Config) { c.MaxConns = limit })
		deadline := time.Now().Add(5 * time.Second)
		for cl.Stats().Dialing > 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if st := cl.Stats(); st.Up != want {
			t.Errorf("limit %d: %d sessions, want %d", limit, st.Up, want)
		}
	}
}

// A writer that goes on just when its upload is given up for others is told so.
func TestGivenUpUploadTellsItsWriter(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	cfg := at(s.Addr(), s.User, s.Password)
	cfg.MaxConns = 1
	cl := clientOf(t, cfg)
	for range 10 {
		up, err := cl.Store(t.Context(), "/f", Replace, 0)
		if err != nil {
			t.Fatal(err)
		}
		up.(*explainedUpload).u.last.Store(0)
		if _, err := cl.Stat(t.Context(), "/"); err != nil { // needs the session
			t.Fatal(err)
		}
		for range 3 {
			if _, err := up.Write([]byte("late")); !errors.Is(err, ErrPreempted) {
				t.Errorf("writing: %v", err)
			}
		}
		if err := up.Close(); !errors.Is(err, ErrPreempted) {
			t.Errorf("closing: %v", err)
		}
	}
}

// A writer that waits for a download which waits for the writer's session: cp, tar and dd from the mount into itself.
func TestIdleUploadYieldsTheOnlySession(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	s.WriteFile("a", []byte("content"))
	for _, limit := range []int{1, 2} { // with 2 one is left to metadata
		cl := dialTo(t, s, func(c *Config) { c.MaxConns = limit })
		up, err := cl.Store(t.Context(), "/f", Replace, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := up.Write([]byte("some")); err != nil {
			t.Fatal(err)
		}
		if b := get(t, cl, "/a", 0); string(b) != "content" {
			t.Errorf("content %q", b)
		}
		if idle := up.(*explainedUpload).u.idle(); idle > yieldAfter*3/4 {
			t.Errorf("limit %d: a reader waited for %v", limit, idle)
		}
		if err := up.Close(); !errors.Is(err, ErrPreempted) {
			t.Errorf("closing: %v", err)
		}
	}
}
