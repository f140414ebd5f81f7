package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ftpfs/ftpconn"
)

// coarseSite lists to the minute and has no single answers, like vsftpd.
func coarseSite(files int) *site {
	s := newSite("/d/")
	s.noStat, s.rounded = true, time.Minute
	for i := range files {
		s.set(fmt.Sprintf("/d/%05d", i), int64(i))
	}
	return s
}

func (w *world) exact(path string) ftpconn.Entry {
	w.t.Helper()
	e, err := w.Exact(w.ctx, path)
	w.must(err)
	return e
}

func isExact(e ftpconn.Entry) bool { return e.ModTime.Equal(epoch) && e.ModPrecision == time.Second }

func TestExactAsksForABatch(t *testing.T) {
	s := coarseSite(300)
	w := newWorld(t, s)
	for i := range 300 {
		if e := w.exact(fmt.Sprintf("/d/%05d", i)); !isExact(e) {
			t.Fatalf("entry %d = %+v", i, e)
		}
	}
	w.asked("list 1, times 2")
	if a, b := len(s.asked[0]), len(s.asked[1]); a != 256 || b != 44 {
		t.Errorf("batches of %d and %d", a, b)
	}
	list, err := w.List(w.ctx, "/d")
	w.must(err)
	if !isExact(list[299]) {
		t.Errorf("listed entry = %+v", list[299])
	}
}

func TestExactBatchBeginsWithThePath(t *testing.T) {
	s := coarseSite(3)
	w := newWorld(t, s)
	w.exact("/d/00001")
	if got := fmt.Sprint(s.asked); got != "[[/d/00001 /d/00002 /d/00000]]" {
		t.Errorf("asked for %s", got)
	}
}

func TestExactAsksOnlyForKnownFiles(t *testing.T) {
	s := coarseSite(2)
	s.noStat = false
	s.set("/d/dir/", 0)
	w := newWorld(t, s)
	w.names("/d")
	w.pass(testTTL) // what is only remembered isn't asked for
	s.edit("/d/00000", func(e *ftpconn.Entry) { e.ModPrecision = time.Minute })
	w.exact("/d/00000")
	w.exact("/d/dir")
	if got := fmt.Sprint(s.asked); got != "[[/d/00000]]" {
		t.Errorf("asked for %s", got)
	}
}

func TestExactOfAnExactTimeAsksNothing(t *testing.T) {
	w := listed(t, newSite("/d/", "/d/a", "/d/e/"))
	if e := w.exact("/d/a"); !isExact(e) {
		t.Errorf("entry = %+v", e)
	}
	w.exact("/d/e")
	w.asked("times 0, stat 0")
}

func TestExactOfAnUploadIsTheServersTime(t *testing.T) {
	s := newSite("/d/")
	s.now = epoch.Add(90 * time.Second) // its clock is ahead
	w := listed(t, s)
	w.must(w.upload("/d/a", ftpconn.Replace, 0, 1))
	if e := w.exact("/d/a"); !e.ModTime.Equal(s.now) || e.ModPrecision != time.Second {
		t.Errorf("entry = %+v", e)
	}
	if e := w.entry("/d/a"); !e.ModTime.Equal(s.now) {
		t.Errorf("remembered entry = %+v", e)
	}
	w.asked("times 1, stat 0, list 0")
}

func TestExactOfUploadsIsOneBatch(t *testing.T) {
	w := listed(t, newSite("/d/"))
	for i := range 20 {
		w.must(w.upload(fmt.Sprintf("/d/%d", i), ftpconn.Replace, 0, i))
	}
	for i := range 20 {
		w.exact(fmt.Sprintf("/d/%d", i))
	}
	w.asked("times 1, stat 0, list 0")
}

func TestExactWithoutMDTMAsksBySingle(t *testing.T) {
	s := newSite("/d/")
	s.noMDTM = true
	w := listed(t, s)
	w.must(w.upload("/d/a", ftpconn.Replace, 0, 1))
	if e := w.exact("/d/a"); !isExact(e) {
		t.Errorf("entry = %+v", e)
	}
	w.exact("/d/a")
	w.asked("stat 1")
}

func TestExactWithoutMeansIsCoarse(t *testing.T) {
	s := coarseSite(3)
	s.noMDTM = true
	w := newWorld(t, s)
	for range 2 {
		if e := w.exact("/d/00001"); e.ModPrecision != time.Minute {
			t.Errorf("entry = %+v", e)
		}
	}
	w.asked("list 1, times 0")
}

