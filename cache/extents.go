package cache

import (
	"slices"
	"sort"
)

// Range is the bytes [Off, End) of a file.
type Range struct{ Off, End int64 }

// Len is the number of bytes in r.
func (r Range) Len() int64 { return r.End - r.Off }

// Extents is a set of byte offsets, kept as sorted ranges that neither touch nor overlap. The zero value is
// the empty set. An empty or reversed range (off >= end) names no byte: adding or removing it does nothing.
//
// Look-ups are O(log n) in the number of ranges. Changes are O(log n) at the end of the set, where a file
// written in order makes them, and O(n) elsewhere. Not safe for concurrent use.
type Extents struct {
	ranges []Range
	bytes  int64
}

// search returns the index of the first range that ends behind off (or at off, with touching).
func (e *Extents) search(off int64, touching bool) int {
	if n := len(e.ranges); n > 0 && e.ranges[n-1].End < off {
		return n
	}
	return sort.Search(len(e.ranges), func(i int) bool {
		return e.ranges[i].End > off || touching && e.ranges[i].End == off
	})
}

// Add puts [off, end) into the set and returns how many bytes were not in it before.
func (e *Extents) Add(off, end int64) int64 {
	if off >= end {
		return 0
	}
	i := e.search(off, true)
	j, had, merged := i, int64(0), Range{off, end}
	for ; j < len(e.ranges) && e.ranges[j].Off <= end; j++ {
		had += e.ranges[j].Len()
		merged.Off = min(merged.Off, e.ranges[j].Off)
		merged.End = max(merged.End, e.ranges[j].End)
	}
	if j == i+1 {
		e.ranges[i] = merged
	} else {
		e.ranges = slices.Replace(e.ranges, i, j, merged)
	}
	added := merged.Len() - had
	e.bytes += added
	return added
}

// Remove takes [off, end) out of the set and returns how many bytes were in it before.
func (e *Extents) Remove(off, end int64) int64 {
	if off >= end {
		return 0
	}
	i := e.search(off, false)
	j, removed := i, int64(0)
	keep := make([]Range, 0, 2)
	for ; j < len(e.ranges) && e.ranges[j].Off < end; j++ {
		r := e.ranges[j]
		removed += min(r.End, end) - max(r.Off, off)
		if r.Off < off {
			keep = append(keep, Range{r.Off, off})
		}
		if r.End > end {
			keep = append(keep, Range{end, r.End})
		}
	}
	if j > i {
		e.ranges = slices.Replace(e.ranges, i, j, keep...)
	}
	e.bytes -= removed
	return removed
}

// Clear empties the set.
func (e *Extents) Clear() { *e = Extents{} }

// Clone returns an independent copy.
func (e *Extents) Clone() Extents { return Extents{slices.Clone(e.ranges), e.bytes} }

// Contains says whether all of [off, end) is in the set; of no byte at all it is true.
func (e *Extents) Contains(off, end int64) bool {
	if off >= end {
		return true
	}
	return e.RunEnd(off) >= end
}

// Covered returns how many bytes of [off, end) are in the set.
func (e *Extents) Covered(off, end int64) int64 {
	var n int64
	for i := e.search(off, false); i < len(e.ranges) && e.ranges[i].Off < end; i++ {
		n += min(e.ranges[i].End, end) - max(e.ranges[i].Off, off)
	}
	return n
}

// RunEnd returns the end of the unbroken run of bytes in the set that starts at off: off itself if that
// byte is not in the set.
func (e *Extents) RunEnd(off int64) int64 {
	if i := e.search(off, false); i < len(e.ranges) && e.ranges[i].Off <= off {
		return e.ranges[i].End
	}
	return off
}

// NextGap returns the first range of bytes in [off, limit) that are not in the set; false if there is none.
func (e *Extents) NextGap(off, limit int64) (Range, bool) {
	off = e.RunEnd(off)
	if off >= limit {
		return Range{}, false
	}
	gap := Range{off, limit}
	if i := e.search(off, false); i < len(e.ranges) {
		gap.End = min(limit, e.ranges[i].Off)
	}
	return gap, true
}

// Gaps returns all ranges of [off, end) that are not in the set, in order.
func (e *Extents) Gaps(off, end int64) []Range {
	var gaps []Range
	for {
		gap, ok := e.NextGap(off, end)
		if !ok {
			return gaps
		}
		gaps = append(gaps, gap)
		off = gap.End
	}
}

// Ranges returns a copy of the ranges of the set, in order; nil for the empty set.
func (e *Extents) Ranges() []Range { return append([]Range(nil), e.ranges...) }

// Bytes returns the number of bytes in the set.
func (e *Extents) Bytes() int64 { return e.bytes }

// First returns the first range; false for the empty set.
func (e *Extents) First() (Range, bool) {
	if len(e.ranges) == 0 {
		return Range{}, false
	}
	return e.ranges[0], true
}

// Last returns the last range; false for the empty set.
func (e *Extents) Last() (Range, bool) {
	if len(e.ranges) == 0 {
		return Range{}, false
	}
	return e.ranges[len(e.ranges)-1], true
}
