package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

func TestListingAnswersUntilTTL(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/b", "/d/a"))
	if got := w.names("/d"); got != "b a" {
		t.Fatalf("names = %q, want the server's order", got)
	}
	w.site.set("/d/c", 1)
	w.pass(testTTL - 1)
	w.names("/d")
	w.asked("list 1")
	w.pass(1)
	if got := w.names("/d"); got != "b a c" {
		t.Errorf("names after TTL = %q", got)
	}
	w.asked("list 2")
}

func TestStatOfListedDirectoryAsksNothing(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a"))
	w.names("/d")
	w.entry("/d/a")
	w.missing("/d/x")
	w.asked("list 1, stat 0")
	if s := w.Stats(); s.Hits != 2 || s.Misses != 1 || s.Listings != 1 {
		t.Errorf("stats = %+v", s)
	}
}

func TestStatOfUnlistedDirectoryDoesNotListIt(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.entry("/d/a")
	w.entry("/d/a")
	w.entry("/d/b")
	w.asked("list 0, stat 2")
	if got := w.names("/d"); got != "a b" {
		t.Errorf("a partial listing was given as a whole one: %q", got)
	}
}

func TestStatWithoutMeansListsTheParentOnce(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b")
	s.noStat = true
	w := newWorld(t, s)
	if e := w.entry("/d/a"); e.Name != "a" || e.Type != ftpconn.File {
		t.Errorf("entry = %+v", e)
	}
	w.entry("/d/b")
	w.missing("/d/c")
	w.asked("list 1")
}

func TestNegativeSingleAnswerIsShort(t *testing.T) {
	w := newWorld(t, newSite("/d/"))
	w.missing("/d/x")
	w.pass(maxNegative - 1)
	w.missing("/d/x")
	w.asked("stat 1")
	w.site.set("/d/x", 1)
	w.pass(1)
	w.entry("/d/x")
	w.asked("stat 2")
}

func TestNegativeAnswersDoNotPileUp(t *testing.T) {
	w := newWorld(t, newSite("/d/"))
	for i := range 5000 {
		w.missing(fmt.Sprintf("/d/%d", i))
		w.pass(maxNegative / 100)
	}
	if s := w.Stats(); s.Entries > 1000 {
		t.Errorf("%d entries for names that aren't there", s.Entries)
	}
}

func TestErrorsAreNotRemembered(t *testing.T) {
	s := newSite("/d/", "/d/a")
	lost := fmt.Errorf("stat: %w", ftpconn.ErrConnLost)
	down := true
	s.before = func(context.Context, string, string) error {
		if down {
			return lost
		}
		return nil
	}
	w := newWorld(t, s)
	if _, err := w.Stat(w.ctx, "/d/a"); err != lost || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat = %v, want the error itself", err)
	}
	if _, err := w.List(w.ctx, "/d"); err != lost {
		t.Errorf("List = %v, want the error itself", err)
	}
	down = false
	w.entry("/d/a")
	w.names("/d")
}

func TestFailedRelistingLeavesNoNegative(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.noStat = true
	w := newWorld(t, s)
	w.names("/d")
	w.pass(testTTL)
	s.before = func(context.Context, string, string) error { return ftpconn.ErrConnLost }
	if _, err := w.Stat(w.ctx, "/d/x"); !errors.Is(err, ftpconn.ErrConnLost) {
		t.Errorf("Stat = %v, want the lost connection", err)
	}
}

func TestRootIsAlwaysADirectory(t *testing.T) {
	for _, refusal := range []error{
		errors.ErrUnsupported,
		refuse("MLST /", nil),
		refuse("MLST /", fs.ErrNotExist),
		refuse("MLST /", fs.ErrPermission),
	} {
		s := newSite()
		s.noRoot = refusal
		w := newWorld(t, s)
		if e := w.entry("/"); e.Type != ftpconn.Dir || e.Name != "/" {
			t.Errorf("root for %v = %+v", refusal, e)
		}
		w.entry("/")
		w.asked("stat 1, list 0")
	}
}

func TestRootSaysWhatTheServerSays(t *testing.T) {
	w := newWorld(t, newSite())
	if e := w.entry("/"); !e.HasMode || e.Mode != 0o755 {
		t.Errorf("root = %+v, want the server's mode", e)
	}
}

func TestRootOfALostServerFails(t *testing.T) {
	s := newSite()
	s.noRoot = ftpconn.ErrConnLost
	w := newWorld(t, s)
	if _, err := w.Stat(w.ctx, "/"); !errors.Is(err, ftpconn.ErrConnLost) {
		t.Errorf("Stat(/) = %v, want the lost connection", err)
	}
}