func TestTimeThatTheServerDoesNotHaveIsAskedOnceInATTL(t *testing.T) {
	s := coarseSite(3)
	s.edit("/d/00001", func(e *ftpconn.Entry) { e.Owner = "timeless" })
	w := newWorld(t, s)
	for range 3 {
		if e := w.exact("/d/00001"); e.ModPrecision != time.Minute {
			t.Errorf("entry = %+v", e)
		}
	}
	w.asked("times 1")
	w.pass(testTTL)
	w.exact("/d/00001")
	w.asked("times 2")
}

func TestFailedRefiningGivesTheCoarseTime(t *testing.T) {
	s := coarseSite(1)
	w := newWorld(t, s)
	s.before = func(_ context.Context, op, _ string) error {
		if op == "times" {
			return ftpconn.ErrConnLost
		}
		return nil
	}
	if e := w.exact("/d/00000"); e.ModPrecision != time.Minute {
		t.Errorf("entry = %+v", e)
	}
	s.before = nil
	if e := w.exact("/d/00000"); !isExact(e) {
		t.Errorf("entry after the failure = %+v", e)
	}
}

func TestLargeDirectoryKeepsCoarseTimes(t *testing.T) {
	s := coarseSite(exactMax + 1)
	w := newWorld(t, s)
	if e := w.exact("/d/00001"); e.ModPrecision != time.Minute {
		t.Errorf("entry = %+v", e)
	}
	w.asked("times 0")
	w.must(w.upload("/d/00001", ftpconn.Replace, 0, 1))
	if e := w.exact("/d/00001"); !isExact(e) {
		t.Errorf("provisional entry = %+v", e)
	}
	if len(s.asked) != 1 || len(s.asked[0]) != 1 {
		t.Errorf("asked for %v", s.asked)
	}
}

func TestConcurrentExactsAreOneBatch(t *testing.T) {
	s := coarseSite(10)
	bubble(t, s, func(w *world) {
		w.names("/d")
		g := hold(s, "times ")
		for i := range 10 {
			go w.exact(fmt.Sprintf("/d/%05d", i))
		}
		synctest.Wait()
		g.release()
		synctest.Wait()
		w.asked("times 1")
	})
}

func TestNextBatchLeavesOutTheRunningOne(t *testing.T) {
	s := coarseSite(300)
	bubble(t, s, func(w *world) {
		w.names("/d")
		g := hold(s, "times ")
		go w.exact("/d/00000")
		synctest.Wait()
		go w.exact("/d/00299")
		synctest.Wait()
		g.release()
		synctest.Wait()
		if len(s.asked) != 2 || len(s.asked[1]) != 44 {
			w.t.Errorf("%d batches, the second of %d", len(s.asked), len(s.asked[len(s.asked)-1]))
		}
	})
}

func TestUploadDuringABatchKeepsItsTime(t *testing.T) {
	s := coarseSite(2)
	bubble(t, s, func(w *world) {
		w.names("/d")
		g := hold(s, "times ")
		go w.exact("/d/00000")
		synctest.Wait()
		w.pass(time.Second)
		w.must(w.upload("/d/00001", ftpconn.Replace, 0, 1))
		g.release()
		synctest.Wait()
		if e := w.entry("/d/00001"); e.ModPrecision != Provisional {
			w.t.Errorf("entry = %+v", e)
		}
	})
}

func TestRelistingWithinTheTTLDoesNotAskForTimesAgain(t *testing.T) {
	s := coarseSite(2)
	s.edit("/d/00001", func(e *ftpconn.Entry) { e.Owner = "timeless" })
	w := newWorld(t, s)
	w.exact("/d/00001")
	w.pass(time.Second)
	if _, err := w.Fresh(w.ctx, "/d/00001", 0); err != nil {
		t.Fatal(err)
	}
	w.exact("/d/00001")
	w.asked("list 2, times 1")
}

func TestSingleAnswerWithinTheTTLDoesNotMakeTimesBeAskedAgain(t *testing.T) {
	s := newSite("/d/", "/d/a")
	s.edit("/d/a", func(e *ftpconn.Entry) { e.Owner, e.ModPrecision = "timeless", time.Minute })
	w := newWorld(t, s)
	w.exact("/d/a")
	w.pass(time.Second)
	if _, err := w.Fresh(w.ctx, "/d/a", 0); err != nil {
		t.Fatal(err)
	}
	w.exact("/d/a")
	w.asked("stat 2, times 1")
}

