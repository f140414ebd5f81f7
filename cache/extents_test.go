package cache

import (
	"math"
	"slices"
	"testing"
)

func extentsOf(rs ...Range) *Extents {
	e := &Extents{}
	for _, r := range rs {
		e.Add(r.Off, r.End)
	}
	return e
}

func TestExtentsAdd(t *testing.T) {
	type R = []Range
	for _, c := range []struct {
		name  string
		have  R
		add   Range
		want  R
		added int64
	}{
		{"to the empty set", nil, Range{3, 5}, R{{3, 5}}, 2},
		{"nothing", R{{3, 5}}, Range{4, 4}, R{{3, 5}}, 0},
		{"reversed", R{{3, 5}}, Range{9, 7}, R{{3, 5}}, 0},
		{"before", R{{3, 5}}, Range{0, 2}, R{{0, 2}, {3, 5}}, 2},
		{"behind", R{{3, 5}}, Range{6, 8}, R{{3, 5}, {6, 8}}, 2},
		{"touching in front", R{{3, 5}}, Range{1, 3}, R{{1, 5}}, 2},
		{"touching behind", R{{3, 5}}, Range{5, 6}, R{{3, 6}}, 1},
		{"within", R{{3, 8}}, Range{4, 6}, R{{3, 8}}, 0},
		{"around", R{{3, 5}}, Range{1, 9}, R{{1, 9}}, 6},
		{"bridging", R{{0, 2}, {4, 6}, {8, 9}}, Range{2, 8}, R{{0, 9}}, 4},
		{"over the tail of one", R{{0, 4}, {8, 9}}, Range{2, 6}, R{{0, 6}, {8, 9}}, 2},
		{"to the end of offsets", R{{0, 4}}, Range{2, math.MaxInt64}, R{{0, math.MaxInt64}}, math.MaxInt64 - 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := extentsOf(c.have...)
			if got := e.Add(c.add.Off, c.add.End); got != c.added || !slices.Equal(e.Ranges(), c.want) {
				t.Errorf("Add(%v) = %d, %v; want %d, %v", c.add, got, e.Ranges(), c.added, c.want)
			}
		})
	}
}

func TestExtentsRemove(t *testing.T) {
	type R = []Range
	for _, c := range []struct {
		name    string
		have    R
		remove  Range
		want    R
		removed int64
	}{
		{"from the empty set", nil, Range{0, 9}, nil, 0},
		{"nothing", R{{3, 5}}, Range{4, 4}, R{{3, 5}}, 0},
		{"beside", R{{3, 5}}, Range{5, 9}, R{{3, 5}}, 0},
		{"the head", R{{3, 5}}, Range{0, 4}, R{{4, 5}}, 1},
		{"the tail", R{{3, 5}}, Range{4, math.MaxInt64}, R{{3, 4}}, 1},
		{"the middle", R{{3, 8}}, Range{4, 6}, R{{3, 4}, {6, 8}}, 2},
		{"one of three", R{{0, 1}, {3, 5}, {7, 8}}, Range{3, 5}, R{{0, 1}, {7, 8}}, 2},
		{"across several", R{{0, 2}, {3, 5}, {7, 9}}, Range{1, 8}, R{{0, 1}, {8, 9}}, 4},
		{"everything", R{{0, 2}, {3, 5}}, Range{0, 5}, nil, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := extentsOf(c.have...)
			if got := e.Remove(c.remove.Off, c.remove.End); got != c.removed || !slices.Equal(e.Ranges(), c.want) {
				t.Errorf("Remove(%v) = %d, %v; want %d, %v", c.remove, got, e.Ranges(), c.removed, c.want)
			}
		})
	}
}

