package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// patchSite is a site with a file of 8 MiB, and a count of what is sent and fetched.
func patchSite(t *testing.T, what tail, change ...func(*Options)) (s *site, content []byte) {
	t.Helper()
	s = newSite(t, change...)
	content = pattern(8 << 20)
	s.put(t, "f", string(content))
	s.remote.set(func() { s.remote.tail = what })
	return s, content
}

func (s *site) change(t *testing.T, content []byte, text string, offs ...int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.mnt, "f"), os.O_RDWR, 0)
	must(t, err)
	for _, off := range offs {
		_, err = f.WriteAt([]byte(text), off)
		must(t, err)
		copy(content[off:], text)
	}
	must(t, f.Close())
}

func TestChangesArePutIntoTheServersFile(t *testing.T) {
	for what, c := range map[tail]struct {
		name           string
		sent, received int64 // at most
	}{
		tailKept: {"kept", 8 << 10, 1 << 20},
		tailCut:  {"cut", 4<<20 + 8<<10, 5 << 20},
		tailNone: {"refused", 8<<20 + 8<<10, 8<<20 + 1<<20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, content := patchSite(t, what)
			s.change(t, content, "changed", 4<<20+11, 6<<20+5)
			s.onServer(t, "f", string(content))
			if sent := s.remote.sent.Load(); sent > c.sent {
				t.Errorf("%d bytes were sent, want at most %d", sent, c.sent)
			}
			// Again, in the same way: what is known of the server's file is right.
			s.remote.sent.Store(0)
			s.change(t, content, "and again", 4<<20+1000)
			s.onServer(t, "f", string(content))
			if sent := s.remote.sent.Load(); sent > c.sent {
				t.Errorf("the second time %d bytes were sent, want at most %d", sent, c.sent)
			}
			if got := read(t, filepath.Join(s.mnt, "f")); got != string(content) {
				t.Error("it reads otherwise here")
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, ".ftpfs-*")); len(left) > 0 {
				t.Errorf("left on the server: %v", left)
			}
		})
	}
}

// TestPatchAtTheBeginning changes the head of a file, of which the first bytes stay, as databases do.
func TestPatchAtTheBeginning(t *testing.T) {
	s, content := patchSite(t, tailKept)
	head := bytes.Clone(content[:4096])
	copy(head[24:], "counter")
	s.change(t, content, string(head), 0)
	s.onServer(t, "f", string(content))
	if sent := s.remote.sent.Load(); sent > 8<<10 {
		t.Errorf("%d bytes were sent", sent)
	}
	s.change(t, content, "X", 0) // REST 0 would empty it
	s.onServer(t, "f", string(content))
}

// TestPatchOfWhatGrowsOrShrinks has changes that reach behind the end, and one that cuts.
func TestPatchOfWhatGrowsOrShrinks(t *testing.T) {
	for _, what := range []tail{tailKept, tailCut} {
		s, content := patchSite(t, what)
		p := filepath.Join(s.mnt, "f")
		content = append(content, make([]byte, 100)...)
		s.change(t, content, strings.Repeat("e", 200), int64(len(content)-200))
		s.onServer(t, "f", string(content))
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("middle"), 5<<20)
		must(t, err)
		copy(content[5<<20:], "middle")
		content = content[:6<<20]
		must(t, f.Truncate(6<<20))
		must(t, f.Close())
		s.onServer(t, "f", string(content))
	}
}