func TestSymlinkStaysOneWhereStatFollows(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/l", "/d/dangling")
	s.follow = true
	for path, target := range map[string]string{"/d/l": "a", "/d/dangling": "nowhere"} {
		s.edit(path, func(e *ftpconn.Entry) { e.Type, e.Target = ftpconn.Symlink, target })
	}
	w := newWorld(t, s)
	w.names("/d")
	for range 2 {
		if e := w.entry("/d/l"); e.Type != ftpconn.Symlink || e.Target != "a" {
			t.Errorf("link = %+v", e)
		}
		if e := w.entry("/d/dangling"); e.Type != ftpconn.Symlink {
			t.Errorf("dangling link = %+v", e)
		}
		w.pass(testTTL)
	}
	w.asked("list 2")
}

func TestFreshAsksWhenOlder(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.site.edit("/d/a", func(e *ftpconn.Entry) { e.Mode, e.HasMode = 0o640, true })
	w.names("/d")
	w.pass(time.Second)
	if _, err := w.Fresh(w.ctx, "/d/a", time.Second); err != nil {
		t.Fatal(err)
	}
	w.asked("stat 0")
	w.pass(1)
	w.site.set("/d/a", 99)
	e, err := w.Fresh(w.ctx, "/d/a", time.Second)
	w.must(err)
	if e.Size != 99 || e.Mode != 0o640 {
		t.Errorf("fresh entry = %+v", e)
	}
	list, err := w.List(w.ctx, "/d")
	w.must(err)
	if list[0].Size != 99 || namesOf(list) != "a b" {
		t.Errorf("listing = %+v, want the fresh entry in its place", list)
	}
	w.asked("stat 1, list 1")
}

func TestFreshBySizeKeepsWhatItDoesNotSay(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.bare, s.rounded = true, time.Minute
	s.edit("/d/a", func(e *ftpconn.Entry) { e.Mode, e.HasMode, e.Owner = 0o640, true, "joe" })
	w := newWorld(t, s)
	w.names("/d")
	w.pass(1)
	e, err := w.Fresh(w.ctx, "/d/a", 0)
	w.must(err)
	if !isExact(e) || e.Mode != 0o640 || e.UID != 7 || e.Owner != "joe" {
		t.Errorf("entry = %+v", e)
	}
}

func TestFreshSeesARemovedFile(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.names("/d")
	w.site.cut("/d/a")
	w.pass(2)
	if _, err := w.Fresh(w.ctx, "/d/a", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Fresh = %v", err)
	}
	if got := w.names("/d"); got != "b" {
		t.Errorf("names = %q", got)
	}
	w.asked("list 1")
}

func TestFreshWithoutStatRelists(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.noStat = true
	w := newWorld(t, s)
	w.names("/d")
	w.pass(time.Second)
	if _, err := w.Fresh(w.ctx, "/d/a", time.Second); err != nil {
		t.Fatal(err)
	}
	w.asked("list 1")
	w.pass(1)
	w.site.set("/d/a", 5)
	if e, err := w.Fresh(w.ctx, "/d/a", time.Second); err != nil || e.Size != 5 {
		t.Errorf("Fresh = %+v, %v", e, err)
	}
	w.asked("list 2")
}

func TestForgetIsOneName(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.names("/d")
	w.site.set("/d/a", 5)
	w.Forget("/d/a")
	w.entry("/d/b")
	w.asked("stat 0")
	if e := w.entry("/d/a"); e.Size != 5 {
		t.Errorf("entry = %+v", e)
	}
	w.names("/d")
	w.asked("stat 1, list 1")
}

func TestForgetIsATree(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/e/", "/d/e/a", "/dd/"))
	for _, d := range []string{"/", "/d", "/d/e", "/dd"} {
		w.names(d)
	}
	w.Forget("/d")
	w.names("/dd")
	w.asked("list 4")
	for _, d := range []string{"/", "/d", "/d/e"} {
		w.names(d)
	}
	w.asked("list 7")
}

func TestForgottenNameMakesListAskAnew(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.names("/d")
	w.site.cut("/d/a")
	w.Forget("/d/a")
	if got := w.names("/d"); got != "b" {
		t.Errorf("names = %q", got)
	}
}

func TestForgetAll(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a"))
	w.names("/d")
	w.ForgetAll()
	if s := w.Stats(); s.Entries != 0 || s.Dirs != 0 {
		t.Errorf("stats = %+v", s)
	}
	w.entry("/d/a")
	w.asked("stat 1")
}

func TestMissingDirectoryIsForgotten(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/e/"))
	w.names("/d")
	w.site.mu.Lock()
	delete(w.site.dirs, "/d/e")
	w.site.mu.Unlock()
	w.site.cut("/d/e")
	if _, err := w.List(w.ctx, "/d/e"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("List = %v", err)
	}
	w.missing("/d/e")
	w.asked("stat 1")
}

