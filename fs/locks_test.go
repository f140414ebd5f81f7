package fs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLocksHoldWithinTheMount(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	must(t, os.WriteFile(p, []byte("content"), 0o644))
	open := func() *os.File {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	fd := func(f *os.File) int { return int(f.Fd()) }

	must(t, syscall.Flock(fd(a), syscall.LOCK_EX))
	if err := syscall.Flock(fd(b), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
		t.Errorf("flock() of what is locked: %v", err)
	}
	must(t, a.Close())
	must(t, syscall.Flock(fd(b), syscall.LOCK_EX|syscall.LOCK_NB))

	// Locks of open file descriptions: those of processes differ in who holds them alone.
	c := open()
	lock := func(f *os.File, kind int16, start int64) error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: 2})
	}
	must(t, lock(b, unix.F_WRLCK, 0))
	if err := lock(c, unix.F_RDLCK, 1); err != unix.EAGAIN {
		t.Errorf("fcntl() on a range that is locked: %v", err)
	}
	must(t, lock(c, unix.F_RDLCK, 2))
	must(t, lock(b, unix.F_UNLCK, 0))
	must(t, lock(c, unix.F_WRLCK, 0))
}
