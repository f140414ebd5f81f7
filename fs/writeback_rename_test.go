package fs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// resting is a site whose queue doesn't begin an upload until it is let.
func resting(t *testing.T, cached bool, change ...func(*Options)) *lateSite {
	t.Helper()
	s := lateSiteOver(t, cached, change...)
	s.gate.open(nil)
	w := &s.t.later
	w.mu.Lock()
	w.asleep = true
	w.mu.Unlock()
	return s
}

func (s *lateSite) goOn() {
	w := &s.t.later
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep = false
	w.startLocked(s.t)
}

// wake is goOn that returns when all is uploaded.
func (s *lateSite) wake(t *testing.T) {
	t.Helper()
	s.goOn()
	s.settled(t)
}

func (s *lateSite) rename(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.Rename(s.at(from), s.at(to)))
	if _, err := os.Lstat(s.at(from)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", from, err)
	}
}

// has says what the mount shows of a directory.
func (s *lateSite) has(t *testing.T, want ...string) {
	t.Helper()
	list, err := os.ReadDir(s.mnt)
	must(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("the mount has %v, want %v", names, want)
	}
}

// TestRenameOfWhatWaits renames files whose uploads don't begin: it doesn't wait for them, and the server gets the result.
func TestRenameOfWhatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		there  map[string]string // on the server
		do     func(t *testing.T, s *lateSite)
		want   map[string]string // on the server in the end, and in the mount
		stores int
	}{
		"a chain": {
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "new")
				s.rename(t, "a", "b")
				s.rename(t, "b", "c")
			},
			want: map[string]string{"c": "new"}, stores: 1,
		},
		"over a file of the server's": {
			there: map[string]string{"b": "old and longer"},
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "new")
				s.rename(t, "a", "b")
				s.onServer(t, "b", "old and longer")
			},
			want: map[string]string{"b": "new"}, stores: 1,
		},
		"over one that was looked at": {
			there: map[string]string{"b": "old"},
			do: func(t *testing.T, s *lateSite) {
				if got := read(t, s.at("b")); got != "old" {
					t.Errorf("%q", got)
				}
				s.write(t, "a", "new content")
				s.rename(t, "a", "b")
			},
			want: map[string]string{"b": "new content"}, stores: 1,
		},
		"over one that waits": {
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "first")
				s.write(t, "b", "second")
				s.rename(t, "a", "b")
			},
			want: map[string]string{"b": "first"}, stores: 1,
		},
		"over one that waits to change the server's": {
			there: map[string]string{"b": "old"},
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "b", "newer")
				s.write(t, "a", "newest")
				s.rename(t, "a", "b")
			},
			want: map[string]string{"b": "newest"}, stores: 1,
		},
		"several over one of the server's": {
			there: map[string]string{"b": "old"},
			do: func(t *testing.T, s *lateSite) {
				for i := range 5 {
					s.write(t, "a", fmt.Sprint("new ", i))
					s.rename(t, "a", "b")
				}
			},
			want: map[string]string{"b": "new 4"}, stores: 1,
		},
		"then removed": {
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "new")
				s.rename(t, "a", "b")
				must(t, os.Remove(s.at("b")))
			},
		},
		"over one of the server's, then removed": {
			there: map[string]string{"b": "old"},
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "new")
				s.rename(t, "a", "b")
				must(t, os.Remove(s.at("b")))
				s.absent(t, "b")
			},
		},
		"then appended to": {
			there: map[string]string{"b": "old "},
			do: func(t *testing.T, s *lateSite) {
				s.openFor(t, "a", os.O_CREATE|os.O_WRONLY|os.O_APPEND, "new ").Close()
				s.rename(t, "a", "b")
				s.openFor(t, "b", os.O_WRONLY|os.O_APPEND, "and more").Close()
			},
			want: map[string]string{"b": "new and more"}, stores: 1,
		},
		"while it is open": {
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "text")
				h := s.openFor(t, "a", os.O_WRONLY, "T")
				s.rename(t, "a", "b")
				_, err := io.WriteString(h, "E")
				must(t, err)
				must(t, h.Close())
			},
			want: map[string]string{"b": "TExt"}, stores: 1,
		},
		"to another directory, without replacing": {
			there: map[string]string{"d/x": "x"},
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "text")
				err := unix.Renameat2(unix.AT_FDCWD, s.at("a"), unix.AT_FDCWD, s.at("d/b"), unix.RENAME_NOREPLACE)
				must(t, err)
			},
			want: map[string]string{"d/x": "x", "d/b": "text"}, stores: 1,
		},
		"the name is made again": {
			do: func(t *testing.T, s *lateSite) {
				s.write(t, "a", "one")
				s.rename(t, "a", "b")
				s.write(t, "a", "two")
			},
			want: map[string]string{"a": "two", "b": "one"}, stores: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := resting(t, true)
			for name, content := range c.there {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(s.dir, name)), 0o755))
				s.put(t, name, content)
			}
			c.do(t, s)
			if n := s.remote.count("Rename"); n > 0 {
				t.Errorf("the server was asked for %d renames", n)
			}
			for name, content := range c.want {
				if got := read(t, s.at(name)); got != content {
					t.Errorf("%s is %q before the upload", name, got)
				}
			}
			s.wake(t)
			if n := s.remote.count("Store"); n != c.stores {
				t.Errorf("%d uploads, want %d", n, c.stores)
			}
			found := map[string]string{}
			must(t, filepath.WalkDir(s.dir, func(p string, e fs.DirEntry, err error) error {
				if err == nil && e.Type().IsRegular() {
					name, _ := filepath.Rel(s.dir, p)
					found[name] = read(t, p)
				}
				return err
			}))
			if len(c.want) == 0 {
				c.want = map[string]string{}
			}
			if fmt.Sprint(found) != fmt.Sprint(c.want) {
				t.Errorf("the server has %v, want %v", found, c.want)
			}
			for name, content := range c.want {
				if got := read(t, s.at(name)); got != content {
					t.Errorf("%s is %q", name, got)
				}
			}
		})
	}
}

