package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

// pattern is n bytes of which every position tells where it is.
func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestReadsALargeFileByOneDownload(t *testing.T) {
	s := newSite(t)
	want := pattern(5<<20 + 123)
	p := s.put(t, "big", string(want))
	if got := read(t, p); !bytes.Equal([]byte(got), want) {
		t.Fatal("content differs")
	}
	if n := s.remote.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestReadsAtOffsets(t *testing.T) {
	s := newSite(t)
	want := pattern(3 << 20)
	f, err := os.Open(s.put(t, "big", string(want)))
	must(t, err)
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		off, buf := r.IntN(len(want)), make([]byte, r.IntN(100_000))
		n, err := f.ReadAt(buf, int64(off))
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if end := min(off+len(buf), len(want)); !bytes.Equal(buf[:n], want[off:end]) {
			t.Fatalf("at %d: %d bytes differ", off, n)
		}
	}
}

func TestShortSkipContinuesTheDownload(t *testing.T) {
	s := newSite(t)
	want := pattern(2 << 20)
	f, err := os.Open(s.put(t, "big", string(want)))
	must(t, err)
	defer f.Close()
	buf := make([]byte, 1000)
	for off := 0; off+len(buf) < len(want); off += 200_000 {
		_, err := f.ReadAt(buf, int64(off))
		must(t, err)
		if !bytes.Equal(buf, want[off:off+len(buf)]) {
			t.Fatalf("content differs at %d", off)
		}
	}
	if n := s.remote.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestManyReadersOfOneFileAndOfMany(t *testing.T) {
	s := newSite(t)
	want := pattern(1<<20 + 1)
	for i := range 4 {
		s.put(t, fmt.Sprint("f", i), string(want))
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			got, err := os.ReadFile(filepath.Join(s.mnt, fmt.Sprint("f", i%4)))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestPagesStayWhileTheFileIsTheSame(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "content")
	read(t, p)
	read(t, p)
	read(t, p)
	if n := s.remote.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads for three reads of an unchanged file", n)
	}
}

// cutDownload ends after a number of bytes, with an error or as if that were all.
type cutDownload struct {
	ftpconn.Download
	left int
	err  error
}

func (d *cutDownload) Read(p []byte) (int, error) {
	if d.left <= 0 {
		return 0, d.err
	}
	n, err := d.Download.Read(p[:min(len(p), d.left)])
	d.left -= n
	return n, err
}

func TestBrokenDownloadIsTakenUp(t *testing.T) {
	s := newSite(t)
	want := pattern(1 << 20)
	p := s.put(t, "f", string(want))
	var once sync.Once
	s.remote.set(func() {
		s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
			once.Do(func() { d = &cutDownload{d, 300_001, fmt.Errorf("read: %w", ftpconn.ErrConnLost)} })
			return d
		}
	})
	if got := read(t, p); !bytes.Equal([]byte(got), want) {
		t.Error("content differs")
	}
	if n := s.remote.count("Retrieve"); n < 2 || n > 3 { // 3: a read of the kernel's came behind those that went on
		t.Errorf("%d downloads, want 2", n)
	}
}

func TestShortTransferIsAnError(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", string(pattern(1<<20)))
	s.remote.set(func() {
		s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
			return &cutDownload{d, 0, io.EOF}
		}
	})
	_, err := os.ReadFile(p)
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("reading a file of which nothing comes: %v, want EIO", err)
	}
}

func TestChangedFileIsNotMixed(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", strings.Repeat("a", 1<<20))
	s.remote.set(func() {
		s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
			return &cutDownload{d, 300_000, ftpconn.ErrConnLost}
		}
	})
	f, err := os.Open(p)
	must(t, err)
	defer f.Close()
	_, err = io.ReadFull(f, make([]byte, 1000))
	must(t, err)
	s.put(t, "f", strings.Repeat("b", 1<<20+1))
	if _, err = io.ReadAll(f); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("reading on: %v, want ESTALE", err)
	}
}

func TestChangeIsSeenAtOpenAfterTTL(t *testing.T) {
	s := newSite(t, func(o *Options) { o.TTL = 0 })
	p := s.put(t, "f", "old")
	if got := read(t, p); got != "old" {
		t.Fatal(got)
	}
	s.put(t, "f", "newer")
	if got := read(t, p); got != "newer" {
		t.Errorf("read %q", got)
	}
}

func TestOpenShowsAChangeAtOnce(t *testing.T) {
	s := mountSite(t, false)
	p := s.put(t, "f", "old")
	if got := read(t, p); got != "old" {
		t.Fatal(got)
	}
	s.put(t, "f", "longer than the kernel knows")
	if got := read(t, p); got != "longer than the kernel knows" {
		t.Errorf("read %q", got)
	}
}

