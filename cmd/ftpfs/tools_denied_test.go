package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// TestToolsDenied has files and directories on the server that its user may not change, or read.
func TestToolsDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		ftptest.Unavailable(t, "only root can lay files that the server's user may not change")
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{})
		server.WriteFile("closed/f", []byte("text\n"))
		server.WriteFile("d/unwritable", []byte("text\n"))
		server.WriteFile("d/unreadable", []byte("text\n"))
		server.WriteFile("d/locked/f", []byte("text\n"))
		for path, mode := range map[string]os.FileMode{"closed": 0o555, "d/unwritable": 0o444, "d/unreadable": 0o400, "d/locked": 0o700} {
			if err := errors.Join(os.Chown(server.Path(path), 0, 0), os.Chmod(server.Path(path), mode)); err != nil {
				t.Fatal(err)
			}
		}
		d := mountServer(t, server).dir(t, "d")
		closed := d.m.mnt + "/closed"
		denied := []syscall.Errno{syscall.EACCES, syscall.EPERM}

		for _, size := range []int{0, 10, 600_000} {
			err := os.WriteFile(fmt.Sprintf("%s/new%d", closed, size), noise(1, size), 0o644)
			d.wantErrno(fmt.Sprintf("writing %d bytes into a directory of another", size), err, denied...)
		}
		d.wantErrno("mkdir", os.Mkdir(closed+"/x", 0o755), denied...)
		d.wantErrno("unlink", os.Remove(closed+"/f"), denied...)
		d.wantErrno("rename", os.Rename(closed+"/f", closed+"/g"), denied...)
		d.wantErrno("rename out of it", os.Rename(closed+"/f", d.mnt+"/g"), denied...)
		list(t, closed, []string{"f"})

		d.wantErrno("writing a file of another", os.WriteFile(d.mnt+"/unwritable", []byte("x"), 0o644), denied...)
		d.wantErrno("truncating it", os.Truncate(d.mnt+"/unwritable", 0), denied...)
		// (The shell's own echo wouldn't tell: the refusal comes with the close, which it doesn't look at.)
		if out, err := d.try(`date | cat >> "$MNT/unwritable"`); err == nil {
			t.Errorf("appending to a file of another succeeds: %s", out)
		}
		d.wantSoon(`cat "$MNT/unwritable"`, "text\n") // a failed close is followed by the release, for which nobody waits
		d.wantErrno("chmod of it", os.Chmod(d.mnt+"/unwritable", 0o600), denied...)
		d.both("unwritable", []byte("text\n"))
		_, err := os.ReadFile(d.mnt + "/unreadable")
		d.wantErrno("reading a file of another", err, denied...)
		if out, err := d.try(`cp "$MNT/unreadable" "$TMP/x"`); err == nil || !strings.Contains(out, "ermission denied") {
			t.Errorf("cp of it: %v %s", err, out)
		}
		_, err = os.ReadFile(d.mnt + "/locked/f")
		d.wantErrno("reading in a directory of another", err, append(denied, syscall.ENOENT)...)
		// Replacing goes: the directory is the user's own.
		d.want(`rm -f "$MNT/unwritable"; echo mine > "$MNT/unwritable"; cat "$SRV/unwritable"`, "mine\n")
	})
}

// TestToolsReadOnlyServer has a server that refuses every change.
func TestToolsReadOnlyServer(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{ReadOnly: true})
		d := mountServer(t, server)
		// The shell looks at no close(): it hears of a refusal once the directory is known for it.
		for _, script := range []string{"cp /etc/passwd f", "touch t", "mkdir x", "echo x > f"} {
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.Dir = d.mnt
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("%s succeeds on a server that allows nothing: %s", script, out)
			}
		}
		list(t, server.Root, nil)
		list(t, d.mnt, nil)
	})
}

// TestToolsDiskFull has a server whose disk is full. Whatever needs room fails, at a write, an fsync or the close.
func TestToolsDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		ftptest.Unavailable(t, "only root can mount a small disk")
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{})
		server.Mkdir("full")
		if err := syscall.Mount("tmpfs", server.Path("full"), "tmpfs", 0, "size=2m,mode=0777"); err != nil {
			ftptest.Unavailable(t, "no tmpfs can be mounted: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(server.Path("full"), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		want := []syscall.Errno{syscall.ENOSPC}
		options := "timeout=30s"
		switch kind {
		case ftptest.ProFTPD:
			// It calls a write that was cut short an "Input/output error"; the next one would tell.
			want = append(want, syscall.EIO)
		case ftptest.Pyftpdlib:
			// 1.5.7 says "426 None", or fails in closing the file, and then never ends the transfer with a reply.
			want = []syscall.Errno{syscall.EIO, syscall.ETIMEDOUT}
			options = "timeout=2s,retry=1s"
		}
		d := mountServer(t, server, options).dir(t, "full")
		d.sh(`echo small > "$MNT/small"; echo kept > "$MNT/kept"`)
		write := func(flags int, n int, sync bool) error {
			f, err := os.OpenFile(d.mnt+"/f", flags|os.O_WRONLY|os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			_, err = f.Write(noise(1, n))
			if sync && err == nil {
				err = f.Sync()
				d.wantErrno("fsync", err, want...)
			}
			return errors.Join(err, f.Close())
		}
		for _, c := range []struct {
			what string
			fill bool // to the last byte, before
			do   func() error
		}{
			{"writing more than there is", false, func() error { return write(0, 3<<20, false) }},
			{"writing much more", false, func() error { return write(0, 20<<20, false) }},
			{"fsync", false, func() error { return write(0, 3<<20, true) }},
			{"appending", false, func() error {
				d.wantSoon(`cp "$MNT/small" "$MNT/f"`, "") // the last close of what was removed makes room, a moment later
				return write(os.O_APPEND, 3<<20, false)
			}},
			{"overwriting", false, func() error {
				d.wantSoon(`cp "$MNT/small" "$MNT/f"`, "")
				return write(os.O_TRUNC, 3<<20, false)
			}},
			{"truncating to more", false, func() error { d.sh(`: > "$MNT/f"`); return os.Truncate(d.mnt+"/f", 5<<20) }},
			{"a small file", true, func() error { return write(0, 5000, false) }},
		} {
			if kind == ftptest.Pyftpdlib && !long() && c.what != "writing more than there is" && !c.fill {
				continue // each is a wait for nothing
			}
			if c.fill {
				d.sh(`head -c 3M /dev/zero > "$SRV/fill" 2>/dev/null || true`)
			}
			d.wantErrno(c.what, c.do(), want...)
			d.sh(`rm -f "$MNT/f" "$SRV/fill"`)
			d.both("kept", []byte("kept\n"))
		}
		if kind == ftptest.Pyftpdlib {
			return // its sessions wait for nothing
		}
		if out, err := d.try(`dd if=/dev/zero of="$MNT/big" bs=64k count=100 conv=fsync`); err == nil {
			t.Errorf("dd conv=fsync succeeds: %s", out)
		} else if !strings.Contains(out, "No space left") && kind != ftptest.ProFTPD {
			t.Errorf("dd says %v: %s", err, out)
		}
		d.sh(`rm -f "$MNT/big"; echo fits > "$MNT/fits"; cat "$SRV/fits" "$SRV/small"`)
	})
}
