package fs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// longAgo is a time of files that nobody changes any more.
var longAgo = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

func newBlocks(t testing.TB, dir string) *cache.Blocks {
	t.Helper()
	b, err := cache.NewBlocks(cache.BlocksConfig{Memory: 32 << 20, Dir: dir, Disk: 64 << 20, Site: "ftp://test/"})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

// blockSite is a server's directory that is read through readers, without a kernel that remembers.
type blockSite struct {
	*dirRemote
	blocks *cache.Blocks
	t      *tree
}

func newBlockSite(t testing.TB, root string, blocks *cache.Blocks) *blockSite {
	t.Helper()
	s := &blockSite{dirRemote: newDirRemote(root), blocks: blocks}
	remote := cache.NewMeta(cache.ForgetChanges(s.dirRemote, blocks), cache.MetaConfig{TTL: 30 * time.Second})
	s.t = newTree(remote, nil, Options{Blocks: blocks, TTL: 30 * time.Second})
	fusefs.NewNodeFS(s.t.root, &fusefs.Options{}) // so that there can be inodes
	t.Cleanup(func() { s.t.cancel(); remote.Close() })
	return s
}

// put writes a file that was last changed at a time.
func (s *blockSite) put(t testing.TB, name string, content []byte, at time.Time) {
	t.Helper()
	must(t, os.WriteFile(s.local("/"+name), content, 0o644))
	must(t, os.Chtimes(s.local("/"+name), at, at))
}

// open returns a reader of a file as the server has it now.
func (s *blockSite) open(t testing.TB, name string) *reader {
	t.Helper()
	e, err := s.t.remote.Stat(t.Context(), "/"+name)
	must(t, err)
	if i := s.t.root.GetChild(name); i != nil {
		r := newReader(nodeOf(i), versionOf(e))
		t.Cleanup(r.close)
		return r
	}
	n := &node{t: s.t}
	i := s.t.root.NewPersistentInode(t.Context(), n, s.t.numbers.attr(syscall.S_IFREG, 0))
	s.t.root.AddChild(name, i, true)
	r := newReader(n, versionOf(e))
	t.Cleanup(r.close)
	return r
}

func (s *blockSite) mustRead(t testing.TB, r *reader, off int64, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	m, err := r.readAt(t.Context(), buf, off)
	must(t, err)
	return buf[:m]
}

func TestSecondReaderFindsTheBlocksOfTheFirst(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
	want := pattern(3 << 20)
	s.put(t, "f", want, longAgo)
	for range 2 {
		r := s.open(t, "f")
		if got := s.mustRead(t, r, 0, len(want)); !bytes.Equal(got, want) {
			t.Fatal("content differs")
		}
		r.close()
	}
	if n := s.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads for two readers, want 1", n)
	}
}

func TestWhatWasReadAheadIsKept(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
	want := pattern(3 << 20)
	s.put(t, "f", want, longAgo)
	r := s.open(t, "f")
	s.mustRead(t, r, 1<<20, 4096)
	for _, src := range r.streams { // until the first window has come
		for !src.holds(1<<20 + 4096 + minWindow/2) {
			time.Sleep(time.Millisecond)
		}
	}
	r.close()
	r = s.open(t, "f")
	if got := s.mustRead(t, r, 1<<20+4096, minWindow/2); !bytes.Equal(got, want[1<<20+4096:][:minWindow/2]) {
		t.Error("content differs")
	}
	if n := s.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestReadersAtOffsetsShareBlocks(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
	want := pattern(8 << 20)
	s.put(t, "f", want, longAgo)
	var wg sync.WaitGroup
	for i := range 4 {
		r := s.open(t, "f")
		wg.Go(func() {
			for off := i * 2 << 20; off < (i+1)*2<<20; off += 100_000 {
				n := min(100_000, (i+1)*2<<20-off)
				if got := s.mustRead(t, r, int64(off), n); !bytes.Equal(got, want[off:off+n]) {
					t.Errorf("content differs at %d", off)
				}
			}
			r.close()
		})
	}
	wg.Wait()
	before := s.count("Retrieve")
	r := s.open(t, "f")
	if got := s.mustRead(t, r, 0, len(want)); !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	if n := s.count("Retrieve"); n != before {
		t.Errorf("%d more downloads for what four readers had read", n-before)
	}
}

// Four threads that read one open file in order, each from elsewhere, keep their downloads.
func TestReadsInOrderAtSeveralPlacesKeepTheirDownloads(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), nil)
	want := pattern(40 << 20)
	s.put(t, "f", want, longAgo)
	r := s.open(t, "f")
	for step := range 20 {
		for place := range 4 {
			off := place*10<<20 + step*100_000
			if got := s.mustRead(t, r, int64(off), 100_000); !bytes.Equal(got, want[off:off+100_000]) {
				t.Fatalf("content differs at %d", off)
			}
		}
	}
	if n := s.count("Retrieve"); n > 8 { // the first of each place may be given up
		t.Errorf("%d downloads, want at most 8", n)
	}
}

