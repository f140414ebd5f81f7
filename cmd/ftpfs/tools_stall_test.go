package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// soon is how long what must not wait for a time-out of the network may take on a loaded machine.
const soon = 15 * time.Second

// interrupt starts a command that can't get an answer, and returns when it has ended by SIGINT.
func (d *toolDir) interrupt(script string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	cmd := d.command(ctx, "exec "+script)
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // so that it waits; if it doesn't yet, the signal ends it all the same
	_ = cmd.Process.Signal(syscall.SIGINT)
	within(d.t, soon, "Ctrl-C of "+script, func() {
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
			d.t.Errorf("%s: %v", script, cmd.ProcessState)
		}
	})
}

// TestToolsStalledLine has a line on which nothing moves any more.
func TestToolsStalledLine(t *testing.T) {
	data := noise(6, 8<<20)
	seed := func(s *ftptest.Server) {
		s.WriteFile("d/f", data)
		s.WriteFile("d/sub/g", []byte("text\n"))
		s.WriteFile("d/other/h", []byte("text\n"))
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		t.Run("ls during a long transfer", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed)
			proxy.On("RETR /d/f|RETR f").StallData(1 << 20)
			proxy.On("STOR").StallData(1 << 20)
			ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
			defer cancel()
			reading := d.command(ctx, `exec cat "$MNT/f" >/dev/null`)
			writing := d.command(ctx, `exec dd if=/dev/zero of="$MNT/new" bs=1M count=200 status=none`)
			for _, c := range []*exec.Cmd{reading, writing} {
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
			}
			for deadline := time.Now().Add(toolLimit); proxy.Count("RETR") == 0 || proxy.Count("STOR") == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the transfers don't begin\n%s", proxy.Dialog())
				}
			}
			within(t, soon, "ls", func() {
				d.want(`ls "$MNT/sub"; cat "$MNT/other/h"; mkdir "$MNT/made"; stat -c %s "$MNT/sub/g"`, "g\ntext\n5\n")
			})
			for _, c := range []*exec.Cmd{reading, writing} {
				_ = c.Process.Signal(syscall.SIGINT)
			}
			within(t, soon, "Ctrl-C of cat", func() { _ = reading.Wait() })
			proxy.ClearRules()
			proxy.Drop()
			_ = writing.Wait()
			d.sh(`rm -f "$MNT/new"`)
		})
		t.Run("Ctrl-C", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed)
			d.sh(`ls "$MNT" >/dev/null`)
			proxy.Freeze()
			d.interrupt(`cat "$MNT/f"`)
			d.interrupt(`ls "$MNT/sub"`)
			d.interrupt(`cp /etc/passwd "$MNT/new"`)
			proxy.Thaw()
			d.want(`cat "$MNT/sub/g"; cmp "$MNT/f" "$SRV/f"`, "text\n")
		})
		t.Run("unmounting", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed, "timeout=3s,retry=1s")
			d.want(`cat "$MNT/sub/g"; ls "$MNT/other"`, "text\nh\n")
			proxy.Freeze()
			defer proxy.Thaw()
			within(t, 2*soon, "umount", func() {
				if out, code := d.m.run("umount", d.m.mnt); code != exitOK {
					t.Errorf("exit code %d: %s", code, out)
				}
			})
		})
		t.Run("unmounting with an upload under way", func(t *testing.T) {
			proxy, d := proxied(t, kind, seed)
			rule := proxy.On("STOR").Delay(time.Second)
			d.sh(`cat "$MNT/f" >"$MNT/copy"; sync "$MNT/copy"`) // cp would let ProFTPD copy
			if rule.Hits() == 0 {
				t.Error("nothing was sent")
			}
			f, err := os.Create(d.mnt + "/late")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(data); err != nil {
				t.Error(err)
			}
			done := make(chan error, 1)
			if err := unmount(d.m.mnt, true); err != nil { // detached: lives on with the open file
				t.Fatal(err)
			}
			go func() { done <- f.Close() }()
			if err := <-done; err != nil {
				t.Errorf("close: %v", err)
			}
			d.onServer("late", data)
			for deadline := time.Now().Add(30 * time.Second); len(d.m.processes()) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the process doesn't end")
				}
			}
		})
	})
}
