package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// diskOf opens a Blocks on a directory, with little memory so that the disk answers. It is closed at the end of the test, or
// before by the test.
func diskOf(t *testing.T, dir string, change ...func(*BlocksConfig)) *Blocks {
	t.Helper()
	cfg := BlocksConfig{Dir: dir, Disk: 64 << 20, Site: "ftp://me@host:21/"}
	for _, f := range change {
		f(&cfg)
	}
	b, err := NewBlocks(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.disk.writing.Lock()
	b.disk.space = func() (int64, int64, error) { return 1 << 50, 1 << 50, nil }
	b.disk.writing.Unlock()
	t.Cleanup(func() { b.Close() })
	return b
}

// stored puts whole versions on a directory's disk.
func stored(t *testing.T, dir string, versions ...FileVersion) {
	t.Helper()
	b := diskOf(t, dir)
	for _, v := range versions {
		putBlocks(b, v, 0, int(v.Size))
		flushed(b)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// flushed returns when nothing is queued any more.
func flushed(b *Blocks) {
	for {
		b.disk.writing.Lock()
		b.disk.mu.Lock()
		n := len(b.disk.queue)
		b.disk.mu.Unlock()
		b.disk.writing.Unlock()
		if n == 0 {
			return
		}
		b.disk.signal()
	}
}

// groupFiles returns the names of all files of the cache.
func groupFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBlocksSurviveOnDisk(t *testing.T) {
	dir := t.TempDir()
	v := FileVersion{Path: "/big", Size: 9<<20 + 77, ModTime: 1}
	small := FileVersion{Path: "/small", Size: 100, ModTime: 1}
	stored(t, dir, v, small)
	b := diskOf(t, dir)
	for off := int64(0); off < v.Size; {
		n := readBlocks(t, b, v, off, 1<<20)
		if n == 0 {
			t.Fatalf("nothing at %d", off)
		}
		off += int64(n)
	}
	if n := readBlocks(t, b, v, 5<<20+4321, 4096); n != 4096 {
		t.Errorf("%d bytes in the middle of a block", n)
	}
	if n := readBlocks(t, b, small, 0, 4096); n != 100 {
		t.Errorf("%d bytes of the small file", n)
	}
	if st := b.Stats(); st.DiskHits == 0 || st.Bad != 0 {
		t.Errorf("%+v", st)
	}
}

func TestPiecesReachTheDiskAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	v := FileVersion{Path: "/f", Size: 1 << 20, ModTime: 1}
	b := diskOf(t, dir)
	putBlocks(b, v, 100_000, 14_000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = diskOf(t, dir)
	putBlocks(b, v, 114_000, 10_000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := readBlocks(t, diskOf(t, dir), v, 100_000, 1<<20); n != 24_000 {
		t.Errorf("%d bytes of two pieces that touch, of 24,000", n)
	}
}

func TestPassingBytesGoToTheDisk(t *testing.T) {
	dir := t.TempDir()
	v := FileVersion{Path: "/f", Size: 3*BlockSize + 5, ModTime: 1}
	b := diskOf(t, dir)
	for off := int64(0); off < v.Size; off += 50_000 {
		b.Put(v, time.Now(), off, blockBytes(v, off, 50_000), true)
	}
	if st := b.Stats(); st.Bytes != 0 {
		t.Errorf("%d bytes in memory", st.Bytes)
	}
	flushed(b)
	if n := readBlocks(t, b, v, 0, int(v.Size)); n != int(v.Size) {
		t.Errorf("%d bytes", n)
	}
}

func TestBlocksOfInexactVersionsStayOffTheDisk(t *testing.T) {
	dir := t.TempDir()
	b := diskOf(t, dir)
	putBlocks(b, FileVersion{Path: "/f", Size: 1000, Owner: b.NewOwner()}, 0, 1000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if names := groupFiles(t, dir); len(names) != 0 {
		t.Errorf("on disk: %v", names)
	}
}

func TestSitesAreApart(t *testing.T) {
	dir := t.TempDir()
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	stored(t, dir, v)
	b := diskOf(t, dir, func(c *BlocksConfig) { c.Site = "ftp://me@other:21/" })
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 {
		t.Error("another site's bytes")
	}
}

func TestForgetReachesTheDisk(t *testing.T) {
	dir := t.TempDir()
	v, w := FileVersion{Path: "/d/f", Size: 9 << 20, ModTime: 1}, FileVersion{Path: "/e", Size: 10, ModTime: 1}
	for name, forget := range map[string]func(b *Blocks){
		"path": func(b *Blocks) { b.Forget("/d/f") }, "tree": func(b *Blocks) { b.ForgetTree("/d") },
	} {
		stored(t, dir, v, w)
		b := diskOf(t, dir)
		if n := readBlocks(t, b, v, 0, 10); n != 10 {
			t.Fatalf("%s: not there before", name)
		}
		forget(b)
		for _, off := range []int64{0, 8 << 20} {
			if n := b.ReadAt(v, make([]byte, 10), off); n != 0 {
				t.Errorf("%s: there after, at %d", name, off)
			}
		}
		if n := readBlocks(t, b, w, 0, 10); n != 10 {
			t.Errorf("%s: another file is forgotten too", name)
		}
	}
}

func TestForgetReachesWhatIsOnItsWayToTheDisk(t *testing.T) {
	b := diskOf(t, t.TempDir())
	v := FileVersion{Path: "/f", Size: BlockSize, ModTime: 1}
	for range 20 {
		putBlocks(b, v, 0, BlockSize)
		b.Forget("/f")
		if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 {
			t.Fatal("there after it was forgotten")
		}
	}
}

// damage changes a file as a crash or a bad disk may.
var damage = map[string]func(r *rand.Rand, data []byte) []byte{
	"cut":    func(r *rand.Rand, data []byte) []byte { return data[:r.IntN(len(data))] },
	"bit":    func(r *rand.Rand, data []byte) []byte { data[r.IntN(len(data))] ^= 1 << r.IntN(8); return data },
	"header": func(r *rand.Rand, data []byte) []byte { data[r.IntN(groupHeader)] ^= 1 << r.IntN(8); return data },
	"zeros": func(r *rand.Rand, data []byte) []byte { // pages that were never written
		at := r.IntN(len(data)) &^ 4095
		clear(data[at:min(at+4096*(1+r.IntN(40)), len(data))])
		return data
	},
	"stale": func(r *rand.Rand, data []byte) []byte { // slots that were written before their bytes
		at := groupHeader + r.IntN(len(data)-groupHeader)
		copy(data[at:], data[groupHeader:])
		return data
	},
}

func TestDamageIsNeverServed(t *testing.T) {
	v := FileVersion{Path: "/f", Size: 600_000, ModTime: 1}
	content := blockBytes(v, 0, int(v.Size))
	origin := t.TempDir()
	stored(t, origin, v)
	whole, err := os.ReadFile(groupFiles(t, origin)[0])
	if err != nil {
		t.Fatal(err)
	}
	rel, _ := filepath.Rel(origin, groupFiles(t, origin)[0])
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(len(name))))
			dir := t.TempDir()
			b := diskOf(t, dir)
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(rel)), 0o700); err != nil {
				t.Fatal(err)
			}
			lost := 0
			for range 150 {
				if err := os.WriteFile(filepath.Join(dir, rel), f(r, bytes.Clone(whole)), 0o600); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, v.Size)
				for off := int64(0); off < v.Size; {
					n := b.ReadAt(v, buf[off:min(off+90_000, v.Size)], off)
					if !bytes.Equal(buf[off:off+int64(n)], content[off:off+int64(n)]) {
						t.Fatalf("wrong bytes served in [%d, %d)", off, off+int64(n))
					}
					if n == 0 {
						lost++
						break
					}
					off += int64(n)
				}
				b.Drop(v)
			}
			if lost == 0 {
				t.Error("no damage was noticed")
			}
			putBlocks(b, v, 0, int(v.Size)) // and what is damaged is replaced
			flushed(b)
			b.Drop(v)
			if n := readBlocks(t, b, v, 0, int(v.Size)); n == 0 {
				t.Error("a damaged file is not replaced")
			}
		})
	}
}

