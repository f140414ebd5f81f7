package cache

import (
	"context"
	"errors"
	"os"
	"time"

	"ftpfs/ftpconn"
)

// forgetting is a Remote that tells a Blocks what is changed through it.
type forgetting struct {
	next   ftpconn.Remote
	blocks *Blocks
}

// ForgetChanges returns next with each change of a file's content, name or time told to blocks, before and
// after: what was fetched in between is of neither. A directory that is renamed is told to it by the caller (ForgetTree),
// who knows that it is one. It goes below a Meta. Close closes next alone.
func ForgetChanges(next ftpconn.Remote, blocks *Blocks) ftpconn.Remote {
	if blocks == nil {
		return next
	}
	return &forgetting{next, blocks}
}

func (r *forgetting) change(path string, do func() error) error {
	r.blocks.Forget(path)
	defer r.blocks.Forget(path)
	return do()
}

func (r *forgetting) List(ctx context.Context, dir string) ([]ftpconn.Entry, error) {
	return r.next.List(ctx, dir)
}

func (r *forgetting) ListTo(ctx context.Context, dir string, add func([]ftpconn.Entry)) error {
	return ftpconn.ListTo(ctx, r.next, dir, add)
}

func (r *forgetting) Stat(ctx context.Context, path string) (ftpconn.Entry, error) {
	return r.next.Stat(ctx, path)
}

func (r *forgetting) ModTimes(ctx context.Context, paths []string) ([]time.Time, error) {
	return r.next.ModTimes(ctx, paths)
}

func (r *forgetting) Retrieve(ctx context.Context, path string, offset int64) (ftpconn.Download, error) {
	return r.next.Retrieve(ctx, path, offset)
}

func (r *forgetting) Store(ctx context.Context, path string, mode ftpconn.StoreMode, offset int64) (ftpconn.Upload, error) {
	r.blocks.Forget(path)
	up, err := r.next.Store(ctx, path, mode, offset)
	if err != nil {
		r.blocks.Forget(path) // a STOR that failed may have emptied the file
		return nil, err
	}
	return &forgettingUpload{up, r.blocks, path}, nil
}

func (r *forgetting) Mkdir(ctx context.Context, path string) error { return r.next.Mkdir(ctx, path) }

func (r *forgetting) Rmdir(ctx context.Context, path string) error { return r.next.Rmdir(ctx, path) }

func (r *forgetting) Remove(ctx context.Context, path string) error {
	return r.change(path, func() error { return r.next.Remove(ctx, path) })
}

func (r *forgetting) Rename(ctx context.Context, from, to string) error {
	return r.change(from, func() error {
		return r.change(to, func() error { return r.next.Rename(ctx, from, to) })
	})
}

func (r *forgetting) Symlink(ctx context.Context, target, link string) error {
	l, ok := r.next.(ftpconn.Linker)
	if !ok {
		return errors.ErrUnsupported
	}
	return r.change(link, func() error { return l.Symlink(ctx, target, link) })
}

func (r *forgetting) Copy(ctx context.Context, from, to string, size int64) error {
	c, ok := r.next.(ftpconn.Copier)
	if !ok {
		return errors.ErrUnsupported
	}
	return r.change(to, func() error { return c.Copy(ctx, from, to, size) })
}

func (r *forgetting) Chmod(ctx context.Context, path string, mode uint32) error {
	return r.next.Chmod(ctx, path, mode)
}

func (r *forgetting) SetModTime(ctx context.Context, path string, t time.Time) error {
	return r.change(path, func() error { return r.next.SetModTime(ctx, path, t) })
}

func (r *forgetting) Space(ctx context.Context, path string) (ftpconn.Space, error) {
	return r.next.Space(ctx, path)
}

// Hash is handed through, if next has it.
func (r *forgetting) Hash(ctx context.Context, path string, size int64) (ftpconn.Sum, error) {
	return hashOf(ctx, r.next, path, size)
}

func (r *forgetting) Features() ftpconn.Features { return r.next.Features() }

func (r *forgetting) Close() error { return r.next.Close() }

type forgettingUpload struct {
	ftpconn.Upload
	blocks *Blocks
	path   string
}

func (u *forgettingUpload) Write(p []byte) (int, error) { return u.Upload.Write(p) }

// SendFile implements ftpconn.FileSender.
func (u *forgettingUpload) SendFile(f *os.File, off, n int64) (int64, error) {
	return ftpconn.SendFile(u.Upload, f, off, n)
}

func (u *forgettingUpload) Close() error {
	defer u.blocks.Forget(u.path)
	return u.Upload.Close()
}

func (u *forgettingUpload) CloseWith(a ftpconn.Attrs) (ftpconn.Attrs, error) {
	defer u.blocks.Forget(u.path)
	return ftpconn.CloseWith(u.Upload, a)
}

func (u *forgettingUpload) Abort() {
	defer u.blocks.Forget(u.path)
	u.Upload.Abort()
}
