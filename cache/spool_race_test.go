package cache

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// blockingDisk lets a test hold a write back.
type blockingDisk struct {
	diskFile
	entered, release chan struct{}
}

func (d *blockingDisk) WriteAt(p []byte, off int64) (int, error) {
	d.entered <- struct{}{}
	<-d.release
	return d.diskFile.WriteAt(p, off)
}

func TestSlowWriteHoldsUpNobodyElsewhere(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "0123456789", 0)
	disk := &blockingDisk{f.file, make(chan struct{}), make(chan struct{})}
	f.file = disk
	done := make(chan error, 2)
	write := func(off int64) { _, err := f.WriteAt([]byte("xx"), off); done <- err }
	go write(0)
	<-disk.entered
	go write(5)
	<-disk.entered // both are under way at once
	buf := make([]byte, 2)
	if _, _, err := f.ReadAt(buf, 8); err != nil || string(buf) != "89" {
		t.Errorf("read beside the writes: %q, %v", buf, err)
	}
	close(disk.release)
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
}

func TestFillWaitsForAWriteOfTheSameBytes(t *testing.T) {
	f := fileWithBase(t, 10)
	disk := &blockingDisk{f.file, make(chan struct{}, 2), make(chan struct{})}
	f.file = disk
	done := make(chan error, 2)
	go func() { _, err := f.WriteAt([]byte("WRITE"), 2); done <- err }()
	<-disk.entered
	go func() { done <- f.Fill([]byte("01234"), 2) }()
	for locked(f, func() bool { return len(f.claims) < 2 }) {
		runtime.Gosched()
	}
	close(disk.release)
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	if len(disk.entered) != 0 {
		t.Error("the Fill went to the disk, though the write left nothing for it")
	}
	buf := make([]byte, 5)
	if _, _, err := f.ReadAt(buf, 2); err != nil || string(buf) != "WRITE" {
		t.Errorf("content %q, %v; want WRITE", buf, err)
	}
}

func TestConcurrentWritersAndFillers(t *testing.T) {
	const size, writers, rounds = 256 << 10, 8, 40
	f := fileWithBase(t, size)
	base := bytes.Repeat([]byte{0xff}, size)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { // each writer has every eighth KiB
			for r := range rounds {
				p := bytes.Repeat([]byte{byte(w)}, 1024)
				off := int64((r*writers + w) * 1024 % size)
				if _, err := f.WriteAt(p, off); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for r := range rounds {
				off := int64((r*7 + w) * 3001 % (size - 5000))
				if err := f.Fill(base[off:off+5000], off); err != nil {
					t.Error(err)
				}
				if _, _, err := f.ReadAt(make([]byte, 3000), off); err != nil {
					t.Error(err)
				}
				f.Plan()
			}
		})
	}
	wg.Wait()
	if err := f.Fill(base, 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if n, missing, err := f.ReadAt(got, 0); n != size || missing != nil || err != nil {
		t.Fatalf("read %d, %v, %v", n, missing, err)
	}
	for i, b := range got {
		if want := byte(i / 1024 % writers); b != want {
			t.Fatalf("byte %d is %#x, want %#x: a write was lost or overlaid", i, b, want)
		}
	}
	if got := f.spool.Usage(); got != size {
		t.Errorf("usage %d, want %d", got, size)
	}
}

// hookedDisk does something just before each read of the local disk.
type hookedDisk struct {
	diskFile
	beforeRead func()
}

func (d *hookedDisk) ReadAt(p []byte, off int64) (int, error) {
	if hook := d.beforeRead; hook != nil {
		d.beforeRead = nil
		hook()
	}
	return d.diskFile.ReadAt(p, off)
}

func TestReadStartsAgainWhenBytesAreTakenAway(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "01234567", 0)
	f.file = &hookedDisk{f.file, func() {
		mustTruncate(t, f, 4)
		if !f.MarkClean(f.Version(), 4) {
			t.Error("not clean")
		}
		if err := f.SetBase(8); err != nil { // the local copy is empty now
			t.Error(err)
		}
		mustWrite(t, f, "xyz", 5)
	}}
	buf := make([]byte, 8)
	n, missing, err := f.ReadAt(buf, 0)
	if n != 0 || missing == nil || *missing != (Range{0, 5}) || err != nil {
		t.Errorf("read %q, missing %v, %v; want nothing and [0,5), for zeros are no content", buf[:n], missing, err)
	}
}

func TestReadAcrossATruncateIsOfOneState(t *testing.T) {
	f := fileWithBase(t, 0)
	mustWrite(t, f, "01234567", 0)
	f.file = &hookedDisk{f.file, func() {
		mustTruncate(t, f, 0)
		mustWrite(t, f, "new", 5)
		mustTruncate(t, f, 7)
	}}
	buf := make([]byte, 8)
	if n, _, err := f.ReadAt(buf, 0); string(buf[:n]) != "\x00\x00\x00\x00\x00ne" || err != io.EOF {
		t.Errorf("read %q, %v; want the content after the truncates", buf[:n], err)
	}
}

// TestTruncatesAndReadsRace is for the race detector, and for content that no state ever had.
func TestTruncatesAndReadsRace(t *testing.T) {
	f := fileWithBase(t, 0)
	const size = 64 << 10
	old, fresh := bytes.Repeat([]byte("o"), size), bytes.Repeat([]byte("n"), size/2)
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, errOld := f.WriteAt(old, 0)
			errCut := f.Truncate(0)
			_, errFresh := f.WriteAt(fresh, size/2)
			if err := errors.Join(errOld, errCut, errFresh, f.Truncate(0)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	// The content is in turn all 'o', nothing, zeros and 'n', nothing.
	states := []string{string(old), "", string(make([]byte, size/2)) + string(fresh)}
	buf := make([]byte, size)
	for range 3000 {
		n, _, err := f.ReadAt(buf, 0)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !slices.Contains(states, string(buf[:n])) {
			t.Fatalf("%d bytes read are none of the states: %d of them old, %d new", n,
				bytes.Count(buf[:n], []byte("o")), bytes.Count(buf[:n], []byte("n")))
		}
	}
}