func TestMissingDirectoryTakesTheOnesBelowAlong(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/e/"))
	w.names("/d/e")
	w.site.mu.Lock()
	delete(w.site.dirs, "/d")
	delete(w.site.dirs, "/d/e")
	w.site.mu.Unlock()
	if _, err := w.List(w.ctx, "/d"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("List = %v", err)
	}
	if _, err := w.List(w.ctx, "/d/e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List below = %v", err)
	}
}

func TestRefusedRetrieveCorrects(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a", "/d/b"))
	w.names("/d")
	w.site.cut("/d/a")
	if _, err := w.Retrieve(w.ctx, "/d/a", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Retrieve = %v", err)
	}
	if got := w.names("/d"); got != "b" {
		t.Errorf("names = %q", got)
	}
}

func TestTTLZeroRemembersNothing(t *testing.T) {
	w := newWorld(t, newSite("/d/", "/d/a"), func(c *MetaConfig) { c.TTL = 0 })
	for range 2 {
		w.names("/d")
		w.entry("/d/a")
		w.missing("/d/x")
		if _, err := w.Fresh(w.ctx, "/d/a", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	w.asked("list 2, stat 6")
	w.must(w.Mkdir(w.ctx, "/d/e"))
	w.must(w.upload("/d/f", ftpconn.Replace, 0, 1))
	w.must(w.Chmod(w.ctx, "/d/f", 0o600))
	w.must(w.Rename(w.ctx, "/d/f", "/d/g"))
	w.must(w.Remove(w.ctx, "/d/a"))
	w.must(w.Rmdir(w.ctx, "/d/e"))
	if s := w.Stats(); s.Entries != 0 || s.Dirs != 0 || s.Hits != 0 {
		t.Errorf("stats = %+v", s)
	}
	if got := w.names("/d"); got != "g" {
		t.Errorf("names = %q", got)
	}
}

func TestTTLZeroWithoutStatListsForEach(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.noStat = true
	w := newWorld(t, s, func(c *MetaConfig) { c.TTL = 0 })
	w.entry("/d/a")
	w.missing("/d/x")
	w.asked("list 2")
}

func TestBudgetDropsTheLeastRecentlyUsed(t *testing.T) {
	s := newSite()
	for d := range 4 {
		for f := range 10 {
			s.set(fmt.Sprintf("/%d/%d", d, f), 0)
		}
	}
	w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 3 * (10 + dirCost) })
	for _, d := range []string{"/0", "/1", "/2", "/0", "/3"} {
		w.names(d)
	}
	if st := w.Stats(); st.Dirs != 3 || st.Entries != 3*(10+dirCost) || st.Evictions != 1 {
		t.Errorf("stats = %+v", st)
	}
	w.names("/0")
	w.asked("list /0 1")
	w.names("/1")
	w.asked("list /1 2")
}

func TestListingLargerThanTheBudgetIsHandedThrough(t *testing.T) {
	s := newSite("/d/", "/e/", "/e/x")
	for f := range 10 {
		s.set(fmt.Sprintf("/d/%d", f), 0)
	}
	w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 8 })
	w.names("/e")
	if got := w.names("/d"); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("names = %q", got)
	}
	if st := w.Stats(); st.Dirs != 1 || st.Entries != 1+dirCost {
		t.Errorf("stats = %+v, want the small one kept", st)
	}
	w.names("/e")
	w.asked("list /e 1")
}

func TestStatBesideAListingLargerThanTheBudget(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b", "/d/c")
	s.noStat = true
	w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 3 })
	w.entry("/d/c")
	w.missing("/d/x")
}

func TestMemoryOfAMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("needs half a GiB")
	}
	const dirs, files = 100, 10_000
	s := newSite()
	w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 2_000_000 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for d := range dirs {
		dir := fmt.Sprintf("/%d", d)
		list := make([]ftpconn.Entry, files)
		for i := range list {
			line := fmt.Sprintf("-rw-r--r-- 1 owner%d group%d 12345 May 4 2026 some-longer-name-%05d.txt", i%7, i%7, i)
			list[i] = ftpconn.Entry{
				Name: line[len(line)-27:], Owner: line[13:19], Group: line[20:26],
				Type: ftpconn.File, Size: int64(i), ModTime: epoch, ModPrecision: time.Minute,
			}
		}
		s.dirs[dir] = list
		w.names(dir)
		delete(s.dirs, dir)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20)
	t.Logf("%d entries: %.0f MiB", w.Meta.Stats().Entries, got)
	if got > 238 { // 250 MB
		t.Errorf("a million entries take %.0f MiB", got)
	}
}
