package fs

import (
	"errors"
	"os"
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
