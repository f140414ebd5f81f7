package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dies ends a Spool as a crash does: its lock goes, and what it has on the disk stays.
func dies(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.own.lock.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.own.lock, err = os.Open(os.DevNull); err != nil { // for Close
		t.Fatal(err)
	}
}

func keptNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, keptDir))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		_, name, _ := strings.Cut(e.Name(), "-")
		_, name, _ = strings.Cut(name, "-")
		names = append(names, name)
	}
	return names
}

// TestKilledWhileItOverwrites has copies in all states when their Spool dies: those of which the server may have a part are kept.
func TestKilledWhileItOverwrites(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	make := func(text string) *SpoolFile {
		f := createFile(t, s)
		if text != "" {
			mustWrite(t, f, text, 0)
		}
		return f
	}
	over := func(f *SpoolFile, p string) {
		t.Helper()
		if err := f.Overwrites(p); err != nil {
			t.Fatal(err)
		}
	}
	make("a new file")
	over(make("new content"), "/d/over\xff")
	done := make("confirmed")
	over(done, "/done")
	plan := done.Plan()
	done.MarkClean(plan.Version, plan.Size)
	done.Overwritten()
	closed := make("given up")
	over(closed, "/closed")
	closed.Close()
	if again := make("another"); again.LocalPath() != closed.LocalPath() {
		t.Error("the copy isn't used again")
	}
	over(make(""), "/empty")
	based := createFile(t, s)
	if err := based.SetBase(10); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, based, "56", 5)
	over(based, "/patched")
	journaled := make("journaled")
	over(journaled, "/journaled")
	if err := journaled.Journal(Pending{Site: "site", Path: "/journaled"}); err != nil {
		t.Fatal(err)
	}
	dies(t, s)

	next := openSpool(t, dir, 0)
	if names := strings.Join(keptNames(t, dir), " "); names != "%d%over\xff %patched" && names != "%patched %d%over\xff" {
		t.Errorf("kept: %q", names)
	}
	list, err := os.ReadDir(filepath.Join(dir, keptDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		want := "new content"
		if strings.HasSuffix(e.Name(), "patched") {
			want = "\x00\x00\x00\x00\x0056"
		}
		if got, err := os.ReadFile(filepath.Join(dir, keptDir, e.Name())); string(got) != want {
			t.Errorf("%s has %q, %v", e.Name(), got, err)
		}
	}
	resumed, err := next.Resume("site")
	if err != nil || len(resumed) != 1 || resumed[0].Path != "/journaled" {
		t.Errorf("resumed: %v, %v", resumed, err)
	}
	if n := len(keptNames(t, dir)); n != 2 {
		t.Errorf("%d files are kept behind Resume", n)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, s.own.id+"*")); len(left) > 0 {
		t.Errorf("left of the dead: %v", left)
	}
}

// TestKilledWhileItOverwritesMuch leaves more than may be kept: the oldest goes.
func TestKilledWhileItOverwritesMuch(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	for _, p := range []string{"/a", "/b"} {
		f := createFile(t, s)
		mustWrite(t, f, strings.Repeat("x", 100_000), 0)
		if err := f.Overwrites(p); err != nil {
			t.Fatal(err)
		}
	}
	dies(t, s)
	openSpool(t, dir, 150_000)
	if names := keptNames(t, dir); len(names) != 1 {
		t.Errorf("kept: %v", names)
	}
}
