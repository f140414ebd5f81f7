package fs

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"ftpfs/ftpconn"
)

// lateUpload calls confirmed between the server's confirmation and the end of Close.
type lateUpload struct {
	ftpconn.Upload
	confirmed func()
}

func (u *lateUpload) Close() error {
	err := u.Upload.Close()
	u.confirmed()
	return err
}

// TestConfirmedWhileItWasChanged: what is lent to a connection may have been changed before it was taken, so a confirmation of it
// counts for nothing then.
func TestConfirmedWhileItWasChanged(t *testing.T) {
	s := newSite(t)
	want := pattern(1 << 20)
	f, err := os.Create(filepath.Join(s.mnt, "f"))
	must(t, err)
	defer f.Close()
	g, err := os.OpenFile(filepath.Join(s.mnt, "f"), os.O_WRONLY, 0)
	must(t, err)
	defer g.Close()
	var once sync.Once
	s.remote.set(func() {
		s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload {
			return &lateUpload{u, func() {
				once.Do(func() {
					_, err := f.WriteAt([]byte("header"), 10)
					must(t, err)
				})
			}}
		}
	})
	_, err = f.Write(want)
	must(t, err)
	must(t, g.Close())
	copy(want[10:], "header")
	if n := s.remote.count("Store"); n != 2 {
		t.Errorf("%d uploads, want 2", n)
	}
	s.onServer(t, "f", string(want))
	must(t, f.Close())
	s.onServer(t, "f", string(want))
}
