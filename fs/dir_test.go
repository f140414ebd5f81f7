package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// hugeRemote is a dirRemote with a directory /huge, the listing of which comes in pieces of 10,000, each when the test
// lets it.
type hugeRemote struct {
	*dirRemote
	pieces chan error    // nil: one more piece; io.EOF: the end
	broken chan struct{} // gets one for each listing that was broken off
}

func (r *hugeRemote) Stat(ctx context.Context, p string) (ftpconn.Entry, error) {
	if p == "/huge" {
		return ftpconn.Entry{Name: "huge", Type: ftpconn.Dir, Size: -1, UID: -1, GID: -1}, nil
	}
	return r.dirRemote.Stat(ctx, p)
}

func (r *hugeRemote) ListTo(ctx context.Context, dir string, add func([]ftpconn.Entry)) error {
	if dir != "/huge" {
		list, err := r.List(ctx, dir)
		add(list)
		return err
	}
	for n := 0; ; n += 10_000 {
		select {
		case err := <-r.pieces:
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			r.broken <- struct{}{}
			return ctx.Err()
		}
		list := make([]ftpconn.Entry, 10_000)
		for i := range list {
			list[i] = ftpconn.Entry{Name: fmt.Sprintf("f%07d", n+i), Type: ftpconn.File, Size: int64(n + i), ModTime: time.Unix(1e9, 0).UTC(), ModPrecision: time.Minute}
		}
		add(list)
	}
}

func mountHuge(t *testing.T) (*hugeRemote, string) {
	r, dir, _ := mountHugeTree(t)
	return r, dir
}

func mountHugeTree(t *testing.T) (*hugeRemote, string, *tree) {
	t.Helper()
	r := &hugeRemote{newDirRemote(t.TempDir()), make(chan error, 64), make(chan struct{}, 1)}
	mnt := t.TempDir()
	m := mountRemote(t, mnt, cache.NewMeta(r, cache.MetaConfig{TTL: time.Hour}))
	return r, filepath.Join(mnt, "huge"), m.t
}

