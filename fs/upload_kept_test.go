package fs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ftpfs/cache"
	"ftpfs/ftpconn/ftptest"
)

// keptFiles returns the content of what is kept in a spool directory.
func keptFiles(t *testing.T, dir string) (contents [][]byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "lost+found", "*"))
	must(t, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(t, err)
		contents = append(contents, data)
	}
	return contents
}

func TestRefusedContentIsKept(t *testing.T) {
	for reply, want := range map[string]syscall.Errno{
		"452 Insufficient storage space in system.": syscall.ENOSPC,
		"552 Quota exceeded.":                       syscall.EDQUOT,
		"553 Permission denied.":                    syscall.EACCES,
	} {
		t.Run(reply[:3], func(t *testing.T) {
			dir := t.TempDir()
			s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
			p, mnt := proxied(t, s, func(o *Options) { o.SpoolDir = dir })
			p.On("STOR").FinalReply(reply)
			content := pattern(700_000)
			a, err := os.Create(filepath.Join(mnt, "f"))
			must(t, err)
			b, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_WRONLY, 0)
			must(t, err)
			_, err = a.Write(content)
			must(t, err)
			if err := a.Close(); !errors.Is(err, want) {
				t.Errorf("the first writer's close: %v, want %v", err, want)
			}
			if err := b.Sync(); !errors.Is(err, want) {
				t.Errorf("the second writer's fsync: %v, want %v", err, want)
			}
			if kept := keptFiles(t, dir); len(kept) != 0 {
				t.Errorf("%d files kept while it is open", len(kept))
			}
			if err := b.Close(); !errors.Is(err, want) {
				t.Errorf("the second writer's close: %v, want %v", err, want)
			}
			waitFor(t, "the content to be kept", func() bool { return len(keptFiles(t, dir)) == 1 })
			if kept := keptFiles(t, dir); !bytes.Equal(kept[0], content) {
				t.Errorf("%d bytes kept of %d", len(kept[0]), len(content))
			}
		})
	}
}

func TestUploadedContentIsNotKept(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, func(o *Options) { o.SpoolDir = dir })
	must(t, os.WriteFile(filepath.Join(s.mnt, "f"), []byte("abc"), 0o644))
	must(t, os.Remove(filepath.Join(s.mnt, "f")))
	must(t, s.Unmount())
	if kept := keptFiles(t, dir); len(kept) != 0 {
		t.Errorf("kept %q", kept)
	}
}

func TestFullSpoolFailsTheWriter(t *testing.T) {
	needFUSE(t)
	spool, err := cache.OpenSpool(t.TempDir(), 1<<20, nil)
	must(t, err)
	defer spool.Close()
	mnt, site := t.TempDir(), t.TempDir()
	m, err := Mount(mnt, newDirRemote(site), spool, Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	must(t, err)
	defer m.Unmount()
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	must(t, f.Truncate(100<<20)) // a hole takes nothing
	_, err = f.WriteAt(make([]byte, 512<<10), 50<<20)
	must(t, err)
	if _, err = f.WriteAt(make([]byte, 1<<20), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write beyond spool_size: %v", err)
	}
	must(t, f.Close())
	if info, err := os.Stat(filepath.Join(site, "f")); err != nil || info.Size() != 100<<20 {
		t.Errorf("on the server: %v, %v", info, err)
	}
}
