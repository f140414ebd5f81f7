package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"ftpfs/ftpconn"
)

// listed is a world whose directories are all listed.
func listed(t *testing.T, s *site) *world {
	w := newWorld(t, s)
	for d := range s.dirs {
		w.names(d)
	}
	s.calls = make(map[string]int)
	return w
}

func TestUploadedFileIsListedWithoutAsking(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	w.must(w.upload("/d/n", ftpconn.Replace, 0, 5))
	e := w.entry("/d/n")
	if e.Type != ftpconn.File || e.Size != 5 || !e.ModTime.Equal(epoch) || e.ModPrecision != Provisional || e.UID != -1 {
		t.Errorf("entry = %+v", e)
	}
	if got := w.names("/d"); got != "a n" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 0, stat 0")
}

func TestOverwrittenFileKeepsItsMode(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.edit("/d/a", func(e *ftpconn.Entry) { e.Mode, e.HasMode = 0o640, true })
	w := listed(t, s)
	w.must(w.upload("/d/a", ftpconn.Replace, 0, 5))
	if e := w.entry("/d/a"); e.Size != 5 || e.Mode != 0o640 || e.ModPrecision != Provisional {
		t.Errorf("entry = %+v", e)
	}
	w.asked("list 0, stat 0")
}

func TestSizeAfterUpload(t *testing.T) {
	for _, c := range []struct {
		mode      ftpconn.StoreMode
		old, off  int64
		n         int
		want      int64
		mustAsk   bool
		unlisted  bool
		different string
	}{
		{mode: ftpconn.Replace, old: 10, n: 3, want: 3},
		{mode: ftpconn.Append, old: 10, n: 3, want: 13},
		{mode: ftpconn.Append, old: 10, n: 3, want: 13, unlisted: true, mustAsk: true},
		{mode: ftpconn.Restart, old: 10, off: 8, n: 3, want: 11},
		{mode: ftpconn.Restart, old: 10, off: 2, n: 3, want: 10, mustAsk: true},
	} {
		s := newSite("/d/")
		s.set("/d/a", c.old)
		w := newWorld(t, s)
		if !c.unlisted {
			w.names("/d")
		}
		w.must(w.upload("/d/a", c.mode, c.off, c.n))
		if e := w.entry("/d/a"); e.Size != c.want {
			t.Errorf("%+v: size %d", c, e.Size)
		}
		if asked := s.count("stat") > 0; asked != c.mustAsk {
			t.Errorf("%+v: server asked: %v", c, asked)
		}
	}
}

func TestAppendToAMissingFileNeedsNoAsking(t *testing.T) {
	w := listed(t, newSite("/d/"))
	w.must(w.upload("/d/a", ftpconn.Append, 0, 4))
	if e := w.entry("/d/a"); e.Size != 4 {
		t.Errorf("entry = %+v", e)
	}
	w.asked("stat 0")
}

func TestFailedUploadIsForgotten(t *testing.T) {
	for _, lost := range []string{"store", "close", "abort"} {
		s := newSite("/d/", "/d/b")
		s.set("/d/a", 10)
		w := listed(t, s)
		s.after = func(_ context.Context, op, _ string) error {
			if op == lost {
				return ftpconn.ErrConnLost
			}
			return nil
		}
		u, err := w.Store(w.ctx, "/d/a", ftpconn.Replace, 0)
		if err == nil {
			u.Write(make([]byte, 6))
			if lost == "close" {
				err = u.Close()
			}
			u.Abort()
		}
		if lost != "abort" && !errors.Is(err, ftpconn.ErrConnLost) {
			t.Fatalf("lost at %s: %v", lost, err)
		}
		w.entry("/d/b")
		w.asked("stat 0")
		if got, want := w.entry("/d/a").Size, map[string]int64{"store": 10, "close": 6, "abort": 3}[lost]; got != want {
			t.Errorf("lost at %s: size %d, want the server's %d", lost, got, want)
		}
		w.asked("stat 1, list 0")
	}
}