func TestTailSeesGrowth(t *testing.T) {
	s := mountSite(t, false)
	p := s.put(t, "log", "one\n")
	f, err := os.Open(p)
	must(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	must(t, err)
	out, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = out.WriteString("two\n")
	must(t, err)
	must(t, out.Close())
	for deadline := time.Now().Add(5 * time.Second); len(data) < 8 && time.Now().Before(deadline); {
		_, err := f.Stat()
		must(t, err)
		more, err := io.ReadAll(f)
		must(t, err)
		data = append(data, more...)
	}
	if string(data) != "one\ntwo\n" {
		t.Errorf("read %q", data)
	}
}

// stuckDownload gives nothing until it is closed or freed.
type stuckDownload struct {
	free <-chan struct{}
}

func (d stuckDownload) Read([]byte) (int, error) {
	<-d.free
	return 0, ftpconn.ErrConnLost
}

func (d stuckDownload) Close() error { return nil }

func TestInterruptEndsAWaitingRead(t *testing.T) {
	r := newDirRemote(t.TempDir())
	must(t, os.WriteFile(r.local("/f"), pattern(1<<20), 0o644))
	free := make(chan struct{})
	defer close(free)
	r.retrieved = func(string, ftpconn.Download) ftpconn.Download { return stuckDownload{free} }
	tr := newTree(r, nil, Options{})
	defer tr.cancel()
	rd := newReader(tr.root, version{size: 1 << 20})
	defer rd.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rd.readAt(ctx, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted read: %v", err)
	}
}

func TestUnknownSizeIsReadToItsEnd(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", string(pattern(300_000)))
	s.remote.set(func() { s.remote.sizeless = true })
	if got := read(t, p); !bytes.Equal([]byte(got), pattern(300_000)) {
		t.Errorf("%d bytes differ", len(got))
	}
}

func TestPreemptedDownloadGoesOn(t *testing.T) {
	s := newSite(t)
	want := pattern(2 << 20)
	p := s.put(t, "f", string(want))
	s.remote.set(func() {
		s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
			return &cutDownload{d, 100_000, ftpconn.ErrPreempted}
		}
	})
	if got := read(t, p); !bytes.Equal([]byte(got), want) {
		t.Error("content differs")
	}
}

// A download that gave its session away while nobody read goes on with the same file only, however young what is known of it.
func TestDownloadThatWasGivenUpKeepsItsVersion(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		s := newSite(t, func(o *Options) { o.TTL = time.Hour })
		want := pattern(1 << 20)
		p := s.put(t, "f", string(want))
		gone := make(chan struct{})
		s.remote.set(func() {
			s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
				return &closingDownload{&cutDownload{d, 100_000, ftpconn.ErrPreempted}, gone}
			}
		})
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		got := make([]byte, 1000)
		_, err = io.ReadFull(f, got)
		must(t, err)
		select {
		case <-gone:
		case <-time.After(20 * time.Second):
			t.Fatal("the download goes on")
		}
		s.remote.set(func() { s.remote.retrieved = nil })
		if replaced {
			s.put(t, "new", strings.Repeat("z", 1<<20))
			later := time.Now().Add(time.Minute)
			must(t, os.Chtimes(filepath.Join(s.dir, "new"), later, later))
			must(t, os.Rename(filepath.Join(s.dir, "new"), filepath.Join(s.dir, "f")))
		}
		rest, err := io.ReadAll(f)
		got = append(got, rest...)
		switch {
		case replaced && !errors.Is(err, syscall.ESTALE):
			t.Errorf("reading on in another file: %d bytes, %v", len(got), err)
		case !replaced && err != nil:
			t.Errorf("reading on: %v", err)
		}
		if !bytes.HasPrefix(want, got) || !replaced && len(got) < len(want) {
			t.Errorf("%d bytes that aren't all of this file", len(got))
		}
	}
}

// closingDownload tells of its end.
type closingDownload struct {
	ftpconn.Download
	closed chan struct{}
}

func (d *closingDownload) Close() error {
	defer close(d.closed)
	return d.Download.Close()
}

// What a download brings of an old version is not read up to the size of a new one that was shown while it was under way: there would be
// zeros behind its end.
func TestAFileThatOthersReplaceWhileItIsReadHasNoZeros(t *testing.T) {
	for _, size := range []int{5, 3000, 100_000} {
		s := mountSite(t, false, func(o *Options) { o.TTL = 0 })
		p := s.put(t, "f", strings.Repeat("old\n", size/4))
		var once sync.Once
		shown := make(chan error, 1)
		s.remote.set(func() {
			s.remote.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
				once.Do(func() {
					if err := os.WriteFile(filepath.Join(s.dir, "new"), []byte(strings.Repeat("new\n", 2*size)), 0o644); err != nil {
						t.Error(err)
					}
					if err := os.Rename(filepath.Join(s.dir, "new"), filepath.Join(s.dir, "f")); err != nil {
						t.Error(err)
					}
					asked := s.remote.count("Stat")
					go func() {
						_, err := os.Stat(p)
						shown <- err
					}()
					for range 100 { // it can't end as long as the read holds the page
						if s.remote.count("Stat") > asked {
							break
						}
						time.Sleep(time.Millisecond)
					}
					time.Sleep(10 * time.Millisecond)
				})
				return d
			}
		})
		data, err := os.ReadFile(p)
		if err == nil && string(data) != strings.Repeat(string(data[:min(4, len(data))]), len(data)/4) || err != nil && !errors.Is(err, syscall.ESTALE) {
			t.Errorf("%d bytes: %v, %d bytes that begin with %.10q and end with %.10q", size, err, len(data), data, data[max(0, len(data)-10):])
		}
		t.Logf("%d bytes: %v, %d bytes", size, err, len(data))
		must(t, <-shown)
	}
}