// A scattered read leaves no download behind that holds a session.
func TestScatteredReadsHoldOneDownload(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
	want := pattern(64 << 20)
	s.put(t, "f", want, longAgo)
	r := s.open(t, "f")
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		off := rnd.IntN(len(want) - 4096)
		if got := s.mustRead(t, r, int64(off), 4096); !bytes.Equal(got, want[off:off+4096]) {
			t.Fatalf("content differs at %d", off)
		}
		r.mu.Lock()
		n := len(r.streams)
		r.mu.Unlock()
		if n > 1 {
			t.Fatalf("%d downloads are held after %d scattered reads", n, i+1)
		}
	}
}

// countedDownload counts what is taken of it.
type countedDownload struct {
	ftpconn.Download
	took *atomic.Int64
}

func (d countedDownload) Read(p []byte) (int, error) {
	n, err := d.Download.Read(p)
	d.took.Add(int64(n))
	return n, err
}

func TestAScatteredReadReadsLittleAhead(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), nil)
	var took atomic.Int64
	s.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download { return countedDownload{d, &took} }
	s.put(t, "f", pattern(8<<20), longAgo)
	r := s.open(t, "f")
	s.mustRead(t, r, 3<<20, 4096)
	for took.Load() < minWindow {
		time.Sleep(time.Millisecond)
	}
	r.close()
	if n := took.Load(); n > 3*minWindow {
		t.Errorf("%d bytes came for 4096", n)
	}
}

func TestTheEndOfAFileComesAtOnce(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), nil)
	want := pattern(8 << 20)
	s.put(t, "f", want, longAgo)
	r := s.open(t, "f")
	for _, back := range []int{22, 1000, 8000, firstFlight} { // as who looks for the directory of a zip file
		if got := s.mustRead(t, r, int64(len(want)-back), back); !bytes.Equal(got, want[len(want)-back:]) {
			t.Fatalf("the last %d bytes differ", back)
		}
	}
	if n := s.count("Retrieve"); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestChangedFileIsNeverReadFromOldBlocks(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, t.TempDir()))
	old, now := bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)
	s.put(t, "f", old, longAgo)
	s.mustRead(t, s.open(t, "f"), 0, len(old))
	s.put(t, "f", now, longAgo.Add(time.Second))
	s.t.forget("/f")
	if got := s.mustRead(t, s.open(t, "f"), 0, len(now)); !bytes.Equal(got, now) {
		t.Error("old bytes")
	}
}

