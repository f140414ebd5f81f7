package cache

import (
	"fmt"
	"math"
	"os"
)

// PlanKind is the way to bring a file to the server.
type PlanKind uint8

const (
	// Clean: the server has it all, nothing is to be sent.
	Clean PlanKind = iota
	// AppendFrom: the server has [0, Off) and nothing else; APPE of [Off, Size) completes it. All of that is
	// local.
	AppendFrom
	// Whole: STOR of [0, Size). What Missing(0, Size) names has to be fetched before the STOR
	// begins: it destroys it.
	Whole
)

func (k PlanKind) String() string {
	if int(k) >= 3 {
		return fmt.Sprintf("PlanKind(%d)", uint8(k))
	}
	return [...]string{"clean", "append", "whole"}[k]
}

// Plan is what a flush has to do, for the content as of Version. After the server confirmed it, the uploader calls
// MarkClean(Version, Size).
type Plan struct {
	Kind PlanKind
	// Off is where sending starts: Base for AppendFrom, 0 for Whole, Size for Clean.
	Off int64
	// Server is the size of the server's file, -1 if that isn't known. For Whole, and a Size that is no less, it would do to put the
	// DirtyRanges into the server's file, where that is possible: what is below Base and not among them is right there.
	Server  int64
	Size    int64
	Version uint64
}

// planMark remembers the lowest offset that changed after a Plan of version was made.
type planMark struct {
	version uint64
	low     int64
}

// maxPlans is how many Plans may be under way with exact results; uploads of one file at the same
// time are one, in practice.
const maxPlans = 4

// SetBase says that the server's file has size bytes, and that this file is the same as it, none of
// it local: what was local is forgotten. For a file fresh from Create, or to follow a change on the server.
// Fails if there is something dirty, unless nothing was written at all since Create.
func (f *SpoolFile) SetBase(size int64) error {
	if err := f.checkRange("set base", size, 0); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.unclaimLocked(f.claimLocked(0, math.MaxInt64))
	if f.closed {
		return f.errorf("set base", size, os.ErrClosed)
	}
	if fresh := f.version == 0; !fresh && f.dirtyLocked() {
		return fmt.Errorf("local copy of %q: it has changes that the server lacks, and can't take over the server's file", f.name)
	}
	if err := f.file.Truncate(0); err != nil {
		return f.errorf("set base", size, err)
	}
	f.spool.release(f.alloc.Bytes())
	f.alloc.Clear()
	f.known.Clear()
	f.cuts++
	f.size, f.base, f.server = size, size, size
	f.touchedLocked(0)
	return nil
}

// Plan says how to bring the file to the server as it is now. Beyond that it changes nothing but a
// note for MarkClean.
//
// AppendFrom is chosen only when the server's file is known to end at Base and all below is unchanged; with
// Base 0 it is Whole, which sends the same and can be repeated. A file of size 0 that the server doesn't have is Whole.
func (f *SpoolFile) Plan() Plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Plan{Kind: Whole, Server: f.server, Size: f.size, Version: f.version}
	first, some := f.dirty.First()
	switch {
	case !f.dirtyLocked():
		p.Kind, p.Off = Clean, f.size
	case f.base > 0 && f.base == f.server && some && first.Off >= f.base:
		p.Kind, p.Off = AppendFrom, f.base
	}
	f.notePlanLocked()
	return p
}

func (f *SpoolFile) notePlanLocked() {
	for i := range f.plans {
		if f.plans[i].version == f.version {
			return
		}
	}
	if len(f.plans) == maxPlans {
		f.plans = append(f.plans[:0], f.plans[1:]...)
	}
	f.plans = append(f.plans, planMark{f.version, math.MaxInt64})
}

