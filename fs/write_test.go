package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

func TestWritesALargeFileWhileItIsWritten(t *testing.T) {
	s := newSite(t)
	want := pattern(3<<20 + 7)
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	_, err = f.Write(want[:2<<20])
	must(t, err)
	waitFor(t, "the upload to begin", func() bool { return s.remote.count("Store") == 1 })
	_, err = f.Write(want[2<<20:])
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", string(want))
	if n := s.remote.count("Store"); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

// waitFor waits for something that happens in another goroutine.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWriteBelowWhatWasSent(t *testing.T) {
	s := newSite(t)
	want := pattern(1 << 20)
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	_, err = f.Write(want)
	must(t, err)
	waitFor(t, "the upload to begin", func() bool { return s.remote.count("Store") == 1 })
	copy(want[10:], "header")
	_, err = f.WriteAt([]byte("header"), 10)
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", string(want))
}

func TestOverwritesInTheMiddle(t *testing.T) {
	s := newSite(t)
	want := pattern(700_000)
	p := s.put(t, "f", string(want))
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	copy(want[333_333:], "changed")
	_, err = f.WriteAt([]byte("changed"), 333_333)
	must(t, err)
	got := make([]byte, 20)
	_, err = f.ReadAt(got, 333_330)
	must(t, err)
	if !bytes.Equal(got, want[333_330:333_350]) {
		t.Errorf("read back %q", got)
	}
	must(t, f.Close())
	s.onServer(t, "f", string(want))
}

func TestTruncates(t *testing.T) {
	for _, c := range []struct {
		size int64
		want string
	}{{0, ""}, {3, "abc"}, {6, "abcdef"}, {9, "abcdef\x00\x00\x00"}} {
		for _, how := range []string{"path", "descriptor"} {
			t.Run(fmt.Sprint(how, c.size), func(t *testing.T) {
				s := newSite(t)
				p := s.put(t, "f", "abcdef")
				if how == "path" {
					must(t, os.Truncate(p, c.size))
				} else {
					f, err := os.OpenFile(p, os.O_WRONLY, 0)
					must(t, err)
					must(t, f.Truncate(c.size))
					must(t, f.Close())
				}
				s.onServer(t, "f", c.want)
				if got := read(t, p); got != c.want {
					t.Errorf("read back %q", got)
				}
			})
		}
	}
}

func TestOpenTruncEmptiesTheFile(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "abcdef")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "")
}

func TestEmptyFileIsMade(t *testing.T) {
	s := newSite(t)
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "")
	if n := s.remote.count("Store"); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

func TestCreatedFileIsVisibleBeforeItsUpload(t *testing.T) {
	s := newSite(t)
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("abc")
	must(t, err)
	if s.remote.count("Store")+s.remote.count("Append") != 0 {
		t.Fatal("uploaded already")
	}
	entries, err := os.ReadDir(s.mnt)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "f" {
		t.Errorf("listing: %v", entries)
	}
	info, err := os.Stat(filepath.Join(s.mnt, "f"))
	must(t, err)
	if info.Size() != 3 {
		t.Errorf("size %d", info.Size())
	}
	if got := read(t, filepath.Join(s.mnt, "f")); got != "abc" {
		t.Errorf("read %q through a second descriptor", got)
	}
}

// refusedUpload takes everything and refuses at the end.
type refusedUpload struct {
	ftpconn.Upload
	err error
}

func (u refusedUpload) Close() error {
	u.Upload.Close()
	return u.err
}

func TestCloseReturnsTheVerdict(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{&ftpconn.ReplyError{Command: "STOR f", Code: 452, Text: "No space left on device", Kind: ftpconn.ErrNoSpace}, syscall.ENOSPC},
		{&ftpconn.ReplyError{Command: "STOR f", Code: 552, Text: "Quota exceeded", Kind: ftpconn.ErrQuota}, syscall.EDQUOT},
		{&ftpconn.ReplyError{Command: "STOR f", Code: 553, Text: "Could not create file."}, syscall.EACCES},
		{&ftpconn.ReplyError{Command: "STOR f", Code: 553, Text: "Prohibited file name"}, syscall.EINVAL},
		{&ftpconn.ReplyError{Command: "STOR f", Code: 451, Text: "Local error in processing"}, syscall.EIO},
	} {
		t.Run(c.want.Error(), func(t *testing.T) {
			s := newSite(t)
			s.remote.set(func() {
				s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload { return refusedUpload{u, c.err} }
			})
			f, err := os.Create(filepath.Join(s.mnt, "f"))
			must(t, err)
			_, err = f.WriteString("abc")
			must(t, err)
			if err := f.Close(); !errors.Is(err, c.want) {
				t.Errorf("close: %v, want %v", err, c.want)
			}
			if err := s.PendingErr(); err != nil {
				t.Errorf("reported twice: %v", err)
			}
		})
	}
}

