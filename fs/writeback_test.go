package fs

import (
	"context"
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
)

// lateSite is a site mounted with writeback, whose server takes no upload until it is let.
type lateSite struct {
	*site
	gate *gate
}

// gate holds uploads up.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
	err    error         // answer while open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

// open lets what waits through, with an answer of err.
func (g *gate) open(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		select {
		case <-closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func newLateSite(t *testing.T, change ...func(*Options)) *lateSite {
	t.Helper()
	return lateSiteOver(t, true, change...)
}

func lateSiteOver(t *testing.T, cached bool, change ...func(*Options)) *lateSite {
	t.Helper()
	s := &lateSite{mountSite(t, cached, append([]func(*Options){func(o *Options) { o.Writeback, o.Site = true, "test" }}, change...)...), &gate{}}
	s.remote.set(func() { s.remote.hold = s.gate.pass })
	s.gate.shut()
	t.Cleanup(func() { s.gate.open(nil) })
	return s
}

func (s *lateSite) at(name string) string { return filepath.Join(s.mnt, name) }

func (s *lateSite) write(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.WriteFile(s.at(name), []byte(content), 0o644))
}

func (s *lateSite) absent(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(s.dir, name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s on the server: %v", name, err)
	}
}

func (s *lateSite) uploaded(t *testing.T, name, want string) {
	t.Helper()
	waitFor(t, "the upload of "+name, func() bool { return s.Backlog().Files == 0 })
	s.onServer(t, name, want)
}

func TestWritebackClosesBeforeTheUpload(t *testing.T) {
	s := newLateSite(t)
	want := string(pattern(700_000))
	s.write(t, "f", want)
	s.absent(t, "f")
	before, err := os.Stat(s.at("f"))
	must(t, err)
	if got := read(t, s.at("f")); got != want || before.Size() != int64(len(want)) {
		t.Errorf("%d bytes, stat says %d; want %d", len(got), before.Size(), len(want))
	}
	if b := s.Backlog(); b.Files != 1 || b.Bytes != int64(len(want)) {
		t.Errorf("backlog %+v", b)
	}
	if names, err := os.ReadDir(s.mnt); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	s.gate.open(nil)
	s.uploaded(t, "f", want)
	after, err := os.Stat(s.at("f"))
	must(t, err)
	there, err := os.Stat(filepath.Join(s.dir, "f"))
	must(t, err)
	if !after.ModTime().Equal(before.ModTime()) || !there.ModTime().Equal(before.ModTime()) {
		t.Errorf("the time was %v, is %v, on the server %v", before.ModTime(), after.ModTime(), there.ModTime())
	}
	if open := s.t.files.list(); len(open) != 0 {
		t.Errorf("%d files are still open", len(open))
	}
	if used := s.t.spool.Usage(); used != 0 {
		t.Errorf("%d bytes of the spool are still used", used)
	}
}

func TestWritebackSurvivesForgetting(t *testing.T) {
	s := newLateSite(t)
	must(t, os.Mkdir(s.at("d"), 0o755))
	s.write(t, "d/f", "text")
	n := nodeOf(s.t.root.GetChild("d").GetChild("f"))
	d := nodeOf(s.t.root.GetChild("d"))
	must(t, asError(d.NotifyEntry("f")))
	must(t, asError(s.t.root.NotifyEntry("d")))
	waitFor(t, "the kernel to forget", func() bool {
		_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // helps where it may
		p, err := n.path()
		return err == nil && p == "/d/f" && s.t.root.GetChild("d") != nil
	})
	if got := read(t, s.at("d/f")); got != "text" {
		t.Errorf("%q", got)
	}
	s.gate.open(nil)
	s.uploaded(t, "d/f", "text")
}

func asError(e syscall.Errno) error {
	if e == 0 || e == syscall.ENOENT {
		return nil
	}
	return e
}

func TestFsyncWaitsForTheServer(t *testing.T) {
	for name, sync := range map[string]func(s *lateSite) error{
		"a new handle": func(s *lateSite) error {
			f, err := os.Open(s.at("f"))
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Sync()
		},
		"the directory": func(s *lateSite) error {
			d, err := os.Open(s.mnt)
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Sync()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLateSite(t)
			s.write(t, "f", "text")
			result := make(chan error)
			go func() { result <- sync(s) }()
			select {
			case err := <-result:
				t.Fatalf("it didn't wait: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			s.gate.open(nil)
			must(t, <-result)
			s.onServer(t, "f", "text")
		})
	}
}

func TestWritebackSendsTheNewestContentOnly(t *testing.T) {
	s := newLateSite(t)
	for i := range 20 {
		s.write(t, "f", fmt.Sprint("version ", i))
	}
	s.gate.open(nil)
	s.uploaded(t, "f", "version 19")
	if n := s.remote.count("Store"); n > 2 { // one may have begun at once
		t.Errorf("%d uploads", n)
	}
}

func TestWritebackSendsTheOldestFirst(t *testing.T) {
	s := newLateSite(t)
	var order []string
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Store" {
				s.remote.mu.Lock()
				order = append(order, p)
				s.remote.mu.Unlock()
			}
			return nil
		}
	})
	const files = 60
	for i := range files {
		s.write(t, fmt.Sprintf("f%02d", i), "x")
	}
	s.gate.open(nil)
	waitFor(t, "the uploads", func() bool { return s.Backlog().Files == 0 })
	if len(order) != files {
		t.Fatalf("%d uploads", len(order))
	}
	early := 0
	for _, p := range order[:files/2] {
		if p < fmt.Sprintf("/f%02d", files/2) {
			early++
		}
	}
	if early < files/2-uploadsAtOnce { // eight are on their way at a time, in any order
		t.Errorf("the order was %v", order)
	}
}