// MarkClean says that the server confirmed the content as of version, of base bytes, as its whole file. If nothing
// has changed since, all is clean, Base is Size, and the answer is true.
//
// Otherwise the answer is false: what changed since stays dirty, and so does every local byte behind the first change. If
// that is at or behind base, the next Plan is AppendFrom base. For a version that no recent Plan named, the
// first change counts as 0.
func (f *SpoolFile) MarkClean(version uint64, base int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || base < 0 {
		return false
	}
	if version == f.version && base == f.size {
		f.base, f.server = f.size, f.size
		f.dirty.Clear()
		f.plans = nil
		return true
	}
	var low int64
	for _, p := range f.plans {
		if p.version == version && version != f.version {
			low = p.low
		}
	}
	f.server = base
	f.distrustLocked(min(low, base))
	f.base = max(f.base, min(low, base))
	return false
}

// MarkBroken says that an upload began and did not end well: of the server's file only [0, keep) is still
// known to be as it was. All local bytes behind that are dirty, and the next Plan is Whole. keep is the Base
// for a broken APPE, the offset for REST and STOR, 0 for STOR. Bytes behind keep that are only on the
// server are lost, if the server cut them: for that reason Whole wants them fetched first.
func (f *SpoolFile) MarkBroken(keep int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = unknownSize
	f.distrustLocked(min(max(keep, 0), f.base))
}

// distrustLocked makes dirty exactly what is local and not below keep.
func (f *SpoolFile) distrustLocked(keep int64) {
	dirty := f.known.Clone()
	dirty.Remove(0, keep)
	f.dirty = dirty
}

// Size returns the size in bytes.
func (f *SpoolFile) Size() int64 { return locked(f, func() int64 { return f.size }) }

// Base returns the size of the part that may be on the server alone; what lies behind is dirty.
func (f *SpoolFile) Base() int64 { return locked(f, func() int64 { return f.base }) }

// Version returns a number that grows with each change of the content: WriteAt, Truncate and SetBase, not Fill.
func (f *SpoolFile) Version() uint64 { return locked(f, func() uint64 { return f.version }) }

// Dirty says that the server's file is not known to be the same as this one. True after Create.
func (f *SpoolFile) Dirty() bool { return locked(f, f.dirtyLocked) }

func (f *SpoolFile) dirtyLocked() bool {
	return f.server != f.size || f.dirty.Bytes() > 0
}

// SizeChanged says that the server's file is not known to have this size. A file that was only shrunk is
// Dirty for that alone, without DirtyRanges.
func (f *SpoolFile) SizeChanged() bool {
	return locked(f, func() bool { return f.server != f.size })
}

// DirtyRanges returns what the server lacks, in order, holes included.
func (f *SpoolFile) DirtyRanges() []Range { return locked(f, f.dirty.Ranges) }

// Missing returns the parts of [off, end) that are only on the server, in order. Nil for none.
func (f *SpoolFile) Missing(off, end int64) []Range {
	return locked(f, func() []Range { return f.known.Gaps(max(off, 0), min(end, f.base)) })
}

// LocalFrom returns how many bytes from off on can be read without the server: 0 at a missing one, and at or
// behind the end.
func (f *SpoolFile) LocalFrom(off int64) int64 {
	return locked(f, func() int64 {
		if off < 0 || off >= f.size {
			return 0
		}
		return min(f.known.RunEnd(off), f.size) - off
	})
}

// Changed returns a channel that is closed at the next WriteAt, Fill, Truncate, SetBase or Close. Who waits
// takes the channel first and looks then: so no change falls in between.
func (f *SpoolFile) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
		if f.closed {
			close(f.changed)
		}
	}
	return f.changed
}

// touchedLocked counts a change of the content at low or behind it.
func (f *SpoolFile) touchedLocked(low int64) {
	f.version++
	for i := range f.plans {
		f.plans[i].low = min(f.plans[i].low, low)
	}
	for s := range f.streams {
		if low < s.high {
			s.rewritten = true
		}
	}
	f.notifyLocked()
}

func (f *SpoolFile) notifyLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// locked returns get's answer under the file's lock.
func locked[T any](f *SpoolFile, get func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return get()
}
