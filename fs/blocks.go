package fs

import (
	"context"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

const (
	// passingAfter is how much of a download is kept in memory: of what is read in order, the kernel has the pages.
	passingAfter = 16 << 20
	// keptAhead is how much of what a download read ahead, and nobody asked for, is kept when it is closed.
	keptAhead = 256 << 10
	// settleTime is how much older than a download the file's time has to be: two changes within a second have
	// the same time, and clocks differ.
	settleTime = 5 * time.Second
)

// blocks returns the cache of file contents, which may be nil.
func (t *tree) blocks() *cache.Blocks { return t.opt.Blocks }

// identify makes the version that the handle reads exact, if that is known meanwhile or, for blocks that outlive the
// mount, can be asked for: one question for a directory. Once for a handle.
func (r *reader) identify(ctx context.Context) error {
	b := r.n.t.blocks()
	r.mu.Lock()
	done := r.identified || b == nil || r.ver.size <= 0 || r.ver.exact()
	r.identified = true
	r.mu.Unlock()
	if done {
		return nil
	}
	p, err := r.n.path()
	if err != nil {
		return nil // the read will say so
	}
	ask := r.n.t.exact
	if !b.Persistent() {
		f, ok := r.n.t.remote.(refresher)
		if !ok || r.n.t.opt.TTL <= 0 {
			return nil
		}
		ask = func(ctx context.Context, p string) (ftpconn.Entry, error) {
			return f.Fresh(ctx, p, r.n.t.opt.TTL)
		}
	}
	e, err := ask(ctx, p)
	if err != nil {
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := versionOf(e); now.exact() && r.ver.same(now) {
		r.ver = now
	}
	return nil
}

// contents names what the handle reads, for the blocks: as all know it, and as this reader alone does. It is empty where they
// can't help: for a file whose size isn't known, or which has no name any more.
func (r *reader) contents() (list []cache.FileVersion) {
	if r.n.t.blocks() == nil {
		return nil
	}
	p, err := r.n.path()
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ver.size <= 0 || r.closed || r.stale != nil {
		return nil
	}
	if r.ver.exact() {
		list = append(list, r.sharedLocked(p))
	}
	if len(r.owned) > 0 {
		list = append(list, r.ownLocked(p))
	}
	return list
}

func (r *reader) sharedLocked(p string) cache.FileVersion {
	return cache.FileVersion{Path: p, Size: r.ver.size, ModTime: r.ver.time.Unix()}
}

func (r *reader) ownLocked(p string) cache.FileVersion {
	if r.owner == 0 {
		r.owner = r.n.t.blocks().NewOwner()
	}
	return cache.FileVersion{Path: p, Size: r.ver.size, Owner: r.owner}
}

// describeLocked says what the bytes of a download of p that begins now, or began at most ago, are kept as. A file
// that was last changed some time before its download began is what its time says: so the blocks are everybody's. Otherwise they
// are the reader's, which reads what it began to read.
func (r *reader) describeLocked(src *source, p string, ago time.Duration) {
	if r.n.t.blocks() == nil || r.ver.size <= 0 {
		return
	}
	src.began = time.Now().Add(-ago)
	if r.ver.exact() && r.ver.time.Before(src.began.Add(-settleTime)) {
		src.version = r.sharedLocked(p)
	} else {
		src.version = r.ownLocked(p)
		r.owned[src.version] = struct{}{}
	}
}

// kept gives the blocks what a download has brought to a reader, which is some of the bytes that it has served.
func (r *reader) kept(src *source, off int64, data []byte, served int64) {
	b := r.n.t.blocks()
	if b == nil || src.version.Size <= 0 {
		return
	}
	b.Put(src.version, src.began, off, data, served > passingAfter)
}

// retire closes a download that is no longer in r, and gives the blocks what it has read ahead.
func (r *reader) retire(src *source) {
	if b := r.n.t.blocks(); b != nil && src.version.Size > 0 {
		r.mu.Lock()
		from := src.high
		if src.served < keptAhead {
			from = 0 // it may have begun before what was read
		}
		r.mu.Unlock()
		if data, off := src.ahead(from); len(data) > 0 {
			b.Put(src.version, src.began, off, data, false)
		}
	}
	src.close()
}

// forgetDirs forgets what is below directories that were renamed, as far as nodes are directories.
func (t *tree) forgetDirs(src, dst string, nodes ...*node) {
	for _, n := range nodes {
		if n != nil && n.IsDir() {
			t.blocks().ForgetTree(src)
			t.blocks().ForgetTree(dst)
			return
		}
	}
}

// ahead returns what has come behind off.
func (s *stream) ahead(off int64) (data []byte, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = max(off, s.base)
	n := min(s.end-at, keptAhead)
	if n <= 0 || s.chunks == nil {
		return nil, at
	}
	data = make([]byte, n)
	return data[:s.copyLocked(data, at)], at
}