func TestFsyncReturnsTheVerdict(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() {
		s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload { return refusedUpload{u, ftpconn.ErrNoSpace} }
	})
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	_, err = f.WriteString("abc")
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("fsync: %v", err)
	}
	s.remote.set(func() { s.remote.stored = nil })
	must(t, f.Close()) // the next flush tries again
	s.onServer(t, "f", "abc")
}

func TestRefusedStreamFailsTheWriter(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() {
		s.remote.before = func(op, _ string) error {
			if op == "Store" {
				return &ftpconn.ReplyError{Command: "STOR f", Code: 452, Text: "disk full", Kind: ftpconn.ErrNoSpace}
			}
			return nil
		}
	})
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	buf := pattern(1 << 20)
	waitFor(t, "write to fail", func() bool {
		_, err = f.Write(buf)
		return err != nil
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v", err)
	}
	if err := f.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
}

// lostUpload loses its connection after some bytes.
type lostUpload struct {
	ftpconn.Upload
	left int
}

func (u *lostUpload) Write(p []byte) (int, error) {
	n := min(len(p), u.left)
	u.left -= n
	u.Upload.Write(p[:n])
	if n < len(p) {
		return n, fmt.Errorf("write: %w", ftpconn.ErrConnLost)
	}
	return n, nil
}

func (u *lostUpload) Close() error {
	u.Upload.Close()
	return fmt.Errorf("close: %w", ftpconn.ErrConnLost)
}

func loseFirst(n int) func(string, ftpconn.Upload) ftpconn.Upload {
	var once sync.Once
	return func(_ string, u ftpconn.Upload) ftpconn.Upload {
		once.Do(func() { u = &lostUpload{u, n} })
		return u
	}
}

func TestLostUploadIsRepeated(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() { s.remote.stored = loseFirst(100_000) })
	want := pattern(900_000)
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), want, 0o644))
	s.onServer(t, "f", string(want))
}

func TestWriterGoesOnAfterALostStream(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() { s.remote.stored = loseFirst(100_000) })
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	want := pattern(1 << 20)
	for range maxAhead>>20 + 4 { // more than a writer may be ahead
		_, err := f.Write(want)
		must(t, err)
	}
	must(t, f.Close())
	s.onServer(t, "f", strings.Repeat(string(want), maxAhead>>20+4))
}

func TestLostAppendSendsTheRest(t *testing.T) {
	for _, arrived := range []int{0, 100_000, 300_000} {
		t.Run(fmt.Sprint(arrived), func(t *testing.T) {
			s := newSite(t)
			want := pattern(500_000)
			p := s.put(t, "f", string(want[:200_000]))
			s.remote.set(func() { s.remote.stored = loseFirst(arrived) })
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = f.Write(want[200_000:])
			must(t, err)
			must(t, f.Close())
			s.onServer(t, "f", string(want))
			if s.remote.count("Store") != 0 {
				t.Errorf("requests: %v", s.remote.calls)
			}
		})
	}
}

func TestRefusedAppendBecomesAWholeUpload(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() { s.remote.noAppend = true })
	p := s.put(t, "f", "one")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "onetwo")
}

func TestAppendGoesBehindWhatOthersAppended(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "one\n")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("mine\n")
	must(t, err)
	s.put(t, "f", "one\ntheirs\n")
	must(t, f.Close())
	s.onServer(t, "f", "one\ntheirs\nmine\n")
}

func TestAppendCreatesWithoutHarm(t *testing.T) {
	s := newSite(t)
	_, err := os.ReadDir(s.mnt)
	must(t, err)
	s.put(t, "f", "theirs\n") // unseen: the empty listing is remembered
	f, err := os.OpenFile(filepath.Join(s.mnt, "f"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	must(t, err)
	_, err = f.WriteString("mine\n")
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "theirs\nmine\n")
}

func TestTwoWriters(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", strings.Repeat(".", 20))
	a, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	b, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	_, err = a.WriteAt([]byte("aaa"), 2)
	must(t, err)
	_, err = b.WriteAt([]byte("bbb"), 10)
	must(t, err)
	must(t, a.Close())
	_, err = b.WriteAt([]byte("BBB"), 14)
	must(t, err)
	must(t, b.Close())
	s.onServer(t, "f", "..aaa.....bbb.BBB...")
}

func TestConcurrentAppends(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if _, err := f.WriteString(strings.Repeat(string(rune('a'+i)), 9) + "\n"); err != nil {
					t.Error(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, err := os.ReadFile(filepath.Join(s.dir, "f"))
	must(t, err)
	count := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		count[line]++
	}
	for i := range 8 {
		if line := strings.Repeat(string(rune('a'+i)), 9); count[line] != 20 {
			t.Errorf("%q: %d times, want 20", line, count[line])
		}
	}
	if len(count) != 8 {
		t.Errorf("lines: %v", count)
	}
}

func TestMmapWriteReachesTheServer(t *testing.T) {
	for name, flag := range map[string][]string{"O_RDWR": nil, "O_APPEND": {"append"}} { // appended is what write() writes, no page
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			p := s.put(t, "f", strings.Repeat(".", 8192))
			must(t, helper(t, "mmap", append([]string{p, "5000"}, flag...)...).Run())
			want := strings.Repeat(".", 5000) + "X" + strings.Repeat(".", 3191)
			waitFor(t, "the upload behind the last close", func() bool {
				got, err := os.ReadFile(filepath.Join(s.dir, "f"))
				return err == nil && string(got) == want
			})
		})
	}
}