// What this mount changes may come out with the size and the time that it had.
func TestOwnChangesForgetTheBlocks(t *testing.T) {
	old, now := bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)
	changes := map[string]func(t *testing.T, s *blockSite){
		"store": func(t *testing.T, s *blockSite) {
			u, err := s.t.remote.Store(t.Context(), "/f", ftpconn.Replace, 0)
			must(t, err)
			_, err = u.Write(now)
			must(t, err)
			must(t, u.Close())
			must(t, os.Chtimes(s.local("/f"), longAgo, longAgo))
			s.t.forget("/f")
		},
		"rename": func(t *testing.T, s *blockSite) {
			s.put(t, "g", now, longAgo)
			must(t, s.t.remote.Rename(t.Context(), "/g", "/f"))
		},
		"remove": func(t *testing.T, s *blockSite) {
			must(t, s.t.remote.Remove(t.Context(), "/f"))
			s.put(t, "f", now, longAgo)
			s.t.forget("/f")
		},
		"time": func(t *testing.T, s *blockSite) {
			s.put(t, "f", now, longAgo.Add(time.Hour))
			s.t.forget("/f")
			must(t, s.t.remote.SetModTime(t.Context(), "/f", longAgo))
		},
	}
	for name, change := range changes {
		for _, where := range []string{"", t.TempDir()} {
			t.Run(name, func(t *testing.T) {
				s := newBlockSite(t, t.TempDir(), newBlocks(t, where))
				s.put(t, "f", old, longAgo)
				r := s.open(t, "f")
				s.mustRead(t, r, 0, len(old))
				r.close()
				change(t, s)
				if got := s.mustRead(t, s.open(t, "f"), 0, len(now)); !bytes.Equal(got, now) {
					t.Error("old bytes")
				}
			})
		}
	}
}

func TestRenamedDirectoriesForgetTheBlocks(t *testing.T) {
	blocks := newBlocks(t, t.TempDir())
	s := &site{dir: t.TempDir(), mnt: t.TempDir()}
	s.remote = newDirRemote(s.dir)
	remote := cache.NewMeta(cache.ForgetChanges(s.remote, blocks), cache.MetaConfig{TTL: 30 * time.Second})
	s.Mounted = mountRemote(t, s.mnt, remote, func(o *Options) { o.Blocks = blocks })
	for name, content := range map[string]string{"a": "first", "b": "other"} {
		must(t, os.MkdirAll(filepath.Join(s.dir, name), 0o755))
		s.put(t, name+"/f", strings.Repeat(content, 100_000))
		must(t, os.Chtimes(filepath.Join(s.dir, name, "f"), longAgo, longAgo))
	}
	read(t, filepath.Join(s.mnt, "a/f")) // and not b/f, of which the kernel would have the pages
	must(t, os.Rename(filepath.Join(s.mnt, "a"), filepath.Join(s.mnt, "c")))
	must(t, os.Rename(filepath.Join(s.mnt, "b"), filepath.Join(s.mnt, "a")))
	f, err := os.Open(filepath.Join(s.mnt, "a/f"))
	must(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	must(t, err)
	if string(got) != strings.Repeat("other", 100_000) {
		t.Errorf("a/f is %.5q..., what was a/f before", got)
	}
}

// Two changes within a second have the same time.
func TestBlocksOfAFileThatChangedJustNowAreTheReadersOwn(t *testing.T) {
	s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
	now := time.Now()
	s.put(t, "f", bytes.Repeat([]byte("a"), 1<<20), now)
	r := s.open(t, "f")
	s.mustRead(t, r, 0, 1<<20)
	s.put(t, "f", bytes.Repeat([]byte("b"), 1<<20), now)
	if got := s.mustRead(t, s.open(t, "f"), 0, 10); string(got) != "bbbbbbbbbb" {
		t.Errorf("another reader gets %q", got)
	}
	r.close()
	if st := s.blocks.Stats(); st.Bytes > 1<<20 {
		t.Errorf("%d bytes are kept, of a reader that is closed too", st.Bytes)
	}
}

func TestNextMountNeedsNoDownload(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, _ string) {
		dir := t.TempDir()
		p := ftptest.NewProxy(t, s.Addr())
		files := map[string][]byte{"small": pattern(4000), "block": pattern(cache.BlockSize), "large": pattern(5<<20 + 17)}
		for name, content := range files {
			s.WriteFile(name, content)
			must(t, os.Chtimes(s.Path(name), longAgo, longAgo))
		}
		for round := range 2 {
			if n := p.Count("RETR"); round == 1 && n == 0 {
				t.Fatal("the first mount read nothing")
			}
			before := p.Count("RETR")
			mountWithBlocks(t, p, s, dir, func(mnt string) {
				for name, content := range files {
					if got := read(t, filepath.Join(mnt, name)); !bytes.Equal([]byte(got), content) {
						t.Errorf("round %d: %s differs", round, name)
					}
				}
			})
			if n := p.Count("RETR"); round == 1 && n > before {
				t.Errorf("the second mount downloads %d times", n-before)
			}
		}
		changed := pattern(5<<20 + 18)[1:]
		s.WriteFile("large", changed)
		must(t, os.Chtimes(s.Path("large"), longAgo.Add(time.Second), longAgo.Add(time.Second)))
		mountWithBlocks(t, p, s, dir, func(mnt string) {
			if got := read(t, filepath.Join(mnt, "large")); !bytes.Equal([]byte(got), changed) {
				t.Error("a change of a second is not seen")
			}
		})
	})
}

