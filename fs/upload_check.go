package fs

import (
	"context"
	"errors"
	"fmt"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// hasher is a Remote that can have the server compute a hash over a file of a size in bytes.
type hasher interface {
	Hash(ctx context.Context, path string, size int64) (ftpconn.Sum, error)
}

// verify compares the server's hash of what was uploaded to p with that of the local copy, if Options.HashUploads says
// so. What can't be compared (the server has no hash, the content has changed since, or some of it is only on the server)
// is no error: the size was compared (ftpconn.Config.CheckUploads).
func (u *upload) verify(ctx context.Context, p string, plan cache.Plan) error {
	t := u.f.t
	h, ok := t.remote.(hasher)
	if !ok || !t.opt.HashUploads || plan.Size == 0 || len(u.copy.Missing(0, plan.Size)) > 0 {
		return nil
	}
	sum, err := h.Hash(ctx, p, plan.Size)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.noHash.Do(func() { t.log.Warn("upload_check=hash: the server has no hash; sizes are compared", "err", err) })
		return nil
	case err != nil && !broken(err):
		t.log.Warn("upload_check=hash: no hash of an upload; its size was compared", "path", p, "err", err)
		return nil
	case err != nil:
		return err
	}
	local := ftpconn.NewHash(sum.Algorithm)
	buf := make([]byte, 256<<10)
	for off := int64(0); off < plan.Size; {
		n, _, err := u.copy.ReadAt(buf[:min(int64(len(buf)), plan.Size-off)], off)
		if n == 0 {
			return fmt.Errorf("hashing the local copy: %w", err)
		}
		local.Write(buf[:n])
		off += int64(n)
	}
	if sum.Same(local) || u.copy.Version() != plan.Version {
		return nil
	}
	u.copy.MarkBroken(0)
	return fmt.Errorf("%w: %s has the %s hash %s instead of %x", ftpconn.ErrMismatch, p, sum.Algorithm, sum.Hex, local.Sum(nil))
}
