package fs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn/ftptest"
)

// farFile is a file on the server of which the beginning was read through the mount, shortly before another client changes it.
type farFile struct {
	s       *ftptest.Server
	f       *os.File
	name    string
	content []byte
}

var farTime = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

func openFar(t *testing.T, s *ftptest.Server, mnt string, names ...string) (list []*farFile) {
	t.Helper()
	content := pattern(2 << 20)
	for _, name := range names {
		s.WriteFile(name, content)
		must(t, os.Chtimes(s.Path(name), farTime, farTime))
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(mnt, name))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		list = append(list, &farFile{s, f, name, slices.Clone(content)})
		list[len(list)-1].reads(t, 0)
	}
	return list
}

// reads fails unless the mount shows what the file has at off.
func (far *farFile) reads(t *testing.T, off int) {
	t.Helper()
	got := make([]byte, 4096)
	if _, err := far.f.ReadAt(got, int64(off)); err != nil {
		t.Fatalf("at %d: %v", off, err)
	}
	if !bytes.Equal(got, far.content[off:off+len(got)]) {
		t.Errorf("at %d is something else", off)
	}
}

// replaced puts another file in its place, as a client does that uploads to another name first.
func (far *farFile) replaced(t *testing.T, data []byte) {
	t.Helper()
	far.s.WriteFile("new", data)
	now := farTime.Add(time.Second)
	must(t, os.Chtimes(far.s.Path("new"), now, now))
	must(t, os.Rename(far.s.Path("new"), far.s.Path(far.name)))
}

// isStale fails unless what is at off can't be read any more.
func (far *farFile) isStale(t *testing.T, off int64) {
	t.Helper()
	got := make([]byte, 4096)
	n, err := far.f.ReadAt(got, off)
	if !errors.Is(err, syscall.ESTALE) {
		t.Errorf("at %d: %d bytes and %v, want ESTALE", off, n, err)
	}
}

// What is believed of the file is still young in all of these: only the server can know.
func TestAFileThatIsReplacedBetweenTwoReadsIsNeverAMixture(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		other := bytes.Repeat([]byte("other"), 1<<20)
		far := openFar(t, s, mnt, "same", "longer", "untouched")
		same, longer, untouched := far[0], far[1], far[2]
		same.replaced(t, other[:2<<20])
		same.isStale(t, 3<<19)
		same.isStale(t, 1<<20)
		longer.replaced(t, other[:3<<20])
		longer.isStale(t, 3<<19)
		untouched.reads(t, 3<<19)
		untouched.reads(t, 1<<20)
	})
}

func TestAFileThatGrowsIsReadOnAnywhere(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		far := openFar(t, s, mnt, "log")[0]
		for i := range 3 {
			more := bytes.Repeat([]byte{byte('a' + i)}, 100_000)
			log, err := os.OpenFile(s.Path(far.name), os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = log.Write(more)
			must(t, errors.Join(err, log.Close()))
			at := farTime.Add(time.Duration(i+1) * time.Second)
			must(t, os.Chtimes(s.Path(far.name), at, at))
			far.content = append(far.content, more...)
			far.reads(t, 3<<19)
			far.reads(t, (1+i)<<18)
		}
	})
}

func TestATimeThatIsSetHereIsNoOtherVersion(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		far := openFar(t, s, mnt, "touched")[0]
		at := farTime.Add(time.Hour)
		must(t, os.Chtimes(filepath.Join(mnt, far.name), at, at))
		far.reads(t, 3<<19)
		far.reads(t, 1<<20)
	})
}

// A time that is set behind changes which were put into the server's file is no sign of another file to those who have it open.
func TestATimeSetBehindChangesIsKnownToReaders(t *testing.T) {
	eachServer(t, func(t *testing.T, s *ftptest.Server, mnt string) {
		content := pattern(8 << 20)
		s.WriteFile("f", content)
		in, err := os.Open(filepath.Join(mnt, "f"))
		must(t, err)
		defer in.Close()
		out, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_RDWR, 0)
		must(t, err)
		defer out.Close()
		_, err = out.WriteAt([]byte("changed"), 7<<20)
		must(t, err)
		copy(content[7<<20:], "changed")
		old := unix.NsecToTimeval(farTime.UnixNano())
		must(t, unix.Futimes(int(out.Fd()), []unix.Timeval{old, old}))
		must(t, out.Close())
		for _, off := range []int64{5 << 20, 1 << 20, 7 << 20, 3 << 20} {
			got := make([]byte, 4096)
			if _, err := in.ReadAt(got, off); err != nil || !bytes.Equal(got, content[off:off+4096]) {
				t.Errorf("at %d: %v", off, err)
			}
		}
	})
}

// While changes are put into the server's file, a reader goes on with it: the times that it has meanwhile are this mount's doing.
func TestReadingGoesOnWhileChangesArePutIntoAFile(t *testing.T) {
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{})
	p, mnt := proxied(t, s)
	const part = 128 << 10
	content := pattern(64 * part)
	s.WriteFile("f", content)
	must(t, os.Chtimes(s.Path("f"), farTime, farTime))
	in, err := os.Open(filepath.Join(mnt, "f"))
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_RDWR, 0)
	must(t, err)
	defer out.Close()
	for i := range 8 {
		off := (i + 1) * 7 * part
		_, err = out.WriteAt([]byte("changed"), int64(off))
		must(t, err)
		copy(content[off:], "changed")
	}
	p.On("STOR").Delay(300 * time.Millisecond)
	synced := make(chan error, 1)
	go func() { synced <- out.Sync() }()
	got := make([]byte, 4096)
	for i := 0; ; i = (i + 29) % 64 {
		select {
		case err := <-synced:
			must(t, err)
			return
		default:
		}
		if _, err := in.ReadAt(got, int64(i)*part); err != nil || !bytes.Equal(got, content[i*part:i*part+len(got)]) {
			t.Fatalf("at %d: %v", i*part, err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}
