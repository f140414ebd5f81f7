package cache

import (
	"errors"
	"os"
	"slices"
	"testing"
)

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name    string
		base    int64 // -1: not on the server
		changes func(*testing.T, *SpoolFile)
		kind    PlanKind
		off     int64
		server  int64
	}{
		{"new and empty", -1, func(*testing.T, *SpoolFile) {}, Whole, 0, -1},
		{"new", -1, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 0) }, Whole, 0, -1},
		{"untouched", 10, func(*testing.T, *SpoolFile) {}, Clean, 10, 10},
		{"empty on the server", 0, func(*testing.T, *SpoolFile) {}, Clean, 0, 0},
		{"filled", 3, func(t *testing.T, f *SpoolFile) {
			if err := f.Fill([]byte("abc"), 0); err != nil {
				t.Fatal(err)
			}
		}, Clean, 3, 3},
		{"appended", 10, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 10) }, AppendFrom, 10, 10},
		{"appended behind a hole", 10, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 15) }, AppendFrom, 10, 10},
		{"grown", 10, func(t *testing.T, f *SpoolFile) { mustTruncate(t, f, 20) }, AppendFrom, 10, 10},
		{"appended to an empty one", 0, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 0) }, Whole, 0, 0},
		{"changed in the middle", 10, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 5) }, Whole, 0, 10},
		{"changed and appended", 10, func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "abc", 8) }, Whole, 0, 10},
		{"shrunk", 10, func(t *testing.T, f *SpoolFile) { mustTruncate(t, f, 4) }, Whole, 0, 10},
		{"emptied", 10, func(t *testing.T, f *SpoolFile) { mustTruncate(t, f, 0) }, Whole, 0, 10},
		{"shrunk and grown to the same size", 10, func(t *testing.T, f *SpoolFile) {
			mustTruncate(t, f, 4)
			mustTruncate(t, f, 10)
		}, Whole, 0, 10},
		{"shrunk and appended", 10, func(t *testing.T, f *SpoolFile) {
			mustTruncate(t, f, 4)
			mustWrite(t, f, "0123456789", 4)
		}, Whole, 0, 10},
		{"grown and shrunk back", 10, func(t *testing.T, f *SpoolFile) {
			mustTruncate(t, f, 20)
			mustTruncate(t, f, 10)
		}, Clean, 10, 10},
		{"after a broken append", 10, func(t *testing.T, f *SpoolFile) {
			mustWrite(t, f, "abc", 10)
			f.MarkBroken(10)
		}, Whole, 0, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := createFile(t, openSpool(t, t.TempDir(), 0))
			if c.base >= 0 {
				if err := f.SetBase(c.base); err != nil {
					t.Fatal(err)
				}
			}
			c.changes(t, f)
			want := Plan{c.kind, c.off, c.server, f.Size(), f.Version()}
			if got := f.Plan(); got != want {
				t.Errorf("Plan() = %+v, want %+v", got, want)
			}
			if f.Dirty() != (c.kind != Clean) {
				t.Errorf("Dirty() = %v with plan %v", f.Dirty(), c.kind)
			}
		})
	}
}

func TestMarkCleanOfThePresentVersion(t *testing.T) {
	f := fileWithBase(t, 4)
	mustWrite(t, f, "abc", 6)
	p := f.Plan()
	if !f.MarkClean(p.Version, p.Size) {
		t.Fatal("MarkClean says that something changed")
	}
	if f.Dirty() || f.SizeChanged() || f.DirtyRanges() != nil || f.Base() != 9 {
		t.Errorf("dirty %v %v, size changed %v, base %d; want a clean file of 9 bytes", f.Dirty(), f.DirtyRanges(), f.SizeChanged(), f.Base())
	}
	if got := f.Missing(0, 9); !slices.Equal(got, []Range{{0, 4}}) {
		t.Errorf("missing %v; what was local stays local, holes too", got)
	}
}

func TestMarkCleanAfterAFurtherAppend(t *testing.T) {
	f := fileWithBase(t, 4)
	mustWrite(t, f, "abc", 4)
	p := f.Plan()
	mustWrite(t, f, "more", 7)
	if f.MarkClean(p.Version, p.Size) {
		t.Fatal("MarkClean overlooks a change")
	}
	if got := f.Plan(); got.Kind != AppendFrom || got.Off != 7 {
		t.Errorf("plan %+v, want an append from 7: the bytes before it would be there twice", got)
	}
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{7, 11}}) {
		t.Errorf("dirty %v, want [7,11)", got)
	}
}

