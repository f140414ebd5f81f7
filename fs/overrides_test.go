package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// kept is a mount that remembers attributes in dir, until the returned function ends it.
func kept(t *testing.T, s *ftptest.Server, dir string, change ...func(*Options)) (mnt string, unmount func()) {
	t.Helper()
	client, err := ftpconn.New(ftpconn.Config{Host: s.Host, Port: s.Port, User: s.User, Password: s.Password, Timeout: 10 * time.Second})
	must(t, err)
	must(t, client.Connect(t.Context()))
	attrs, err := cache.OpenAttrs(dir, "site", cache.MaxAttrs, nil)
	must(t, err)
	spool, err := cache.OpenSpool(t.TempDir(), 0, nil)
	must(t, err)
	opt := Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), TTL: 30 * time.Second, Attrs: attrs}
	for _, f := range change {
		f(&opt)
	}
	mnt = t.TempDir()
	remote := cache.NewMeta(client, cache.MetaConfig{TTL: 30 * time.Second})
	m, err := Mount(mnt, remote, spool, opt)
	must(t, err)
	return mnt, func() {
		t.Helper()
		must(t, m.Unmount())
		must(t, m.PendingErr())
		must(t, attrs.Close())
		must(t, remote.Close())
		must(t, spool.Close())
	}
}

// bash runs a script in dir and fails the test with its output.
func bash(t *testing.T, dir, mnt, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", "set -eu\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "mnt="+mnt, "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, strings.TrimSpace(string(out)))
	}
}

// poorServers are all kinds, and one that sets neither modes nor times.
func poorServers(t *testing.T, test func(t *testing.T, s *ftptest.Server)) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) { test(t, ftptest.Start(t, kind, ftptest.Options{})) })
	}
	t.Run("embedded", func(t *testing.T) { test(t, ftptest.NewServer(t, ftptest.Options{})) })
	t.Run("poor vsftpd", func(t *testing.T) {
		test(t, ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{Extra: []string{"chmod_enable=NO", "mdtm_write=NO"}}))
	})
}

func TestToolsFindWhatTheySetOnServers(t *testing.T) {
	for _, tool := range []string{"rsync", "tar", "make", "install"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	const prepare = `
		mkdir -p src/dir/below src/private; cd src
		echo a > a; echo b > dir/b; echo c > dir/below/c; echo s > private/suid; echo o > old; printf '#!/bin/sh\n' > run
		chmod 755 run; chmod 600 a; chmod 4755 private/suid; chmod 444 dir/b; chmod 700 private
		touch -d '2020-01-02 03:04:05.678901234' a dir/b; touch -d '1965-01-01 00:00:00' old; touch -d '2021-06-01 00:00:00.5' run
		printf 'out: in\n\tcp in out\n' > Makefile; touch -d '2022-01-01 00:00:00.2' in; touch -d '2022-01-01 00:00:00.4' out
		touch -d '2019-01-01' dir/below dir private .`
	const first = `
		cp -a src "$mnt/cp"
		rsync -a src/ "$mnt/rsync/"
		tar --format=posix -cf a.tar -C src .; mkdir "$mnt/tar"; tar -xpf a.tar -C "$mnt/tar"
		install -m 2750 src/run "$mnt/installed"`
	const check = `
		for d in cp rsync tar; do diff <(cd src && find . -type f -printf '%p %m %T@ %s\n' | sort) <(cd "$mnt/$d" && find . -type f -printf '%p %m %T@ %s\n' | sort)
			diff <(cd src && find . -type d -printf '%p %m %T@\n' | sort) <(cd "$mnt/$d" && find . -type d -printf '%p %m %T@\n' | sort); done
		out=$(rsync -ani src/ "$mnt/rsync/"); [ -z "$out" ] || { echo "rsync again: $out"; exit 1; }
		tar --compare -f a.tar -C "$mnt/tar"
		make -q -C "$mnt/cp"
		[ "$(stat -c %a "$mnt/installed")" = 2750 ]`
	const again = `
		out=$(rsync -ani --delete src/ "$mnt/rsync/"); [ -z "$out" ] || { echo "rsync again: $out"; exit 1; }`
	const more = `
		echo n > src/dir/new; rm src/dir/below/c; mv src/private src/dir/; touch -d 2018-01-01 src/dir/below src/dir src
		rsync -a --delete src/ "$mnt/rsync/"` + again
	poorServers(t, func(t *testing.T, s *ftptest.Server) {
		src, attrs := t.TempDir(), t.TempDir()
		bash(t, src, "", prepare)
		mnt, unmount := kept(t, s, attrs)
		bash(t, src, mnt, first+check)
		unmount()
		mnt, unmount = kept(t, s, attrs)
		bash(t, src, mnt, check+more)
		unmount()
		mnt, unmount = kept(t, s, attrs)
		bash(t, src, mnt, again)
		unmount()
	})
}

func TestStrictRefusesWhatTheServerCannotKeep(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{Extra: []string{"chmod_enable=NO", "mdtm_write=NO"}})
	s.WriteFile("f", []byte("x"))
	mnt, unmount := kept(t, s, t.TempDir(), func(o *Options) { o.StrictAttrs = true })
	defer unmount()
	p := filepath.Join(mnt, "f")
	if err := os.Chmod(p, 0o751); err == nil {
		t.Error("chmod() succeeded")
	}
	if err := os.Chtimes(p, time.Unix(1e9, 0), time.Unix(1e9, 0)); err == nil {
		t.Error("utimensat() succeeded")
	}
	f, err := os.Create(filepath.Join(mnt, "g"))
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	if err := errors.Join(f.Chmod(0o751), f.Close()); err == nil {
		t.Error("neither fchmod() nor close() says that the mode wasn't set")
	}
}

func TestRememberedModeGivesWayToAnotherOnTheServer(t *testing.T) {
	s := mountSite(t, false, func(o *Options) { o.TTL = 0 })
	s.remote.set(func() { s.remote.noMode = true })
	p := s.put(t, "f", "x")
	must(t, os.Chmod(p, 0o751))
	mode := func() os.FileMode {
		info, err := os.Stat(p)
		must(t, err)
		return info.Mode()
	}
	if got := mode(); got != 0o751 {
		t.Errorf("shown as %v", got)
	}
	must(t, os.Chmod(filepath.Join(s.dir, "f"), 0o600))
	if got := mode(); got != 0o600 {
		t.Errorf("after another chmod on the server: %v", got)
	}
}

func TestTimeOfALinkIsNotSetOnItsTarget(t *testing.T) {
	s := newSite(t)
	s.put(t, "f", "x")
	must(t, os.Symlink("f", filepath.Join(s.dir, "s")))
	before, err := os.Stat(filepath.Join(s.dir, "f"))
	must(t, err)
	bash(t, t.TempDir(), s.mnt, `cd "$mnt"; touch -h -d 2001-02-03 s; [ "$(stat -c %Y s)" = "$(date -d 2001-02-03 +%s)" ]`)
	after, err := os.Stat(filepath.Join(s.dir, "f"))
	must(t, err)
	if !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the target's time is %v", after.ModTime())
	}
}

func TestExchangeSwapsWhatIsRemembered(t *testing.T) {
	s := newSite(t)
	s.remote.set(func() { s.remote.noMode = true })
	a, b := s.put(t, "a", "A"), s.put(t, "b", "B")
	must(t, os.Chmod(a, 0o700))
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
	for p, want := range map[string]os.FileMode{a: 0o644, b: 0o700} {
		info, err := os.Stat(p)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s is shown as %v, want %v", p, info.Mode(), want)
		}
	}
}
