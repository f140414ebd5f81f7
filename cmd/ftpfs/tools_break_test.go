package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// within fails the test if f takes longer than limit, and goes on when it is done.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if d := time.Since(start); d > limit {
		t.Errorf("%s took %v, limit %v", what, d, limit)
	}
}

// proxied mounts a server through a proxy.
func proxied(t *testing.T, kind ftptest.Kind, seed func(*ftptest.Server), options ...string) (*ftptest.Proxy, *toolDir) {
	t.Helper()
	server := startServer(t, kind, ftptest.Options{})
	seed(server)
	proxy := ftptest.NewProxy(t, server.Addr())
	return proxy, mountURL(t, server, server.URLAt(proxy.Addr()), options...).dir(t, "d")
}

// TestToolsServerRestarts ends sessions and whole servers at bad moments. What is read is right, and what is
// reported as written is there.
func TestToolsServerRestarts(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{})
		data := noise(4, 12<<20)
		server.WriteFile("d/big", data)
		server.WriteFile("d/small", []byte("text\n"))
		d := mountServer(t, server, "timeout=10s").dir(t, "d")
		for name, end := range map[string]func(){"sessions are dropped": server.Drop, "server is restarted": server.Restart} {
			t.Run(name+" while idle", func(t *testing.T) {
				d.t = t
				d.sh(`ls "$MNT" >/dev/null`)
				end()
				d.want(`cat "$MNT/small"; echo more > "$MNT/new"; mkdir "$MNT/x"; rmdir "$MNT/x"; cat "$SRV/new"; rm "$MNT/new"`, "text\nmore\n")
				end()
				d.want(`mkdir "$MNT/x"; mv "$MNT/x" "$MNT/y"; rmdir "$MNT/y"; ls "$SRV"`, "big\nsmall\n")
			})
			t.Run(name+" while reading", func(t *testing.T) {
				d.t = t
				r := mountServer(t, server, "timeout=10s").dir(t, "d")
				f, err := os.Open(r.mnt + "/big")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				got := make([]byte, 1<<20)
				if _, err := io.ReadFull(f, got); err != nil {
					t.Fatal(err)
				}
				end()
				rest, err := io.ReadAll(f)
				if got = append(got, rest...); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v: %s", err, difference(got, data))
				}
			})
			t.Run(name+" while writing", func(t *testing.T) {
				d.t = t
				if err := os.WriteFile(d.tmp+"/data", data, 0o644); err != nil {
					t.Fatal(err)
				}
				// Not by this process: a server that it starts would have a copy of the open file until it is executed, and
				// closing that waits for the server.
				ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
				defer cancel()
				cmd := d.command(ctx, `exec > "$MNT/up"; head -c 5242880 "$TMP/data"; echo >&2; read -r go; tail -c +5242881 "$TMP/data"; exec >&-`)
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				stderr, err := cmd.StderrPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(stderr, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				end()
				if _, err := io.WriteString(stdin, "go\n"); err != nil {
					t.Error(err)
				}
				said, _ := io.ReadAll(stderr)
				if err := cmd.Wait(); err != nil || len(said) > 0 {
					t.Errorf("writing: %v: %s", err, said)
				}
				d.onServer("up", data)
				d.sh(`rm "$MNT/up"`)
			})
		}
	})
}

// TestToolsServerGone has no server any more for a while.
func TestToolsServerGone(t *testing.T) {
	server := startServer(t, ftptest.VSFTPD, ftptest.Options{})
	server.WriteFile("d/f", []byte("text\n"))
	server.WriteFile("d/g", []byte("more\n"))
	d := mountServer(t, server, "timeout=2s,ttl=1s,retry=3s").dir(t, "d")
	d.want(`cat "$MNT/f"`, "text\n")
	server.Stop()
	within(t, 30*time.Second, "reading without a server", func() {
		_, err := os.ReadFile(d.mnt + "/g")
		d.wantErrno("reading without a server", err, syscall.EIO, syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH)
	})
	within(t, 30*time.Second, "writing without a server", func() {
		err := os.WriteFile(d.mnt+"/new", noise(1, 1000), 0o644)
		d.wantErrno("writing without a server", err, syscall.EIO, syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH)
	})
	within(t, 30*time.Second, "a name without a server", func() {
		_, err := os.Stat(d.mnt + "/never")
		if err == nil || errors.Is(err, syscall.ENOENT) {
			t.Logf("a name that was known to be absent: %v", err)
		}
		time.Sleep(1100 * time.Millisecond) // the listing's TTL
		_, err = os.Stat(d.mnt + "/other")
		d.wantErrno("a lost connection is no absence", err, syscall.EIO, syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH)
	})
	server.Restart()
	d.wantSoon(`cat "$MNT/f" "$MNT/g"; echo x > "$MNT/new"; cat "$SRV/new"`, "text\nmore\nx\n")
}

// TestToolsBrokenTransfers breaks data connections.
func TestToolsBrokenTransfers(t *testing.T) {
	data := noise(6, 3<<20)
	seed := func(s *ftptest.Server) { s.WriteFile("d/f", data) }
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		for name, tt := range map[string]struct {
			rule func(p *ftptest.Proxy)
			well bool // the content must come whole
		}{
			"reset once":     {func(p *ftptest.Proxy) { p.On("RETR").Times(1).ResetData(1 << 20) }, true},
			"cut once":       {func(p *ftptest.Proxy) { p.On("RETR").Times(1).CutData(1 << 20) }, false},
			"always cut":     {func(p *ftptest.Proxy) { p.On("RETR").CutData(300_000) }, false},
			"cut at nothing": {func(p *ftptest.Proxy) { p.On("RETR").CutData(0) }, false},
		} {
			t.Run("download "+name, func(t *testing.T) {
				proxy, d := proxied(t, kind, seed, "timeout=5s")
				tt.rule(proxy)
				got, err := os.ReadFile(d.mnt + "/f")
				if err != nil && (tt.well || errors.Is(err, syscall.ENOENT)) {
					t.Errorf("reading: %v", err)
				}
				if err == nil && !bytes.Equal(got, data) || !bytes.HasPrefix(data, got) {
					t.Errorf("reading: %v, %s\n%s", err, difference(got, data), proxy.Dialog())
				}
				proxy.ClearRules()
				d.onMount("f", data)
			})
		}
		t.Run("upload reset once", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed, "timeout=5s")
			proxy.On("STOR").Times(1).ResetData(1 << 20)
			if err := os.WriteFile(d.mnt+"/new", data, 0o644); err != nil {
				t.Errorf("writing: %v", err)
			} else {
				d.both("new", data)
			}
		})
		t.Run("upload refused at its end", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed)
			proxy.On("STOR").FinalReply("552 Disk quota exceeded")
			err := os.WriteFile(d.mnt+"/new", data, 0o644)
			d.wantErrno("552", err, syscall.ENOSPC, syscall.EDQUOT)
			proxy.ClearRules()
			proxy.On("STOR").FinalReply("452 Insufficient storage space")
			err = os.WriteFile(d.mnt+"/new2", []byte("small"), 0o644)
			d.wantErrno("452", err, syscall.ENOSPC)
		})
	})
}
