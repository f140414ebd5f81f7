package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

var _ = (fusefs.NodeCopyFileRanger)((*node)(nil))

// CopyFileRange has the server copy a whole file to an empty one (SITE CPTO), which is what cp asks for: nothing goes over the
// line. For all else, and when that fails, ENOTSUP makes the kernel copy through its pages.
func (n *node) CopyFileRange(ctx context.Context, _ fusefs.FileHandle, offIn uint64, out *fusefs.Inode, fhOut fusefs.FileHandle, offOut, length, flags uint64) (uint32, syscall.Errno) {
	c := call(ctx)
	defer c.end()
	h, ok := fhOut.(*handle)
	copier, can := n.t.remote.(ftpconn.Copier)
	to := nodeOf(out)
	if !ok || !can || !h.write || h.current() != nil || offIn != 0 || offOut != 0 || flags != 0 || to == n || n.t.opt.ReadOnly {
		return 0, syscall.ENOTSUP
	}
	size, err := n.t.copyWhole(c, copier, n, h.f, length)
	switch {
	case c.Err() != nil:
		return 0, syscall.EINTR
	case err != nil:
		n.t.log.Debug("not copied by the server", "path", n.shownPath(), "err", err)
		return 0, syscall.ENOTSUP
	}
	return uint32(size), 0
}

// copyWhole has the server copy the file of node n to f, and returns its size. A failure leaves f as it was.
func (t *tree) copyWhole(ctx context.Context, copier ftpconn.Copier, n *node, f *file, length uint64) (int64, error) {
	if g := n.file(); g != nil {
		if err := g.upload(ctx); err != nil {
			return 0, err
		}
	}
	from, err := n.settledPath(ctx)
	if err != nil {
		return 0, err
	}
	e, err := t.fresh(ctx, from, sureFor)
	if err != nil {
		return 0, err
	}
	if e.Type != ftpconn.File || e.Size <= 0 || uint64(e.Size) > length {
		return 0, fmt.Errorf("a part of a file: %w", errors.ErrUnsupported)
	}
	if err := f.lockPrep(ctx); err != nil {
		return 0, err
	}
	defer f.unlockPrep()
	to, err := f.n.settledPath(ctx)
	if err != nil {
		return 0, err
	}
	end := f.n.move() // no upload of it begins meanwhile
	defer end(nil)
	copy, was := f.empty()
	if copy == nil {
		return 0, fmt.Errorf("to a file that isn't empty: %w", errors.ErrUnsupported)
	}
	err = copier.Copy(ctx, from, to, e.Size)
	made := ftpconn.Entry{Size: -1}
	if err == nil {
		made, err = t.fresh(ctx, to, 0)
	}
	f.mu.Lock()
	still := f.copy == copy && copy.Version() == was && f.job == nil && !f.gone
	created := f.created
	f.mu.Unlock()
	if err == nil && (!still || made.Size != e.Size) {
		err = fmt.Errorf("%s: the copy has %d bytes of %d", to, made.Size, e.Size)
	}
	if err == nil {
		_, err = f.renew(to, made, true)
	}
	if err != nil {
		if created && !errors.Is(err, errors.ErrUnsupported) { // as if nothing had been copied; what is dirty is uploaded later
			rest, cancel := t.finishing(ctx)
			defer cancel()
			t.remote.Remove(rest, to)
		}
		return 0, err
	}
	f.mu.Lock()
	f.created = false
	f.mu.Unlock()
	f.n.mu.Lock()
	f.n.last, f.n.pages = ftpconn.Entry{}, version{}
	f.n.mu.Unlock()
	return e.Size, nil
}

// empty returns the local copy of a file that was just made or emptied and to which nothing was written, and the copy's
// version; nil for any other file.
func (f *file) empty() (*cache.SpoolFile, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.copy == nil || f.copy.Size() != 0 || f.job != nil || f.gone || f.away || f.appends || f.refused != nil {
		return nil, 0
	}
	return f.copy, f.copy.Version()
}
