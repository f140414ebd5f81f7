package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"ftpfs/ftpconn"
)

// lentRemote takes files as they are lent, and calls midway before it looks at the first.
type lentRemote struct {
	*dirRemote
	once   sync.Once
	midway func()
}

type lentUpload struct {
	ftpconn.Upload
	r *lentRemote
}

func (r *lentRemote) Store(ctx context.Context, p string, mode ftpconn.StoreMode, offset int64) (ftpconn.Upload, error) {
	u, err := r.dirRemote.Store(ctx, p, mode, offset)
	return &lentUpload{u, r}, err
}

// SendFile implements ftpconn.FileSender.
func (u *lentUpload) SendFile(f *os.File, off, n int64) (int64, error) {
	u.r.once.Do(u.r.midway)
	return ftpconn.SendFile(u.Upload, f, off, n)
}

func TestFileThatIsCutWhileItIsSentIsSentAgain(t *testing.T) {
	dir, mnt := t.TempDir(), t.TempDir()
	r := &lentRemote{dirRemote: newDirRemote(dir)}
	mountRemote(t, mnt, r)
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	g, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_WRONLY, 0)
	must(t, err)
	cut := make(chan error, 1)
	r.midway = func() { cut <- g.Truncate(1000) }
	_, err = f.Write(pattern(1 << 20))
	must(t, err)
	must(t, <-cut)
	if err := errors.Join(f.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "f"))
	must(t, err)
	if string(got) != string(pattern(1 << 20)[:1000]) {
		t.Errorf("%d bytes on the server", len(got))
	}
}
