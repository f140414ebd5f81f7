package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn/ftptest"
)

// long says that the tests may take as long as they like: make test-long.
func long() bool { return os.Getenv("FTPFS_LONG") != "" }

// fsxMax is how large the file of an fsx gets, in bytes, and fsxLarge that of one whose changes are put into the server's file.
const (
	fsxMax   = 256 << 10
	fsxLarge = 4 << 20
)

// fsx does to one file on the mount at random what programs do to files, and the same to a slice of bytes: both must be
// the same at each look, on the mount all the time, on the server after each fsync() and close().
// The name and the idea are those of the exerciser that filesystems are tested with since 1991.
type fsx struct {
	max   int  // size of the file at most
	late  bool // writeback: closed files are on the server later
	d     *toolDir
	seed  uint64
	rnd   *rand.Rand
	name  string
	f     *os.File // O_RDWR
	end   *os.File // O_RDWR, O_APPEND
	want  []byte
	count int
	last  []string // operations
	looks int      // at the server
}

// fsxOps are the operations, with how often they are chosen.
var fsxOps = []struct {
	weight int
	do     func(x *fsx)
}{
	{20, (*fsx).read}, {12, (*fsx).mapRead}, {5, (*fsx).readElsewhere},
	{20, (*fsx).write}, {12, (*fsx).mapWrite}, {5, (*fsx).append}, {4, (*fsx).writeBehind},
	{8, (*fsx).truncate}, {2, (*fsx).allocate}, {4, (*fsx).copyRange}, {1, (*fsx).rename},
	{3, (*fsx).sync}, {4, (*fsx).reopen},
}

// runFsx makes n operations on a file of d.
func runFsx(d *toolDir, size int, seed uint64, n int) {
	d.t.Helper()
	late := slices.Contains(d.m.options, "writeback")
	x := &fsx{d: d, max: size, late: late, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), name: "f"}
	sum := 0
	for _, op := range fsxOps {
		sum += op.weight
	}
	x.open(os.O_CREATE)
	defer func() { x.f.Close(); x.end.Close() }() // for one that fails
	for x.count = range n {
		at := x.rnd.IntN(sum)
		for _, op := range fsxOps {
			if at -= op.weight; at < 0 {
				op.do(x)
				break
			}
		}
	}
	x.close()
	if x.looks < n/50 {
		d.t.Errorf("fsx looked only %d times at the server", x.looks)
	}
}

// note remembers an operation for a failure's message.
func (x *fsx) note(format string, args ...any) {
	x.last = append(x.last, fmt.Sprintf("%d: ", x.count)+fmt.Sprintf(format, args...))
	if len(x.last) > 40 {
		x.last = x.last[10:]
	}
}

func (x *fsx) must(err error) {
	x.d.t.Helper()
	if err != nil {
		x.d.t.Fatalf("fsx, seed %d: %v\n%s", x.seed, err, strings.Join(x.last, "\n"))
	}
}

func (x *fsx) same(where string, got, want []byte) {
	x.d.t.Helper()
	if !bytes.Equal(got, want) {
		x.must(fmt.Errorf("%s: %s", where, difference(got, want)))
	}
}

func (x *fsx) path() string { return filepath.Join(x.d.mnt, x.name) }

func (x *fsx) open(flags int) {
	x.d.t.Helper()
	var err error
	x.f, err = os.OpenFile(x.path(), os.O_RDWR|flags, 0o644)
	x.must(err)
	x.end, err = os.OpenFile(x.path(), os.O_RDWR|os.O_APPEND, 0)
	x.must(err)
	st, err := x.f.Stat()
	x.must(err)
	if st.Size() != int64(len(x.want)) {
		x.must(fmt.Errorf("opened with %d bytes, want %d", st.Size(), len(x.want)))
	}
}

func (x *fsx) close() {
	x.d.t.Helper()
	first, second := x.f, x.end
	if x.rnd.IntN(2) == 0 {
		first, second = second, first
	}
	x.must(first.Close())
	x.lookClosed()
	x.must(second.Close())
	x.lookClosed()
}

// lookClosed is look behind a close(), which with writeback is soon enough after sync(1) only.
func (x *fsx) lookClosed() {
	x.d.t.Helper()
	if x.late {
		if x.rnd.IntN(2) == 0 {
			return
		}
		d, err := os.Open(x.d.mnt)
		x.must(err)
		x.must(d.Sync())
		x.must(d.Close())
	}
	x.look()
}