func TestAbortAfterCloseChangesNothing(t *testing.T) {
	w := listed(t, newSite("/d/"))
	u, err := w.Store(w.ctx, "/d/a", ftpconn.Replace, 0)
	w.must(err)
	w.must(u.Close())
	u.Abort()
	w.entry("/d/a")
	w.asked("stat 0")
}

func TestRunningUploadChangesNothing(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	u, err := w.Store(w.ctx, "/d/a", ftpconn.Replace, 0)
	w.must(err)
	u.Write(make([]byte, 6))
	if e := w.entry("/d/a"); e.Size != 0 {
		t.Errorf("entry = %+v", e)
	}
	w.must(u.Close())
}

func TestUploadsOfOneFileAtOnceLeaveItInDoubt(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	a, err := w.Store(w.ctx, "/d/a", ftpconn.Append, 0)
	w.must(err)
	b, err := w.Store(w.ctx, "/d/a", ftpconn.Append, 0)
	w.must(err)
	a.Write(make([]byte, 3))
	b.Write(make([]byte, 4))
	w.must(a.Close())
	w.must(b.Close())
	if e := w.entry("/d/a"); e.Size != 7 {
		t.Errorf("entry = %+v", e)
	}
	w.asked("stat 1")
}

func TestFileMovedDuringItsUploadIsInDoubt(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a", "/e/"))
	u, err := w.Store(w.ctx, "/d/a", ftpconn.Replace, 0)
	w.must(err)
	w.must(w.Rename(w.ctx, "/d", "/f"))
	w.site.set("/f/a", 4) // the server writes to the file that it opened
	u.(*metaUpload).next.(*siteUpload).path = "/f/a"
	u.Write(make([]byte, 4))
	w.must(u.Close())
	if e := w.entry("/f/a"); e.Size != 4 {
		t.Errorf("entry = %+v", e)
	}
	w.missing("/d/a")
}

func TestFileReplacedDuringItsUploadIsInDoubt(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b")
	s.set("/d/b", 20)
	w := listed(t, s)
	u, err := w.Store(w.ctx, "/d/a", ftpconn.Replace, 0)
	w.must(err)
	w.must(w.Rename(w.ctx, "/d/b", "/d/a"))
	u.(*metaUpload).next.(*siteUpload).path = "/gone" // the file that the server opened has no name
	u.Write(make([]byte, 4))
	w.must(u.Close())
	if e := w.entry("/d/a"); e.Size != 20 {
		t.Errorf("entry = %+v", e)
	}
}

func TestUploadThroughASymlinkLeavesTheLink(t *testing.T) {
	s := newSite("/d/", "/d/l", "/d/a", "/b")
	s.edit("/d/l", func(e *ftpconn.Entry) { e.Type, e.Target = ftpconn.Symlink, "../b" })
	w := listed(t, s)
	u, err := w.Store(w.ctx, "/d/l", ftpconn.Replace, 0)
	w.must(err)
	u.(*metaUpload).next.(*siteUpload).path = "/b"
	u.Write(make([]byte, 6))
	w.must(u.Close())
	if e := w.entry("/d/l"); e.Type != ftpconn.Symlink {
		t.Errorf("link = %+v", e)
	}
	w.asked("stat 0")
	if e := w.entry("/b"); e.Size != 6 {
		t.Errorf("target = %+v", e)
	}
}

func TestNewDirectoryIsEmptyWithoutAsking(t *testing.T) {
	w := listed(t, newSite("/d/"))
	w.must(w.Mkdir(w.ctx, "/d/n"))
	if e := w.entry("/d/n"); e.Type != ftpconn.Dir {
		t.Errorf("entry = %+v", e)
	}
	if got := w.names("/d/n") + "," + w.names("/d"); got != ",n" {
		t.Errorf("names = %q", got)
	}
	w.missing("/d/n/x")
	w.must(w.upload("/d/n/f", ftpconn.Replace, 0, 1))
	if got := w.names("/d/n"); got != "f" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 0, stat 0")
}

