package fs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// eachServer runs a test on a mount of every kind of server, each with the whole stack of a real mount.
func eachServer(t *testing.T, test func(t *testing.T, s *ftptest.Server, mnt string)) {
	for _, kind := range append(ftptest.Kinds(), ftptest.Embedded) {
		t.Run(kind.String(), func(t *testing.T) {
			var s *ftptest.Server
			if kind == ftptest.Embedded {
				s = ftptest.NewServer(t, ftptest.Options{})
			} else {
				s = ftptest.Start(t, kind, ftptest.Options{})
			}
			test(t, s, mountServer(t, s))
		})
	}
}

// mountServer mounts a server and returns where.
func mountServer(t testing.TB, s *ftptest.Server, change ...func(*ftpconn.Config)) string {
	t.Helper()
	cfg := ftpconn.Config{Host: s.Host, Port: s.Port, User: s.User, Password: s.Password, Timeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	client, err := ftpconn.New(cfg)
	must(t, err)
	must(t, client.Connect(t.Context()))
	mnt := t.TempDir()
	mountRemote(t, mnt, cache.NewMeta(client, cache.MetaConfig{TTL: 30 * time.Second}))
	return mnt
}

func TestPosixOnServers(t *testing.T) {
	eachServer(t, func(t *testing.T, _ *ftptest.Server, mnt string) {
		for name, run := range posixtest.All {
			t.Run(name, func(t *testing.T) {
				if why := posixSkips[name]; why != "" {
					t.Skip(why)
				}
				dir := filepath.Join(mnt, name)
				must(t, os.Mkdir(dir, 0o755))
				run(t, dir)
			})
		}
	})
}

// tools runs a shell script with $src, a local tree, and $mnt, and fails with its output.
func tools(t *testing.T, mnt, script string) {
	t.Helper()
	src := t.TempDir()
	for i := range 20 {
		p := filepath.Join(src, fmt.Sprintf("dir%d/file %d.txt", i%3, i))
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, pattern(i*3000), 0o644))
		old := time.Date(2020, 1, 2, 3, 4, i, 0, time.UTC)
		must(t, os.Chtimes(p, old, old))
	}
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", "set -eu\n"+script)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "src="+src, "mnt="+mnt, "HOME="+src, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, strings.TrimSpace(string(out)))
	}
}

func TestToolsOnServers(t *testing.T) {
	scripts := []struct{ name, needs, script string }{
		{"cp", "cp", `cp -a "$src" "$mnt/copy"; diff -r "$src" "$mnt/copy"
			[ "$(stat -c %Y "$mnt/copy/dir0/file 3.txt")" = "$(stat -c %Y "$src/dir0/file 3.txt")" ]`},
		{"rsync", "rsync", `rsync -a "$src/" "$mnt/sync/"; diff -r "$src" "$mnt/sync"
			out=$(rsync -ai "$src/" "$mnt/sync/"); echo "$out"; ! grep -q '^>f' <<<"$out"`},
		{"tar", "tar", `tar -cf "$mnt/a.tar" -C "$src" .; mkdir "$mnt/untar"; tar -xf "$mnt/a.tar" -C "$mnt/untar"; diff -r "$src" "$mnt/untar"`},
		{"shell", "sed", `cd "$mnt"; echo one > f; echo two >> f; echo three >> f; [ "$(cat f)" = "$(printf 'one\ntwo\nthree')" ]
			sed -i s/two/2/ f; [ "$(sed -n 2p f)" = 2 ]; mv f g; [ ! -e f ]; echo x > h; mv -f h g; [ "$(cat g)" = x ]
			printf abc | dd of=g bs=1 seek=3 conv=notrunc 2>/dev/null; cat g | od -c | head -1
			mkdir -p a/b/c; touch a/b/c/f; find a | sort; mv a z; [ -f z/b/c/f ]; rm -r z g; [ -z "$(ls | grep -v lost)" ] || true`},
		{"git", "git", `cd "$mnt"; git init -q repo; cd repo; git config user.email t@example.com; git config user.name t
			cp -r "$src/dir0" .; git add .; git commit -qm first; git status --porcelain; [ -z "$(git status --porcelain)" ]; git fsck --strict`},
		{"sqlite", "sqlite3", `sqlite3 "$mnt/db" 'create table t(a,b); insert into t values(1,2),(3,4); update t set b=5 where a=3;'
			[ "$(sqlite3 "$mnt/db" 'select sum(b) from t; pragma integrity_check')" = "$(printf '7\nok')" ]`},
	}
	eachServer(t, func(t *testing.T, _ *ftptest.Server, mnt string) {
		for _, s := range scripts {
			t.Run(s.name, func(t *testing.T) {
				if _, err := exec.LookPath(s.needs); err != nil {
					t.Skipf("%s is not installed", s.needs)
				}
				dir := filepath.Join(mnt, s.name)
				must(t, os.Mkdir(dir, 0o755))
				tools(t, dir, s.script)
			})
		}
	})
}

func TestOneSessionIsEnough(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	mnt := mountServer(t, s, func(c *ftpconn.Config) { c.MaxConns = 1 })
	want := pattern(3 << 20)
	s.WriteFile("a", want)
	s.WriteFile("b", want)
	a, err := os.Open(filepath.Join(mnt, "a"))
	must(t, err)
	defer a.Close()
	b, err := os.OpenFile(filepath.Join(mnt, "b"), os.O_RDWR, 0)
	must(t, err)
	buf := make([]byte, 100_000)
	for off := int64(0); off < 1<<20; off += int64(len(buf)) { // two downloads take turns
		for _, f := range []*os.File{a, b} {
			_, err := f.ReadAt(buf, off)
			must(t, err)
			if !bytes.Equal(buf, want[off:off+int64(len(buf))]) {
				t.Fatalf("content differs at %d", off)
			}
		}
	}
	_, err = a.ReadAt(buf, 2<<20) // a second download of one file
	must(t, err)
	copy(want[1<<20:], "changed") // an upload that needs a download first
	_, err = b.WriteAt([]byte("changed"), 1<<20)
	must(t, err)
	_, err = os.ReadDir(mnt)
	must(t, err)
	must(t, b.Close())
	if !bytes.Equal(s.ReadFile("b"), want) {
		t.Error("content differs on the server")
	}
}

func TestDroppedSessionsGoUnnoticed(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	mnt := mountServer(t, s)
	want := pattern(8 << 20)
	s.WriteFile("in", want)
	in, err := os.Open(filepath.Join(mnt, "in"))
	must(t, err)
	defer in.Close()
	out, err := os.Create(filepath.Join(mnt, "out"))
	must(t, err)
	buf := make([]byte, 1<<20)
	for i := range 8 {
		_, err := io.ReadFull(in, buf)
		must(t, err)
		_, err = out.Write(buf)
		must(t, err)
		if i == 2 || i == 5 {
			s.Drop()
		}
	}
	must(t, out.Close())
	if !bytes.Equal(s.ReadFile("out"), want) {
		t.Error("content differs on the server")
	}
}
