package cache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// putOff makes a local copy and journals it.
func putOff(t *testing.T, s *Spool, site, path, content string) *SpoolFile {
	t.Helper()
	f, err := s.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if content != "" {
		if _, err := f.WriteAt([]byte(content), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Journal(Pending{Site: site, Path: path, Created: true, ServerSize: -1, Closed: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return f
}

// resume is Resume without an error.
func resume(t *testing.T, s *Spool, site string) map[string]Resumed {
	t.Helper()
	list, err := s.Resume(site)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]Resumed)
	for i, r := range list {
		if i > 0 && r.Closed.Before(list[i-1].Closed) {
			t.Errorf("%s, closed %v, comes after %v", r.Path, r.Closed, list[i-1].Closed)
		}
		found[r.Path] = r
	}
	return found
}

func contentOf(t *testing.T, f *SpoolFile) string {
	t.Helper()
	buf := make([]byte, f.Size())
	if n, missing, err := f.ReadAt(buf, 0); n != len(buf) || missing != nil || err != nil {
		t.Fatalf("%d of %d bytes, missing %v, %v", n, len(buf), missing, err)
	}
	return string(buf)
}

func TestJournaledCopiesOutliveTheirSpool(t *testing.T) {
	dir := t.TempDir()
	one := openSpool(t, dir, 0)
	names := []string{"/a", "/with \"quotes\"\n and \xff bytes", "/empty", "/d/e/f"}
	for _, name := range names {
		content := "content of " + name
		if name == "/empty" {
			content = ""
		}
		putOff(t, one, "site", name, content)
	}
	putOff(t, one, "other", "/x", "of another site")
	gone := putOff(t, one, "site", "/uploaded", "uploaded")
	gone.Unjournal()
	if _, err := one.Create("/never closed"); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}

	two := openSpool(t, dir, 0)
	found := resume(t, two, "site")
	if len(found) != len(names) {
		t.Errorf("%d copies, want %d", len(found), len(names))
	}
	for _, name := range names {
		r, ok := found[name]
		if !ok {
			t.Fatalf("%q is lost", name)
		}
		want := "content of " + name
		if name == "/empty" {
			want = ""
		}
		if got := contentOf(t, r.File); got != want || r.Torn || !r.Created || r.ServerSize != -1 {
			t.Errorf("%q: %q, %+v", name, got, r.Pending)
		}
		if p := r.File.Plan(); p.Kind != Whole {
			t.Errorf("%q: plan %v", name, p.Kind)
		}
	}
	if two.Usage() != 3*allocUnit {
		t.Errorf("usage %d", two.Usage())
	}
	// They are in the journal of the new one.
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	three := openSpool(t, dir, 0)
	if found := resume(t, three, "site"); len(found) != len(names) {
		t.Errorf("%d copies after the second mount, want %d", len(found), len(names))
	} else {
		for _, r := range found {
			if err := r.File.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if found := resume(t, three, "other"); len(found) != 1 || contentOf(t, found["/x"].File) != "of another site" {
		t.Errorf("of the other site: %v", found)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "p*"))
	if len(left) != 2 {
		t.Errorf("directories left: %v", left)
	}
}

func TestResumeLeavesTheLivingAlone(t *testing.T) {
	dir := t.TempDir()
	one := openSpool(t, dir, 0)
	f := putOff(t, one, "site", "/a", "text")
	two := openSpool(t, dir, 0)
	if found := resume(t, two, "site"); len(found) != 0 {
		t.Errorf("%v", found)
	}
	if got := contentOf(t, f); got != "text" {
		t.Errorf("%q", got)
	}
}

// TestJournalKeepsShapes has a copy of which parts are only on the server.
func TestJournalKeepsShapes(t *testing.T) {
	dir := t.TempDir()
	one := openSpool(t, dir, 0)
	f, err := one.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetBase(100_000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("new"), 50_000); err != nil {
		t.Fatal(err)
	}
	if err := f.Fill([]byte("from the server"), 10_000); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2024, 2, 3, 4, 5, 6, 7, time.UTC)
	want := Pending{Site: "site", Path: "/f", ServerSize: 100_000, ServerTime: when, ServerPrecision: time.Minute, Mode: 0o640, HasMode: true,
		SetTime: when, ModTime: when, Closed: when}
	if err := f.Journal(want); err != nil {
		t.Fatal(err)
	}
	missing, dirty := f.Missing(0, f.Size()), f.DirtyRanges()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	r := resume(t, openSpool(t, dir, 0), "site")["/f"]
	if r.File == nil {
		t.Fatal("lost")
	}
	if got := fmt.Sprint(r.File.Missing(0, r.File.Size()), r.File.DirtyRanges(), r.File.Size(), r.File.Base()); got != fmt.Sprint(missing, dirty, 100_000, 100_000) {
		t.Errorf("shape %s", got)
	}
	got := r.Pending
	got.Shape = Shape{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// TestJournalAfterACrash has lines and copies as a crash may leave them.
func TestJournalAfterACrash(t *testing.T) {
	for name, c := range map[string]struct {
		crash func(t *testing.T, dir string)
		want  string // content, "" for lost
		torn  bool
	}{
		"cut line": {func(t *testing.T, dir string) {
			appendTo(t, filepath.Join(dir, journalFile), `+12345678 {"Path`)
		}, "text", false},
		"damaged line behind": {func(t *testing.T, dir string) {
			appendTo(t, filepath.Join(dir, journalFile), "+00000000 {}\n-no such copy\n\n")
		}, "text", false},
		"damaged line": {func(t *testing.T, dir string) {
			p := filepath.Join(dir, journalFile)
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			text[len(text)/2] ^= 1
			if err := os.WriteFile(p, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "", false},
		"copy removed, line not": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "000001")); err != nil {
				t.Fatal(err)
			}
		}, "", false},
		"written again, longer": {func(t *testing.T, dir string) {
			appendTo(t, filepath.Join(dir, "000001"), " and more")
		}, "text and more", true},
		"written again, shorter": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "000001"), 2); err != nil {
				t.Fatal(err)
			}
		}, "te", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			one := openSpool(t, dir, 0)
			putOff(t, one, "site", "/f", "text")
			own := filepath.Join(dir, one.own.id)
			if err := one.Close(); err != nil {
				t.Fatal(err)
			}
			c.crash(t, own)
			r, ok := resume(t, openSpool(t, dir, 0), "site")["/f"]
			switch {
			case ok != (c.want != ""):
				t.Errorf("there: %v", ok)
			case ok && (contentOf(t, r.File) != c.want || r.Torn != c.torn || r.Cut != (len(c.want) < len("text"))):
				t.Errorf("%q, torn %v, cut %v", contentOf(t, r.File), r.Torn, r.Cut)
			}
		})
	}
}