func TestRemovedNamesAreGoneWithoutAsking(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a", "/d/b", "/d/e/"))
	w.must(w.Remove(w.ctx, "/d/a"))
	w.must(w.Rmdir(w.ctx, "/d/e"))
	w.missing("/d/a")
	w.missing("/d/e")
	if got := w.names("/d"); got != "b" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 0, stat 0")
}

func TestDirectoryMadeAgainIsNotTheOldOne(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	w.must(w.Remove(w.ctx, "/d/a"))
	w.must(w.Rmdir(w.ctx, "/d"))
	w.missing("/d")
	w.site.set("/d/", 0) // another client
	w.site.set("/d/x", 1)
	if got := w.names("/d"); got != "x" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 1")
}

func TestRenameMovesTheEntry(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b", "/e/")
	s.set("/d/a", 11)
	w := listed(t, s)
	w.must(w.Rename(w.ctx, "/d/a", "/e/n"))
	if e := w.entry("/e/n"); e.Size != 11 || e.Name != "n" || e.UID != 7 || e.ModPrecision != time.Second {
		t.Errorf("entry = %+v", e)
	}
	w.missing("/d/a")
	if got := w.names("/d") + "," + w.names("/e"); got != "b,n" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 0, stat 0")
}

func TestRenameDoesNotRenewTheEntry(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/e/"))
	w.names("/d")
	w.pass(testTTL - 1)
	w.must(w.Rename(w.ctx, "/d/a", "/e/a"))
	w.site.set("/e/a", 9)
	w.pass(1)
	if e := w.entry("/e/a"); e.Size != 9 {
		t.Errorf("entry = %+v", e)
	}
}

func TestRenameReplacesTheTarget(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b")
	s.set("/d/a", 11)
	w := listed(t, s)
	w.must(w.Rename(w.ctx, "/d/a", "/d/b"))
	if e := w.entry("/d/b"); e.Size != 11 {
		t.Errorf("entry = %+v", e)
	}
	if got := w.names("/d"); got != "b" {
		t.Errorf("names = %q", got)
	}
}

func TestRenameMovesTheSubtree(t *testing.T) {
	w := listed(t, newSite("/a/", "/a/b/", "/a/b/c", "/ab/", "/ab/x"))
	w.must(w.Rename(w.ctx, "/a", "/z"))
	if got := w.names("/") + "," + w.names("/z") + "," + w.names("/z/b") + "," + w.names("/ab"); got != "ab z,b,c,x" {
		t.Errorf("names = %q", got)
	}
	w.entry("/z/b/c")
	w.asked("list 0, stat 0")
	w.missing("/a")
	if _, err := w.List(w.ctx, "/a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of the old path = %v", err)
	}
}

func TestRenameDuringAListingBelow(t *testing.T) {
	s := newSite("/a/", "/a/b/", "/a/b/c")
	bubble(t, s, func(w *world) {
		w.names("/")
		g := hold(s, "list /a/b")
		go w.names("/a/b")
		synctest.Wait()
		w.must(w.Rename(w.ctx, "/a", "/z"))
		g.release()
		synctest.Wait()
		if _, err := w.List(w.ctx, "/a/b"); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("List of the old path = %v", err)
		}
	})
}

func TestRenameThatMayHaveHappenedDuringAListingBelow(t *testing.T) {
	s := newSite("/a/", "/a/b/", "/a/b/c")
	bubble(t, s, func(w *world) {
		w.names("/")
		g := hold(s, "list /a/b")
		go w.names("/a/b")
		synctest.Wait()
		held := s.after
		s.after = func(ctx context.Context, op, path string) error {
			if op == "rename" {
				return ftpconn.ErrConnLost
			}
			return held(ctx, op, path)
		}
		if err := w.Rename(w.ctx, "/a", "/z"); err == nil {
			w.t.Fatal("no error")
		}
		g.release()
		synctest.Wait()
		if _, err := w.List(w.ctx, "/a/b"); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("List of the old path = %v", err)
		}
	})
}

