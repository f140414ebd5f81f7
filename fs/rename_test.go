package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// treeOf returns the names below a directory of the server, with what is in the files.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if d.IsDir() {
			fmt.Fprintf(&out, "%s/ ", rel)
			return nil
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&out, "%s=%s ", rel, data)
		return err
	}))
	return out.String()
}

func TestRenameKindsOnServers(t *testing.T) {
	const noReplace, exchange = unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE
	cases := []struct {
		name, from, to string
		flags          uint
		want           error
		after          string
	}{
		{"file to a new name", "f", "n", 0, nil, "d/ d/x=X e/ g=G n=F "},
		{"file over a file", "f", "g", 0, nil, "d/ d/x=X e/ g=F "},
		{"file into a directory", "f", "e/f", 0, nil, "d/ d/x=X e/ e/f=F g=G "},
		{"file over a file elsewhere", "f", "d/x", 0, nil, "d/ d/x=F e/ g=G "},
		{"file over a directory", "f", "e", 0, syscall.EISDIR, "d/ d/x=X e/ f=F g=G "},
		{"directory over a file", "d", "f", 0, syscall.ENOTDIR, "d/ d/x=X e/ f=F g=G "},
		{"directory to a new name", "d", "n", 0, nil, "e/ f=F g=G n/ n/x=X "},
		{"directory over an empty one", "d", "e", 0, nil, "e/ e/x=X f=F g=G "},
		{"directory over a full one", "e", "d", 0, syscall.ENOTEMPTY, "d/ d/x=X e/ f=F g=G "},
		{"directory into itself", "d", "d/n", 0, syscall.EINVAL, "d/ d/x=X e/ f=F g=G "},
		{"what is not there", "n", "f", 0, syscall.ENOENT, "d/ d/x=X e/ f=F g=G "},
		{"not over a file", "f", "g", noReplace, syscall.EEXIST, "d/ d/x=X e/ f=F g=G "},
		{"not over a directory", "d", "e", noReplace, syscall.EEXIST, "d/ d/x=X e/ f=F g=G "},
		{"over nothing", "f", "n", noReplace, nil, "d/ d/x=X e/ g=G n=F "},
		{"two files exchanged", "f", "g", exchange, nil, "d/ d/x=X e/ f=G g=F "},
		{"file and directory exchanged", "f", "d", exchange, nil, "d=F e/ f/ f/x=X g=G "},
		{"exchanged with nothing", "f", "n", exchange, syscall.ENOENT, "d/ d/x=X e/ f=F g=G "},
	}
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		for i := range cases {
			top := fmt.Sprint(i)
			s.Mkdir(top + "/e")
			s.WriteFile(top+"/d/x", []byte("X"))
			s.WriteFile(top+"/f", []byte("F"))
			s.WriteFile(top+"/g", []byte("G"))
		}
		for i, c := range cases {
			dir := filepath.Join(mnt, fmt.Sprint(i))
			err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, c.from), unix.AT_FDCWD, filepath.Join(dir, c.to), c.flags)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
			if got := treeOf(t, s.Path(fmt.Sprint(i))); got != c.after {
				t.Errorf("%s: the server has %s, want %s", c.name, got, c.after)
			}
			if got := treeOf(t, dir); got != c.after {
				t.Errorf("%s: the mount shows %s, want %s", c.name, got, c.after)
			}
		}
	})
}

func TestRenameOverWhereTheServerRefuses(t *testing.T) {
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{Extra: []string{"AllowOverwrite off"}})
	mnt := mountServer(t, s)
	s.WriteFile("f", []byte("F"))
	s.WriteFile("g", []byte("G"))
	must(t, os.Rename(filepath.Join(mnt, "f"), filepath.Join(mnt, "g")))
	if got := treeOf(t, s.Root); got != "g=F " {
		t.Errorf("the server has %s", got)
	}
}

func TestDirectoryStepsAsideAndComesBack(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := newSite(t)
		s.put(t, "f", "F")
		must(t, os.Mkdir(filepath.Join(s.dir, "a"), 0o755))
		must(t, os.Mkdir(filepath.Join(s.dir, "b"), 0o755))
		s.put(t, "a/x", "X")
		s.remote.set(func() {
			s.remote.noReplace = true
			s.remote.before = func(op, p string) error {
				if fails && op == "Rename" && p == "/a" && s.remote.calls["Rename"] > 1 {
					return &ftpconn.ReplyError{Command: "RNFR /a", Code: 550, Text: "no", Kind: os.ErrPermission}
				}
				return nil
			}
		})
		err := syscall.Rename(filepath.Join(s.mnt, "a"), filepath.Join(s.mnt, "b")) // os.Rename looks first
		want := "b/ b/x=X f=F "
		if fails {
			want = "a/ a/x=X b/ f=F "
		}
		if got := treeOf(t, s.dir); got != want || fails != (err != nil) {
			t.Errorf("fails %v: %v, the server has %s", fails, err, got)
		}
	}
}