func TestCancelledExactLeavesTheBatchToTheOthers(t *testing.T) {
	s := coarseSite(2)
	bubble(t, s, func(w *world) {
		w.names("/d")
		g := hold(s, "times ")
		ctx, cancel := context.WithCancel(w.ctx)
		got := make(chan error)
		go func() {
			_, err := w.Exact(ctx, "/d/00000")
			got <- err
		}()
		synctest.Wait()
		go func() {
			if e := w.exact("/d/00001"); !isExact(e) {
				w.t.Errorf("entry = %+v", e)
			}
		}()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			w.t.Errorf("cancelled caller got %v", err)
		}
		g.release()
		synctest.Wait()
		w.asked("times 1")
	})
}

func TestOwnChangeDuringABatchWins(t *testing.T) {
	s := coarseSite(2)
	bubble(t, s, func(w *world) {
		w.names("/d")
		g := hold(s, "times ")
		go w.exact("/d/00000")
		synctest.Wait()
		when := epoch.Add(-time.Hour)
		w.must(w.SetModTime(w.ctx, "/d/00001", when))
		g.release()
		synctest.Wait()
		if e := w.entry("/d/00001"); !e.ModTime.Equal(when) {
			w.t.Errorf("entry = %+v", e)
		}
	})
}

func TestExactTimeOutlivesTheListing(t *testing.T) {
	for name, learn := range map[string]func(w *world){
		"MDTM": func(w *world) { w.exact("/d/00001") },
		"own":  func(w *world) { w.must(w.SetModTime(w.ctx, "/d/00001", epoch)) },
		"moved": func(w *world) {
			w.exact("/d/00002")
			w.must(w.Rename(w.ctx, "/d/00002", "/d/00001"))
		},
	} {
		s := coarseSite(3)
		w := newWorld(t, s)
		w.names("/d")
		learn(w)
		before := s.count("times")
		for range 3 {
			w.pass(10 * testTTL)
			w.names("/d")
		}
		if e := w.exact("/d/00001"); !isExact(e) {
			t.Errorf("%s: entry = %+v", name, e)
		}
		if s.count("times") != before {
			t.Errorf("%s: asked again", name)
		}
	}
}

func TestExactTimeEndsWithItsFile(t *testing.T) {
	for name, change := range map[string]func(*ftpconn.Entry){
		"size": func(e *ftpconn.Entry) { e.Size++ },
		"time": func(e *ftpconn.Entry) { e.ModTime = e.ModTime.Add(time.Minute) },
		"type": func(e *ftpconn.Entry) { e.Type = ftpconn.Other },
	} {
		s := coarseSite(1)
		w := newWorld(t, s)
		w.exact("/d/00000")
		s.edit("/d/00000", change)
		w.pass(testTTL)
		if e := w.entry("/d/00000"); e.ModPrecision != time.Minute {
			t.Errorf("other %s: entry = %+v", name, e)
		}
	}
}

func TestExactTimeEndsWithAnUncertainChange(t *testing.T) {
	s := coarseSite(1)
	w := newWorld(t, s)
	w.exact("/d/00000")
	s.after = func(_ context.Context, op, _ string) error {
		if op == "utime" {
			return ftpconn.ErrConnLost // though it was done
		}
		return nil
	}
	w.SetModTime(w.ctx, "/d/00000", epoch.Add(time.Second)) // the same minute
	if e := w.exact("/d/00000"); !e.ModTime.Equal(epoch.Add(time.Second)) {
		t.Errorf("entry = %+v", e)
	}
}

func TestProvisionalTimeIsNotKept(t *testing.T) {
	s := coarseSite(0)
	w := newWorld(t, s)
	w.names("/d")
	w.must(w.upload("/d/a", ftpconn.Replace, 0, 1))
	w.pass(testTTL)
	if e := w.entry("/d/a"); e.ModPrecision != time.Minute {
		t.Errorf("entry = %+v", e)
	}
}

func TestDayPreciseListingAgreesWithAnExactTime(t *testing.T) {
	s := coarseSite(1)
	w := newWorld(t, s)
	w.exact("/d/00000")
	s.rounded = 24 * time.Hour // the file grew old: ls prints the day alone
	w.pass(testTTL)
	if e := w.entry("/d/00000"); !isExact(e) {
		t.Errorf("entry = %+v", e)
	}
}

func TestExactWithoutTTL(t *testing.T) {
	s := coarseSite(3)
	w := newWorld(t, s, func(c *MetaConfig) { c.TTL = 0 })
	for range 2 {
		if e := w.exact("/d/00001"); !isExact(e) {
			t.Errorf("entry = %+v", e)
		}
	}
	if got := fmt.Sprint(s.asked); got != "[[/d/00001] [/d/00001]]" {
		t.Errorf("asked for %s", got)
	}
}