// look compares with the server.
func (x *fsx) look() {
	x.d.t.Helper()
	got, err := os.ReadFile(filepath.Join(x.d.srv, x.name))
	x.must(err)
	x.same("on the server", got, x.want)
	x.looks++
}

// part is a range inside the file, empty only if the file is.
func (x *fsx) part() (off, end int) {
	if len(x.want) == 0 {
		return 0, 0
	}
	off = x.rnd.IntN(len(x.want))
	return off, min(off+1+x.rnd.IntN(64<<10), len(x.want))
}

// place is a range that may go on behind the end.
func (x *fsx) place() (off, end int) {
	off = x.rnd.IntN(min(len(x.want)+1, x.max-1))
	return off, min(off+1+x.rnd.IntN(64<<10), x.max)
}

// fresh is bytes that the file never had.
func (x *fsx) fresh(n int) []byte { return noise(1+x.count, n) }

// put changes what is wanted.
func (x *fsx) put(off int, data []byte) {
	x.resize(max(len(x.want), off+len(data)))
	copy(x.want[off:], data)
}

// resize cuts or extends by zeros.
func (x *fsx) resize(size int) {
	if size <= len(x.want) {
		x.want = x.want[:size]
		return
	}
	x.want = append(x.want, make([]byte, size-len(x.want))...)
}

func (x *fsx) read() {
	off, end := x.part()
	x.note("read [%d, %d)", off, end)
	buf := make([]byte, end-off+10)
	n, _ := x.f.ReadAt(buf, int64(off)) // EOF at the end
	x.same("read", buf[:min(n, end-off)], x.want[off:end])
	if more := n - (end - off); more > 0 && end == len(x.want) {
		x.must(fmt.Errorf("%d bytes behind the end", more))
	}
}

func (x *fsx) readElsewhere() {
	off, end := x.part()
	x.note("read through another handle [%d, %d)", off, end)
	f, err := os.Open(x.path())
	x.must(err)
	defer f.Close()
	buf := make([]byte, end-off)
	if len(buf) > 0 {
		_, err = f.ReadAt(buf, int64(off))
		x.must(err)
	}
	x.same("another handle", buf, x.want[off:end])
}

// mapped gives f the pages with [off, end) of the file, whole ones.
func (x *fsx) mapped(off, end, prot int, f func(pages []byte, from int)) {
	page := os.Getpagesize()
	from, to := off/page*page, (end+page-1)/page*page
	handle := x.f
	if x.rnd.IntN(3) == 0 {
		handle = x.end // which doesn't mean that what is mapped is appended
	}
	pages, err := unix.Mmap(int(handle.Fd()), int64(from), to-from, prot, unix.MAP_SHARED)
	x.must(err)
	defer func() { x.must(unix.Munmap(pages)) }()
	f(pages, from)
}

func (x *fsx) mapRead() {
	off, end := x.part()
	if off == end {
		return
	}
	x.note("mapread [%d, %d)", off, end)
	x.mapped(off, end, unix.PROT_READ, func(pages []byte, from int) {
		x.same("mapped", pages[off-from:end-from], x.want[off:end])
		if rest := pages[end-from:]; end == len(x.want) {
			x.same("mapped behind the end", rest, make([]byte, len(rest)))
		}
	})
}

func (x *fsx) mapWrite() {
	off, end := x.place()
	how := x.rnd.IntN(3)
	x.note("mapwrite [%d, %d) of %d, msync %d", off, end, len(x.want), how)
	if end > len(x.want) {
		x.must(x.f.Truncate(int64(end)))
		x.resize(end)
	}
	data := x.fresh(end - off)
	x.mapped(off, end, unix.PROT_READ|unix.PROT_WRITE, func(pages []byte, from int) {
		copy(pages[off-from:], data)
		switch how {
		case 1:
			x.must(unix.Msync(pages, unix.MS_SYNC))
		case 2:
			x.must(unix.Msync(pages, unix.MS_ASYNC))
		}
	})
	x.put(off, data)
}

func (x *fsx) write() {
	off, end := x.place()
	x.note("write [%d, %d) of %d", off, end, len(x.want))
	_, err := x.f.WriteAt(x.fresh(end-off), int64(off))
	x.must(err)
	x.put(off, x.fresh(end-off))
}