func appendTo(t *testing.T, p, text string) {
	t.Helper()
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournalIsCompacted(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	kept := putOff(t, s, "site", "/kept", "kept")
	f := putOff(t, s, "site", "/"+strings.Repeat("x", 200), "0")
	for i := range 4 * compactFrom / 400 {
		if err := f.Journal(Pending{Site: "site", Path: "/" + strings.Repeat("x", 200), Mode: uint32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, s.own.id, journalFile))
	if err != nil || info.Size() > 2*compactFrom {
		t.Fatalf("%v bytes, %v", info.Size(), err)
	}
	if !kept.Journaled() {
		t.Error("a line is lost")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found := resume(t, openSpool(t, dir, 0), "site"); len(found) != 2 || found["/kept"].File == nil {
		t.Errorf("%v", found)
	}
}

// TestJournalFailsWithTheDisk can't confirm what didn't reach the disk.
func TestJournalFailsWithTheDisk(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := createFile(t, s)
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	f.file = failingSync{f.file}
	if err := f.Journal(Pending{Site: "site", Path: "/f"}); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	if f.Journaled() {
		t.Error("it is in the journal")
	}
}

type failingSync struct{ diskFile }

func (failingSync) Sync() error { return syscall.EIO }

func TestRestingCopyWakes(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := putOff(t, s, "site", "/f", "text")
	f.Rest()
	if d := f.file.(*diskCopy); d.file != nil {
		t.Error("the descriptor is still there")
	}
	if got := contentOf(t, f); got != "text" {
		t.Errorf("%q", got)
	}
	f.Rest()
	if _, err := f.WriteAt(bytes.Repeat([]byte("y"), 10), 2); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, f); got != "teyyyyyyyyyy" {
		t.Errorf("%q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestArrived has a part, and then all, of what was written behind the end found on the server.
func TestArrived(t *testing.T) {
	s, err := OpenSpool(t.TempDir(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.Create("f")
	if err == nil {
		err = f.SetBase(100)
	}
	if err == nil {
		_, err = f.WriteAt(make([]byte, 50), 100)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := f.Version()
	if f.Arrived(v-1, 120) || f.Arrived(v, 99) || f.Arrived(v, 151) {
		t.Error("of another version, or not within the file")
	}
	if !f.Arrived(v, 120) {
		t.Fatal("refused")
	}
	if p := f.Plan(); p.Kind != AppendFrom || p.Off != 120 {
		t.Errorf("a part: %v from %d", p.Kind, p.Off)
	}
	if missing := f.Missing(0, 150); len(missing) != 1 || missing[0] != (Range{0, 100}) {
		t.Errorf("missing: %v", missing)
	}
	if !f.Arrived(v, 150) || f.Dirty() || f.Plan().Kind != Clean {
		t.Error("all of it, and yet dirty")
	}
}
