package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

// arriving is a site whose listings arrive when the test says so.
type arriving struct {
	*site
	pieces chan []ftpconn.Entry
	ends   chan error
}

func newArriving() *arriving {
	return &arriving{newSite("/d/"), make(chan []ftpconn.Entry), make(chan error)}
}

func (a *arriving) ListTo(ctx context.Context, _ string, add func([]ftpconn.Entry)) error {
	for {
		select {
		case p := <-a.pieces:
			add(p)
		case err := <-a.ends:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// piece is n entries, the first with number from.
func piece(from, n int) []ftpconn.Entry {
	list := make([]ftpconn.Entry, n)
	for i := range list {
		list[i] = ftpconn.Entry{Name: fmt.Sprintf("f%d", from+i), Type: ftpconn.File, Size: int64(from + i), ModTime: epoch, ModPrecision: time.Second}
	}
	return list
}

// opened is a Meta over a and the Dir of /d, of which packFrom+1 entries have arrived.
func opened(t *testing.T, a *arriving) (*Meta, *Dir) {
	t.Helper()
	m := NewMeta(a, MetaConfig{TTL: time.Minute})
	t.Cleanup(func() { m.Close() })
	go func() { a.pieces <- piece(0, packFrom+1) }()
	d, err := m.Open(t.Context(), "/d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return m, d
}

func checkPlace(t *testing.T, d *Dir, i int) {
	t.Helper()
	e, ok, err := d.At(t.Context(), i)
	if want := fmt.Sprintf("f%d", i); err != nil || !ok || e.Name != want || e.Size != int64(i) {
		t.Errorf("place %d is %q (%d bytes, %v, %v), want %q", i, e.Name, e.Size, ok, err, want)
	}
}

func TestHugeListingIsReadWhileItArrives(t *testing.T) {
	a := newArriving()
	m, d := opened(t, a)
	checkPlace(t, d, 0)
	checkPlace(t, d, packFrom)
	if e, err := m.Stat(t.Context(), "/d/f17"); err != nil || e.Size != 17 {
		t.Errorf("a name that has arrived is not known: %v", err)
	}
	if _, ok := m.Known("/d"); ok {
		t.Error("a listing that arrives is taken for complete")
	}
	got := make(chan bool)
	go func() {
		checkPlace(t, d, packFrom+1)
		_, ok, err := d.At(t.Context(), packFrom+2)
		got <- !ok && err == nil
	}()
	a.pieces <- piece(packFrom+1, 1)
	a.ends <- nil
	if !<-got {
		t.Error("the end of the listing was not seen")
	}
	again, err := m.Open(t.Context(), "/d") // asks nobody: nothing would answer
	if err != nil {
		t.Fatal(err)
	}
	checkPlace(t, again, packFrom+1)
	if e, err := m.Stat(t.Context(), "/d/not there"); err == nil {
		t.Errorf("found %v", e)
	}
}

func TestHugeListingThatBreaksIsAnErrorAtItsEnd(t *testing.T) {
	a := newArriving()
	m, d := opened(t, a)
	lost := errors.New("lost")
	a.ends <- lost
	checkPlace(t, d, packFrom)
	if _, ok, err := d.At(t.Context(), packFrom+1); ok || !errors.Is(err, lost) {
		t.Errorf("behind what arrived: %v, %v", ok, err)
	}
	if n := m.Stats().Dirs; n != 0 {
		t.Errorf("%d directories are remembered", n)
	}
}

func TestHugeListingThatNobodyReadsIsBrokenOff(t *testing.T) {
	a := newArriving()
	m, d := opened(t, a)
	f := d.f
	d.Close()
	<-f.done // or the test hangs
	if n := m.Stats().Dirs; n != 0 {
		t.Errorf("%d directories are remembered", n)
	}
}

func TestOpenAfterAnOwnChangeWaitsForTheEnd(t *testing.T) {
	a := newArriving()
	m, _ := opened(t, a)
	a.set("/d/f3", 1)
	if err := m.Remove(t.Context(), "/d/f3"); err != nil {
		t.Fatal(err)
	}
	opens := make(chan *Dir)
	go func() {
		d, err := m.Open(t.Context(), "/d")
		if err != nil {
			t.Error(err)
		}
		opens <- d
	}()
	a.ends <- nil
	d := <-opens
	for i := range packFrom + 1 {
		if e, _, _ := d.At(t.Context(), i); e.Name == "f3" {
			t.Fatal("what was removed before is shown")
		}
	}
}

func TestHugeListingIsChangedInPlace(t *testing.T) {
	a := newArriving()
	m, before := opened(t, a)
	a.ends <- nil
	before.At(t.Context(), packFrom+1) // waits for the end
	d, err := m.Open(t.Context(), "/d")
	if err != nil {
		t.Fatal(err)
	}
	a.set("/d/f5", 5)
	if err := errors.Join(m.Remove(t.Context(), "/d/f5"), m.Mkdir(t.Context(), "/d/new")); err != nil {
		t.Fatal(err)
	}
	checkPlace(t, d, 5)
	list, err := m.List(t.Context(), "/d")
	if err != nil || len(list) != packFrom+1 || list[5].Name != "f6" || list[packFrom].Name != "new" {
		t.Errorf("%d entries (%v), the sixth is %q, the last %q", len(list), err, list[5].Name, list[len(list)-1].Name)
	}
}

func TestKnownGivesTheSameSliceOfAHugeListingUntilItChanges(t *testing.T) {
	a := newArriving()
	m, d := opened(t, a)
	a.ends <- nil
	d.At(t.Context(), packFrom+1) // waits for the end
	if _, err := m.Open(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	first, ok := m.Known("/d")
	again, _ := m.Known("/d")
	if !ok || len(first) != packFrom+1 || &first[0] != &again[0] {
		t.Fatalf("%d entries, %v", len(first), ok)
	}
	a.set("/d/f5", 5)
	if err := m.Remove(t.Context(), "/d/f5"); err != nil {
		t.Fatal(err)
	}
	changed, _ := m.Known("/d")
	if len(changed) != packFrom || first[5].Name != "f5" || changed[5].Name != "f6" {
		t.Errorf("%d entries, the sixth is %q, and was %q", len(changed), changed[5].Name, first[5].Name)
	}
}
