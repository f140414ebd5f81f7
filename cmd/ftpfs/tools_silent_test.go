package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

const (
	silentTimeout = 8 * time.Second
	// silentLimit is how long a call may take on a line that fell silent, with retry=1s: the timeout, a quarter of it for each of two new
	// log-ins, and what a loaded machine needs. A second wait for the timeout hardly fits.
	silentLimit = silentTimeout + silentTimeout/2 + 6*time.Second
)

// silentMount is a mount with a timeout, on a server behind a proxy that can freeze the line.
func silentMount(t *testing.T, kind ftptest.Kind) (*ftptest.Proxy, *toolDir) {
	return proxied(t, kind, func(s *ftptest.Server) {
		s.WriteFile("d/f", noise(6, 8<<20))
		s.WriteFile("d/small", []byte("text\n"))
		s.WriteFile("d/sub/g", []byte("text\n"))
	}, fmt.Sprintf("timeout=%v,retry=1s", silentTimeout))
}

// TestToolsSilentLine freezes the line before or in the middle of a call. The call fails within the timeout and little more,
// and everything goes on once the line is back.
func TestToolsSilentLine(t *testing.T) {
	data := noise(7, 8<<20)
	calls := map[string]func(d *toolDir, freeze func()) error{
		"listing": func(d *toolDir, freeze func()) error {
			freeze()
			_, err := os.ReadDir(d.mnt + "/sub")
			return err
		},
		"stat": func(d *toolDir, freeze func()) error {
			freeze()
			_, err := os.Stat(d.mnt + "/sub/g")
			return err
		},
		"mkdir":  func(d *toolDir, freeze func()) error { freeze(); return os.Mkdir(d.mnt+"/new", 0o755) },
		"rename": func(d *toolDir, freeze func()) error { freeze(); return os.Rename(d.mnt+"/small", d.mnt+"/moved") },
		"unlink": func(d *toolDir, freeze func()) error { freeze(); return os.Remove(d.mnt + "/small") },
		"read": func(d *toolDir, freeze func()) error {
			freeze()
			_, err := os.ReadFile(d.mnt + "/f")
			return err
		},
		"small file": func(d *toolDir, freeze func()) error { freeze(); return os.WriteFile(d.mnt+"/n", data[:10], 0o644) },
		"large file": func(d *toolDir, freeze func()) error { freeze(); return os.WriteFile(d.mnt+"/n", data, 0o644) },
		"upload under way": func(d *toolDir, freeze func()) error {
			f, err := os.Create(d.mnt + "/n")
			if err != nil {
				return nil
			}
			defer f.Close()
			if _, err := f.Write(data[:4<<20]); err != nil {
				return nil
			}
			freeze()
			_, err = f.Write(data[4<<20:])
			return errors.Join(err, f.Close())
		},
		"append": func(d *toolDir, freeze func()) error {
			f, err := os.OpenFile(d.mnt+"/small", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return nil
			}
			defer f.Close()
			freeze()
			_, err = f.Write(data[:10])
			return errors.Join(err, f.Close())
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, d := silentMount(t, ftptest.VSFTPD)
			d.sh(`ls "$MNT" >/dev/null`)
			var start time.Time
			err := call(d, func() { start = time.Now(); proxy.Freeze() })
			took := time.Since(start)
			d.wantErrno(name, err, syscall.ETIMEDOUT, syscall.EIO)
			if took > silentLimit {
				t.Errorf("%s took %v, limit %v", name, took, silentLimit)
			}
			proxy.Thaw()
			d.wantSoon(`cat "$MNT/sub/g"; echo back > "$MNT/back"; cat "$SRV/back"`, "text\nback\n")
		})
	}
}

// TestToolsSilentDownload freezes the line in the middle of a download.
func TestToolsSilentDownload(t *testing.T) {
	proxy, d := silentMount(t, ftptest.VSFTPD)
	f, err := os.Open(d.mnt + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 100_000)
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	// What came already is still read; the kernel asks again for what failed, piece by piece.
	within(t, 2*silentLimit, "reading on", func() {
		rest, err := io.ReadAll(f)
		d.wantErrno("reading on", err, syscall.ETIMEDOUT, syscall.EIO)
		got = append(got, rest...)
	})
	proxy.Thaw()
	if want := noise(6, 8<<20); !bytes.HasPrefix(want, got) {
		t.Errorf("what was read before the line froze: %s", difference(got, want))
	}
	d.wantSoon(`cmp "$MNT/f" "$SRV/f"`, "")
}

// TestToolsUnmountWithDeadServer unmounts while files wait for a server that doesn't answer any more. That ends in time, and
// says what is lost: in the exit code, on the terminal and in the log.
func TestToolsUnmountWithDeadServer(t *testing.T) {
	for name, kill := range map[string]func(d *toolDir, p *ftptest.Proxy){
		"frozen line":   func(d *toolDir, p *ftptest.Proxy) { p.Freeze() },
		"stopped":       func(d *toolDir, p *ftptest.Proxy) { p.Refuse(true); p.Drop() },
		"server killed": func(d *toolDir, p *ftptest.Proxy) { d.server.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, d := silentMount(t, ftptest.VSFTPD)
			d.sh(`ls "$MNT" >/dev/null`)
			// A writer that is killed closes its file without waiting for the verdict.
			ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
			defer cancel()
			files := []string{"one", "two", "three"}
			var writers []*exec.Cmd
			for _, file := range files {
				w := d.command(ctx, `exec > "$MNT/`+file+`"; echo text; exec sleep 60`)
				if err := w.Start(); err != nil {
					t.Fatal(err)
				}
				writers = append(writers, w)
			}
			for _, file := range files {
				d.wantSoon(`cat "$MNT/`+file+`"`, "text\n")
			}
			kill(d, proxy)
			for _, w := range writers {
				_ = w.Process.Kill()
				_ = w.Wait()
			}
			within(t, silentLimit, "umount", func() {
				said, code := d.m.run("umount", d.m.mnt)
				if code == exitOK || !strings.Contains(said, "not everything written reached the server") {
					t.Errorf("exit code %d: %s", code, said)
				}
				for _, file := range files {
					if !strings.Contains(said, "/d/"+file) {
						t.Errorf("%s is lost, and only this was said: %s", file, said)
					}
				}
			})
			proxy.Thaw()
		})
	}
}
