package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// left returns the names in a directory of the server, once there are want of them or five seconds have passed: the last
// close() doesn't wait for the removal.
func left(t *testing.T, dir string, want int) []string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		entries, err := os.ReadDir(dir)
		must(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if len(names) == want || time.Now().After(deadline) {
			return names
		}
	}
}

// begin opens a file and reads its first bytes.
func begin(t *testing.T, p string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(p, flags, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	buf := make([]byte, 100)
	_, err = io.ReadFull(f, buf)
	must(t, err)
	return f
}

// still fails unless f has the content want, and no name.
func still(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := f.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	info, err := f.Stat()
	must(t, err)
	if st := info.Sys().(*syscall.Stat_t); st.Nlink != 0 || st.Size != int64(len(want)) {
		t.Errorf("fstat(): %d links, %d bytes", st.Nlink, st.Size)
	}
}

func TestOpenFileOutlivesItsNameOnServers(t *testing.T) {
	big := pattern(12 << 20)
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		s.WriteFile("big", big)
		f := begin(t, filepath.Join(mnt, "big"), os.O_RDWR)
		must(t, os.Remove(filepath.Join(mnt, "big")))
		if _, err := os.Stat(filepath.Join(mnt, "big")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("stat() of the removed name: %v", err)
		}
		if names := left(t, mnt, 0); len(names) != 0 {
			t.Errorf("the mount shows %q", names)
		}
		must(t, os.WriteFile(filepath.Join(mnt, "big"), []byte("another"), 0o644))
		still(t, f, big)
		want := bytes.Clone(big)
		copy(want[7<<20:], "changed")
		_, err := f.WriteAt([]byte("changed"), 7<<20)
		must(t, err)
		must(t, f.Sync())
		still(t, f, want)
		must(t, f.Close())
		if names := left(t, s.Root, 1); len(names) != 1 || string(s.ReadFile("big")) != "another" {
			t.Errorf("on the server: %q", names)
		}
	})
}

func TestReplacedOpenFileStaysReadableOnServers(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		small, large := pattern(300<<10), pattern(maxReplaced+1<<20)
		s.WriteFile("small", small)
		s.WriteFile("large", large)
		for name, old := range map[string][]byte{"small": small, "large": large} {
			p := filepath.Join(mnt, name)
			f := begin(t, p, os.O_RDONLY)
			must(t, os.WriteFile(p+".new", []byte("new"), 0o644))
			must(t, os.Rename(p+".new", p))
			still(t, f, old)
			if got := read(t, p); got != "new" {
				t.Errorf("%s: the new file reads %q", name, got)
			}
			must(t, f.Close())
		}
		if names := left(t, s.Root, 2); len(names) != 2 || string(s.ReadFile("small"))+string(s.ReadFile("large")) != "newnew" {
			t.Errorf("on the server: %q", names)
		}
	})
}

func TestTreeWithAnOpenFileCanBeRemoved(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		old := pattern(6 << 20)
		s.WriteFile("a/b/f", old)
		f := begin(t, filepath.Join(mnt, "a/b/f"), os.O_RDONLY)
		must(t, os.RemoveAll(filepath.Join(mnt, "a")))
		still(t, f, old)
		must(t, f.Close())
		if names := left(t, s.Root, 0); len(names) != 0 {
			t.Errorf("on the server: %q", names)
		}
	})
}

func TestHiddenFileMovesWithItsDirectory(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	old := pattern(6 << 20)
	f := begin(t, s.put(t, "d/f", string(old)), os.O_RDONLY)
	must(t, os.Remove(filepath.Join(s.mnt, "d/f")))
	must(t, os.Rename(filepath.Join(s.mnt, "d"), filepath.Join(s.mnt, "e")))
	still(t, f, old)
	must(t, f.Close())
	if names := left(t, filepath.Join(s.dir, "e"), 0); len(names) != 0 {
		t.Errorf("on the server: %q", names)
	}
}

func TestFileThatCannotBeHiddenIsCopied(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Rename" {
				return &ftpconn.ReplyError{Command: "RNFR " + p, Code: 550, Text: "no", Kind: os.ErrPermission}
			}
			return nil
		}
	})
	old := pattern(6 << 20)
	f := begin(t, s.put(t, "f", string(old)), os.O_RDONLY)
	must(t, os.Remove(filepath.Join(s.mnt, "f")))
	if names := left(t, s.dir, 0); len(names) != 0 {
		t.Errorf("on the server: %q", names)
	}
	still(t, f, old)
}

func TestFailedReplaceGivesTheOpenFileItsNameBack(t *testing.T) {
	s := newSite(t)
	old := pattern(maxReplaced + 1)
	f := begin(t, s.put(t, "f", string(old)), os.O_RDONLY)
	from := s.put(t, "new", "new")
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Rename" && p == "/new" {
				return &ftpconn.ReplyError{Command: "RNFR " + p, Code: 550, Text: "no", Kind: os.ErrPermission}
			}
			return nil
		}
	})
	if err := os.Rename(from, filepath.Join(s.mnt, "f")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("rename: %v", err)
	}
	must(t, f.Close())
	s.onServer(t, "f", string(old))
	if names := left(t, s.dir, 2); len(names) != 2 {
		t.Errorf("on the server: %q", names)
	}
}

