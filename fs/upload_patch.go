package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// A change in the middle of a file that the server has is put into it by REST and STOR, where the server was seen to keep what follows
// (vsftpd, pyftpdlib, inetutils) or at least what comes before (Pure-FTPd and FileZilla Server cut the file behind what they are
// sent, so they are sent the rest of it). ProFTPD refuses that by default. REST 0 is none: the first byte is never changed so.

const (
	// minPatchGain is how many bytes a patch has to spare, and minProbeGain where the server isn't known yet: that takes five
	// round trips.
	minPatchGain = 256 << 10
	minProbeGain = 1 << 20
	// patchGap is how far changes may be from each other that are sent together, and maxPatches how many there may be.
	patchGap   = 64 << 10
	maxPatches = 64
)

// errWhole says that a file is to be sent as a whole.
var errWhole = errors.New("the file is to be sent as a whole")

// tail is what a server does with the rest of a file when bytes are put into it.
type tail uint8

const (
	tailUnknown tail = iota
	tailKept
	tailCut
	tailNone // it doesn't take them
)

func (w tail) String() string { return [...]string{"unknown", "kept", "cut", "refused"}[w] }

// tails remembers that for the life of a mount.
type tails struct {
	probing sync.Mutex // held by who tries it; taken before mu

	mu   sync.Mutex // guards following
	what tail
}

func (s *tails) get() tail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.what
}

func (s *tails) set(what tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.what = what
}

// patch puts what was changed into the server's file p. errWhole if that can't be done, or isn't worth it: then nothing was sent.
func (u *upload) patch(ctx context.Context, p string, plan cache.Plan) error {
	f, t := u.f, u.f.t
	f.mu.Lock()
	based, patched := f.base != nil && !f.created, f.patched
	f.mu.Unlock()
	if !based || plan.Server <= 0 || plan.Size < plan.Server || u.goesAside(p) || t.noResume.Load() || t.tails.get() == tailNone {
		return errWhole
	}
	pieces := mergeRanges(u.copy.DirtyRanges(), patchGap)
	if len(pieces) == 0 {
		return errWhole
	}
	if len(pieces) > maxPatches {
		pieces = []cache.Range{{Off: pieces[0].Off, End: pieces[len(pieces)-1].End}}
	}
	gain := u.gain(plan.Size, pieces)
	if gain < minPatchGain || t.tails.get() == tailUnknown && gain < minProbeGain {
		return errWhole
	}
	if pieces[0].Off == 0 {
		if err := u.skipSame(ctx, &pieces[0]); err != nil {
			return err
		}
	}
	e, err := t.fresh(ctx, p, 0)
	if err == nil && !patched && coarse(e) {
		e, err = t.exact(ctx, p)
	}
	switch {
	case err != nil && broken(err):
		return err
	case err != nil:
		return errWhole
	case patched && (e.Size < plan.Server || e.Size > plan.Size):
		return errWhole
	case !patched && (e.Size != plan.Server || !f.serverIs(e)): // what is there isn't what was changed here
		if len(u.copy.Missing(0, plan.Size)) > 0 {
			return fmt.Errorf("%s was changed on the server meanwhile, and only parts of it are here: %w", p, ftpconn.ErrStale)
		}
		return errWhole
	}
	what, err := t.tailAt(ctx, path.Dir(p))
	switch {
	case err != nil:
		return err
	case what == tailCut:
		pieces = []cache.Range{{Off: pieces[0].Off, End: plan.Size}}
		if u.gain(plan.Size, pieces) < minPatchGain {
			return errWhole
		}
	case what != tailKept:
		return errWhole
	}
	for _, r := range pieces {
		if err := u.fetchMissing(ctx, r.Off, r.End); err != nil {
			return err
		}
	}
	if what == tailCut { // Pure-FTPd 1.0.50: a STOR behind REST changes the directory
		defer t.keepTime(ctx, path.Dir(p))()
	}
	f.beginPatch(plan.Server)
	if err := u.fetched(); err != nil {
		return err
	}
	u.overwrites(p)
	for _, r := range pieces {
		mode := ftpconn.Restart
		if r.End < max(plan.Server, e.Size) && what == tailKept {
			mode = ftpconn.Within
		}
		for {
			err := u.put(ctx, p, mode, r)
			if err == nil {
				break
			}
			if err := u.breathe(ctx, p, err); err != nil {
				return err
			}
		}
		u.advance(r.Len())
		u.again.progressed()
	}
	e, err = t.fresh(ctx, p, 0)
	if err == nil && coarse(e) {
		e, err = t.exact(ctx, p)
	}
	if err != nil {
		return err
	}
	if e.Size != plan.Size {
		err = fmt.Errorf("%w: %s has %d bytes instead of %d", ftpconn.ErrMismatch, p, e.Size, plan.Size)
	} else {
		err = u.verify(ctx, p, plan)
	}
	if errors.Is(err, ftpconn.ErrMismatch) {
		t.log.Warn("changes that were put into the server's file are not there as they should: files are sent whole from now on", "path", p, "err", err)
		t.tails.set(tailNone)
		u.copy.MarkBroken(0)
		return errRetry
	}
	if err != nil {
		return err
	}
	u.confirmed(plan)
	f.patchedTo(e)
	return nil
}

