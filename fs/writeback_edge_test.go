package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// openFor opens a file of the mount with these flags, and writes text to it.
func (s *lateSite) openFor(t *testing.T, name string, flags int, text string) *os.File {
	t.Helper()
	h, err := os.OpenFile(s.at(name), flags, 0o644)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	_, err = io.WriteString(h, text)
	must(t, err)
	return h
}

func (s *lateSite) fileOf(t *testing.T, name string) *file {
	t.Helper()
	n := nodeOf(s.t.root.GetChild(name))
	if n == nil || n.file() == nil {
		t.Fatalf("%s isn't open", name)
	}
	return n.file()
}

// contested is a file that was made here, and waits while others do something under its name, a moment after which the server would be
// believed to have nothing there.
func (s *lateSite) contested(t *testing.T, name, text string, others func()) *file {
	t.Helper()
	h := s.openFor(t, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, text)
	f := s.fileOf(t, name)
	f.mu.Lock()
	f.checked = time.Time{}
	f.mu.Unlock()
	others()
	must(t, h.Close())
	return f
}

func (f *file) peek(look func() bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return look()
}

// settled waits until nothing waits and no file is open any more.
func (s *lateSite) settled(t *testing.T) {
	t.Helper()
	waitFor(t, "the queue", func() bool { return s.Backlog().Files == 0 })
	waitFor(t, "the files to be closed", func() bool { return len(s.t.files.list()) == 0 })
}

var errFull = &ftpconn.ReplyError{Command: "STOR", Code: 552, Text: "quota", Kind: ftpconn.ErrNoSpace}

// TestFsyncBehindTheQueue has a file that the queue passed over, because it was being written again, brought to the server by fsync().
func TestFsyncBehindTheQueue(t *testing.T) {
	for _, last := range []string{"the writer", "a reader"} {
		t.Run(last, func(t *testing.T) {
			s := newLateSite(t)
			for i := range uploadsAtOnce {
				s.write(t, fmt.Sprint("before", i), "x")
			}
			waitFor(t, "the queue to be busy", func() bool {
				w := &s.t.later
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.running == uploadsAtOnce
			})
			s.write(t, "f", "old")
			h := s.openFor(t, "f", os.O_WRONLY, "new")
			s.gate.open(nil)
			waitFor(t, "the queue", func() bool { return s.Backlog().Files == 0 })
			must(t, h.Sync())
			if last == "a reader" {
				r, err := os.Open(s.at("f"))
				must(t, err)
				must(t, h.Close())
				must(t, r.Close())
			} else {
				must(t, h.Close())
			}
			s.onServer(t, "f", "new")
			s.settled(t)
		})
	}
}

// TestRemovedAfterAPartArrived has the server keep a part of a file whose upload it refused.
func TestRemovedAfterAPartArrived(t *testing.T) {
	s := newLateSite(t)
	s.remote.set(func() {
		s.remote.stored = func(p string, u ftpconn.Upload) ftpconn.Upload { return &fullUpload{Upload: u} }
	})
	s.gate.open(nil)
	s.write(t, "f", "text")
	f := s.fileOf(t, "f")
	waitFor(t, "the refusal", func() bool { return f.peek(func() bool { return f.late != nil && f.job == nil }) })
	s.onServer(t, "f", "text")
	must(t, os.Remove(s.at("f")))
	s.absent(t, "f")
	if names, err := os.ReadDir(s.mnt); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	s.remote.set(func() { s.remote.stored = nil })
	s.write(t, "g", "text") // of which nothing arrives
	s.gate.open(errFull)
	s.write(t, "h", "text")
	h := s.fileOf(t, "h")
	waitFor(t, "the refusal", func() bool { return h.peek(func() bool { return h.late != nil && h.job == nil }) })
	must(t, os.Remove(s.at("h")))
	s.gate.open(nil)
}

// fullUpload is refused at its end.
type fullUpload struct{ ftpconn.Upload }

func (u *fullUpload) Close() error {
	u.Upload.Abort()
	return errFull
}

