package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

// anEntry is an entry that uses all fields, or few of them.
func anEntry(r *rand.Rand, name string) ftpconn.Entry {
	e := ftpconn.Entry{Name: name, Size: -1, UID: -1, GID: -1}
	if r.IntN(4) > 0 {
		e.Size, e.Type, e.Owner, e.Group = r.Int64N(1<<50), ftpconn.File, "jo", []string{"staff", "www"}[r.IntN(2)]
		e.Mode, e.HasMode, e.Nlink, e.UID, e.GID = uint16(r.IntN(512)), true, uint16(r.IntN(3)), 7, 8
		e.ModTime = time.Date(1950+r.IntN(200), 1, 2, 3, r.IntN(60), 5, 0, time.UTC)
		e.ModPrecision = []time.Duration{time.Second, time.Minute, 24 * time.Hour}[r.IntN(3)]
	}
	if r.IntN(8) == 0 {
		e.Type, e.Target, e.Unique, e.Perm = ftpconn.Symlink, "../"+name, "u"+name, "adfr"
	}
	return e
}

func TestPackedHoldsWhatASliceHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newPacked()
	var want []ftpconn.Entry
	type kept struct {
		view *packed
		want []ftpconn.Entry
	}
	var views []kept
	for step := range 60_000 {
		switch i := r.IntN(max(len(want), 1)); {
		case len(want) > 0 && step%10 == 0:
			e := anEntry(r, want[i].Name)
			if step%30 == 0 {
				e = ftpconn.Entry{}
			}
			if want[i].Name != "" {
				want[i] = e
				p.set(i, &e)
			}
		default:
			e := anEntry(r, fmt.Sprintf("name-%d", step))
			want = append(want, e)
			p.add(&e)
		}
		if step%20_000 == 7_777 {
			views = append(views, kept{p.view(), slices.Clone(want)})
		}
	}
	for _, v := range append(views, kept{p, want}) {
		if v.view.n != len(v.want) {
			t.Fatalf("%d rows, want %d", v.view.n, len(v.want))
		}
		for i, e := range v.want {
			if got := v.view.at(i); got != e {
				t.Fatalf("row %d of %d is %+v, want %+v", i, len(v.want), got, e)
			}
		}
	}
	for i, e := range want {
		if e.Name != "" && p.find(e.Name) != i {
			t.Fatalf("%s is in row %d, found in %d", e.Name, i, p.find(e.Name))
		}
	}
	if i := p.find("not there"); i >= 0 {
		t.Errorf("found what isn't there, in row %d", i)
	}
}

// TestPackedIsSmall is the promise that a million entries take 60 to 70 MB.
func TestPackedIsSmall(t *testing.T) {
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	const n = 200_000
	before := heap()
	p := newPacked()
	for i := range n {
		p.add(&ftpconn.Entry{Name: fmt.Sprintf("file-%07d.dat", i), Type: ftpconn.File, Size: int64(i), ModTime: epoch, Owner: "jo"})
	}
	each := (heap() - before) / n
	runtime.KeepAlive(p)
	if each > 70 {
		t.Errorf("an entry with a name of 16 bytes takes %d bytes", each)
	}
}