// mountWithBlocks mounts a server behind a proxy with blocks in dir, and unmounts it after use.
func mountWithBlocks(t *testing.T, p *ftptest.Proxy, s *ftptest.Server, dir string, use func(mnt string)) {
	t.Helper()
	t.Run("mount", func(t *testing.T) {
		blocks := newBlocks(t, dir)
		host, digits, err := net.SplitHostPort(p.Addr())
		must(t, err)
		port, err := strconv.Atoi(digits)
		must(t, err)
		client, err := ftpconn.New(ftpconn.Config{Host: host, Port: port, User: s.User, Password: s.Password, Timeout: 10 * time.Second})
		must(t, err)
		must(t, client.Connect(t.Context()))
		mnt := t.TempDir()
		remote := cache.NewMeta(cache.ForgetChanges(client, blocks), cache.MetaConfig{TTL: 30 * time.Second})
		mountRemote(t, mnt, remote, func(o *Options) { o.Blocks = blocks })
		use(mnt)
	})
}

// TestReadsThatGoDownShareDownloads reads blocks from the end of a file to its beginning.
func TestReadsThatGoDownShareDownloads(t *testing.T) {
	const size, block = 2 << 20, 4096
	want := pattern(size)
	for name, blocks := range map[string]*cache.Blocks{"no blocks": nil, "blocks": newBlocks(t, "")} {
		for _, step := range []int{block, 3 * block} {
			s := newBlockSite(t, t.TempDir(), blocks)
			s.put(t, fmt.Sprint("f", step), want, longAgo)
			r := s.open(t, fmt.Sprint("f", step))
			for off := size - block; off >= 0; off -= step {
				if got := s.mustRead(t, r, int64(off), block); !bytes.Equal(got, want[off:off+block]) {
					t.Fatalf("content differs at %d", off)
				}
			}
			r.mu.Lock()
			held := len(r.streams)
			r.mu.Unlock()
			if n := s.count("Retrieve"); n > 14 || held > 1 {
				t.Errorf("%s, step %d: %d downloads for %d reads, %d are held", name, step, n, size/step, held)
			}
			r.close()
		}
	}
}

// TestManyScatteredReadsAtOnce has more reads wait for their downloads than one file may keep downloads.
func TestManyScatteredReadsAtOnce(t *testing.T) {
	const reads = 3 * maxStreams
	s := newBlockSite(t, t.TempDir(), nil)
	var begun atomic.Int32
	all := make(chan struct{})
	s.retrieved = func(_ string, d ftpconn.Download) ftpconn.Download {
		if begun.Add(1) == reads {
			close(all)
		}
		<-all
		return d
	}
	want := pattern(16 << 20)
	s.put(t, "f", want, longAgo)
	r := s.open(t, "f")
	var wg sync.WaitGroup
	for i := range reads {
		wg.Go(func() {
			off := (i*7%reads + 1) << 20
			if got := s.mustRead(t, r, int64(off), 4096); !bytes.Equal(got, want[off:off+4096]) {
				t.Errorf("content differs at %d", off)
			}
		})
	}
	wg.Wait()
	r.mu.Lock()
	held := len(r.streams)
	r.mu.Unlock()
	if n := s.count("Retrieve"); n != reads || held > maxStreams {
		t.Errorf("%d downloads for %d reads, %d are held", n, reads, held)
	}
}