func TestOpenFilesFollowTheirNames(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		want := pattern(3 << 20)
		s.WriteFile("a/read", want)
		in := begin(t, filepath.Join(mnt, "a/read"), os.O_RDONLY)
		out, err := os.Create(filepath.Join(mnt, "a/written"))
		must(t, err)
		defer out.Close()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, 10_000)
			for {
				select {
				case <-stop:
					return
				default:
				}
				off := rand.IntN(len(want) - len(buf))
				if _, err := in.ReadAt(buf, int64(off)); err != nil || !bytes.Equal(buf, want[off:off+len(buf)]) {
					t.Errorf("reading at %d: %v", off, err)
					return
				}
				unix.Fadvise(int(in.Fd()), 0, 0, unix.FADV_DONTNEED)
			}
		})
		wrote := 0
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := out.WriteString("x"); err != nil {
					t.Errorf("writing: %v", err)
					return
				}
				wrote++
				if err := out.Sync(); err != nil {
					t.Errorf("fsync: %v", err)
					return
				}
			}
		})
		for i := range 30 {
			from, to := "a", "b"
			if i%2 == 1 {
				from, to = to, from
			}
			must(t, os.Rename(filepath.Join(mnt, from), filepath.Join(mnt, to)))
			in, out := filepath.Join(mnt, to, "read"), filepath.Join(mnt, to, "written")
			must(t, os.Rename(in, in+"2"))
			must(t, os.Rename(out, out+"2"))
			must(t, os.Rename(in+"2", in))
			must(t, os.Rename(out+"2", out))
		}
		close(stop)
		wg.Wait()
		must(t, out.Close())
		if names := left(t, s.Path("a"), 2); len(names) != 2 || len(s.ReadFile("a/written")) != wrote {
			t.Errorf("the server has %q, %d bytes of %d", names, len(s.ReadFile("a/written")), wrote)
		}
		if names := left(t, s.Root, 1); len(names) != 1 {
			t.Errorf("the server has %q", names)
		}
	})
}

// lateRemote confirms a rename only after somebody has asked for something else since.
type lateRemote struct {
	*dirRemote
	asked chan struct{} // of no capacity
}

func (r *lateRemote) Rename(ctx context.Context, from, to string) error {
	err := r.dirRemote.Rename(ctx, from, to)
	select {
	case <-r.asked:
	case <-time.After(20 * time.Millisecond): // nobody asks
	}
	return err
}

func (r *lateRemote) told() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

func (r *lateRemote) Stat(ctx context.Context, p string) (ftpconn.Entry, error) {
	defer r.told()
	return r.dirRemote.Stat(ctx, p)
}

func (r *lateRemote) List(ctx context.Context, p string) ([]ftpconn.Entry, error) {
	defer r.told()
	return r.dirRemote.List(ctx, p)
}

func TestNothingVanishesWhileADirectoryIsRenamed(t *testing.T) {
	r := &lateRemote{newDirRemote(t.TempDir()), make(chan struct{})}
	mnt := t.TempDir()
	mountRemote(t, mnt, r, func(o *Options) { o.TTL = 0 })
	must(t, os.Mkdir(r.local("a"), 0o755))
	must(t, os.WriteFile(r.local("a/f"), []byte("content"), 0o644))
	dir, err := os.Open(filepath.Join(mnt, "a"))
	must(t, err)
	defer dir.Close()
	fd := int(dir.Fd())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	uses := map[string]func() error{
		"stat": func() error { return unix.Fstatat(fd, "f", &unix.Stat_t{}, 0) },
		"open": func() error {
			f, err := unix.Openat(fd, "f", unix.O_RDONLY, 0)
			if err == nil {
				err = unix.Close(f)
			}
			return err
		},
		"opendir": func() error {
			d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err == nil {
				err = unix.Close(d)
			}
			return err
		},
	}
	for name, use := range uses {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := use(); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		from, to := "a", "b"
		if i%2 == 1 {
			from, to = to, from
		}
		must(t, os.Rename(filepath.Join(mnt, from), filepath.Join(mnt, to)))
	}
	close(stop)
	wg.Wait()
}

// Each file is one line, repeated: whoever opened one reads that one to its end, whatever takes its name meanwhile.
func TestAFileThatIsReplacedWhileItIsReadIsOneFile(t *testing.T) {
	for name, steps := range map[string]bool{"in one step": false, "in several": true} {
		t.Run(name, func(t *testing.T) { replaceAndRead(t, steps) })
	}
}

// replaceAndRead has a file replaced that others read; steps is for a server whose RNTO doesn't replace.
func replaceAndRead(t *testing.T, steps bool) {
	r := &lateRemote{newDirRemote(t.TempDir()), make(chan struct{})}
	r.noReplace = steps
	mnt := t.TempDir()
	mountRemote(t, mnt, r, func(o *Options) { o.TTL = 0 })
	content := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%03d\n", i), 1+i*37%3000) }
	must(t, os.WriteFile(r.local("f"), content(0), 0o644))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				data, err := os.ReadFile(filepath.Join(mnt, "f"))
				if err != nil || len(data) == 0 || len(data)%4 != 0 || !bytes.Equal(data, bytes.Repeat(data[:4], len(data)/4)) {
					t.Errorf("%v: %d bytes that begin with %.10q and end with %.10q", err, len(data), data, data[max(0, len(data)-10):])
					return
				}
			}
		})
	}
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(mnt, "new"), content(i), 0o644))
		must(t, os.Rename(filepath.Join(mnt, "new"), filepath.Join(mnt, "f")))
	}
	close(stop)
	wg.Wait()
}