// TestRefusedUploadSurfaces shows it at the next open(), then at fsync(), and sends the file when the server takes it.
func TestRefusedUploadSurfaces(t *testing.T) {
	s := newLateSite(t)
	s.write(t, "f", "text")
	s.gate.open(&ftpconn.ReplyError{Command: "STOR /f", Code: 552, Text: "quota", Kind: ftpconn.ErrNoSpace})
	f := nodeOf(s.t.root.GetChild("f")).file()
	waitFor(t, "the refusal", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.late != nil })
	if _, err := os.Open(s.at("f")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the next open(): %v", err)
	}
	if got := read(t, s.at("f")); got != "text" {
		t.Errorf("%q", got)
	}
	h, err := os.Open(s.at("f"))
	must(t, err)
	defer h.Close()
	if err := h.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("fsync(): %v", err)
	}
	s.gate.open(nil)
	must(t, h.Sync())
	s.onServer(t, "f", "text")
}

func TestWritebackGoesOnWhenTheServerIsBack(t *testing.T) {
	s := newLateSite(t)
	s.gate.open(fmt.Errorf("gone: %w", ftpconn.ErrConnLost))
	for i := range 5 {
		s.write(t, fmt.Sprint("f", i), "text")
	}
	waitFor(t, "the queue to rest", func() bool {
		w := &s.t.later
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.asleep
	})
	must(t, os.WriteFile(s.at("g"), []byte("more"), 0o644))
	s.gate.open(nil)
	s.uploaded(t, "g", "more")
	s.onServer(t, "f4", "text")
}

