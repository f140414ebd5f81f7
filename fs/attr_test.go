package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestModesAndOwner(t *testing.T) {
	s := newSite(t, func(o *Options) { o.UID, o.GID, o.Umask = 4711, 4712, 0o027 })
	p := s.put(t, "f", "x")
	info, err := os.Stat(p)
	must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o640 || st.Uid != 4711 || st.Gid != 4712 {
		t.Errorf("mode %v, owner %d:%d", info.Mode(), st.Uid, st.Gid)
	}
}

func TestChmod(t *testing.T) {
	for _, unsupported := range []bool{false, true} {
		s := newSite(t)
		s.remote.set(func() { s.remote.noMode = unsupported })
		p := s.put(t, "f", "x")
		must(t, os.Chmod(p, 0o751))
		must(t, os.Rename(p, p+"2"))
		info, err := os.Stat(p + "2")
		must(t, err)
		if info.Mode() != 0o751 {
			t.Errorf("unsupported %v: shown as %v", unsupported, info.Mode())
		}
		info, err = os.Stat(filepath.Join(s.dir, "f2"))
		must(t, err)
		if !unsupported && info.Mode() != 0o751 {
			t.Errorf("on the server %v", info.Mode())
		}
	}
}

func TestTimes(t *testing.T) {
	for _, unsupported := range []bool{false, true} {
		s := newSite(t)
		s.remote.set(func() { s.remote.noTime = unsupported })
		p := s.put(t, "f", "x")
		want := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		must(t, os.Chtimes(p, want, want))
		info, err := os.Stat(p)
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("unsupported %v: %v", unsupported, info.ModTime())
		}
	}
}

func TestForgottenTimeGivesWayToANewFile(t *testing.T) {
	s := mountSite(t, false, func(o *Options) { o.TTL = 0 })
	s.remote.set(func() { s.remote.noTime = true })
	p := s.put(t, "f", "x")
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(p, old, old))
	s.put(t, "f", "changed")
	info, err := os.Stat(p)
	must(t, err)
	if info.ModTime().Equal(old) {
		t.Error("a changed file has the time that was set on the one before it")
	}
}

func TestChown(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "x")
	must(t, os.Chown(p, os.Getuid(), os.Getgid()))
	if err := os.Chown(p, 4711, -1); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chown to another: %v", err)
	}
}

func TestStatfsNeverSaysFull(t *testing.T) {
	s := newSite(t)
	var st syscall.Statfs_t
	must(t, syscall.Statfs(s.mnt, &st))
	if st.Bavail*uint64(st.Bsize) < 1<<40 || st.Namelen != 255 {
		t.Errorf("%+v", st)
	}
}

func TestExecutableIsMadeExecutable(t *testing.T) {
	s := newSite(t)
	must(t, os.WriteFile(filepath.Join(s.mnt, "x"), []byte("#!/bin/sh\n"), 0o755))
	info, err := os.Stat(filepath.Join(s.dir, "x"))
	must(t, err)
	if info.Mode()&0o111 == 0 {
		t.Errorf("mode on the server: %v", info.Mode())
	}
}

// TestAccessByModeBits asks as another user than root, whom all may.
func TestAccessByModeBits(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can ask as others")
	}
	const uid, gid = 4711, 4712
	for name, mount := range map[string]func(*Options){
		"AllowOther": func(o *Options) { o.AllowOther = true },
		"kernel":     func(o *Options) { o.AllowOther, o.DefaultPermissions = true, true },
	} {
		s := newSite(t, mount, func(o *Options) { o.UID, o.GID, o.Umask = uid, gid, 0o027 })
		must(t, os.Chmod(filepath.Dir(filepath.Dir(s.mnt)), 0o755)) // the way to the mountpoint
		must(t, os.Chmod(filepath.Dir(s.mnt), 0o755))
		p := s.put(t, "f", "x") // rw-r-----
		for _, c := range []struct {
			uid, gid       uint32
			read, write, x bool
		}{{uid, gid, true, true, false}, {uid + 1, gid, true, false, false}, {uid + 1, gid + 1, false, false, false}, {0, 0, true, true, false}} {
			for what, want := range map[string]bool{"-r": c.read, "-w": c.write, "-x": c.x} {
				cmd := exec.Command("test", what, p)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
				if err := cmd.Run(); (err == nil) != want {
					t.Errorf("%s: test %s as %d:%d: %v, want %v", name, what, c.uid, c.gid, err, want)
				}
			}
		}
	}
}

func TestWhatIsRemovedAndOpenHasAttributes(t *testing.T) {
	s := newSite(t)
	s.put(t, "f", "content")
	must(t, os.Mkdir(filepath.Join(s.mnt, "d"), 0o755))
	for _, name := range []string{"f", "d"} {
		p := filepath.Join(s.mnt, name)
		must(t, os.Chtimes(p, farTime, farTime)) // what is known of it is to be asked for again
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		must(t, os.Chtimes(p, farTime, farTime))
		must(t, os.Remove(p))
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 {
			t.Errorf("%s: %v, %d links", name, err, st.Nlink)
		}
	}
}