func TestHiddenFilesOfACrashAreRemoved(t *testing.T) {
	lists := t.TempDir()
	dead, err := cache.OpenLeftovers(lists, "site", nil)
	must(t, err)
	first := newSite(t, func(o *Options) { o.Leftovers = dead })
	f := begin(t, first.put(t, "f", string(pattern(6<<20))), os.O_RDONLY)
	must(t, os.Remove(filepath.Join(first.mnt, "f")))
	names := left(t, first.dir, 1)
	if len(names) != 1 || !strings.HasPrefix(names[0], hiddenPrefix) {
		t.Fatalf("on the server: %q", names)
	}
	must(t, dead.Close()) // as the end of the process does

	list, err := cache.OpenLeftovers(lists, "site", nil)
	must(t, err)
	mountRemote(t, t.TempDir(), newDirRemote(first.dir), func(o *Options) { o.Leftovers = list })
	if names := left(t, first.dir, 0); len(names) != 0 {
		t.Errorf("on the server: %q", names)
	}
	must(t, f.Close())
}

// The kernel tells of a last close behind the caller's back: that may come while the file is on its way to a hidden name.
func TestFileThatIsClosedWhileItIsHiddenGoes(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, root *node) syscall.Errno{
		"removed": func(t *testing.T, root *node) syscall.Errno { return root.Unlink(t.Context(), "f") },
		"replaced": func(t *testing.T, root *node) syscall.Errno {
			return root.Rename(t.Context(), "new", root, "f", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
			s.put(t, "f", make([]byte, maxReplaced+1), longAgo)
			s.put(t, "new", []byte("new"), longAgo)
			s.open(t, "f")
			s.open(t, "new")
			n := nodeOf(s.t.root.GetChild("f"))
			e, err := s.t.remote.Stat(t.Context(), "/f")
			must(t, err)
			h := n.openFile(syscall.O_RDONLY, e)
			closed := false
			s.set(func() {
				s.before = func(op, path string) error {
					if op == "Rename" && path == "/f" && !closed {
						closed = true
						h.Release(t.Context())
					}
					return nil
				}
			})
			if errno := change(t, s.t.root); errno != 0 {
				t.Fatal(errno)
			}
			if !closed {
				t.Error("the file was not hidden")
			}
			hidden, err := filepath.Glob(s.local("/" + hiddenPrefix + "*"))
			must(t, err)
			if len(hidden) > 0 {
				t.Errorf("left on the server: %q", hidden)
			}
		})
	}
}

// TestFileThatIsClosedWhileItStepsAside gets its name back when the other one can't take it.
func TestFileThatIsClosedWhileItStepsAside(t *testing.T) {
	s := newSite(t)
	old := string(pattern(maxReplaced + 1))
	dst := s.put(t, "dst", old)
	src := s.put(t, "src", "new")
	r, err := os.Open(dst)
	must(t, err)
	defer r.Close()
	n := nodeOf(s.t.root.GetChild("dst"))
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op != "Rename" || p != "/src" {
				return nil
			}
			must(t, r.Close())
			waitFor(t, "the last close", func() bool { return n.file() == nil })
			return &ftpconn.ReplyError{Command: "RNTO /dst", Code: 553, Text: "Permission denied.", Kind: fs.ErrPermission}
		}
	})
	if err := os.Rename(src, dst); !errors.Is(err, syscall.EACCES) {
		t.Errorf("%v", err)
	}
	s.onServer(t, "dst", old)
	s.onServer(t, "src", "new")
}

// TestHiddenFileIsNotSeenGoing looks at a directory, and removes it, while a hidden file in it is being removed: the last close doesn't wait
// for that.
func TestHiddenFileIsNotSeenGoing(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	f := begin(t, s.put(t, "d/f", string(pattern(6<<20))), os.O_RDONLY)
	must(t, os.Remove(filepath.Join(s.mnt, "d/f")))
	begun, goOn := make(chan struct{}), make(chan struct{})
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Remove" && strings.Contains(p, hiddenPrefix) {
				close(begun)
				<-goOn
			}
			return nil
		}
	})
	must(t, f.Close())
	<-begun
	if names := left(t, filepath.Join(s.mnt, "d"), 0); len(names) != 0 {
		t.Errorf("the mount shows %q", names)
	}
	removed := make(chan error, 1)
	go func() { removed <- os.Remove(filepath.Join(s.mnt, "d")) }()
	waitFor(t, "the directory's removal", func() bool {
		select {
		case err := <-removed:
			t.Errorf("it didn't wait for the file: %v", err)
			removed <- err
			return true
		default:
			return s.t.hidden.waiting.Load() > 0
		}
	})
	close(goOn)
	must(t, <-removed)
}

