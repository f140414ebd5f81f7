package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpfs/ftpconn"
)

// gate holds requests of one verb and path until it is opened.
type gate struct {
	what string
	open chan struct{}
	once sync.Once
}

// hold makes the site wait, after a request has had its effect and before its answer arrives.
func hold(s *site, what string) *gate {
	g := &gate{what: what, open: make(chan struct{})}
	s.after = func(ctx context.Context, op, path string) error {
		if op+" "+path != g.what {
			return nil
		}
		select {
		case <-g.open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// bubble runs f where time stands still until all wait.
func bubble(t *testing.T, s *site, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, s)) })
}

func TestConcurrentListsAreOneRequest(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		for range 8 {
			go func() {
				if got := w.names("/d"); got != "a" {
					w.t.Errorf("names = %q", got)
				}
			}()
		}
		synctest.Wait()
		g.release()
		synctest.Wait()
		w.asked("list 1")
		if st := w.Stats(); st.Shared != 7 || st.Misses != 8 {
			w.t.Errorf("stats = %+v", st)
		}
	})
}

func TestConcurrentStatsAreOneRequest(t *testing.T) {
	for _, noStat := range []bool{false, true} {
		s := newSite("/d/", "/d/a")
		s.noStat = noStat
		bubble(t, s, func(w *world) {
			g := hold(s, map[bool]string{false: "stat /d/a", true: "list /d"}[noStat])
			for range 4 {
				go w.entry("/d/a")
				go func() {
					if _, err := w.Fresh(w.ctx, "/d/a", time.Second); err != nil {
						w.t.Error(err)
					}
				}()
			}
			synctest.Wait()
			g.release()
			synctest.Wait()
			// Fresh doesn't join a Stat, which may answer from an older listing.
			if n := s.count("stat") + s.count("list"); n > 2 {
				w.t.Errorf("%d requests", n)
			}
		})
	}
}

func TestStatsOfSeveralNamesShareOneListing(t *testing.T) {
	s := newSite("/d/", "/d/a", "/d/b", "/d/c")
	s.noStat = true
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		for _, p := range []string{"/d/a", "/d/b", "/d/c"} {
			go w.entry(p)
		}
		go w.missing("/d/x")
		go w.names("/d")
		synctest.Wait()
		g.release()
		synctest.Wait()
		w.asked("list 1")
	})
}

func TestConcurrentListsWithoutTTLAreOneRequest(t *testing.T) {
	s := newSite("/d/", "/d/a")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, func(c *MetaConfig) { c.TTL = 0 })
		g := hold(s, "list /d")
		go w.names("/d")
		go w.names("/d")
		synctest.Wait()
		g.release()
		synctest.Wait()
		w.asked("list 1")
	})
}

func TestListWithoutTTLDoesNotJoinOneBeforeAnOwnChange(t *testing.T) {
	s := newSite("/d/", "/d/a")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, func(c *MetaConfig) { c.TTL = 0 })
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		s.after = nil
		w.must(w.Mkdir(w.ctx, "/d/n"))
		if got := w.names("/d"); got != "a n" {
			t.Errorf("names = %q", got)
		}
		g.release()
		synctest.Wait()
	})
}

func TestCancelledCallerLeavesTheRequestToTheOthers(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		ctx, cancel := context.WithCancel(w.ctx)
		first := make(chan error)
		go func() {
			_, err := w.List(ctx, "/d")
			first <- err
		}()
		synctest.Wait()
		go w.names("/d")
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			w.t.Errorf("cancelled caller got %v", err)
		}
		g.release()
		synctest.Wait()
		w.names("/d")
		w.asked("list 1")
	})
}

func TestLastCallerCancelsTheRequest(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		hold(s, "list /d") // never released
		ctx, cancel := context.WithCancel(w.ctx)
		for range 2 {
			go w.List(ctx, "/d")
		}
		synctest.Wait()
		cancel()
		synctest.Wait() // the bubble fails if the request is still there at its end
		s.after = nil
		w.names("/d")
		w.asked("list 2")
	})
}

func TestCallerAfterACancelledRequestStartsItsOwn(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		stuck := make(chan struct{}) // a request that doesn't notice its cancellation at once
		s.before = func(context.Context, string, string) error { <-stuck; return nil }
		ctx, cancel := context.WithCancel(w.ctx)
		go w.Stat(ctx, "/d/a")
		synctest.Wait()
		cancel()
		synctest.Wait()
		s.before = nil
		w.entry("/d/a")
		close(stuck)
	})
}