// gain is how many bytes need not go over the line if pieces of a file of a size are sent, and not the whole.
func (u *upload) gain(size int64, pieces []cache.Range) int64 {
	missing := func(off, end int64) (n int64) {
		for _, r := range u.copy.Missing(off, end) {
			n += r.Len()
		}
		return n
	}
	gain := size + missing(0, size)
	for _, r := range pieces {
		gain -= r.Len() + missing(r.Off, r.End)
	}
	return gain
}

// skipSame takes off a piece at the beginning of the file what is on the server as it is: the first byte at least. errWhole if that
// differs.
func (u *upload) skipSame(ctx context.Context, r *cache.Range) error {
	f := u.f
	f.mu.Lock()
	base := f.base
	f.mu.Unlock()
	if base == nil {
		return errWhole
	}
	n := min(r.Len(), 4096)
	there, here := make([]byte, n), make([]byte, n)
	if m, err := base.readAt(ctx, there, 0); err != nil || int64(m) < n {
		return errWhole
	}
	if m, missing, err := u.copy.ReadAt(here, 0); err != nil && !errors.Is(err, io.EOF) || missing != nil || int64(m) < n {
		return errWhole
	}
	for n = 0; n < int64(len(here)) && here[n] == there[n]; n++ {
	}
	n = min(n, r.Len()-1) // an empty piece is none
	if n <= 0 {
		return errWhole
	}
	r.Off = n
	return nil
}

// put sends one piece.
func (u *upload) put(ctx context.Context, p string, mode ftpconn.StoreMode, r cache.Range) error {
	u.f.quiesce()
	up, err := u.f.t.remote.Store(ctx, p, mode, r.Off)
	if err != nil {
		return err
	}
	u.started.Store(true)
	buf := sendBuffers.Get().(*[sendBuffer]byte)
	defer sendBuffers.Put(buf)
	for off := r.Off; off < r.End; {
		n, _, err := u.copy.ReadAt(buf[:min(int64(len(buf)), r.End-off)], off)
		if n == 0 { // cut meanwhile: what comes of it is seen by the plan
			up.Abort()
			return fmt.Errorf("%w: %w", errRetry, err)
		}
		if _, err := up.Write(buf[:n]); err != nil {
			if verdict := up.Close(); verdict != nil {
				return verdict
			}
			return err
		}
		if ctx.Err() != nil {
			up.Abort()
			return ctx.Err()
		}
		off += int64(n)
	}
	return up.Close()
}

// serverIs says that e is the server's file as it is known here.
func (f *file) serverIs(e ftpconn.Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return versionOf(f.server).same(versionOf(e))
}

