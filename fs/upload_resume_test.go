package fs

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// proxied mounts a server through a proxy.
func proxied(t *testing.T, s *ftptest.Server, change ...func(*Options)) (*ftptest.Proxy, string) {
	t.Helper()
	p := ftptest.NewProxy(t, s.Addr())
	host, port, err := net.SplitHostPort(p.Addr())
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	client, err := ftpconn.New(ftpconn.Config{Host: host, Port: n, User: s.User, Password: s.Password, Timeout: 5 * time.Second, CheckUploads: true})
	must(t, err)
	must(t, client.Connect(t.Context()))
	mnt := t.TempDir()
	patient := func(o *Options) { o.Retry = 30 * time.Second }
	mountRemote(t, mnt, cache.NewMeta(client, cache.MetaConfig{TTL: 30 * time.Second}), append([]func(*Options){patient}, change...)...)
	return p, mnt
}

// eachProxied runs a test on every kind of server behind a proxy.
func eachProxied(t *testing.T, opt ftptest.Options, test func(t *testing.T, s *ftptest.Server, p *ftptest.Proxy, mnt string)) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, opt)
			p, mnt := proxied(t, s)
			test(t, s, p, mnt)
		})
	}
}

func sameOnServer(t *testing.T, s *ftptest.Server, name string, want []byte) {
	t.Helper()
	if got := s.ReadFile(name); !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes on the server differ from the %d written", name, len(got), len(want))
	}
}

func TestBrokenUploadGoesOnWhereItBroke(t *testing.T) {
	eachProxied(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server, p *ftptest.Proxy, mnt string) {
		p.On("STOR").Times(2).ResetData(3 << 20)
		want := pattern(12 << 20)
		must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
		sameOnServer(t, s, "f", want)
		// ProFTPD answers 425 if the connection breaks before it has looked at it; then there is nothing to go on with.
		if p.Count("REST") == 0 && strings.Count(p.Dialog(), "< 425") < 2 {
			t.Errorf("sent from the start again:\n%s", p.Dialog())
		}
	})
}

func TestBrokenUploadBeginsAgainWhereRestartsAreRefused(t *testing.T) {
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{NoAppend: true})
	p, mnt := proxied(t, s)
	p.On("STOR").Times(1).ResetData(1 << 20)
	want := pattern(4 << 20)
	must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
	sameOnServer(t, s, "f", want)
}

func TestBrokenOverwriteNeverKeepsOldBytes(t *testing.T) {
	eachProxied(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server, p *ftptest.Proxy, mnt string) {
		s.WriteFile("f", bytes.Repeat([]byte("old "), 1<<20))
		p.On("STOR").Times(1).CloseBefore() // the server never heard of it, and has 4 MiB of something else
		want := pattern(6 << 20)
		must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
		sameOnServer(t, s, "f", want)
	})
}

func TestServerThatRestartsCostsNoError(t *testing.T) {
	eachProxied(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server, _ *ftptest.Proxy, mnt string) {
		want := pattern(6 << 20)
		s.WriteFile("in", want)
		in, err := os.Open(filepath.Join(mnt, "in"))
		must(t, err)
		defer in.Close()
		out, err := os.Create(filepath.Join(mnt, "out"))
		must(t, err)
		buf := make([]byte, 1<<20)
		back := make(chan struct{})
		for i := range 6 {
			if i == 3 {
				s.Stop()
				go func() {
					defer close(back)
					time.Sleep(1500 * time.Millisecond) // the outage
					s.Restart()
				}()
			}
			_, err := io.ReadFull(in, buf)
			must(t, err)
			if !bytes.Equal(buf, want[i<<20:(i+1)<<20]) {
				t.Fatalf("MiB %d differs", i)
			}
			_, err = out.Write(buf)
			must(t, err)
		}
		must(t, out.Close())
		<-back
		sameOnServer(t, s, "out", want)
	})
}

func TestPatienceEnds(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	p, mnt := proxied(t, s, func(o *Options) { o.Retry = 700 * time.Millisecond })
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	_, err = f.WriteString("abc")
	must(t, err)
	p.Refuse(true)
	p.Drop()
	start := time.Now()
	if err := f.Sync(); err == nil {
		t.Error("fsync succeeded without a server")
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	p.Refuse(false)
	must(t, f.Close()) // what was written is still there
	sameOnServer(t, s, "f", []byte("abc"))
}

func TestLostConfirmationIsLookedUp(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() {
		s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload { return refusedUpload{u, ftpconn.ErrConnLost} }
	})
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), []byte("abc"), 0o644))
	s.onServer(t, "f", "abc")
	if n := s.remote.count("Store"); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

func TestMountIsUsableAcrossARestart(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	mnt := mountServer(t, s, func(c *ftpconn.Config) { c.Retry = 30 * time.Second })
	must(t, os.Mkdir(filepath.Join(mnt, "d"), 0o755))
	s.Stop()
	back := make(chan struct{})
	go func() {
		defer close(back)
		time.Sleep(time.Second) // the outage
		s.Restart()
	}()
	defer func() { <-back }()
	must(t, os.WriteFile(filepath.Join(mnt, "d", "f"), []byte("abc"), 0o644))
	must(t, os.Rename(filepath.Join(mnt, "d", "f"), filepath.Join(mnt, "g")))
	must(t, os.Remove(filepath.Join(mnt, "d")))
	sameOnServer(t, s, "g", []byte("abc"))
}