func TestFsyncByAReaderIsForWhatOthersWrote(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	w, err := os.Create(p)
	must(t, err)
	defer w.Close()
	_, err = w.WriteString("written")
	must(t, err)
	r, err := os.Open(p) // as sync(1) does
	must(t, err)
	must(t, r.Sync())
	s.onServer(t, "f", "written")
	must(t, r.Close())
}

func TestTimeSetBeforeCloseHolds(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	f, err := os.Create(p)
	must(t, err)
	_, err = f.WriteString("abc")
	must(t, err)
	want := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(p, want, want))
	info, err := f.Stat()
	must(t, err)
	if !info.ModTime().Equal(want) {
		t.Errorf("shown before close: %v", info.ModTime())
	}
	must(t, f.Close())
	for _, p := range []string{p, filepath.Join(s.dir, "f")} {
		info, err = os.Stat(p)
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("%s: %v", p, info.ModTime())
		}
	}
}

func TestUnlinkedFileIsNotUploaded(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	_, err = f.WriteString("abc")
	must(t, err)
	must(t, os.Remove(p))
	_, err = f.WriteString("def")
	must(t, err)
	got := make([]byte, 6)
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if string(got) != "abcdef" {
		t.Errorf("read %q", got)
	}
	must(t, f.Close())
	if n := s.remote.count("Store") + s.remote.count("Append") + s.remote.count("Remove"); n != 0 {
		t.Errorf("requests: %v", s.remote.calls)
	}
}

func TestCreateInADoubtfulDirectoryFailsAtOpen(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "ro"), 0o755))
	s.remote.set(func() {
		s.remote.perm = func(p string) string {
			if p == "/ro" {
				return "el"
			}
			return ""
		}
	})
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Store" {
				return &ftpconn.ReplyError{Command: "STOR " + p, Code: 553, Text: "Could not create file."}
			}
			return nil
		}
	})
	_, err := os.Create(filepath.Join(s.mnt, "ro", "f"))
	if !errors.Is(err, syscall.EACCES) {
		t.Errorf("create: %v", err)
	}
}

func TestUnmountWaitsForUploads(t *testing.T) {
	s := newSite(t)
	gate := make(chan struct{})
	s.remote.set(func() {
		s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload {
			<-gate
			return u
		}
	})
	p := s.put(t, "f", strings.Repeat(".", 4096))
	must(t, helper(t, "mmap", p, "0").Run())
	unmounted := make(chan error)
	go func() { unmounted <- s.Unmount() }()
	select {
	case err := <-unmounted:
		t.Fatalf("unmounted before the upload was done: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(gate)
	must(t, <-unmounted)
	s.onServer(t, "f", "X"+strings.Repeat(".", 4095))
}

// What was written through a mapping arrives at the last close, when the kernel may have forgotten the file already.
func TestMappedWritesArriveThoughTheKernelForgetsTheFile(t *testing.T) {
	s := newSite(t)
	remember := forget(t)
	var using sync.WaitGroup
	s.remote.set(func() {
		s.remote.hold = func(context.Context) error { // long enough for it to be forgotten
			time.Sleep(50 * time.Millisecond)
			return nil
		}
	})
	const goroutines, files = 8, 3
	for i := range goroutines {
		using.Go(func() {
			for j := range files {
				p := filepath.Join(s.mnt, fmt.Sprint(i, "-", j), "d/f")
				must(t, os.MkdirAll(filepath.Dir(p), 0o755))
				must(t, os.WriteFile(p, make([]byte, 10_000), 0o644))
				if err := helper(t, "mmap", p, "5000").Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	using.Wait()
	remember()
	waitFor(t, "what was written", func() bool {
		for i := range goroutines {
			for j := range files {
				got, err := os.ReadFile(filepath.Join(s.dir, fmt.Sprint(i, "-", j), "d/f"))
				if err != nil || len(got) != 10_000 || got[5000] != 'X' {
					return false
				}
			}
		}
		return true
	})
}