func TestFilesUnderAnothersNameAreNotServed(t *testing.T) {
	dir := t.TempDir()
	v, w := FileVersion{Path: "/f", Size: 1000, ModTime: 1}, FileVersion{Path: "/f", Size: 1000, ModTime: 2}
	stored(t, dir, v)
	first := groupFiles(t, dir)[0]
	stored(t, dir, w)
	for _, name := range groupFiles(t, dir) {
		if name != first {
			if err := os.Rename(name, first); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := diskOf(t, dir)
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 || b.Stats().Bad != 1 {
		t.Errorf("%d bytes of another version, %+v", n, b.Stats())
	}
}

// TestHelperWritesBlocks is no test of its own: it is the process that TestKilledWriter kills.
func TestHelperWritesBlocks(t *testing.T) {
	dir := os.Getenv("FTPFS_TEST_BLOCKS")
	if dir == "" {
		t.Skip("runs only as the child of TestKilledWriter")
	}
	b := diskOf(t, dir)
	fmt.Println("ready")
	for i := 0; ; i++ {
		v := FileVersion{Path: fmt.Sprint("/", i%5), Size: 3 << 20, ModTime: 1}
		off := int64(i * 77_777 % (3 << 20))
		putBlocks(b, v, off, 200_000)
		if i%10 == 9 {
			b.Forget(v.Path)
		}
	}
}

func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestHelperWritesBlocks$")
		child.Env = append(os.Environ(), "FTPFS_TEST_BLOCKS="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		for len(groupFiles(t, dir)) < 3+round%2 { // in the middle of it
			time.Sleep(time.Millisecond)
		}
		child.Process.Kill()
		child.Wait()
	}
	b := diskOf(t, dir)
	for i := range 5 {
		v := FileVersion{Path: fmt.Sprint("/", i), Size: 3 << 20, ModTime: 1}
		for off := int64(0); off < v.Size; off += BlockSize / 2 {
			readBlocks(t, b, v, off, 1<<20)
		}
	}
}

func TestTwoOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	one, two := diskOf(t, dir), diskOf(t, dir)
	v := FileVersion{Path: "/f", Size: 6 << 20, ModTime: 1}
	content := blockBytes(v, 0, int(v.Size))
	var wg sync.WaitGroup
	for i, b := range []*Blocks{one, two, one, two} {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			buf := make([]byte, 300_000)
			for range 100 {
				off := r.Int64N(v.Size)
				end := min(off+r.Int64N(int64(len(buf))), v.Size)
				b.Put(v, time.Now(), off, content[off:end], r.IntN(2) == 0)
				n := b.ReadAt(v, buf[:end-off], off)
				if !bytes.Equal(buf[:n], content[off:off+int64(n)]) {
					t.Error("wrong bytes")
				}
				if r.IntN(20) == 0 {
					b.Drop(v)
				}
			}
		})
	}
	wg.Wait()
	putBlocks(one, v, 0, int(v.Size))
	flushed(one)
	for off := int64(0); off < v.Size; {
		n := readBlocks(t, two, v, off, 1<<20)
		if n == 0 {
			t.Fatalf("what one wrote at %d the other doesn't see", off)
		}
		off += int64(n)
	}
	if one.Stats().Bad+two.Stats().Bad != 0 {
		t.Errorf("found damaged: %d and %d", one.Stats().Bad, two.Stats().Bad)
	}
}