func TestWhatIsMissingDuringARenameIsNotMovedAlong(t *testing.T) {
	s := newSite("/a/", "/a/f")
	bubble(t, s, func(w *world) {
		w.names("/a")
		g := hold(s, "rename /a")
		renamed := make(chan error)
		go func() { renamed <- w.Rename(w.ctx, "/a", "/z") }()
		synctest.Wait()
		w.pass(time.Second)
		if _, err := w.Fresh(w.ctx, "/a/f", 0); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("Fresh of the old path = %v", err)
		}
		g.release()
		w.must(<-renamed)
		if _, err := w.Stat(w.ctx, "/z/f"); err != nil {
			w.t.Errorf("Stat of the new path = %v", err)
		}
	})
}

func TestRenameToItselfChangesNothing(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	w.must(w.Rename(w.ctx, "/d/a", "/d/a"))
	w.entry("/d/a")
	w.asked("stat 0")
}

func TestRenameOfAnUnknownName(t *testing.T) {
	s := newSite("/d/", "/d/a", "/e/")
	s.set("/d/a", 11)
	w := newWorld(t, s)
	w.names("/e")
	w.must(w.Rename(w.ctx, "/d/a", "/e/a"))
	if e := w.entry("/e/a"); e.Size != 11 {
		t.Errorf("entry = %+v", e)
	}
	w.missing("/d/a")
	w.asked("stat 1")
}

func TestChmodAndSetModTimeAreSeenWithoutAsking(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.FixedZone("", 3600))
	w.must(w.Chmod(w.ctx, "/d/a", 0o4711))
	w.must(w.SetModTime(w.ctx, "/d/a", when))
	e := w.entry("/d/a")
	if e.Mode != 0o4711 || !e.HasMode || e.ModPrecision != time.Second ||
		e.ModTime != time.Date(2001, 2, 3, 3, 5, 6, 0, time.UTC) {
		t.Errorf("entry = %+v", e)
	}
	w.asked("list 0, stat 0")
}

func TestChangeOfAPartDoesNotRenewTheRest(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a"))
	w.pass(testTTL - 1)
	w.must(w.Chmod(w.ctx, "/d/a", 0o600))
	w.site.set("/d/a", 5)
	w.pass(1)
	if e := w.entry("/d/a"); e.Size != 5 {
		t.Errorf("entry = %+v", e)
	}
}

func TestRefusedChangeOfAPartCostsNothing(t *testing.T) {
	for _, refusal := range []error{errors.ErrUnsupported, refuse("SITE CHMOD", fs.ErrPermission), refuse("SITE CHMOD", nil)} {
		s := newSite("/d/", "/d/a")
		w := listed(t, s)
		s.before = func(_ context.Context, op, _ string) error {
			if op == "chmod" || op == "utime" {
				return refusal
			}
			return nil
		}
		if err := w.Chmod(w.ctx, "/d/a", 0o600); err != refusal {
			t.Errorf("Chmod = %v", err)
		}
		if err := w.SetModTime(w.ctx, "/d/a", epoch); err != refusal {
			t.Errorf("SetModTime = %v", err)
		}
		w.entry("/d/a")
		w.names("/d")
		w.asked("list 0, stat 0")
	}
}

func TestFailureLeavesTheNamesInDoubt(t *testing.T) {
	for op, do := range map[string]func(w *world) error{
		"mkdir":  func(w *world) error { return w.Mkdir(w.ctx, "/d/a") },
		"rmdir":  func(w *world) error { return w.Rmdir(w.ctx, "/d/a") },
		"remove": func(w *world) error { return w.Remove(w.ctx, "/d/a") },
		"rename": func(w *world) error { return w.Rename(w.ctx, "/d/a", "/d/b") },
		"chmod":  func(w *world) error { return w.Chmod(w.ctx, "/d/a", 0) },
		"utime":  func(w *world) error { return w.SetModTime(w.ctx, "/d/a", epoch) },
	} {
		s := newSite("/d/", "/d/a", "/d/b", "/d/c")
		w := listed(t, s)
		s.before = func(_ context.Context, o, _ string) error {
			if o == op {
				return ftpconn.ErrConnLost
			}
			return nil
		}
		if err := do(w); !errors.Is(err, ftpconn.ErrConnLost) {
			t.Errorf("%s: %v", op, err)
		}
		w.entry("/d/c")
		w.asked("stat 0")
		w.entry("/d/a")
		w.asked("stat 1, list 0")
		w.entry("/d/b")
		if n := s.count("stat /d/b"); (op == "rename") != (n == 1) {
			t.Errorf("%s: the other name was asked for %d times", op, n)
		}
	}
}