// TestWritebackWhereAFileTookTheDirectory has others put a file in the place of the directory.
func TestWritebackWhereAFileTookTheDirectory(t *testing.T) {
	for _, seen := range []bool{false, true} {
		t.Run(fmt.Sprint("seen=", seen), func(t *testing.T) {
			s := lateSiteOver(t, false)
			must(t, os.Mkdir(s.at("d"), 0o755))
			s.write(t, "d/f", "text")
			must(t, os.Remove(filepath.Join(s.dir, "d")))
			s.put(t, "d", "a file")
			if seen {
				waitFor(t, "the kernel to see it", func() bool {
					info, err := os.Stat(s.at("d"))
					return err == nil && !info.IsDir()
				})
			}
			s.gate.open(nil)
			s.settled(t)
			kept, _ := filepath.Glob(filepath.Join(s.t.opt.SpoolDir, "lost+found", "*f"))
			if len(kept) != 1 || read(t, kept[0]) != "text" {
				t.Errorf("kept: %v", kept)
			}
			if s.PendingErr() == nil {
				t.Error("not reported")
			}
		})
	}
}

// TestWritebackOfAnEditOfARemovedFile has others remove a file of which the rest is needed.
func TestWritebackOfAnEditOfARemovedFile(t *testing.T) {
	s := lateSiteOver(t, false)
	s.put(t, "f", string(pattern(100_000)))
	h, err := os.OpenFile(s.at("f"), os.O_WRONLY, 0)
	must(t, err)
	_, err = h.WriteAt([]byte("an edit"), 50_000)
	must(t, err)
	f := s.fileOf(t, "f")
	f.mu.Lock()
	f.checked = time.Time{}
	f.mu.Unlock()
	must(t, os.Remove(filepath.Join(s.dir, "f")))
	must(t, h.Close())
	s.gate.open(nil)
	s.settled(t)
	s.absent(t, "f")
	if err := s.PendingErr(); err == nil || !strings.Contains(err.Error(), "/f") {
		t.Errorf("reported: %v", err)
	}
	if kept, _ := filepath.Glob(filepath.Join(s.t.opt.SpoolDir, "lost+found", "*%f")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// TestWritebackBesideADirectory has others make a directory of the same name.
func TestWritebackBesideADirectory(t *testing.T) {
	s := lateSiteOver(t, false)
	s.contested(t, "f", "mine", func() { must(t, os.Mkdir(filepath.Join(s.dir, "f"), 0o755)) })
	s.gate.open(nil)
	s.settled(t)
	beside, _ := filepath.Glob(filepath.Join(s.dir, "f.ftpfs-conflict-*"))
	if len(beside) != 1 || read(t, beside[0]) != "mine" {
		t.Errorf("beside it: %v", beside)
	}
}

// crashed is a spool directory with copies that a mount left in its journal.
func crashed(t *testing.T, fill func(spool *cache.Spool, leave func(p cache.Pending, base int64, text string))) (spoolDir string) {
	t.Helper()
	spoolDir = t.TempDir()
	spool, err := cache.OpenSpool(spoolDir, 0, testLog(t))
	must(t, err)
	fill(spool, func(p cache.Pending, base int64, text string) {
		f, err := spool.Create(p.Path)
		must(t, err)
		if base > 0 {
			must(t, f.SetBase(base))
		}
		_, err = f.WriteAt([]byte(text), base)
		must(t, err)
		p.Site = "test"
		must(t, f.Journal(p))
	})
	must(t, spool.Close())
	return spoolDir
}

// TestNextMountGoesOnWithAppends has a crash after the server got all, a part or nothing of bytes behind the end of a file.
func TestNextMountGoesOnWithAppends(t *testing.T) {
	for name, c := range map[string]struct{ there, want string }{
		"nothing arrived":  {"one\n", "one\ntwo\n"},
		"a part":           {"one\ntw", "one\ntwo\n"},
		"all":              {"one\ntwo\n", "one\ntwo\n"},
		"all and others'":  {"one\ntwo\nthree\n", "one\ntwo\nthree\n"},
		"others' alone":    {"one\nthree\n", "one\nthree\ntwo\n"},
		"it was cut":       {"on", "ontwo\n"},
		"made, nothing":    {"-", "two\n"},
		"made, a part":     {"tw", "two\n"},
		"made, all":        {"two\n", "two\n"},
		"made, others' it": {"three\n", "three\ntwo\n"},
	} {
		t.Run(name, func(t *testing.T) {
			made := strings.HasPrefix(name, "made")
			spoolDir := crashed(t, func(_ *cache.Spool, leave func(cache.Pending, int64, string)) {
				p := cache.Pending{Path: "/log", Appends: true, Created: made, ServerSize: 4, Closed: time.Now()}
				base := int64(4)
				if made {
					p.ServerSize, base = 0, 0
				}
				leave(p, base, "two\n")
			})
			s := &site{dir: t.TempDir(), mnt: t.TempDir()}
			if c.there != "-" {
				s.put(t, "log", c.there)
			}
			m := mountRemote(t, s.mnt, newDirRemote(s.dir), func(o *Options) { o.SpoolDir, o.Site = spoolDir, "test" })
			waitFor(t, "the upload", func() bool { return m.Backlog().Files == 0 })
			s.onServer(t, "log", c.want)
			must(t, m.PendingErr())
		})
	}
}

// TestNextMountFindsTwoOfOneName has two mounts of one site crash, or one whose disk was too full to say that a file was done with.
func TestNextMountFindsTwoOfOneName(t *testing.T) {
	spoolDir := crashed(t, func(_ *cache.Spool, leave func(cache.Pending, int64, string)) {
		at := time.Now()
		leave(cache.Pending{Path: "/f", Created: true, Closed: at.Add(time.Second)}, 0, "newer")
		leave(cache.Pending{Path: "/f", Created: true, Closed: at}, 0, "older")
		leave(cache.Pending{Path: "/g", Created: true, Closed: at}, 0, "g")
		leave(cache.Pending{Path: "/g/below", Created: true, Closed: at.Add(time.Second)}, 0, "below")
	})
	s := &site{dir: t.TempDir(), mnt: t.TempDir()}
	m := mountRemote(t, s.mnt, newDirRemote(s.dir), func(o *Options) { o.SpoolDir, o.Site = spoolDir, "test" })
	waitFor(t, "the uploads", func() bool { return m.Backlog().Files == 0 })
	waitFor(t, "the files to be closed", func() bool { return len(m.t.files.list()) == 0 })
	s.onServer(t, "f", "newer")
	s.onServer(t, "g", "g")
	for _, name := range []string{"%f", "%g%below"} {
		if kept, _ := filepath.Glob(filepath.Join(spoolDir, "lost+found", "*-"+name)); len(kept) != 1 {
			t.Errorf("kept of %s: %v", name, kept)
		}
	}
}

// TestConflictTakesWhatIsWrittenMeanwhile writes while the local version is put beside the server's file.
func TestConflictTakesWhatIsWrittenMeanwhile(t *testing.T) {
	s := lateSiteOver(t, false)
	s.contested(t, "f", "mine", func() { s.put(t, "f", "theirs, longer") })
	ending, go1 := make(chan struct{}), make(chan struct{})
	s.remote.set(func() {
		s.remote.stored = func(p string, u ftpconn.Upload) ftpconn.Upload {
			return &slowEnd{Upload: u, reached: ending, on: go1}
		}
	})
	s.gate.open(nil)
	<-ending
	s.remote.set(func() { s.remote.stored = nil })
	h, err := os.OpenFile(s.at("f"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = io.WriteString(h, " and more")
	must(t, err)
	close(go1)
	_ = h.Close()
	s.settled(t)
	s.onServer(t, "f", "theirs, longer")
	beside, _ := filepath.Glob(filepath.Join(s.dir, "f.ftpfs-conflict-*"))
	if len(beside) != 1 || read(t, beside[0]) != "mine and more" {
		for _, b := range beside {
			t.Errorf("beside it: %s: %q", b, read(t, b))
		}
		t.Errorf("%d beside it", len(beside))
	}
}

// slowEnd waits at the end of an upload.
type slowEnd struct {
	ftpconn.Upload
	reached, on chan struct{}
}

func (u *slowEnd) Close() error {
	close(u.reached)
	<-u.on
	return u.Upload.Close()
}

// TestConflictThatIsRefusedLeavesOneFileBeside has the server refuse the local version at first.
func TestConflictThatIsRefusedLeavesOneFileBeside(t *testing.T) {
	s := lateSiteOver(t, false)
	f := s.contested(t, "f", "mine", func() { s.put(t, "f", "theirs, longer") })
	s.remote.set(func() {
		s.remote.stored = func(p string, u ftpconn.Upload) ftpconn.Upload { return &fullUpload{Upload: u} }
	})
	s.gate.open(nil)
	waitFor(t, "the refusal", func() bool { return f.peek(func() bool { return f.late != nil && f.job == nil }) })
	s.remote.set(func() { s.remote.stored = nil })
	h, err := os.Open(s.at("f"))
	if err == nil {
		t.Error("the next open doesn't say so")
		h.Close()
	}
	h, err = os.Open(s.at("f"))
	must(t, err)
	if err := h.Sync(); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("fsync: %v", err)
	}
	must(t, h.Close())
	s.onServer(t, "f", "theirs, longer")
	if beside, _ := filepath.Glob(filepath.Join(s.dir, "f.ftpfs-conflict-*")); len(beside) != 1 || read(t, beside[0]) != "mine" {
		t.Errorf("beside it: %v", beside)
	}
}

// TestRenameMovesTheJournal closes a file while its directory is being renamed.
func TestRenameMovesTheJournal(t *testing.T) {
	s := newLateSite(t)
	must(t, os.Mkdir(s.at("d"), 0o755))
	renaming, on := make(chan struct{}), make(chan struct{})
	h := s.openFor(t, "d/f", os.O_CREATE|os.O_WRONLY, "")
	s.gate.open(nil)
	must(t, h.Sync())
	s.gate.shut()
	n := nodeOf(s.t.root.GetChild("d").GetChild("f"))
	_, err := io.WriteString(h, "text")
	must(t, err)
	f := n.file()
	must(t, f.journal(f.localCopy(), true)) // as close() does it, which looked for renames the moment before this one began
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Rename" {
				close(renaming)
				<-on
			}
			return nil
		}
	})
	f.mu.Lock()
	f.away = true // the settling of the rename saw nothing to be done
	f.mu.Unlock()
	done := make(chan error)
	go func() { done <- os.Rename(s.at("d"), s.at("e")) }()
	<-renaming
	f.mu.Lock()
	f.away = false
	f.mu.Unlock()
	close(on)
	must(t, <-done)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.localCopy().LocalPath()), "journal"))
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "/e/f") {
		t.Errorf("the journal says %s", last)
	}
	s.remote.set(func() { s.remote.before = nil })
	s.gate.open(nil)
	must(t, h.Close())
}