func TestCancelledStatLeavesItsListingToOthers(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.noStat = true
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		ctx, cancel := context.WithCancel(w.ctx)
		go w.Stat(ctx, "/d/a")
		synctest.Wait()
		go w.names("/d")
		synctest.Wait()
		cancel()
		synctest.Wait()
		g.release()
		synctest.Wait()
		w.names("/d")
		w.asked("list 1")
	})
}

func TestCloseEndsRunningRequests(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		hold(s, "list /d")
		got := make(chan error)
		go func() {
			_, err := w.List(w.ctx, "/d")
			got <- err
		}()
		synctest.Wait()
		w.must(w.Close())
		if err := <-got; !errors.Is(err, context.Canceled) {
			w.t.Errorf("List = %v", err)
		}
	})
}

// duringListing runs change while a listing of /d, which was read before, is on its way. It returns what that
// listing's caller got, and the names that are listed afterwards.
func duringListing(t *testing.T, s *site, change func(w *world)) (got, later string, lists int) {
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		done := make(chan string)
		go func() { done <- w.names("/d") }()
		synctest.Wait()
		change(w)
		g.release()
		got = <-done
		later = w.names("/d")
		lists = s.count("list /d")
	})
	return got, later, lists
}

func TestOwnChangesDuringAListing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		want   string
	}{
		"create":      {func(w *world) { w.must(w.upload("/d/n", ftpconn.Replace, 0, 3)) }, "a b n"},
		"mkdir":       {func(w *world) { w.must(w.Mkdir(w.ctx, "/d/n")) }, "a b n"},
		"remove":      {func(w *world) { w.must(w.Remove(w.ctx, "/d/a")) }, "b"},
		"rename":      {func(w *world) { w.must(w.Rename(w.ctx, "/d/a", "/d/n")) }, "b n"},
		"rename away": {func(w *world) { w.must(w.Rename(w.ctx, "/d/a", "/e/n")) }, "b"},
		"rename in":   {func(w *world) { w.must(w.Rename(w.ctx, "/e/x", "/d/x")) }, "a b x"},
		"remove and create": {func(w *world) {
			w.must(w.Remove(w.ctx, "/d/a"))
			w.must(w.Mkdir(w.ctx, "/d/a"))
		}, "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, later, lists := duringListing(t, newSite("/d/", "/d/a", "/d/b", "/e/", "/e/x"), c.change)
			if later != c.want {
				t.Errorf("names afterwards = %q, want %q", later, c.want)
			}
			// A rename of something unlisted can't be put into the listing: it is asked for again.
			if lists == 1 && got != c.want {
				t.Errorf("names = %q, want %q", got, c.want)
			}
		})
	}
}

func TestRemovalsDuringAVerySlowListing(t *testing.T) {
	s := newSite("/d/", "/d/a")
	for i := range 600 {
		s.set(fmt.Sprintf("/d/%d", i), 1)
	}
	got, _, _ := duringListing(t, s, func(w *world) {
		for i := range 600 {
			w.must(w.Remove(w.ctx, fmt.Sprintf("/d/%d", i)))
			w.pass(maxNegative / 100)
		}
	})
	if got != "a" {
		t.Errorf("names = %q", got)
	}
}

func TestCreateDuringAListingNeedsNoOther(t *testing.T) {
	got, later, lists := duringListing(t, newSite("/d/", "/d/a"), func(w *world) {
		w.must(w.upload("/d/n", ftpconn.Replace, 0, 3))
	})
	if got != "a n" || later != "a n" || lists != 1 {
		t.Errorf("names = %q, then %q, in %d listings", got, later, lists)
	}
}

func TestChmodDuringAListingKeepsTheListedSize(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		w.entry("/d/a")
		s.set("/d/a", 77)
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		w.must(w.Chmod(w.ctx, "/d/a", 0o600))
		g.release()
		synctest.Wait()
		if e := w.entry("/d/a"); e.Size != 77 || e.Mode != 0o600 {
			w.t.Errorf("entry = %+v", e)
		}
		w.asked("stat 1, list 1")
	})
}

func TestChmodOfAnUnknownNameDuringAListing(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		w.must(w.Chmod(w.ctx, "/d/a", 0o600))
		g.release()
		synctest.Wait()
		if e := w.entry("/d/a"); e.Mode != 0o600 {
			w.t.Errorf("entry = %+v", e)
		}
	})
}

