package fs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// site is a mount of a local directory, by way of a Remote.
type site struct {
	*Mounted
	remote *dirRemote
	dir    string // what the server has
	mnt    string
}

// needFUSE skips where there is no FUSE; not in CI, where it would hide everything.
func needFUSE(t testing.TB) {
	t.Helper()
	if _, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("FUSE is needed: %v", err)
		}
		t.Skipf("FUSE is needed: %v", err)
	}
}

// newSite mounts an empty directory with the metadata cache before it. change may alter the options.
func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	return mountSite(t, true, change...)
}

func mountSite(t testing.TB, cached bool, change ...func(*Options)) *site {
	t.Helper()
	needFUSE(t)
	s := &site{dir: t.TempDir(), mnt: t.TempDir()}
	s.remote = newDirRemote(s.dir)
	var remote ftpconn.Remote = s.remote
	if cached {
		remote = cache.NewMeta(s.remote, cache.MetaConfig{TTL: 30 * time.Second})
	}
	s.Mounted = mountRemote(t, s.mnt, remote, change...)
	return s
}

// mountRemote mounts remote for the length of a test.
func mountRemote(t testing.TB, mnt string, remote ftpconn.Remote, change ...func(*Options)) *Mounted {
	t.Helper()
	needFUSE(t)
	log := testLog(t)
	opt := Options{
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Umask: 0, TTL: 30 * time.Second, Logger: log, Source: "ftp://test/",
		SpoolDir: t.TempDir(),
	}
	for _, f := range change {
		f(&opt)
	}
	spool, err := cache.OpenSpool(opt.SpoolDir, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Mount(mnt, remote, spool, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Errorf("%v", err)
		}
		remote.Close()
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// put writes a file on the server, behind the mount's back.
func (s *site) put(t testing.TB, name, content string) string {
	t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.mnt, name)
}

// onServer fails unless the server's file has this content.
func (s *site) onServer(t testing.TB, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatalf("on the server: %v", err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Fatalf("%s on the server: %d bytes %.40q, want %d bytes %.40q", name, len(got), got, len(want), want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, p string) string {
	t.Helper()
	data, err := os.ReadFile(p)
	must(t, err)
	return string(data)
}

func TestListsWithAttributes(t *testing.T) {
	s := newSite(t)
	s.put(t, "a.txt", "hello")
	must(t, os.Mkdir(filepath.Join(s.dir, "sub"), 0o755))
	entries, err := os.ReadDir(s.mnt)
	must(t, err)
	if len(entries) != 2 || entries[0].Name() != "a.txt" || entries[1].Name() != "sub" || !entries[1].IsDir() {
		t.Fatalf("entries: %v", entries)
	}
	info, err := entries[0].Info()
	must(t, err)
	if info.Size() != 5 || info.Mode() != 0o644 {
		t.Errorf("a.txt: size %d, mode %v", info.Size(), info.Mode())
	}
	if n := s.remote.count("") - s.remote.count("List"); n > 1 { // the root's own entry
		t.Errorf("%d requests beside the listing: %v", n, s.remote.calls)
	}
}

func TestReadsAFile(t *testing.T) {
	s := newSite(t)
	if got := read(t, s.put(t, "f", "content")); got != "content" {
		t.Errorf("read %q", got)
	}
}

func TestWritesAFileInOneRequest(t *testing.T) {
	s := newSite(t)
	_, err := os.ReadDir(s.mnt)
	must(t, err)
	before := s.remote.count("")
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), []byte("content"), 0o644))
	s.onServer(t, "f", "content")
	if n := s.remote.count("") - before; n != 1 {
		t.Errorf("%d requests, want 1: %v", n, s.remote.calls)
	}
}

func TestAppends(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "one")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "onetwo")
	if s.remote.count("Append") != 1 || s.remote.count("Retrieve")+s.remote.count("Store") != 0 {
		t.Errorf("requests: %v", s.remote.calls)
	}
}
