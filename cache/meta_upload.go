package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	gopath "path"

	"ftpfs/ftpconn"
)

// Store starts an upload. Its entry changes when Close confirms it, and is forgotten when it
// fails or is aborted.
func (m *Meta) Store(ctx context.Context, path string, mode ftpconn.StoreMode, offset int64) (ftpconn.Upload, error) {
	m.mu.Lock()
	u := &metaUpload{m: m, path: path, mode: mode, offset: offset, size: -1}
	switch e, _, st := m.lookupLocked(path); {
	case st == present && e.Type == ftpconn.File:
		u.size = e.Size
	case st == absent:
		u.size = 0
	}
	for other := range m.uploads {
		if other.path == path { // whose bytes stay is the server's choice
			other.disturbed, u.disturbed = true, true
		}
	}
	m.uploads[u] = struct{}{}
	m.mu.Unlock()

	next, err := m.next.Store(ctx, path, mode, offset)
	if err != nil {
		u.end(err, false)
		return nil, err
	}
	u.next = next
	return u, nil
}

// Hash is handed through, if next has it.
func (m *Meta) Hash(ctx context.Context, path string, size int64) (ftpconn.Sum, error) {
	return hashOf(ctx, m.next, path, size)
}

// hashOf asks r for a hash as ftpconn.Client.Hash does; errors.ErrUnsupported if r has no such thing.
func hashOf(ctx context.Context, r ftpconn.Remote, path string, size int64) (ftpconn.Sum, error) {
	h, ok := r.(interface {
		Hash(ctx context.Context, path string, size int64) (ftpconn.Sum, error)
	})
	if !ok {
		return ftpconn.Sum{}, errors.ErrUnsupported
	}
	return h.Hash(ctx, path, size)
}

// metaUpload is an upload on its way through a Meta.
type metaUpload struct {
	m       *Meta
	next    ftpconn.Upload
	mode    ftpconn.StoreMode
	offset  int64
	size    int64 // of the file before, -1 if unknown
	written int64
	ended   bool

	// Guarded by m.mu.
	path      string
	disturbed bool // something else happened to the path: the outcome is unknown
}

func (u *metaUpload) Write(p []byte) (int, error) {
	n, err := u.next.Write(p)
	u.written += int64(n)
	return n, err
}

// SendFile implements ftpconn.FileSender.
func (u *metaUpload) SendFile(f *os.File, off, n int64) (int64, error) {
	n, err := ftpconn.SendFile(u.next, f, off, n)
	u.written += n
	return n, err
}

func (u *metaUpload) Close() error {
	err := u.next.Close()
	u.end(err, err == nil)
	return err
}

// CloseWith implements ftpconn.AttrCloser.
func (u *metaUpload) CloseWith(a ftpconn.Attrs) (ftpconn.Attrs, error) {
	set, err := ftpconn.CloseWith(u.next, a)
	u.end(err, err == nil)
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if set.HasMode {
		u.m.changedLocked(nil, u.path, attrMode, modeEdit(set.Mode))
	}
	if !set.ModTime.IsZero() {
		u.m.changedLocked(nil, u.path, attrTime, timeEdit(set.ModTime))
	}
	return set, err
}

func (u *metaUpload) Abort() {
	u.next.Abort()
	u.end(nil, false)
}

func (u *metaUpload) Begun() bool { return u.next.Begun() }

// end applies the outcome, once.
func (u *metaUpload) end(err error, confirmed bool) {
	if u.ended {
		return
	}
	u.ended = true
	m := u.m
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.uploads, u)
	size := u.sizeAfter()
	was, had := m.staleLocked(u.path)
	switch {
	case had && was.Type == ftpconn.Symlink:
		// The server wrote through the link (all but Pure-FTPd, which refuses): the link is what it was.
		if confirmed {
			m.forgetTargetLocked(u.path, was.Target)
		} else {
			m.forgetLocked(u.path)
		}
	case !confirmed && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)):
		m.failedLocked(err, u.path)
	case !confirmed || u.disturbed || size < 0:
		m.forgetLocked(u.path)
	default:
		e := m.newEntryLocked(u.path, ftpconn.File)
		if had && was.Type == ftpconn.File { // overwritten in place: owner and mode stay
			now := e
			e = was
			e.ModTime, e.ModPrecision = now.ModTime, now.ModPrecision
		}
		e.Size = size
		m.putLocked(u.path, e)
		if !had {
			m.stirLocked(u.path)
		}
	}
}

// sizeAfter returns the size of the file after a complete upload, -1 if it can't be known.
func (u *metaUpload) sizeAfter() int64 {
	switch {
	case u.mode == ftpconn.Replace:
		return u.written
	case u.mode == ftpconn.Append && u.size >= 0:
		return u.size + u.written
	case u.mode == ftpconn.Within && u.offset+u.written <= u.size:
		return u.size
	case u.mode == ftpconn.Restart && u.size >= 0 && u.offset+u.written >= u.size:
		return u.offset + u.written
	}
	return -1
}

// forgetTargetLocked forgets what a symlink points to, as far as its text can be followed.
func (m *Meta) forgetTargetLocked(link, target string) {
	switch {
	case target == "":
	case gopath.IsAbs(target):
		m.forgetLocked(gopath.Clean(target))
	default:
		m.forgetLocked(gopath.Join(gopath.Dir(link), target))
	}
}

// disturbLocked tells the uploads under from that their path, or something above it, was removed, replaced or
// moved to to.
func (m *Meta) disturbLocked(from, to string) {
	for u := range m.uploads {
		if rest, ok := below(u.path, from); ok {
			u.path, u.disturbed = to+rest, true
		}
	}
}
