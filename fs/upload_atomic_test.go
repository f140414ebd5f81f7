package fs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

func atomicUploads(o *Options) { o.Upload = Atomic }

// noTemps fails if a directory of a server holds a temporary file.
func noTemps(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".ftpfs*"))
	must(t, err)
	if len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestAtomicUploads(t *testing.T) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, ftptest.Options{})
			p, mnt := proxied(t, s, atomicUploads)
			s.WriteFile("old", []byte("old content"))
			must(t, os.Chmod(s.Path("old"), 0o640))
			want := pattern(1 << 20)
			for _, name := range []string{"old", "new"} {
				must(t, os.WriteFile(filepath.Join(mnt, name), want, 0o644))
				sameOnServer(t, s, name, want)
				if got := read(t, filepath.Join(mnt, name)); got != string(want) {
					t.Errorf("read %d bytes of %s that differ", len(got), name)
				}
			}
			if p.Count("STOR /(old|new)") != 0 || p.Count("RNTO") != 2 {
				t.Errorf("not by way of a temporary name:\n%s", strings.Join(p.Commands(), "\n"))
			}
			info, err := os.Stat(s.Path("old"))
			must(t, err)
			if info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, was 0640", info.Mode())
			}
			noTemps(t, s.Root)
		})
	}
}

func TestAtomicUploadThatFailsLeavesTheOldContent(t *testing.T) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, ftptest.Options{})
			p, mnt := proxied(t, s, atomicUploads)
			s.WriteFile("f", []byte("old content"))
			full := p.On("STOR").FinalReply("452 No space left on device.")
			if err := os.WriteFile(filepath.Join(mnt, "f"), pattern(400_000), 0o644); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("written: %v", err)
			}
			if full.Hits() == 0 {
				t.Error("nothing was refused")
			}
			sameOnServer(t, s, "f", []byte("old content"))
			noTemps(t, s.Root)
		})
	}
}

func TestBrokenAtomicUploadGoesOn(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	p, mnt := proxied(t, s, atomicUploads)
	s.WriteFile("f", []byte("old content"))
	p.On("STOR").Times(1).ResetData(2 << 20)
	p.On("RNTO").Times(1).CloseAfter() // it was done, and nobody was told
	want := pattern(5 << 20)
	must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
	sameOnServer(t, s, "f", want)
	noTemps(t, s.Root)
}

func TestAtomicFallsBackWhereRenamesDontReplace(t *testing.T) {
	s := newSite(t, atomicUploads)
	s.remote.set(func() { s.remote.noReplace = true })
	p := s.put(t, "f", "old")
	for _, content := range []string{"one", "two"} {
		must(t, os.WriteFile(p, []byte(content), 0o644))
		s.onServer(t, "f", content)
	}
	if n := s.remote.count("Rename"); n != 1 {
		t.Errorf("tried %d times", n)
	}
	noTemps(t, s.dir)
}

func TestAtomicFallsBackWhereADirectoryTakesNoOtherNames(t *testing.T) {
	s := newSite(t, atomicUploads)
	p := s.put(t, "f", "old")
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Store" && p != "/f" {
				return &ftpconn.ReplyError{Command: "STOR " + p, Code: 553, Text: "Could not create file."}
			}
			return nil
		}
	})
	must(t, os.WriteFile(p, []byte("new"), 0o644))
	s.onServer(t, "f", "new")
}

func TestAutoIsAtomicForWhatIsReplaced(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Upload = Auto })
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), []byte("one"), 0o644))
	if n := s.remote.count("Rename"); n != 0 {
		t.Errorf("%d renames for a new file", n)
	}
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), []byte("two"), 0o644))
	if n := s.remote.count("Rename"); n != 1 {
		t.Errorf("%d renames for a file that was replaced", n)
	}
	s.onServer(t, "f", "two")
}

func TestAppendsAreInPlace(t *testing.T) {
	s := newSite(t, atomicUploads)
	p := s.put(t, "f", "one")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "f", "onetwo")
	if n := s.remote.count("Append"); n != 1 {
		t.Errorf("requests: %v", s.remote.calls)
	}
}

func TestUnlinkInAnAtomicUploadLeavesNothing(t *testing.T) {
	s := newSite(t, atomicUploads)
	p := filepath.Join(s.mnt, "f")
	f, err := os.Create(p)
	must(t, err)
	defer f.Close()
	_, err = f.Write(pattern(1 << 20))
	must(t, err)
	waitFor(t, "the upload to begin", func() bool { return s.remote.count("Store") == 1 })
	must(t, os.Remove(p))
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestReadersSeeTheOldContentDuringAnAtomicUpload(t *testing.T) {
	s := newSite(t, atomicUploads)
	p := s.put(t, "f", "old content")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = f.Write(pattern(1 << 20))
	must(t, err)
	waitFor(t, "the upload to begin", func() bool { return s.remote.count("Store") == 1 })
	s.onServer(t, "f", "old content")
	must(t, f.Close())
	s.onServer(t, "f", string(pattern(1<<20)))
}

func TestNextMountRemovesWhatACrashLeft(t *testing.T) {
	lists := t.TempDir()
	dead, err := cache.OpenLeftovers(lists, "site", nil)
	must(t, err)
	s := newSite(t, func(o *Options) { o.Leftovers, o.Upload = dead, Atomic })
	s.put(t, "somebody's.tmp", "whole")
	must(t, dead.Add("/somebody's.tmp"))
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	_, err = f.Write(pattern(1 << 20))
	must(t, err)
	waitFor(t, "the upload to begin", func() bool { return s.remote.count("Store") == 1 })
	temp := ""
	for _, name := range left(t, s.dir, 2) {
		if strings.HasPrefix(name, tempPrefix) {
			temp = name
		}
	}
	part, err := os.ReadFile(filepath.Join(s.dir, temp))
	must(t, err)
	must(t, dead.Close())
	must(t, f.Close())
	must(t, os.WriteFile(filepath.Join(s.dir, temp), part, 0o644)) // as if that had not come any more

	list, err := cache.OpenLeftovers(lists, "site", nil)
	must(t, err)
	mountRemote(t, t.TempDir(), newDirRemote(s.dir), func(o *Options) { o.Leftovers = list })
	waitFor(t, "the removal", func() bool {
		_, err := os.Stat(filepath.Join(s.dir, temp))
		return errors.Is(err, os.ErrNotExist)
	})
	s.onServer(t, "f", string(pattern(1<<20)))
	s.onServer(t, "somebody's.tmp", "whole") // nobody here made it
}

func TestTemporaryFileGoesWhenTheServerIsBack(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	p, mnt := proxied(t, s, atomicUploads, func(o *Options) { o.Retry = 0 })
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	_, err = f.Write(pattern(1 << 20))
	must(t, err)
	waitFor(t, "the upload to begin", func() bool {
		names, _ := filepath.Glob(filepath.Join(s.Root, ".ftpfs*"))
		return len(names) == 1
	})
	p.Refuse(true)
	p.Drop()
	if err := f.Sync(); err == nil {
		t.Error("fsync succeeded without a server")
	}
	p.Refuse(false)
	waitFor(t, "the upload", func() bool { return f.Sync() == nil })
	must(t, f.Close())
	noTemps(t, s.Root)
	if !bytes.Equal(s.ReadFile("f"), pattern(1<<20)) {
		t.Error("content differs on the server")
	}
}
