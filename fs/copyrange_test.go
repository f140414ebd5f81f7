package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

func TestServerCopiesForCp(t *testing.T) {
	big := pattern(5 << 20)
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		s.WriteFile("a", big)
		s.WriteFile("short", []byte("x"))
		s.WriteFile("full", pattern(6<<20))
		bash(t, t.TempDir(), mnt, `
			cp "$mnt/a" "$mnt/b"; cp "$mnt/short" "$mnt/short2"; cp "$mnt/a" "$mnt/full";
			chmod 640 "$mnt/a"; cp -p "$mnt/a" "$mnt/kept"; [ "$(stat -c %a "$mnt/kept")" = 640 ]
			cmp "$mnt/a" "$mnt/b"; [ "$(stat -c '%s %Y' "$mnt/kept")" = "$(stat -c '%s %Y' "$mnt/a")" ]; [ "$(cat "$mnt/short2")" = x ]
			cp "$mnt/a" "$mnt/more"; echo end >> "$mnt/more"; printf X | dd of="$mnt/more" bs=1 seek=1000 conv=notrunc status=none`)
		more := append(bytes.Clone(big), "end\n"...)
		more[1000] = 'X'
		if info, err := os.Stat(s.Path("kept")); err != nil || info.Mode() != 0o640 {
			t.Errorf("copied with cp -p: %v %v", info.Mode(), err)
		}
		for name, want := range map[string][]byte{"b": big, "full": big, "kept": big, "short2": []byte("x"), "more": more} {
			if !bytes.Equal(s.ReadFile(name), want) {
				t.Errorf("%s differs on the server", name)
			}
		}
	})
}

func TestCopyMovesNoBytesWhereTheServerCopies(t *testing.T) {
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{Verbose: true})
	mnt := mountServer(t, s)
	s.WriteFile("a", pattern(5<<20))
	bash(t, t.TempDir(), mnt, `cp "$mnt/a" "$mnt/b"`)
	log := s.Log()
	for verb, want := range map[string]bool{"SITE CPTO": true, "RETR": false, "STOR": false} {
		if strings.Contains(log, verb) != want {
			t.Errorf("%s sent: %v, want %v\n%s", verb, !want, want, log)
		}
	}
}

// copyingRemote copies on the server, in a way of its own.
type copyingRemote struct {
	*dirRemote
	copy func(from, to string) error
}

func (r *copyingRemote) Copy(_ context.Context, from, to string, _ int64) error {
	if err := r.ask("Copy", to); err != nil {
		return err
	}
	return r.copy(r.local(from), r.local(to))
}

func TestCopyThatFailsIsMadeByOtherMeans(t *testing.T) {
	want := pattern(1 << 20)
	half := func(from, to string) error { return os.WriteFile(to, want[:1<<19], 0o644) }
	for name, copy := range map[string]func(from, to string) error{
		"not supported": func(_, _ string) error { return errors.ErrUnsupported },
		"half":          half,
		"half and lost": func(from, to string) error {
			half(from, to)
			return fmt.Errorf("no reply: %w", ftpconn.ErrConnLost)
		},
	} {
		r := &copyingRemote{newDirRemote(t.TempDir()), copy}
		mnt := t.TempDir()
		mountRemote(t, mnt, cache.NewMeta(r, cache.MetaConfig{TTL: time.Minute}))
		must(t, os.WriteFile(r.local("a"), want, 0o644))
		must(t, os.WriteFile(r.local("old"), []byte("old"), 0o644))
		bash(t, t.TempDir(), mnt, `cp "$mnt/a" "$mnt/new"; cp "$mnt/a" "$mnt/old"`)
		for _, to := range []string{"new", "old"} {
			if got, err := os.ReadFile(r.local(to)); !bytes.Equal(got, want) {
				t.Errorf("%s: %s differs on the server: %v", name, to, err)
			}
		}
		if r.count("Copy") == 0 {
			t.Errorf("%s: the server was not asked", name)
		}
	}
}

func TestSymlinksWhereTheServerMakesThem(t *testing.T) {
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{})
	mnt := mountServer(t, s)
	s.WriteFile("d/f", []byte("content"))
	s.WriteFile("g", []byte("above"))
	for link, target := range map[string]string{"l": "d/f", "d/up": "../g", "d/beside": "f", "dir": "d", "self": "."} {
		p := filepath.Join(mnt, link)
		must(t, os.Symlink(target, p))
		if got, err := os.Readlink(p); got != target {
			t.Errorf("%s leads to %q, want %q: %v", link, got, target, err)
		}
	}
	if got := read(t, filepath.Join(mnt, "l")); got != "content" {
		t.Errorf("through the link: %q", got)
	}
	if got := read(t, filepath.Join(mnt, "dir/beside")); got != "content" {
		t.Errorf("through two links: %q", got)
	}
	fresh := mountServer(t, s)
	if got, err := os.Readlink(filepath.Join(fresh, "d/up")); got != "../g" {
		t.Errorf("on another mount d/up leads to %q: %v", got, err)
	}
	for link, target := range map[string]string{"dangling": "none", "abs": "/d/f", "with space": "d/f", "out": "../../etc"} {
		if err := os.Symlink(target, filepath.Join(mnt, link)); !isErrno(err, "operation not permitted") {
			t.Errorf("%s to %s: %v", link, target, err)
		}
		if _, err := os.Lstat(s.Path(link)); err == nil {
			t.Errorf("%s is there", link)
		}
	}
}

func isErrno(err error, text string) bool { return err != nil && strings.HasSuffix(err.Error(), text) }