func TestMarkCleanAfterAChangeBelow(t *testing.T) {
	f := fileWithBase(t, 4)
	mustWrite(t, f, "abcdef", 4)
	p := f.Plan()
	mustWrite(t, f, "X", 6)
	if f.MarkClean(p.Version, p.Size) {
		t.Fatal("MarkClean overlooks a change")
	}
	if got := f.Plan(); got.Kind != Whole || got.Server != 10 {
		t.Errorf("plan %+v, want whole, with 10 bytes on the server", got)
	}
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{6, 10}}) {
		t.Errorf("dirty %v, want all from the first change on", got)
	}
}

func TestMarkCleanAfterATruncate(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "abcdef", 0)
	p := f.Plan()
	mustTruncate(t, f, 3)
	if f.MarkClean(p.Version, p.Size) || !f.SizeChanged() {
		t.Fatal("MarkClean overlooks a truncate")
	}
	if got := f.Plan(); got.Kind != Whole || got.Size != 3 {
		t.Errorf("plan %+v, want whole of 3 bytes", got)
	}
}

func TestMarkCleanOfAnUnknownVersionTrustsNothing(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "abc", 0)
	version := f.Version() // no Plan
	mustWrite(t, f, "def", 3)
	if f.MarkClean(version, 3) {
		t.Fatal("MarkClean overlooks a change")
	}
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{0, 6}}) || f.Plan().Kind != Whole {
		t.Errorf("dirty %v, plan %v; want all of it, whole", got, f.Plan().Kind)
	}
}

func TestMarkCleanWithTheWrongSizeTrustsNothing(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "abcdef", 0)
	p := f.Plan()
	if f.MarkClean(p.Version, 4) || !f.Dirty() {
		t.Error("a server's file of 4 bytes passes for one of 6")
	}
	if got := f.Plan(); got.Kind != Whole || !slices.Equal(f.DirtyRanges(), []Range{{0, 6}}) {
		t.Errorf("plan %+v, dirty %v; want whole from 0", got, f.DirtyRanges())
	}
}

func TestMarkBrokenKeepsWhatIsOnlyOnTheServer(t *testing.T) {
	f := fileWithBase(t, 10)
	if err := f.Fill([]byte("01234"), 0); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "abc", 10)
	f.MarkBroken(10)
	if got := f.Missing(0, 13); !slices.Equal(got, []Range{{5, 10}}) {
		t.Errorf("missing %v, want [5,10)", got)
	}
	f.MarkBroken(0)
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{0, 5}, {10, 13}}) {
		t.Errorf("dirty %v, want all that is local", got)
	}
}

func TestSetBaseForgetsWhatIsClean(t *testing.T) {
	f := fileWithBase(t, 4)
	if err := f.Fill([]byte("old!"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.SetBase(6); err != nil {
		t.Fatal(err)
	}
	if got := f.Missing(0, 6); !slices.Equal(got, []Range{{0, 6}}) || f.Dirty() || f.Size() != 6 || f.spool.Usage() != 0 {
		t.Errorf("missing %v, dirty %v, size %d, usage %d", got, f.Dirty(), f.Size(), f.spool.Usage())
	}
}

func TestSetBaseRefusesToLoseChanges(t *testing.T) {
	f := fileWithBase(t, 4)
	mustWrite(t, f, "x", 0)
	if err := f.SetBase(6); err == nil {
		t.Error("a change was forgotten")
	}
	if f.Size() != 4 || !f.Dirty() {
		t.Errorf("size %d, dirty %v after the refusal", f.Size(), f.Dirty())
	}
}

// drain reads a stream until it has nothing now.
func drain(t *testing.T, s *Stream) string {
	t.Helper()
	var out []byte
	for buf := make([]byte, 5); ; {
		n, err := s.Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return string(out)
		}
		out = append(out, buf[:n]...)
	}
}

func TestStreamFollowsAFileBeingWritten(t *testing.T) {
	f := createFile(t, openSpool(t, t.TempDir(), 0))
	s := f.Stream(0)
	defer s.Close()
	mustWrite(t, f, "hello ", 0)
	got := drain(t, s)
	changed := f.Changed()
	mustWrite(t, f, "world", 6)
	<-changed
	got += drain(t, s)
	p := f.Plan()
	if got != "hello world" || s.Pos() != p.Size || !s.Intact() || !f.MarkClean(p.Version, p.Size) || f.Dirty() {
		t.Errorf("streamed %q to %d, intact %v; plan %+v", got, s.Pos(), s.Intact(), p)
	}
}

func TestStreamNoticesChangesBehindIt(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *SpoolFile){
		"write":    func(t *testing.T, f *SpoolFile) { mustWrite(t, f, "J", 0) },
		"truncate": func(t *testing.T, f *SpoolFile) { mustTruncate(t, f, 2) },
	} {
		f := createFile(t, openSpool(t, t.TempDir(), 0))
		s := f.Stream(0)
		mustWrite(t, f, "hello", 0)
		drain(t, s)
		change(t, f)
		if _, err := s.Next(make([]byte, 1)); !errors.Is(err, ErrRewritten) || s.Intact() {
			t.Errorf("%s: error %v, intact %v; want ErrRewritten", name, err, s.Intact())
		}
	}
}