func TestExtentsNextGap(t *testing.T) {
	e := extentsOf(Range{2, 4}, Range{6, 8})
	for _, c := range []struct {
		off, limit int64
		want       Range
		ok         bool
	}{
		{0, 10, Range{0, 2}, true},
		{0, 1, Range{0, 1}, true},
		{2, 10, Range{4, 6}, true},
		{3, 5, Range{4, 5}, true},
		{2, 4, Range{}, false},
		{6, 9, Range{8, 9}, true},
		{20, 30, Range{20, 30}, true},
		{5, 5, Range{}, false},
	} {
		if got, ok := e.NextGap(c.off, c.limit); got != c.want || ok != c.ok {
			t.Errorf("NextGap(%d, %d) = %v, %v; want %v, %v", c.off, c.limit, got, ok, c.want, c.ok)
		}
	}
}

func TestExtentsCloneIsIndependent(t *testing.T) {
	e := extentsOf(Range{0, 2}, Range{4, 6})
	c := e.Clone()
	c.Remove(0, 9)
	if !e.Contains(4, 6) || e.Bytes() != 4 {
		t.Errorf("after a change of its clone the set is %v", e.Ranges())
	}
}

func TestExtentsFirstAndLast(t *testing.T) {
	e := &Extents{}
	if _, ok := e.First(); ok {
		t.Error("the empty set has a first range")
	}
	if _, ok := e.Last(); ok {
		t.Error("the empty set has a last range")
	}
	e = extentsOf(Range{4, 6}, Range{0, 2})
	first, _ := e.First()
	last, _ := e.Last()
	if first != (Range{0, 2}) || last != (Range{4, 6}) {
		t.Errorf("first %v, last %v", first, last)
	}
}

// FuzzExtents runs a program of changes (three bytes each: operation, off, length) on the set and on a
// bitmap, and compares every answer.
func FuzzExtents(f *testing.F) {
	f.Add([]byte{0, 1, 5, 0, 9, 3, 1, 2, 4})
	f.Add([]byte{0, 0, 50, 1, 10, 2, 1, 20, 2, 0, 9, 30, 1, 0, 99})
	f.Fuzz(func(t *testing.T, program []byte) {
		var e Extents
		var model [600]bool
		for ; len(program) >= 3; program = program[3:] {
			off, end := int64(program[1]), int64(program[1])+int64(program[2])
			add := program[0]%2 == 0
			var changed int64
			for i := off; i < end; i++ {
				if model[i] != add {
					changed++
				}
				model[i] = add
			}
			op := e.Remove
			if add {
				op = e.Add
			}
			if got := op(off, end); got != changed {
				t.Fatalf("add=%v [%d,%d) changed %d bytes, want %d", add, off, end, got, changed)
			}
			compareExtents(t, &e, model[:], off, end)
		}
	})
}

func compareExtents(t *testing.T, e *Extents, model []bool, off, end int64) {
	t.Helper()
	var want, gaps []Range
	var bytes int64
	for i, in := range model {
		i := int64(i)
		if in {
			bytes++
			if n := len(want); n > 0 && want[n-1].End == i {
				want[n-1].End++
			} else {
				want = append(want, Range{i, i + 1})
			}
		} else if i >= off-3 && i < end+3 {
			if n := len(gaps); n > 0 && gaps[n-1].End == i {
				gaps[n-1].End++
			} else {
				gaps = append(gaps, Range{i, i + 1})
			}
		}
	}
	lo := max(off-3, 0)
	if got := e.Ranges(); !slices.Equal(got, want) || e.Bytes() != bytes {
		t.Fatalf("ranges %v (%d bytes), want %v (%d)", got, e.Bytes(), want, bytes)
	}
	if got := e.Gaps(lo, end+3); !slices.Equal(got, gaps) {
		t.Fatalf("gaps of [%d,%d) %v, want %v", lo, end+3, got, gaps)
	}
	var missing int64
	for _, g := range gaps {
		missing += g.Len()
	}
	if got := e.Covered(lo, end+3); got != end+3-lo-missing {
		t.Fatalf("covered %d, want %d", got, end+3-lo-missing)
	}
	if got := e.Contains(lo, end+3); got != (missing == 0) {
		t.Fatalf("contains %v with %d bytes missing", got, missing)
	}
}
