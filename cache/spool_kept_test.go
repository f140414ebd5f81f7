package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// kept makes a file of n bytes and keeps it under a name.
func kept(t *testing.T, s *Spool, name string, n int) string {
	t.Helper()
	f := createFile(t, s)
	if _, err := f.WriteAt(bytes.Repeat([]byte("k"), n), 0); err != nil {
		t.Fatal(err)
	}
	p, err := f.Keep(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func TestKeptFileOutlivesItsSpool(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSpool(dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := kept(t, s, "/a/b/report.txt", 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openSpool(t, dir, 0)
	if data, err := os.ReadFile(p); err != nil || string(data) != "kkk" {
		t.Errorf("%q, %v", data, err)
	}
	if filepath.Dir(p) != filepath.Join(dir, "lost+found") || !strings.HasSuffix(p, "-%a%b%report.txt") {
		t.Errorf("kept as %s", p)
	}
}

func TestKeptNamesStayInTheirDirectory(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	for _, name := range []string{"", "..", "/../../x", strings.Repeat("/long", 200)} {
		if p := kept(t, s, name, 1); filepath.Base(filepath.Dir(p)) != "lost+found" || !exists(p) {
			t.Errorf("%.20q is kept as %s", name, p)
		}
	}
}

func TestKeptFilesGiveWayToNewerOnes(t *testing.T) {
	s := openSpool(t, t.TempDir(), 3*allocUnit)
	a, b := kept(t, s, "a", allocUnit), kept(t, s, "b", allocUnit)
	c := kept(t, s, "c", 2*allocUnit)
	if exists(a) || !exists(b) || !exists(c) {
		t.Errorf("there: a %v, b %v, c %v; want the newest that fit", exists(a), exists(b), exists(c))
	}
}

func TestKeptFilesGiveWayToWriters(t *testing.T) {
	s := openSpool(t, t.TempDir(), 3*allocUnit)
	a, b := kept(t, s, "a", allocUnit), kept(t, s, "b", allocUnit)
	f := createFile(t, s)
	if _, err := f.WriteAt(make([]byte, 2*allocUnit), 0); err != nil {
		t.Fatal(err)
	}
	if exists(a) || !exists(b) {
		t.Errorf("there: a %v, b %v", exists(a), exists(b))
	}
	if _, err := f.WriteAt(make([]byte, 2*allocUnit), 2*allocUnit); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("beyond the limit: %v", err)
	}
}

func TestFileThatCannotBeKeptStaysOpen(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	if err := os.WriteFile(filepath.Join(dir, keptDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := createFile(t, s)
	if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Keep("f"); err == nil {
		t.Fatal("kept in a directory that is a file")
	}
	got := make([]byte, 3)
	if _, _, err := f.ReadAt(got, 0); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
}