// TestAttributesSetWhileTheUploadEnds sets mode and time of files, and opens them to be cut, at the moments when they are let go.
func TestAttributesSetWhileTheUploadEnds(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	const files = 400
	for i := range files {
		name := fmt.Sprint("f", i)
		s.write(t, name, "a long text")
		must(t, os.Chmod(s.at(name), 0o600))
		s.write(t, name, "text")
		must(t, os.Chtimes(s.at(name), when, when))
	}
	s.settled(t)
	for i := range files {
		name := fmt.Sprint("f", i)
		s.onServer(t, name, "text")
		info, err := os.Stat(filepath.Join(s.dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 || !info.ModTime().Equal(when) {
			t.Errorf("%s: %v %v", name, info.Mode(), info.ModTime())
		}
	}
}

// TestRefusedAttributesAreReported has nobody left to be told that the server doesn't take a file's mode.
func TestRefusedAttributesAreReported(t *testing.T) {
	s := newLateSite(t, func(o *Options) { o.StrictAttrs = true })
	s.remote.set(func() { s.remote.noMode = true })
	s.gate.open(nil)
	must(t, os.WriteFile(s.at("f"), []byte("text"), 0o755))
	s.settled(t)
	s.onServer(t, "f", "text")
	if err := s.PendingErr(); err == nil || !strings.Contains(err.Error(), "/f") {
		t.Errorf("reported: %v", err)
	}
}

// TestConflictNameOfALongEnding fits into what servers take.
func TestConflictNameOfALongEnding(t *testing.T) {
	if got := filepath.Base(conflictName("/a."+strings.Repeat("x", 250), time.Now())); len(got) > 255 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// TestWritebackOnAServerWithAnotherClock changes a file again before the server's time of it was seen.
func TestWritebackOnAServerWithAnotherClock(t *testing.T) {
	s := newLateSite(t)
	s.remote.set(func() { s.remote.noTime = true })
	s.gate.open(nil)
	s.write(t, "f", "text")
	s.settled(t)
	behind := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(s.dir, "f"), behind, behind))
	s.contested(t, "f", "new", func() { s.t.forget("/f") }) // what is remembered of it is older than a second
	s.settled(t)
	s.onServer(t, "f", "new")
	must(t, s.PendingErr())
}

// TestHandleOfWhatWasPutBeside changes a file through a handle whose content was put beside the server's.
func TestHandleOfWhatWasPutBeside(t *testing.T) {
	s := resting(t, false)
	s.contested(t, "f", "mine", func() { s.put(t, "f", "theirs, longer") })
	h, err := os.OpenFile(s.at("f"), os.O_RDWR, 0)
	must(t, err)
	defer h.Close()
	s.goOn()
	waitFor(t, "the queue", func() bool { return s.Backlog().Files == 0 })
	for what, change := range map[string]func() error{
		"write":     func() error { _, err := h.Write([]byte("x")); return err },
		"ftruncate": func() error { return h.Truncate(2) },
		"fallocate": func() error { return syscall.Fallocate(int(h.Fd()), 0, 0, 1000) },
	} {
		if err := change(); !errors.Is(err, syscall.ESTALE) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, h.Close())
	s.settled(t)
	s.onServer(t, "f", "theirs, longer")
}

// What is said of files that wait has to be true: people remove caches.
func TestUnmountSaysWhatIsLostWithTheSpool(t *testing.T) {
	needFUSE(t)
	remote, spoolDir, mnt, log := newDirRemote(t.TempDir()), t.TempDir(), t.TempDir(), testLog(t)
	remote.hold = func(context.Context) error { return fmt.Errorf("gone: %w", ftpconn.ErrConnLost) }
	spool, err := cache.OpenSpool(spoolDir, 0, log)
	must(t, err)
	m, err := Mount(mnt, remote, spool, Options{TTL: time.Minute, Logger: log, Source: "ftp://test/", SpoolDir: spoolDir, Writeback: true, Site: "test"})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(mnt, "lost"), []byte("content"), 0o644))
	list, err := filepath.Glob(spoolDir + "/*")
	must(t, err)
	for _, dir := range list {
		must(t, os.RemoveAll(dir))
	}
	must(t, m.Unmount())
	err = m.PendingErr()
	for _, want := range []string{"files are lost", "/lost:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("unmount: %v, want %q", err, want)
		}
	}
	_ = spool.Close()
}