func openHuge(t *testing.T, dir string) *os.File {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestReaddirGivesTheFirstNamesBeforeTheListingHasEnded(t *testing.T) {
	r, dir := mountHuge(t)
	r.pieces <- nil
	d := openHuge(t, dir)
	names, err := d.Readdirnames(100)
	must(t, err)
	if len(names) != 100 || names[0] != "f0000000" {
		t.Fatalf("%d names, the first %q", len(names), names[0])
	}
	info, err := os.Lstat(filepath.Join(dir, "f0000007"))
	must(t, err)
	if info.Size() != 7 {
		t.Errorf("size %d", info.Size())
	}
	r.pieces <- nil
	r.pieces <- io.EOF
	rest, err := d.Readdirnames(-1)
	must(t, err)
	if n := len(names) + len(rest); n != 20_000 || rest[len(rest)-1] != "f0019999" {
		t.Errorf("%d names, the last %q", n, rest[len(rest)-1])
	}
}

func TestReaddirFailsWhereAListingBrokeOff(t *testing.T) {
	r, dir := mountHuge(t)
	r.pieces <- nil
	d := openHuge(t, dir)
	r.pieces <- ftpconn.ErrConnLost
	names, err := d.Readdirnames(-1)
	if err == nil || len(names) > 10_000 {
		t.Fatalf("%d names and no error", len(names))
	}
	r.pieces <- nil
	r.pieces <- io.EOF
	names, err = openHuge(t, dir).Readdirnames(-1)
	must(t, err)
	if len(names) != 10_000 {
		t.Errorf("%d names the second time", len(names))
	}
}

func TestClosedHugeDirectoryIsNotListedToItsEnd(t *testing.T) {
	r, dir := mountHuge(t)
	r.pieces <- nil
	openHuge(t, dir).Close()
	select {
	case <-r.broken:
	case <-time.After(10 * time.Second):
		t.Error("the listing goes on")
	}
}

// TestKernelForgetsNodesOfAHugeDirectory looks at all entries of a directory that has more than the kernel may keep.
func TestKernelForgetsNodesOfAHugeDirectory(t *testing.T) {
	r, dir, tree := mountHugeTree(t)
	const pieces = 13
	for range pieces {
		r.pieces <- nil
	}
	r.pieces <- io.EOF
	d := openHuge(t, dir)
	for n := 0; n < pieces*10_000; {
		infos, err := d.Readdir(1000) // with an lstat() of each
		must(t, err)
		for _, info := range infos {
			if info.Size() != int64(n) {
				t.Fatalf("%s has %d bytes", info.Name(), info.Size())
			}
			n++
		}
	}
	huge := tree.root.GetChild("huge")
	waitFor(t, "the kernel to forget", func() bool { return len(huge.Children()) <= keepNodes+2*dropNodes })
	if n := len(huge.Children()); n < keepNodes/2 {
		t.Errorf("the kernel keeps %d nodes", n)
	}
}

// cp compares the file that it opened with the one that it looked at before: "skipping file, as it was replaced".
func TestANameLookedUpAndListedAtTheSameTimeIsOneFile(t *testing.T) {
	root := t.TempDir()
	const dirs, names = 300, 8
	for d := range dirs {
		dir := filepath.Join(root, fmt.Sprint(d))
		must(t, os.Mkdir(dir, 0o755))
		for f := range names {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), []byte("data"), 0o644))
		}
	}
	mnt := t.TempDir()
	mountRemote(t, mnt, cache.NewMeta(newDirRemote(root), cache.MetaConfig{TTL: time.Hour}))
	for d := range dirs {
		dir := filepath.Join(mnt, fmt.Sprint(d))
		var before [names]os.FileInfo
		var all sync.WaitGroup
		all.Go(func() {
			list, err := os.ReadDir(dir)
			if err != nil || len(list) != names {
				t.Errorf("%d entries, %v", len(list), err)
			}
		})
		for f := range names {
			all.Go(func() {
				var err error
				if before[f], err = os.Lstat(filepath.Join(dir, fmt.Sprint(f))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for f := range names {
			if after, err := os.Lstat(filepath.Join(dir, fmt.Sprint(f))); err != nil || !os.SameFile(before[f], after) {
				t.Errorf("%s/%d has become another file (%v)", dir, f, err)
			}
		}
	}
}

// The kernel forgets nodes when memory is short, maybe between a look at a file and its open().
func TestNamesKeepTheirNumbersWhenTheKernelForgets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make the kernel forget")
	}
	s := mountSite(t, false)
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	names := []string{"d", "d/f", "d/g", "f"}
	for _, name := range names[1:] {
		s.put(t, name, name)
	}
	number := func(name string) uint64 {
		var st syscall.Stat_t
		must(t, syscall.Lstat(filepath.Join(s.mnt, name), &st))
		return st.Ino
	}
	before := map[string]uint64{}
	for _, name := range names {
		before[name] = number(name)
	}
	d, f := s.t.root.GetChild("d"), s.t.root.GetChild("f")
	waitFor(t, "the kernel to forget", func() bool {
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		return d.Forgotten() && f.Forgotten()
	})
	list, err := os.ReadDir(s.mnt)
	must(t, err)
	for _, e := range list {
		if i, err := e.Info(); err != nil || i.Sys().(*syscall.Stat_t).Ino != before[e.Name()] {
			t.Errorf("readdir: %s had the number %d (%v)", e.Name(), before[e.Name()], err)
		}
	}
	for _, name := range names {
		if now := number(name); now != before[name] {
			t.Errorf("%s had the number %d and has %d", name, before[name], now)
		}
	}
	// What takes a name is another file.
	must(t, os.Rename(filepath.Join(s.mnt, "d/f"), filepath.Join(s.mnt, "d/h")))
	must(t, os.WriteFile(filepath.Join(s.dir, "d/f"), []byte("another's"), 0o644))
	must(t, os.Remove(filepath.Join(s.mnt, "f")))
	s.put(t, "f", "new")
	if other, renamed := number("d/f"), number("d/h"); renamed != before["d/f"] || other == renamed {
		t.Errorf("d/f was number %d; it is %d now, and the renamed d/h is %d", before["d/f"], other, renamed)
	}
	if number("f") == before["f"] {
		t.Error("f is another file, with the same number")
	}
}

func TestANameThatChangedHandsIsAnotherFile(t *testing.T) {
	s := newSite(t)
	log, old := s.put(t, "log", "old"), filepath.Join(s.mnt, "log.1")
	must(t, os.Rename(log, old))
	must(t, os.WriteFile(log, []byte("new"), 0o644))
	if out, err := exec.Command("cp", old, log).CombinedOutput(); err != nil { // "are the same file"
		t.Errorf("%v: %s", err, out)
	}
	s.onServer(t, "log", "old")
	f, err := os.Open(log)
	must(t, err)
	defer f.Close()
	must(t, os.Remove(log))
	must(t, os.WriteFile(log, []byte("newer"), 0o644))
	held, err := f.Stat()
	must(t, err)
	if now, err := os.Stat(log); err != nil || os.SameFile(held, now) {
		t.Errorf("the file that has the name now is the one that was removed (%v)", err)
	}
}

// cp -r reads the files of a directory in the order of their numbers; what is fetched ahead is what comes next in the listing.
func TestNumbersGoUpInTheOrderOfTheListing(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	for i := range 50 {
		s.put(t, fmt.Sprintf("d/%x", i*7919%997), "")
	}
	d, err := os.Open(filepath.Join(s.mnt, "d"))
	must(t, err)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	must(t, err)
	last := uint64(0)
	for _, name := range names {
		var st syscall.Stat_t
		must(t, syscall.Lstat(filepath.Join(s.mnt, "d", name), &st))
		if st.Ino <= last {
			t.Fatalf("%s has the number %d, behind %d", name, st.Ino, last)
		}
		last = st.Ino
	}
	if len(names) != 50 {
		t.Errorf("%d names", len(names))
	}
}