// TestRenameOfWhatWaitsReplacesInOneStep has others look at the file that is replaced.
func TestRenameOfWhatWaitsReplacesInOneStep(t *testing.T) {
	s := resting(t, true)
	s.put(t, "b", "old")
	var mu sync.Mutex
	var stored []string
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Store" {
				mu.Lock()
				stored = append(stored, path.Base(p))
				mu.Unlock()
			}
			return nil
		}
	})
	s.write(t, "a", "new")
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chmod(s.at("a"), 0o600))
	s.rename(t, "a", "b")
	must(t, os.Chtimes(s.at("b"), when, when))
	s.wake(t)
	if len(stored) != 1 || !strings.HasPrefix(stored[0], tempPrefix) {
		t.Errorf("the upload went to %q", stored)
	}
	info, err := os.Stat(filepath.Join(s.dir, "b"))
	must(t, err)
	if info.Mode().Perm() != 0o600 || !info.ModTime().Equal(when) {
		t.Errorf("mode %v, time %v", info.Mode(), info.ModTime())
	}
	s.onServer(t, "b", "new")
	s.has(t, "b")
	s.write(t, "b", "newer") // an ordinary change goes to the file itself again
	s.settled(t)
	if len(stored) != 2 || stored[1] != "b" {
		t.Errorf("the next upload went to %q", stored)
	}
}

// TestRenameOfWhatWaitsIsJournaled looks at what a crash would leave, at once.
func TestRenameOfWhatWaitsIsJournaled(t *testing.T) {
	s := resting(t, true)
	s.put(t, "b", "old!")
	s.write(t, "a", "new")
	copy := s.fileOf(t, "a").localCopy()
	s.rename(t, "a", "b")
	text, err := os.ReadFile(filepath.Join(filepath.Dir(copy.LocalPath()), "journal"))
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := lines[len(lines)-1]
	for _, want := range []string{`"QuotedPath":"\"/b\""`, `"Created":false`, `"Replaces":true`, `"ServerSize":4`} {
		if !strings.Contains(last, want) {
			t.Errorf("the journal doesn't say %s: %s", want, last)
		}
	}
	s.wake(t)
}

// TestRenameOfWhatWaitsKeepsWhatOthersDid has others change, or make, the file that is replaced, between the rename and the upload.
func TestRenameOfWhatWaitsKeepsWhatOthersDid(t *testing.T) {
	for name, before := range map[string]string{"changed": "old", "made": ""} {
		t.Run(name, func(t *testing.T) {
			s := resting(t, false)
			if before != "" {
				s.put(t, "b.txt", before)
			}
			s.write(t, "a", "mine")
			s.rename(t, "a", "b.txt")
			s.put(t, "b.txt", "theirs, longer")
			s.wake(t)
			s.onServer(t, "b.txt", "theirs, longer")
			beside, _ := filepath.Glob(filepath.Join(s.dir, "b.ftpfs-conflict-*.txt"))
			if len(beside) != 1 || read(t, beside[0]) != "mine" {
				t.Errorf("beside it: %v", beside)
			}
			if err := s.PendingErr(); !errors.Is(err, errConflict) {
				t.Errorf("reported: %v", err)
			}
			s.t.pendingMu.Lock()
			s.t.pending = nil
			s.t.pendingMu.Unlock()
		})
	}
}