// TestListingFromBeforeDoesNotShowHiddenFiles reads a directory that was opened while a hidden file was in it.
func TestListingFromBeforeDoesNotShowHiddenFiles(t *testing.T) {
	s := newSite(t)
	f := begin(t, s.put(t, "f", string(pattern(6<<20))), os.O_RDONLY)
	must(t, os.Remove(filepath.Join(s.mnt, "f")))
	before, err := os.Open(s.mnt)
	must(t, err)
	defer before.Close()
	must(t, f.Close())
	if names := left(t, s.dir, 0); len(names) != 0 {
		t.Fatalf("on the server: %q", names)
	}
	waitFor(t, "the end of the removal", func() bool { return s.t.hidden.count.Load() == 0 })
	if names, err := before.Readdirnames(-1); len(names) != 0 || err != nil {
		t.Errorf("the mount shows %q (%v)", names, err)
	}
}

// TestOpenWhileTheNameIsTakenAway opens a file in the moment when it was found that nobody has it open: the kernel is told to look up
// what has the name then.
func TestOpenWhileTheNameIsTakenAway(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, root *node) syscall.Errno{
		"removed":  func(t *testing.T, root *node) syscall.Errno { return root.Unlink(t.Context(), "f") },
		"replaced": func(t *testing.T, root *node) syscall.Errno { return root.Rename(t.Context(), "new", root, "f", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newBlockSite(t, t.TempDir(), newBlocks(t, ""))
			s.put(t, "f", []byte("old"), longAgo)
			s.put(t, "new", []byte("new"), longAgo)
			s.open(t, "f")
			s.open(t, "new")
			n := nodeOf(s.t.root.GetChild("f"))
			opened := make(chan syscall.Errno, 1)
			var once sync.Once
			s.set(func() {
				s.before = func(op, p string) error {
					if op == "Remove" && p == "/f" || op == "Rename" && p == "/new" {
						once.Do(func() {
							s.t.forget("/f")
							before := s.count("")
							go func() {
								h, _, errno := n.Open(t.Context(), syscall.O_RDONLY)
								if errno == 0 {
									h.(*handle).Release(t.Context())
								}
								opened <- errno
							}()
							for s.count("") == before { // until it has asked for the file
								time.Sleep(time.Millisecond)
							}
						})
					}
					return nil
				}
			})
			if errno := change(t, s.t.root); errno != 0 {
				t.Fatal(errno)
			}
			if errno := <-opened; errno != syscall.ESTALE {
				t.Errorf("open(): %v", errno)
			}
		})
	}
}

// TestDownloadThatWaitedForItsTurnIsOfTheSameFile has another file take the name between a read and the server's answer to it.
func TestDownloadThatWaitedForItsTurnIsOfTheSameFile(t *testing.T) {
	for name, size := range map[string]int{"copied": 200 << 10, "hidden": maxReplaced + 1} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			old := pattern(size)
			f, err := os.Open(s.put(t, "f", string(old)))
			must(t, err)
			defer f.Close()
			s.put(t, "new", strings.Repeat("new", size))
			asked, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			s.remote.set(func() {
				s.remote.before = func(op, p string) error {
					if op == "Retrieve" && p == "/f" {
						first := false
						once.Do(func() { first = true })
						if first {
							close(asked)
							<-goOn
						}
					}
					return nil
				}
			})
			got := make([]byte, 100_000)
			done := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(f, got)
				done <- err
			}()
			<-asked
			must(t, os.Rename(filepath.Join(s.mnt, "new"), filepath.Join(s.mnt, "f")))
			close(goOn)
			must(t, <-done)
			if !bytes.Equal(got, old[:len(got)]) {
				t.Errorf("read %.20q, want %.20q", got, old)
			}
		})
	}
}

// The last close of a removed file is told to the mount when the kernel may have forgotten its directory already.
func TestHiddenFilesGoThoughTheKernelForgetsTheirDirectory(t *testing.T) {
	s := newSite(t)
	remember := forget(t)
	var using sync.WaitGroup
	for i := range 8 {
		using.Go(func() {
			for j := range 30 {
				dir := filepath.Join(s.mnt, fmt.Sprint(i, "-", j), "d")
				p := filepath.Join(dir, "f")
				if err := os.MkdirAll(filepath.Join(s.dir, fmt.Sprint(i, "-", j), "d"), 0o755); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprint(i, "-", j), "d/f"), make([]byte, 5<<20), 0o644); err != nil {
					t.Error(err)
				}
				f, err := os.Open(p)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.Remove(p); err != nil {
					t.Error(err)
				}
				f.Close()
			}
		})
	}
	using.Wait()
	remember()
	waitFor(t, "the removal", func() bool {
		left, _ := filepath.Glob(filepath.Join(s.dir, "*/d/.ftpfs-hidden*"))
		return len(left) == 0
	})
}
