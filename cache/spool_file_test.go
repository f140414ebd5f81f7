package cache

import (
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
)

// fileWithBase returns a file whose server content has size bytes, nothing of it local.
func fileWithBase(t *testing.T, size int64) *SpoolFile {
	t.Helper()
	f := createFile(t, openSpool(t, t.TempDir(), 0))
	if err := f.SetBase(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func mustWrite(t *testing.T, f *SpoolFile, data string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(data), off); n != len(data) || err != nil {
		t.Fatalf("WriteAt(%q, %d) = %d, %v", data, off, n, err)
	}
}

func mustTruncate(t *testing.T, f *SpoolFile, size int64) {
	t.Helper()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func TestReadStopsAtTheFirstMissingRange(t *testing.T) {
	f := fileWithBase(t, 20)
	mustWrite(t, f, "abc", 5)
	mustWrite(t, f, "xyz", 12)
	buf := make([]byte, 10)
	n, missing, err := f.ReadAt(buf, 6)
	if n != 2 || string(buf[:n]) != "bc" || missing == nil || *missing != (Range{8, 12}) || err != nil {
		t.Errorf("ReadAt = %d %q, %v, %v; want 2 \"bc\", [8,12)", n, buf[:n], missing, err)
	}
	n, missing, err = f.ReadAt(buf, 0)
	if n != 0 || missing == nil || *missing != (Range{0, 5}) || err != nil {
		t.Errorf("ReadAt = %d, %v, %v; want 0, [0,5)", n, missing, err)
	}
	n, missing, err = f.ReadAt(buf[:2], 16)
	if n != 0 || missing == nil || *missing != (Range{16, 18}) || err != nil {
		t.Errorf("ReadAt = %d, %v, %v; want 0, [16,18): not more than asked for", n, missing, err)
	}
}

func TestReadEndsAtSize(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "hello", 0)
	buf := make([]byte, 8)
	if n, missing, err := f.ReadAt(buf, 2); n != 3 || missing != nil || err != io.EOF {
		t.Errorf("across the end: %d, %v, %v; want 3 and io.EOF", n, missing, err)
	}
	if n, missing, err := f.ReadAt(buf[:3], 2); n != 3 || missing != nil || err != nil {
		t.Errorf("up to the end: %d, %v, %v; want 3 and no error", n, missing, err)
	}
	if n, _, err := f.ReadAt(buf, 100); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v; want io.EOF", n, err)
	}
}

func TestFillNeverOverwritesWhatWasWritten(t *testing.T) {
	f := fileWithBase(t, 10)
	mustWrite(t, f, "NEW", 3)
	if err := f.Fill([]byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if _, _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "012NEW6789" {
		t.Errorf("content %q, %v; want 012NEW6789", buf, err)
	}
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{3, 6}}) {
		t.Errorf("dirty %v, want what was written", got)
	}
	if f.Missing(0, 10) != nil {
		t.Errorf("missing %v after all was filled", f.Missing(0, 10))
	}
}

func TestFillThatComesAfterATruncateIsCut(t *testing.T) {
	f := fileWithBase(t, 10)
	mustTruncate(t, f, 4)
	mustTruncate(t, f, 8)
	if err := f.Fill([]byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if _, _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "0123\x00\x00\x00\x00" {
		t.Errorf("content %q, %v; want 0123 and zeros", buf, err)
	}
}

func TestWriteBehindTheEndLeavesDirtyZeros(t *testing.T) {
	f := fileWithBase(t, 4)
	mustWrite(t, f, "end", 8)
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{4, 11}}) {
		t.Errorf("dirty %v, want [4,11)", got)
	}
	buf := make([]byte, 7)
	if n, missing, err := f.ReadAt(buf, 4); n != 7 || missing != nil || err != nil || string(buf) != "\x00\x00\x00\x00end" {
		t.Errorf("read %q, %v, %v", buf[:n], missing, err)
	}
}

func TestEmptyWriteChangesNothing(t *testing.T) {
	f := fileWithBase(t, 4)
	version := f.Version()
	mustWrite(t, f, "", 100)
	if f.Size() != 4 || f.Dirty() || f.Version() != version {
		t.Errorf("size %d, dirty %v, version %d", f.Size(), f.Dirty(), f.Version())
	}
}