func TestCallerAfterAFailedOperationDoesNotJoinAnOlderListing(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		s.after = func(_ context.Context, op, _ string) error {
			if op == "remove" {
				return ftpconn.ErrConnLost // though it was done
			}
			return nil
		}
		if err := w.Remove(w.ctx, "/d/a"); err == nil {
			w.t.Fatal("no error")
		}
		if got := w.names("/d"); got != "" {
			w.t.Errorf("names = %q", got)
		}
		g.release()
		synctest.Wait()
		w.missing("/d/a")
	})
}

func TestStatDuringAnOwnChangeIsNotStored(t *testing.T) {
	s := newSite("/d/")
	bubble(t, s, func(w *world) {
		answer := make(chan error)
		held := make(chan struct{})
		s.before = func(_ context.Context, op, _ string) error {
			if op == "stat" {
				<-held
				return refuse("/d/n", fs.ErrNotExist)
			}
			return nil
		}
		go func() {
			_, err := w.Stat(w.ctx, "/d/n")
			answer <- err
		}()
		synctest.Wait()
		w.must(w.upload("/d/n", ftpconn.Replace, 0, 9))
		if e := w.entry("/d/n"); e.Size != 9 {
			w.t.Errorf("entry = %+v", e)
		}
		close(held)
		<-answer
		if e := w.entry("/d/n"); e.Size != 9 {
			w.t.Errorf("entry after the older answer = %+v", e)
		}
	})
}

func TestStatAfterAFailedOperationDoesNotJoinAnOlderOne(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "stat /d/a")
		go w.entry("/d/a")
		synctest.Wait()
		s.after = func(_ context.Context, op, _ string) error {
			if op == "remove" {
				return ftpconn.ErrConnLost // though it was done
			}
			return nil
		}
		if err := w.Remove(w.ctx, "/d/a"); err == nil {
			w.t.Fatal("no error")
		}
		w.missing("/d/a")
		g.release()
		synctest.Wait()
		w.missing("/d/a")
	})
}

func TestFreshDoesNotJoinAnOlderRequest(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "stat /d/a")
		first := make(chan ftpconn.Entry)
		go func() {
			e, _ := w.Fresh(w.ctx, "/d/a", time.Second)
			first <- e
		}()
		synctest.Wait()
		w.pass(2 * time.Second)
		s.set("/d/a", 8)
		s.after = nil
		if e, err := w.Fresh(w.ctx, "/d/a", time.Second); err != nil || e.Size != 8 {
			w.t.Errorf("Fresh = %+v, %v", e, err)
		}
		g.release()
		<-first
		if e := w.entry("/d/a"); e.Size != 8 {
			w.t.Errorf("entry after the older answer = %+v", e)
		}
	})
}

func TestSlowSingleAnswerDoesNotReplaceAYoungerListing(t *testing.T) {
	s := newSite("/d/", "/d/a")
	bubble(t, s, func(w *world) {
		g := hold(s, "stat /d/a")
		first := make(chan ftpconn.Entry)
		go func() { first <- w.entry("/d/a") }()
		synctest.Wait()
		w.pass(time.Second)
		s.set("/d/a", 8)
		w.names("/d")
		g.release()
		<-first
		if e := w.entry("/d/a"); e.Size != 8 {
			w.t.Errorf("entry after the older answer = %+v", e)
		}
	})
}

func TestSlowListingEvictedMeanwhileIsNotStoredWithoutItsNotes(t *testing.T) {
	s := newSite("/d/", "/d/a", "/e/", "/e/1", "/e/2", "/e/3")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 3 + dirCost })
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		w.must(w.Remove(w.ctx, "/d/a"))
		w.names("/e") // takes the whole budget
		g.release()
		synctest.Wait()
		w.missing("/d/a")
	})
}

// Pure-FTPd shows a name of its own while it renames. A listing that is made meanwhile is without it, any other has what is there.
func TestAListingDuringARenameIsWithoutItsPassingName(t *testing.T) {
	const passing = ".pureftpd-rename.29494.1cd75eb6"
	s := newSite("/d/", "/d/a", "/d/"+passing)
	bubble(t, s, func(w *world) {
		if got := w.names("/d"); !strings.Contains(got, passing) {
			w.t.Errorf("what a crash left isn't shown: %q", got)
		}
		w.Forget("/d")
		g := hold(s, "list /d")
		go w.names("/d")
		synctest.Wait()
		if err := w.Rename(w.ctx, "/d/a", "/d/b"); err != nil {
			w.t.Error(err)
		}
		g.release()
		synctest.Wait()
		if got := w.names("/d"); strings.Contains(got, passing) || !strings.Contains(got, "b") {
			w.t.Errorf("the listing has %q", got)
		}
	})
}
