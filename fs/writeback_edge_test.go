package fs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

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
				return len(w.running) == uploadsAtOnce
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