func TestContradictedListingIsDropped(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b")
	w := listed(t, s)
	s.set("/d/n/", 0)
	s.cut("/d/b")
	if err := w.Mkdir(w.ctx, "/d/n"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Mkdir = %v", err)
	}
	if got := w.names("/d"); got != "a n" {
		t.Errorf("names = %q", got)
	}
	s.cut("/d/a")
	if err := w.Remove(w.ctx, "/d/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Remove = %v", err)
	}
	if got := w.names("/d"); got != "n" {
		t.Errorf("names = %q", got)
	}
}

func TestDirectoryThatIsNotEmptyIsListedAnew(t *testing.T) {
	s := newSite("/d/", "/d/e/")
	w := listed(t, s)
	s.set("/d/e/x", 1)
	if err := w.Rmdir(w.ctx, "/d/e"); !errors.Is(err, ftpconn.ErrNotEmpty) {
		t.Fatalf("Rmdir = %v", err)
	}
	if got := w.names("/d/e"); got != "x" {
		t.Errorf("names = %q", got)
	}
}

func TestListGivenOutDoesNotChange(t *testing.T) {
	s := newSite("/d/")
	for i := range 40 {
		s.set(fmt.Sprintf("/d/%02d", i), 1)
	}
	w := listed(t, s)
	list, err := w.List(w.ctx, "/d")
	w.must(err)
	want := fmt.Sprint(list)
	for i := range 30 {
		w.must(w.Remove(w.ctx, fmt.Sprintf("/d/%02d", i)))
	}
	w.must(w.upload("/d/new", ftpconn.Replace, 0, 1))
	if got := fmt.Sprint(list); got != want {
		t.Errorf("list became %s", got)
	}
	if got := w.names("/d"); got != "30 31 32 33 34 35 36 37 38 39 new" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 0")
}

func TestListGivenOutDoesNotChangeInPlace(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a", "/d/b"))
	list, err := w.List(w.ctx, "/d")
	w.must(err)
	w.must(w.Chmod(w.ctx, "/d/a", 0o700))
	if list[0].HasMode {
		t.Errorf("list became %+v", list)
	}
}

func TestCallersAppendIsTheirOwn(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a", "/d/b"))
	w.must(w.upload("/d/c", ftpconn.Replace, 0, 1)) // leaves room behind the entries
	list, err := w.List(w.ctx, "/d")
	w.must(err)
	list = append(list, ftpconn.Entry{Name: "mine"})
	w.must(w.upload("/d/d", ftpconn.Replace, 0, 1))
	if got := namesOf(list) + "," + w.names("/d"); got != "a b c mine,a b c d" {
		t.Errorf("names = %q", got)
	}
}

func TestRemovingAllOfALargeDirectoryIsLinear(t *testing.T) {
	const n = 50_000
	l := make([]ftpconn.Entry, n)
	for i := range l {
		l[i] = ftpconn.Entry{Name: fmt.Sprint(i), Type: ftpconn.File}
	}
	d := newListing(l)
	copies := 0
	for i := range l {
		if i%1000 == 0 { // somebody lists now and then
			d.snapshot()
		}
		before := d.list
		d.remove(l[i].Name)
		if len(d.list) > 0 && &d.list[0] != &before[0] {
			copies++
		}
	}
	if d.coarse != 0 || len(d.snapshot()) != 0 {
		t.Errorf("%d coarse, %d left", d.coarse, len(d.snapshot()))
	}
	if copies > 2*n/1000 {
		t.Errorf("the list was copied %d times", copies)
	}
}