// A time that is set on a directory in the moment in which an upload into it ends is the directory's afterwards.
func TestDirectorysTimeSetWhileAnUploadEnds(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			dir := fmt.Sprint("d", i)
			for _, err := range []error{os.Mkdir(s.at(dir), 0o755), os.WriteFile(s.at(dir+"/f"), []byte("content"), 0o644), os.WriteFile(s.at(dir+"/g"), []byte("content"), 0o644)} {
				if err != nil {
					t.Error(err)
					return
				}
			}
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
				if info, err := os.Stat(filepath.Join(s.dir, dir, "f")); err == nil && info.Size() > 0 {
					break
				}
			}
			time.Sleep(time.Duration(i) * 20 * time.Microsecond) // which moment it is
			if err := os.Chtimes(s.at(dir), at, at); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	waitFor(t, "the uploads", func() bool { return s.Backlog().Files == 0 })
	for i := range 200 {
		info, err := os.Stat(filepath.Join(s.dir, fmt.Sprint("d", i)))
		must(t, err)
		if !info.ModTime().Equal(at) {
			t.Errorf("d%d has the time %v", i, info.ModTime())
		}
	}
	s.t.later.mu.Lock()
	defer s.t.later.mu.Unlock()
	if n := len(s.t.later.dirs); n > 0 {
		t.Errorf("%d directories' times are still to be set", n)
	}
}