func TestOffsetsOutOfRange(t *testing.T) {
	f := fileWithBase(t, 4)
	if _, err := f.WriteAt([]byte("x"), -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("negative write: %v", err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<63-1); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("write at the end of offsets: %v", err)
	}
	if err := f.Truncate(-1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("negative truncate: %v", err)
	}
	if _, _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("negative read: %v", err)
	}
}

func TestClosedFileFails(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := createFile(t, s)
	mustWrite(t, f, "x", 0)
	changed := f.Changed()
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	<-changed
	<-f.Changed()
	_, errWrite := f.WriteAt([]byte("x"), 0)
	_, _, errRead := f.ReadAt(make([]byte, 1), 0)
	for _, err := range []error{errWrite, errRead, f.Truncate(0), f.Fill([]byte("x"), 0), f.SetBase(0), f.Sync()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	}
	if info, err := os.Stat(f.LocalPath()); err == nil && info.Size() > 0 || s.Usage() != 0 {
		t.Errorf("left on disk: %v, usage %d", info, s.Usage())
	}
}

// failingDisk writes up to a number of bytes and then fails.
type failingDisk struct {
	diskFile
	left int
	err  error
}

func (d *failingDisk) WriteAt(p []byte, off int64) (int, error) {
	k := min(d.left, len(p))
	n, err := d.diskFile.WriteAt(p[:k], off)
	d.left -= n
	if err == nil && k < len(p) {
		err = d.err
	}
	return n, err
}

func TestWriteThatTheDiskCutsMarksWhatIsThere(t *testing.T) {
	f := fileWithBase(t, 10)
	f.file = &failingDisk{f.file, 3, syscall.EIO}
	version := f.Version()
	if n, err := f.WriteAt([]byte("abcdef"), 2); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("WriteAt = %d, %v; want 3, EIO", n, err)
	}
	if got := f.DirtyRanges(); !slices.Equal(got, []Range{{2, 5}}) || f.Version() == version {
		t.Errorf("dirty %v, version %d; want [2,5) and a new version", got, f.Version())
	}
	if n, err := f.WriteAt([]byte("far"), 20); n != 0 || !errors.Is(err, syscall.EIO) || f.Size() != 10 {
		t.Errorf("second write %d, %v, size %d; want nothing changed", n, err, f.Size())
	}
	if got := f.spool.Usage(); got != allocUnit {
		t.Errorf("usage %d, want one block", got)
	}
}

func TestFillThatTheDiskCutsMarksWhatIsThere(t *testing.T) {
	f := fileWithBase(t, 10)
	mustWrite(t, f, "XX", 4)
	f.file = &failingDisk{f.file, 6, syscall.ENOSPC}
	if err := f.Fill([]byte("0123456789"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Fill: %v, want ENOSPC", err)
	}
	if got := f.Missing(0, 10); !slices.Equal(got, []Range{{8, 10}}) {
		t.Errorf("missing %v, want [8,10)", got)
	}
}

func TestReadOfACopyCutFromOutsideIsAnError(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "hello", 0)
	if err := f.file.Truncate(2); err != nil {
		t.Fatal(err)
	}
	if n, _, err := f.ReadAt(make([]byte, 5), 0); n != 2 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d, %v; want 2 and ErrUnexpectedEOF, never zeros", n, err)
	}
}

func TestChangedTellsOfEachChange(t *testing.T) {
	f := fileWithBase(t, 10)
	for name, change := range map[string]func() error{
		"write":    func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"fill":     func() error { return f.Fill([]byte("0123456789"), 0) },
		"truncate": func() error { return f.Truncate(f.Size() + 1) },
	} {
		changed := f.Changed()
		select {
		case <-changed:
			t.Errorf("%s: told before the change", name)
		default:
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		<-changed
	}
}

func TestLocalFrom(t *testing.T) {
	f := fileWithBase(t, 10)
	mustWrite(t, f, "abc", 4)
	mustWrite(t, f, "z", 12)
	for off, want := range map[int64]int64{-1: 0, 0: 0, 4: 3, 5: 2, 7: 0, 10: 3, 12: 1, 13: 0, 99: 0} {
		if got := f.LocalFrom(off); got != want {
			t.Errorf("LocalFrom(%d) = %d, want %d", off, got, want)
		}
	}
}