// beginPatch notes that the server's file, of this size, is being changed: what isn't here of it stays what it is.
func (f *file) beginPatch(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patched = true
	f.server.Size, f.server.ModTime, f.server.ModPrecision = size, time.Time{}, 0
	if f.base != nil {
		f.base.adopt(versionOf(f.server))
	}
}

// patchedTo notes what the server says of the file that was changed there.
func (f *file) patchedTo(e ftpconn.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = e
	for _, r := range f.readersLocked() {
		r.adopt(versionOf(e))
	}
}

// mergeRanges puts ranges together that are no further from each other than gap.
func mergeRanges(ranges []cache.Range, gap int64) (merged []cache.Range) {
	for _, r := range ranges {
		if last := len(merged) - 1; last >= 0 && r.Off-merged[last].End <= gap {
			merged[last].End = max(merged[last].End, r.End)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// tailAt says what the server does with the rest of a file. But for vsftpd, which is known, that is tried once for a mount, with a file
// of its own in directory dir. A directory that doesn't take the file says nothing.
func (t *tree) tailAt(ctx context.Context, dir string) (tail, error) {
	t.tails.probing.Lock()
	defer t.tails.probing.Unlock()
	if what := t.tails.get(); what != tailUnknown {
		return what, nil
	}
	if strings.Contains(t.remote.Features().Banner, "(vsFTPd ") { // measured with 3.0.3
		t.tails.set(tailKept)
		return tailKept, nil
	}
	restore := t.keepTime(ctx, dir)
	what, err := t.probeTail(ctx, path.Join(dir, tempName()))
	restore()
	if err != nil {
		if broken(err) || ctx.Err() != nil {
			return tailUnknown, err
		}
		t.log.Debug("what the server keeps behind REST and STOR can't be tried", "err", err)
		return tailUnknown, nil
	}
	t.log.Debug("tried what the server keeps behind REST and STOR", "tail", what)
	t.tails.set(what)
	return what, nil
}

// keepTime returns a function that gives a directory the time again that it has now, where that is known exactly.
func (t *tree) keepTime(ctx context.Context, dir string) (restore func()) {
	e, err := t.fresh(ctx, dir, t.opt.TTL)
	if err != nil || e.ModTime.IsZero() || e.ModPrecision > time.Second {
		return func() {}
	}
	e = t.overrides.apply(dir, e)
	return func() {
		if err := t.setTime(ctx, dir, e.ModTime); err != nil {
			t.log.Debug("the time of a directory is not what it was", "path", dir, "err", err)
		}
	}
}

// probeTail tries it with the file temp.
func (t *tree) probeTail(ctx context.Context, temp string) (tail, error) {
	const before, piece, off = "0123456789ABCDEFGHIJ", "xyz", 5
	store := func(mode ftpconn.StoreMode, off int64, text string) error {
		up, err := t.remote.Store(ctx, temp, mode, off)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(up, text); err != nil {
			if verdict := up.Close(); verdict != nil {
				return verdict
			}
			return err
		}
		return up.Close()
	}
	t.note(temp)
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		if err := t.remote.Remove(clean, temp); err == nil || notThere(err) {
			t.opt.Leftovers.Done(temp)
		}
	}()
	if err := store(ftpconn.Replace, 0, before); err != nil {
		return tailUnknown, err
	}
	switch err := store(ftpconn.Within, off, piece); {
	case errors.Is(err, ftpconn.ErrMismatch):
	case err != nil && broken(err):
		return tailUnknown, err
	case err != nil:
		return tailNone, nil
	}
	d, err := t.remote.Retrieve(ctx, temp, 0)
	if err != nil {
		return tailUnknown, err
	}
	defer d.Close()
	got, err := io.ReadAll(io.LimitReader(d, int64(len(before))+1))
	switch {
	case err != nil:
		return tailUnknown, err
	case string(got) == before[:off]+piece+before[off+len(piece):]:
		return tailKept, nil
	case string(got) == before[:off]+piece:
		return tailCut, nil
	}
	return tailNone, nil
}