// TestPatchLeavesAnothersVersionWhole has the file replaced by one of the same size before the changes are brought there.
func TestPatchLeavesAnothersVersionWhole(t *testing.T) {
	s, content := patchSite(t, tailKept, func(o *Options) { o.TTL = time.Millisecond })
	f, err := os.OpenFile(filepath.Join(s.mnt, "f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("mine"), 5<<20)
	must(t, err)
	other := bytes.Repeat([]byte("other"), len(content)/5+1)[:len(content)]
	s.put(t, "f", string(other))
	soon := time.Now().Add(time.Hour)
	must(t, os.Chtimes(filepath.Join(s.dir, "f"), soon, soon))
	if err := f.Sync(); err == nil {
		t.Error("the changes were put into a file that they are not of")
	}
	s.onServer(t, "f", string(other))
}

// TestBrokenPatchGoesOn loses the connection in the middle, and finds the file as it is to be.
func TestBrokenPatchGoesOn(t *testing.T) {
	for _, what := range []tail{tailKept, tailCut} {
		s, content := patchSite(t, what, func(o *Options) { o.Retry = time.Minute })
		s.change(t, content, "probe", 1<<20) // so that what follows is the first loss
		n := 0
		s.remote.set(func() {
			s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload {
				if n++; n == 1 || n == 2 {
					return &breakingUpload{Upload: u, left: 3}
				}
				return u
			}
		})
		s.change(t, content, "changed", 2<<20, 5<<20, 7<<20)
		s.onServer(t, "f", string(content))
		if n < 3 {
			t.Errorf("%d uploads", n)
		}
	}
}

// breakingUpload loses its connection after some bytes.
type breakingUpload struct {
	ftpconn.Upload
	left int
}

func (u *breakingUpload) Write(p []byte) (int, error) {
	n, _ := u.Upload.Write(p[:min(len(p), u.left)])
	u.Upload.Abort()
	return n, fmt.Errorf("test: %w", ftpconn.ErrConnLost)
}

func (u *breakingUpload) Close() error {
	u.Upload.Abort()
	return fmt.Errorf("test: %w", ftpconn.ErrConnLost)
}

func TestManyChangesAreMerged(t *testing.T) {
	r := func(list ...int64) (ranges []cache.Range) {
		for i := 0; i < len(list); i += 2 {
			ranges = append(ranges, cache.Range{Off: list[i], End: list[i+1]})
		}
		return ranges
	}
	for _, c := range []struct{ in, want []cache.Range }{
		{nil, nil},
		{r(1, 2), r(1, 2)},
		{r(1, 2, 12, 13), r(1, 13)},
		{r(1, 2, 13, 14), r(1, 2, 13, 14)},
		{r(1, 2, 5, 6, 100, 101, 102, 103), r(1, 6, 100, 103)},
	} {
		if got := mergeRanges(c.in, 10); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
	s, content := patchSite(t, tailKept)
	var offs []int64
	for off := int64(100); off < 8<<20; off += 100_000 {
		offs = append(offs, off)
	}
	s.change(t, content, "change", offs...)
	s.onServer(t, "f", string(content))
}

// TestWritebackPatches brings changes by the next mount, where the first one's server went away in the middle.
func TestWritebackPatches(t *testing.T) {
	dir, spoolDir, log := t.TempDir(), t.TempDir(), testLog(t)
	content := pattern(8 << 20)
	must(t, os.WriteFile(filepath.Join(dir, "f"), content, 0o644))
	needFUSE(t)
	spool, err := cache.OpenSpool(spoolDir, 0, log)
	must(t, err)
	first := &site{dir: dir, mnt: t.TempDir(), remote: newDirRemote(dir)}
	n := 0
	first.remote.tail = tailKept
	first.remote.stored = func(p string, u ftpconn.Upload) ftpconn.Upload {
		if p != "/f" {
			return u
		}
		if n++; n > 1 {
			return &breakingUpload{Upload: u, left: 3}
		}
		return u
	}
	opt := Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), TTL: 30 * time.Second, Logger: log, Source: "ftp://test/",
		SpoolDir: spoolDir, Writeback: true, Site: "test"}
	m, err := Mount(first.mnt, first.remote, spool, opt)
	must(t, err)
	first.change(t, content, "changed", 2<<20, 5<<20)
	must(t, m.Unmount())
	if m.PendingErr() == nil {
		t.Error("nothing is said of what is left")
	}
	must(t, spool.Close())
	mnt := t.TempDir()
	second := newDirRemote(dir)
	second.tail = tailKept
	again := mountRemote(t, mnt, second, func(o *Options) { o.SpoolDir, o.Site = spoolDir, "test" })
	waitFor(t, "the upload", func() bool { return again.Backlog().Files == 0 })
	(&site{dir: dir}).onServer(t, "f", string(content))
	if err := again.PendingErr(); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if sent := second.sent.Load(); sent > 64<<10 {
		t.Errorf("%d bytes were sent", sent)
	}
}