func TestChangesOfWhatWaits(t *testing.T) {
	s := newLateSite(t)
	for _, name := range []string{"removed", "replaced", "changed", "appended", "cut"} {
		s.write(t, name, "old "+name)
	}
	must(t, os.Remove(s.at("removed")))
	must(t, os.Chmod(s.at("changed"), 0o600))
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(s.at("changed"), when, when))
	f, err := os.OpenFile(s.at("appended"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = io.WriteString(f, " and more")
	must(t, err)
	must(t, f.Close())
	must(t, os.Truncate(s.at("cut"), 3))
	if _, err := os.Stat(s.at("removed")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	s.gate.open(nil)
	s.write(t, "new", "new")
	must(t, os.Rename(s.at("new"), s.at("replaced")))
	waitFor(t, "the uploads", func() bool { return s.Backlog().Files == 0 })
	s.absent(t, "removed")
	s.absent(t, "new")
	s.onServer(t, "replaced", "new")
	s.onServer(t, "appended", "old appended and more")
	s.onServer(t, "cut", "old")
	info, err := os.Stat(filepath.Join(s.dir, "changed"))
	must(t, err)
	if info.Mode().Perm() != 0o600 || !info.ModTime().Equal(when) {
		t.Errorf("%v %v", info.Mode(), info.ModTime())
	}
}

func TestRenameOfADirectoryWithWhatWaits(t *testing.T) {
	s := newLateSite(t)
	must(t, os.Mkdir(s.at("d"), 0o755))
	s.write(t, "d/f", "text")
	done := make(chan error)
	go func() { done <- os.Rename(s.at("d"), s.at("e")) }()
	s.gate.open(nil)
	must(t, <-done)
	s.uploaded(t, "e/f", "text")
	if got := read(t, s.at("e/f")); got != "text" {
		t.Errorf("%q", got)
	}
}

// TestWritebackLeavesAServersFileAlone has others change the file between the close and the upload.
func TestWritebackLeavesAServersFileAlone(t *testing.T) {
	for name, old := range map[string]string{"changed": "old", "made": ""} {
		t.Run(name, func(t *testing.T) {
			s := lateSiteOver(t, false) // which asks the server each time
			s.gate.open(nil)
			if old != "" {
				s.put(t, "f.txt", old)
			}
			h, err := os.OpenFile(s.at("f.txt"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
			must(t, err)
			_, err = io.WriteString(h, "mine")
			must(t, err)
			f := nodeOf(s.t.root.GetChild("f.txt")).file()
			f.mu.Lock()
			f.checked = time.Now().Add(-time.Minute) // as if the queue had been long
			f.mu.Unlock()
			s.put(t, "f.txt", "theirs, longer")
			must(t, h.Close())
			waitFor(t, "the queue", func() bool { return s.Backlog().Files == 0 })
			s.onServer(t, "f.txt", "theirs, longer")
			beside, _ := filepath.Glob(filepath.Join(s.dir, "f.ftpfs-conflict-*.txt"))
			if len(beside) != 1 {
				t.Fatalf("beside it: %v", beside)
			}
			s.onServer(t, filepath.Base(beside[0]), "mine")
			if got := read(t, s.at("f.txt")); got != "theirs, longer" {
				t.Errorf("here: %q", got)
			}
			if err := s.PendingErr(); err == nil || !strings.Contains(err.Error(), "/f.txt") {
				t.Errorf("reported: %v", err)
			}
		})
	}
}

// TestWritebackIntoARemovedDirectory keeps what has no place on the server any more.
func TestWritebackIntoARemovedDirectory(t *testing.T) {
	s := newLateSite(t)
	must(t, os.Mkdir(s.at("d"), 0o755))
	s.write(t, "d/f", "text")
	must(t, os.Remove(filepath.Join(s.dir, "d")))
	s.gate.open(nil)
	waitFor(t, "the queue", func() bool { return s.Backlog().Files == 0 })
	kept, _ := filepath.Glob(filepath.Join(s.t.opt.SpoolDir, "lost+found", "*d%f"))
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	if got := read(t, kept[0]); got != "text" {
		t.Errorf("%q", got)
	}
	if err := s.PendingErr(); err == nil || !strings.Contains(err.Error(), "/d/f") {
		t.Errorf("reported: %v", err)
	}
}

// TestWritebackKeepsADirectorysTime has a time set on a directory in which files wait, as cp -a does.
func TestWritebackKeepsADirectorysTime(t *testing.T) {
	s := newLateSite(t)
	must(t, os.Mkdir(s.at("d"), 0o755))
	for i := range 5 {
		s.write(t, fmt.Sprint("d/f", i), "text")
	}
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(s.at("d"), when, when))
	check := func(where string) {
		t.Helper()
		if info, err := os.Stat(where); err != nil || !info.ModTime().Equal(when) {
			t.Errorf("%s: %v, %v", where, info.ModTime(), err)
		}
	}
	check(s.at("d"))
	s.gate.open(nil)
	waitFor(t, "the uploads", func() bool { return s.Backlog().Files == 0 })
	check(s.at("d"))
	check(filepath.Join(s.dir, "d"))
	s.write(t, "d/new", "text")
	waitFor(t, "the upload", func() bool { return s.Backlog().Files == 0 })
	if info, err := os.Stat(s.at("d")); err != nil || info.ModTime().Equal(when) {
		t.Errorf("a new file leaves the time of its directory as it was (%v)", err)
	}
}

func TestConflictNames(t *testing.T) {
	at := time.Date(2026, 11, 27, 20, 30, 0, 0, time.UTC)
	for p, want := range map[string]string{
		"/a/report.txt": "/a/report.ftpfs-conflict-20261127-203000.000000.txt",
		"/Makefile":     "/Makefile.ftpfs-conflict-20261127-203000.000000",
		"/.profile":     "/.profile.ftpfs-conflict-20261127-203000.000000",
	} {
		if got := conflictName(p, at); got != want {
			t.Errorf("%s: %s", p, got)
		}
	}
	if got := conflictName("/"+strings.Repeat("x", 255)+".txt", at); len(filepath.Base(got)) > 255 || !strings.HasSuffix(got, ".txt") {
		t.Errorf("%d bytes: %s", len(filepath.Base(got)), got)
	}
}

// TestNextMountSendsWhatWaited has the server go away before the unmount. In between the server gets a part of one file and all of
// another, as from an upload of which nobody heard the end, and somebody changes a third.
func TestNextMountSendsWhatWaited(t *testing.T) {
	s := &site{dir: t.TempDir()}
	spoolDir := t.TempDir()
	meta := func() (ftpconn.Remote, *gate) {
		s.remote = newDirRemote(s.dir)
		g := &gate{}
		s.remote.hold = g.pass
		return cache.NewMeta(s.remote, cache.MetaConfig{TTL: 30 * time.Second}), g
	}
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	s.put(t, "edited", string(pattern(100_000)))
	s.put(t, "log", "one\n")

	remote, g := meta()
	s.mnt = t.TempDir()
	log := testLog(t)
	spool, err := cache.OpenSpool(spoolDir, 0, log)
	must(t, err)
	needFUSE(t)
	opt := Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), TTL: 30 * time.Second, Logger: log, Source: "ftp://test/",
		SpoolDir: spoolDir, Writeback: true, Site: "test"}
	m, err := Mount(s.mnt, remote, spool, opt)
	must(t, err)
	g.open(fmt.Errorf("gone: %w", ftpconn.ErrConnLost))
	write := func(name, content string, flags int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(s.mnt, name), os.O_WRONLY|flags, 0o640)
		must(t, err)
		if name == "edited" {
			_, err = f.Seek(50_000, io.SeekStart)
			must(t, err)
		}
		_, err = io.WriteString(f, content)
		must(t, err)
		must(t, f.Close())
	}
	const create = os.O_CREATE | os.O_TRUNC
	write("new", "new content", create)
	write("d/begun", strings.Repeat("begun ", 1000), create)
	write("confirmed", "confirmed", create)
	write("contested", "mine", create)
	write("edited", "an edit", 0)
	write("log", "two\n", os.O_APPEND)
	must(t, os.Chmod(filepath.Join(s.mnt, "new"), 0o600))
	times := make(map[string]time.Time)
	for _, name := range []string{"new", "d/begun", "confirmed", "edited", "log"} {
		info, err := os.Stat(filepath.Join(s.mnt, name))
		must(t, err)
		times[name] = info.ModTime()
	}
	must(t, m.Unmount())
	if err := m.PendingErr(); err == nil || !strings.Contains(err.Error(), "/new") || !strings.Contains(err.Error(), spoolDir) {
		t.Errorf("said of what is left: %v", err)
	}
	remote.Close()
	must(t, spool.Close())

	s.put(t, "d/begun", strings.Repeat("begun ", 500))
	s.put(t, "confirmed", "confirmed")
	s.put(t, "contested", "theirs")
	remote, _ = meta()
	s.mnt = t.TempDir()
	again := mountRemote(t, s.mnt, remote, func(o *Options) { o.SpoolDir, o.Site = spoolDir, "test" })
	if got := read(t, filepath.Join(s.mnt, "new")); got != "new content" {
		t.Errorf("%q", got)
	}
	waitFor(t, "the uploads", func() bool { return again.Backlog().Files == 0 })
	s.onServer(t, "new", "new content")
	s.onServer(t, "d/begun", strings.Repeat("begun ", 1000))
	s.onServer(t, "confirmed", "confirmed")
	s.onServer(t, "contested", "theirs")
	s.onServer(t, "log", "one\ntwo\n")
	edited := pattern(100_000)
	copy(edited[50_000:], "an edit")
	s.onServer(t, "edited", string(edited))
	if info, err := os.Stat(filepath.Join(s.dir, "new")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for name, want := range times {
		info, err := os.Stat(filepath.Join(s.mnt, name))
		must(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("the time of %s was %v, is %v", name, want, info.ModTime())
		}
	}
	beside, _ := filepath.Glob(filepath.Join(s.dir, "contested.ftpfs-conflict-*"))
	if len(beside) != 1 {
		t.Fatalf("beside it: %v", beside)
	}
	s.onServer(t, filepath.Base(beside[0]), "mine")
	if err := again.PendingErr(); err == nil || !strings.Contains(err.Error(), "/contested") {
		t.Errorf("reported: %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(spoolDir, "p*")); len(found) != 2 { // this mount's directory and lock
		t.Errorf("in the spool: %v", found)
	}
}

// TestNextMountLeavesWhatWasCut has a crash between the opening of a file that was closed before, which empties it, and its next close.
func TestNextMountLeavesWhatWasCut(t *testing.T) {
	dir, spoolDir, log := t.TempDir(), t.TempDir(), testLog(t)
	spool, err := cache.OpenSpool(spoolDir, 0, log)
	must(t, err)
	f, err := spool.Create("/f")
	must(t, err)
	_, err = f.WriteAt([]byte("all of it"), 0)
	must(t, err)
	must(t, f.Journal(cache.Pending{Site: "test", Path: "/f", ServerSize: 3, Closed: time.Now()}))
	must(t, os.Truncate(f.LocalPath(), 4))
	must(t, spool.Close())
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o644))
	mnt := t.TempDir()
	m := mountRemote(t, mnt, newDirRemote(dir), func(o *Options) { o.SpoolDir, o.Site = spoolDir, "test" })
	if got := read(t, filepath.Join(mnt, "f")); got != "old" {
		t.Errorf("%q", got)
	}
	kept, _ := filepath.Glob(filepath.Join(spoolDir, "lost+found", "*%f"))
	if len(kept) != 1 || read(t, kept[0]) != "all " {
		t.Errorf("kept: %v", kept)
	}
	if err := m.PendingErr(); err == nil || !strings.Contains(err.Error(), "/f") {
		t.Errorf("reported: %v", err)
	}
}