// Mode and time of a file that is being uploaded are what was set, whatever of it the server has by then.
func TestAttributesAreShownWhileTheyAreSet(t *testing.T) {
	s := newLateSite(t)
	s.put(t, "f", "old content")
	must(t, os.Chmod(filepath.Join(s.dir, "f"), 0o644))
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	s.write(t, "f.tmp", "new content")
	must(t, os.Chmod(s.at("f.tmp"), 0o600))
	must(t, os.Chtimes(s.at("f.tmp"), at, at))
	must(t, os.Rename(s.at("f.tmp"), s.at("f")))
	s.gate.open(nil)
	for done := false; !done; {
		done = s.Backlog().Files == 0
		info, err := os.Stat(s.at("f"))
		must(t, err)
		if info.Mode().Perm() != 0o600 || !info.ModTime().Equal(at) {
			t.Fatalf("%v %v", info.Mode(), info.ModTime())
		}
	}
}

// A file that was uploaded before its turn ends its waiting when others have changed the directory again.
func TestDirectoryStaysChangedUntilTheUpload(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(nil)
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	must(t, os.Mkdir(s.at("d"), 0o755))
	s.write(t, "d/first", "content")
	must(t, os.Rename(s.at("d"), s.at("e"))) // which waits for the upload
	s.gate.shut()
	must(t, os.Chtimes(s.at("e"), at, at))
	s.write(t, "e/tmp", "content")
	must(t, os.Rename(s.at("e/tmp"), s.at("e/second")))
	waitFor(t, "the first to be let go", func() bool { return len(s.t.files.list()) == 1 })
	info, err := os.Stat(s.at("e"))
	must(t, err)
	if info.ModTime().Equal(at) {
		t.Error("the directory is shown as if nothing had been made in it since its time was set")
	}
}
