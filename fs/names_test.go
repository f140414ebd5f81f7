package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

func TestRenames(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o755))
	p := s.put(t, "f", "content")
	must(t, os.Rename(p, filepath.Join(s.mnt, "d", "g")))
	s.onServer(t, "d/g", "content")
	if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old name: %v", err)
	}
	if got := read(t, filepath.Join(s.mnt, "d", "g")); got != "content" {
		t.Errorf("read %q", got)
	}
}

func TestRenameOverAFile(t *testing.T) {
	for _, noReplace := range []bool{false, true} {
		s := newSite(t)
		s.remote.set(func() { s.remote.noReplace = noReplace })
		from, to := s.put(t, "a", "new"), s.put(t, "b", "old")
		must(t, os.Rename(from, to))
		s.onServer(t, "b", "new")
		entries, err := os.ReadDir(s.dir)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("left on the server: %v", entries)
		}
	}
}

func TestFailedReplaceKeepsTheTarget(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() {
		s.remote.noReplace = true
		s.remote.before = func(op, p string) error {
			if op == "Rename" && p == "/a" && s.remote.calls["Rename"] > 1 {
				return &ftpconn.ReplyError{Command: "RNFR /a", Code: 550, Text: "no", Kind: os.ErrPermission}
			}
			return nil
		}
	})
	from, to := s.put(t, "a", "new"), s.put(t, "b", "old")
	if err := os.Rename(from, to); !errors.Is(err, syscall.EACCES) {
		t.Errorf("rename: %v", err)
	}
	s.onServer(t, "a", "new")
	s.onServer(t, "b", "old")
}

func TestRenameUploadsFirst(t *testing.T) {
	s := newSite(t)
	f, err := os.Create(filepath.Join(s.mnt, "a"))
	must(t, err)
	_, err = f.WriteString("one")
	must(t, err)
	must(t, os.Rename(filepath.Join(s.mnt, "a"), filepath.Join(s.mnt, "b")))
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	s.onServer(t, "b", "onetwo")
	if _, err := os.Stat(filepath.Join(s.dir, "a")); err == nil {
		t.Error("the old name is there again")
	}
}

func TestRenameOverAFileBeingWritten(t *testing.T) {
	s := newSite(t)
	from := s.put(t, "a", "new")
	f, err := os.Create(filepath.Join(s.mnt, "b"))
	must(t, err)
	_, err = f.WriteString("old")
	must(t, err)
	must(t, os.Rename(from, filepath.Join(s.mnt, "b")))
	must(t, f.Close())
	s.onServer(t, "b", "new")
}

func TestRenameFlags(t *testing.T) {
	s := newSite(t)
	a, b := s.put(t, "a", "A"), s.put(t, "b", "B")
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("RENAME_NOREPLACE: %v", err)
	}
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
	s.onServer(t, "a", "B")
	s.onServer(t, "b", "A")
	if got := read(t, a) + read(t, b); got != "BA" {
		t.Errorf("read %q", got)
	}
}

func TestRemoves(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "x")
	must(t, os.Mkdir(filepath.Join(s.mnt, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.mnt, "d", "g"), nil, 0o644))
	if err := syscall.Rmdir(filepath.Join(s.mnt, "d")); err != syscall.ENOTEMPTY {
		t.Errorf("rmdir of a full directory: %v", err)
	}
	must(t, os.Remove(p))
	must(t, os.RemoveAll(filepath.Join(s.mnt, "d")))
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestOddNames(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{" lead", "trail ", "a b", "\"q'", "#%[*?\\", "-dash", "a -> b", "\xff\xfe", "ü", strings.Repeat("n", 255)} {
		must(t, os.WriteFile(filepath.Join(s.mnt, name), []byte(name), 0o644))
		s.onServer(t, name, name)
		if got := read(t, filepath.Join(s.mnt, name)); got != name {
			t.Errorf("%q: read %q", name, got)
		}
	}
}

func TestNamesThatCannotBeSent(t *testing.T) {
	s := newSite(t)
	for name, want := range map[string]error{
		"a\nb": syscall.EINVAL, "a\rb": syscall.EINVAL, strings.Repeat("n", 256): syscall.ENAMETOOLONG,
	} {
		if err := os.WriteFile(filepath.Join(s.mnt, name), nil, 0o644); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	if n := s.remote.count("") - s.remote.count("List"); n > 1 {
		t.Errorf("requests: %v", s.remote.calls)
	}
}

func TestReadOnlyMountRefusesChanges(t *testing.T) {
	s := newSite(t, func(o *Options) { o.ReadOnly = true })
	p := s.put(t, "f", "x")
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(s.mnt, "g"), nil, 0o644),
		"write":  os.WriteFile(p, nil, 0o644),
		"remove": os.Remove(p),
		"mkdir":  os.Mkdir(filepath.Join(s.mnt, "d"), 0o755),
		"rename": os.Rename(p, filepath.Join(s.mnt, "g")),
		"chmod":  os.Chmod(p, 0o600),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLinksAreRefusedAsOnADiskWithoutThem(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "x")
	if err := os.Symlink("f", filepath.Join(s.mnt, "s")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("symlink: %v", err)
	}
	if err := os.Link(p, filepath.Join(s.mnt, "l")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("link: %v", err)
	}
}

func TestReadsSymlinks(t *testing.T) {
	s := newSite(t)
	s.put(t, "f", "content")
	must(t, os.Symlink("f", filepath.Join(s.dir, "s")))
	target, err := os.Readlink(filepath.Join(s.mnt, "s"))
	must(t, err)
	if target != "f" {
		t.Errorf("target %q", target)
	}
	if got := read(t, filepath.Join(s.mnt, "s")); got != "content" {
		t.Errorf("through the link: %q", got)
	}
}

func TestInodeNumberSurvivesRename(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "a", "x")
	ino := func(p string) uint64 {
		info, err := os.Stat(p)
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	before := ino(p)
	must(t, os.Rename(p, filepath.Join(s.mnt, "b")))
	if after := ino(filepath.Join(s.mnt, "b")); after != before {
		t.Errorf("inode %d became %d", before, after)
	}
}

func TestLinkIsReadBeforeItsDirectoryIsListed(t *testing.T) {
	for _, kind := range []ftptest.Kind{ftptest.VSFTPD, ftptest.ProFTPD, ftptest.PureFTPd} {
		s := ftptest.Start(t, kind, ftptest.Options{})
		s.WriteFile("d/f", []byte("content"))
		must(t, os.Symlink("f", s.Path("d/l")))
		if got := read(t, filepath.Join(mountServer(t, s), "d/l")); got != "content" {
			t.Errorf("%v: through the link: %q", kind, got)
		}
	}
}