// TestRenameOfWhatWaitsOverAnOpenFile leaves the old content to who has it open.
func TestRenameOfWhatWaitsOverAnOpenFile(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	s.put(t, "b", "old content")
	h, err := os.Open(s.at("b"))
	must(t, err)
	defer h.Close()
	s.write(t, "a", "new")
	s.rename(t, "a", "b")
	if got, err := io.ReadAll(h); err != nil || string(got) != "old content" {
		t.Errorf("%q, %v", got, err)
	}
	if got := read(t, s.at("b")); got != "new" {
		t.Errorf("%q", got)
	}
	s.uploaded(t, "b", "new")
}

// TestRenameOfWhatWaitsDoesntReplace asks for that.
func TestRenameOfWhatWaitsDoesntReplace(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	s.put(t, "b", "old")
	s.write(t, "a", "new")
	err := unix.Renameat2(unix.AT_FDCWD, s.at("a"), unix.AT_FDCWD, s.at("b"), unix.RENAME_NOREPLACE)
	if !errors.Is(err, syscall.EEXIST) {
		t.Errorf("%v", err)
	}
	s.settled(t)
	s.onServer(t, "b", "old")
	s.onServer(t, "a", "new")
}

// TestRenamesWhileTheQueueRuns has renames meet uploads at all moments.
func TestRenamesWhileTheQueueRuns(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("f", i)
			for v := range 25 {
				temp := fmt.Sprint(name, ".", v)
				if err := os.WriteFile(s.at(temp), fmt.Append(nil, name, " ", v), 0o644); err != nil {
					t.Error(err)
				}
				if v%3 == 0 {
					s.t.later.room(t.Context(), s.t) // begins what rests
				}
				if err := os.Rename(s.at(temp), s.at(name)); err != nil {
					t.Errorf("%s over %s: %v", temp, name, err)
				}
				if got, err := os.ReadFile(s.at(name)); err != nil || string(got) != fmt.Sprint(name, " ", v) {
					t.Errorf("%s is %q, %v", name, got, err)
				}
			}
		})
	}
	wg.Wait()
	s.settled(t)
	var names []string
	for i := range 8 {
		name := fmt.Sprint("f", i)
		s.onServer(t, name, name+" 24")
		names = append(names, name)
	}
	s.has(t, names...)
	list, err := os.ReadDir(s.dir)
	must(t, err)
	if len(list) != len(names) {
		t.Errorf("the server has %v", list)
	}
}

// TestRenameOfWhatWaitsChangesTheDirectory has a program set a directory's time, and look at it again behind a rename in it.
func TestRenameOfWhatWaitsChangesTheDirectory(t *testing.T) {
	s := resting(t, true)
	must(t, os.Mkdir(s.at("d"), 0o755))
	s.put(t, "d/b", "old")
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(s.at("d"), when, when))
	is := func() time.Time {
		t.Helper()
		info, err := os.Stat(s.at("d"))
		must(t, err)
		return info.ModTime()
	}
	if !is().Equal(when) {
		t.Fatalf("the directory's time is %v", is())
	}
	s.write(t, "d/a", "new")
	s.rename(t, "d/a", "d/b")
	if since := time.Since(is()); since < 0 || since > time.Minute {
		t.Errorf("changed %v ago", since)
	}
	must(t, os.Chtimes(s.at("d"), when, when))
	if !is().Equal(when) {
		t.Errorf("the directory's time is %v", is())
	}
	s.wake(t)
	if there, err := os.Stat(filepath.Join(s.dir, "d")); err != nil || !there.ModTime().Equal(when) || !is().Equal(when) {
		t.Errorf("the directory's time is %v, on the server %v, %v", is(), there.ModTime(), err)
	}
}

// TestRenameOfWhatWasRefused gives a file whose upload was refused another name, under which the server takes it: at once.
func TestRenameOfWhatWasRefused(t *testing.T) {
	s := newLateSite(t)
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Store" && p == "/a" {
				return errFull
			}
			return nil
		}
	})
	s.gate.open(nil)
	s.write(t, "a", "text")
	f := s.fileOf(t, "a")
	waitFor(t, "the refusal", func() bool { return f.peek(func() bool { return f.late != nil && f.job == nil }) })
	if h, err := os.Open(s.at("a")); err == nil {
		t.Error("the next open doesn't say so")
		h.Close()
	}
	s.rename(t, "a", "b")
	s.uploaded(t, "b", "text")
	s.absent(t, "a")
}