// usage is what the files of a directory take of the disk.
func usage(t *testing.T, dir string) (total int64) {
	for _, name := range groupFiles(t, dir) {
		var st syscall.Stat_t
		if err := syscall.Stat(name, &st); err == nil {
			total += st.Blocks * 512
		}
	}
	return total
}

func TestDiskLimitIsKept(t *testing.T) {
	dir := t.TempDir()
	b := diskOf(t, dir, func(c *BlocksConfig) { c.Disk = MinDisk })
	const often = 5 // the first ones are in use all the time
	version := func(i int) FileVersion { return FileVersion{Path: fmt.Sprint("/", i), Size: 1 << 20, ModTime: 1} }
	for i := range 40 {
		putBlocks(b, version(i), 0, 1<<20)
		flushed(b)
		if i == often-1 {
			for _, name := range groupFiles(t, dir) {
				if err := os.Chtimes(name, time.Now(), time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := usage(t, dir); got > MinDisk {
			t.Fatalf("%d bytes on disk after %d MiB, the limit is %d", got, i+1, MinDisk)
		}
	}
	if got := usage(t, dir); got < MinDisk/2 {
		t.Errorf("only %d bytes are kept", got)
	}
	for i := range often {
		b.Drop(version(i))
		if n := readBlocks(t, b, version(i), 0, 10); n != 10 {
			t.Errorf("file %d is gone, others that were not used for longer stay", i)
		}
	}
	if n := b.ReadAt(version(often), make([]byte, 10), 0); n != 0 {
		t.Error("what was not used for longest is still there")
	}
}

func TestFullDiskIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	b := diskOf(t, dir)
	b.disk.writing.Lock()
	b.disk.space = func() (int64, int64, error) { return 1000, 1 << 40, nil }
	b.disk.writing.Unlock()
	v := FileVersion{Path: "/f", Size: 1 << 20, ModTime: 1}
	putBlocks(b, v, 0, int(v.Size))
	flushed(b)
	if names := groupFiles(t, dir); len(names) != 0 {
		t.Errorf("written on a full disk: %v", names)
	}
}

func TestVanishedFilesAreMisses(t *testing.T) {
	dir := t.TempDir()
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	stored(t, dir, v)
	b := diskOf(t, dir)
	for _, name := range groupFiles(t, dir) {
		if err := os.RemoveAll(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 {
		t.Error("read from nowhere")
	}
	putBlocks(b, v, 0, 1000)
	flushed(b)
	b.Drop(v)
	if n := readBlocks(t, b, v, 0, 10); n != 10 {
		t.Error("not written again")
	}
}

func TestHalfMadeFilesOfTheDeadAreRemoved(t *testing.T) {
	dir := t.TempDir()
	stored(t, dir, FileVersion{Path: "/f", Size: 1000, ModTime: 1})
	shard := filepath.Dir(groupFiles(t, dir)[0])
	dead, alive := filepath.Join(shard, "new-1"), filepath.Join(shard, "new-2")
	if err := errors.Join(os.WriteFile(dead, nil, 0o600), os.WriteFile(alive, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(dead, old, old); err != nil {
		t.Fatal(err)
	}
	if err := diskOf(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the dead one's is still there")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Error(err)
	}
}

func TestCacheDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	stored(t, dir, FileVersion{Path: "/f", Size: 1000, ModTime: 1})
	for _, name := range append(groupFiles(t, dir), dir) {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	public := t.TempDir()
	if err := errors.Join(os.Chmod(public, 0o777), os.WriteFile(filepath.Join(public, "theirs"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := NewBlocks(BlocksConfig{Dir: public, Disk: MinDisk})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), public) {
		t.Errorf("a directory in common use: %v", err)
	}
}

func TestTooSmallADiskIsRefused(t *testing.T) {
	if _, err := NewBlocks(BlocksConfig{Dir: t.TempDir(), Disk: 1000}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("error %v", err)
	}
}