func TestFullSpoolWaitsForUploads(t *testing.T) {
	s := &site{dir: t.TempDir(), mnt: t.TempDir()}
	s.remote = newDirRemote(s.dir)
	g := &gate{}
	s.remote.hold = g.pass
	g.shut()
	spoolDir, log := t.TempDir(), testLog(t)
	spool, err := cache.OpenSpool(spoolDir, 1<<20, log)
	must(t, err)
	needFUSE(t)
	m, err := Mount(s.mnt, s.remote, spool, Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Logger: log, Source: "ftp://test/",
		SpoolDir: spoolDir, Writeback: true, Site: "test"})
	must(t, err)
	defer func() {
		must(t, m.Unmount())
		must(t, m.PendingErr())
		must(t, spool.Close())
		for i := range 4 {
			s.onServer(t, fmt.Sprint("f", i), string(pattern(600_000)))
		}
	}()
	must(t, os.WriteFile(filepath.Join(s.mnt, "f0"), pattern(600_000), 0o644))
	done := make(chan error)
	go func() {
		for i := range 3 {
			if err := os.WriteFile(filepath.Join(s.mnt, fmt.Sprint("f", i+1)), pattern(600_000), 0o644); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		t.Fatalf("it didn't wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	g.open(nil)
	must(t, <-done)
}