// writeBehind leaves a hole.
func (x *fsx) writeBehind() {
	off := len(x.want) + x.rnd.IntN(32<<10)
	end := off + 1 + x.rnd.IntN(8<<10)
	if end > x.max {
		return
	}
	x.note("write [%d, %d) behind %d", off, end, len(x.want))
	_, err := x.f.WriteAt(x.fresh(end-off), int64(off))
	x.must(err)
	x.put(off, x.fresh(end-off))
}

func (x *fsx) append() {
	data := x.fresh(1 + x.rnd.IntN(16<<10))
	if len(x.want)+len(data) > x.max {
		return
	}
	x.note("append %d bytes to %d", len(data), len(x.want))
	_, err := x.end.Write(data)
	x.must(err)
	x.put(len(x.want), data)
}

func (x *fsx) truncate() {
	size := x.rnd.IntN(x.max)
	if x.rnd.IntN(2) == 0 && len(x.want) > 0 {
		size = x.rnd.IntN(len(x.want))
	}
	if x.rnd.IntN(20) == 0 {
		size = 0
	}
	byPath := x.rnd.IntN(2) == 0
	x.note("truncate %d to %d, by path: %v", len(x.want), size, byPath)
	if byPath {
		x.must(os.Truncate(x.path(), int64(size)))
	} else {
		x.must(x.f.Truncate(int64(size)))
	}
	x.resize(size)
}

func (x *fsx) allocate() {
	off, end := x.place()
	keep := x.rnd.IntN(2) == 0
	x.note("fallocate [%d, %d) of %d, keep size: %v", off, end, len(x.want), keep)
	if keep {
		x.must(unix.Fallocate(int(x.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(end-off)))
		return
	}
	x.must(unix.Fallocate(int(x.f.Fd()), 0, int64(off), int64(end-off)))
	x.resize(max(len(x.want), end))
}

// copyRange copies inside the file, between ranges that don't touch.
func (x *fsx) copyRange() {
	off, end := x.part()
	to := end + x.rnd.IntN(16<<10)
	if x.rnd.IntN(2) == 0 {
		to = x.rnd.IntN(off+1) - (end - off)
	}
	if to < 0 || to+end-off > x.max || end == off {
		return
	}
	x.note("copy_file_range [%d, %d) to %d, of %d", off, end, to, len(x.want))
	src, dst := int64(off), int64(to)
	for left := end - off; left > 0; {
		n, err := unix.CopyFileRange(int(x.f.Fd()), &src, int(x.f.Fd()), &dst, left, 0)
		x.must(err)
		if n == 0 {
			x.must(fmt.Errorf("copy_file_range ends %d bytes early", left))
		}
		left -= n
	}
	x.put(to, bytes.Clone(x.want[off:end]))
}

func (x *fsx) rename() {
	from := x.path()
	x.name = "f" + strconv.Itoa(x.count)
	x.note("rename to %s", x.name)
	x.must(os.Rename(from, x.path()))
}

func (x *fsx) sync() {
	f := x.f
	if x.rnd.IntN(4) == 0 {
		f = x.end // of what others wrote, too
	}
	x.note("fsync")
	x.must(f.Sync())
	x.look()
}

func (x *fsx) reopen() {
	x.note("close and open")
	x.close()
	flags := 0
	if x.rnd.IntN(10) == 0 {
		x.note("with O_TRUNC")
		flags = os.O_TRUNC
		x.want = x.want[:0]
	}
	x.open(flags)
}

// TestFsx runs fsx on each server: FTPFS_FSX_OPS operations, 100,000 in a long test, from seed FTPFS_FSX_SEED.
func TestFsx(t *testing.T) {
	number := func(name string, otherwise int) int {
		if s := os.Getenv(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(name, ": ", err)
			}
			return n
		}
		return otherwise
	}
	n := 2000
	if long() {
		n = 100_000
	}
	n = number("FTPFS_FSX_OPS", n)
	seed := number("FTPFS_FSX_SEED", 1)
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		m := mountServer(t, startServer(t, kind, ftptest.Options{}))
		runFsx(m.dir(t, "d"), fsxMax, uint64(seed), n)
		runFsx(m.dir(t, "large"), fsxLarge, uint64(seed)+2, n/10)
	})
	for _, options := range []string{"writeback", "upload=atomic", "ttl=0,mem_cache=0,prefetch=off,max_conns=1"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			runFsx(mountServer(t, startServer(t, ftptest.VSFTPD, ftptest.Options{}), options).dir(t, "d"), fsxMax, uint64(seed)+1, n/2)
		})
	}
}