func TestStreamTakesChangesAheadOfIt(t *testing.T) {
	f := createFile(t, openSpool(t, t.TempDir(), 0))
	s := f.Stream(0)
	mustWrite(t, f, "hello world", 0)
	if _, err := s.Next(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "!", 5)
	if got := drain(t, s); got != "!world" || !s.Intact() {
		t.Errorf("streamed %q, intact %v", got, s.Intact())
	}
}

func TestStreamStopsAtWhatIsMissing(t *testing.T) {
	f := fileWithBase(t, 6)
	s := f.Stream(0)
	mustWrite(t, f, "abc", 0)
	if got := drain(t, s); got != "abc" {
		t.Errorf("streamed %q, want abc", got)
	}
	if err := f.Fill([]byte("012345"), 0); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, s); got != "345" {
		t.Errorf("then streamed %q, want 345", got)
	}
}

func TestStreamNoticesAChangeDuringItsRead(t *testing.T) {
	f := createFile(t, openSpool(t, t.TempDir(), 0))
	s := f.Stream(0)
	mustWrite(t, f, "hello", 0)
	f.file = &hookedDisk{f.file, func() { mustWrite(t, f, "J", 0) }}
	if n, err := s.Next(make([]byte, 5)); n != 0 || !errors.Is(err, ErrRewritten) {
		t.Errorf("Next = %d, %v; want ErrRewritten", n, err)
	}
}

func TestStreamOfAClosedFileFails(t *testing.T) {
	f := createFile(t, openSpool(t, t.TempDir(), 0))
	s := f.Stream(0)
	mustWrite(t, f, "hello", 0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(make([]byte, 5)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next of a closed file: %v, want ErrClosed", err)
	}
}

func TestStreamLendsWhatIsLocal(t *testing.T) {
	f := fileWithBase(t, 20)
	if err := f.Fill([]byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	s := f.Stream(2)
	if _, _, n, err := s.Lend(9, 100); n != 0 || err != nil || s.Pos() != 2 {
		t.Errorf("Lend of at least 9 = %d, %v, at %d; want nothing, at 2", n, err, s.Pos())
	}
	file, off, n, err := s.Lend(3, 6)
	if off != 2 || n != 6 || err != nil || s.Pos() != 8 {
		t.Fatalf("Lend = %d at %d, %v, then at %d; want 6 at 2, then at 8", n, off, err, s.Pos())
	}
	got := make([]byte, n)
	if _, err := file.ReadAt(got, off); err != nil || string(got) != "234567" {
		t.Errorf("lent %q, %v; want 234567", got, err)
	}
	mustWrite(t, f, "x", 8)
	if !s.Steady() {
		t.Error("not steady, and nothing of what was lent has changed")
	}
	f.file = &hookedWriter{f.file, func() {
		if s.Steady() || !s.Intact() {
			t.Errorf("during a write: steady %v, intact %v; want neither steady nor changed yet", s.Steady(), s.Intact())
		}
	}}
	mustWrite(t, f, "x", 7)
	if s.Steady() {
		t.Error("steady after a change")
	}
	if _, _, _, err := s.Lend(1, 6); err != nil {
		t.Errorf("a file that can't be lent: %v", err)
	}
	f.file = f.file.(*hookedWriter).diskFile
	if _, _, n, err := s.Lend(1, 6); n != 0 || !errors.Is(err, ErrRewritten) {
		t.Errorf("Lend = %d, %v; want ErrRewritten", n, err)
	}
}

// hookedWriter calls a function in the middle of a write.
type hookedWriter struct {
	diskFile
	during func()
}

func (d *hookedWriter) WriteAt(p []byte, off int64) (int, error) {
	d.during()
	return d.diskFile.WriteAt(p, off)
}
