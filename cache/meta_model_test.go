package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

// agree compares what the cache says of path with the site.
func agree(ctx context.Context, m *Meta, s *site, path string) error {
	s.mu.Lock()
	want, gone := s.getLocked(path)
	s.mu.Unlock()
	got, err := m.Stat(ctx, path)
	switch {
	case gone != nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case gone != nil || err != nil:
		return fmt.Errorf("Stat(%s) = %+v, %w; the site has %+v, %v", path, got, err, want, gone)
	case got.Name != want.Name || got.Type != want.Type || got.Type == ftpconn.File && got.Size != want.Size:
		return fmt.Errorf("Stat(%s) = %+v; the site has %+v", path, got, want)
	case want.HasMode && got.HasMode && got.Mode != want.Mode:
		return fmt.Errorf("Stat(%s) has mode %o; the site has %o", path, got.Mode, want.Mode)
	case got.ModPrecision == time.Second && !got.ModTime.Equal(want.ModTime):
		return fmt.Errorf("Stat(%s) has time %v; the site has %v", path, got.ModTime, want.ModTime)
	}
	return nil
}

// agreeList compares a listing with the site, where nothing else changes it.
func agreeList(ctx context.Context, m *Meta, s *site, dir string) error {
	s.mu.Lock()
	want, ok := s.dirs[dir]
	want = slices.Clone(want)
	s.mu.Unlock()
	got, err := m.List(ctx, dir)
	if !ok && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !ok || err != nil {
		return fmt.Errorf("List(%s) = %q, %v; the site has %q, %v", dir, namesOf(got), err, namesOf(want), ok)
	}
	key := func(l []ftpconn.Entry) []string {
		var k []string
		for _, e := range l {
			size := e.Size
			if e.Type != ftpconn.File {
				size = 0
			}
			k = append(k, fmt.Sprint(e.Name, e.Type, size))
		}
		slices.Sort(k)
		return k
	}
	if !slices.Equal(key(got), key(want)) {
		return fmt.Errorf("List(%s) = %q; the site has %q", dir, key(got), key(want))
	}
	return nil
}

// act does one random thing to a or b through m.
func act(ctx context.Context, m *Meta, r *rand.Rand, a, b string) (did int) {
	did = r.IntN(11)
	switch did {
	case 0, 1, 2:
		u, err := m.Store(ctx, a, ftpconn.StoreMode(r.IntN(3)), int64(r.IntN(20)))
		if err != nil {
			return did
		}
		u.Write(make([]byte, r.IntN(30)))
		if r.IntN(5) == 0 {
			u.Abort()
		} else {
			u.Close()
		}
	case 3:
		m.Mkdir(ctx, a)
	case 4:
		m.Rmdir(ctx, a)
	case 5, 6:
		m.Remove(ctx, a)
	case 7, 8:
		m.Rename(ctx, a, b)
	case 9:
		m.Chmod(ctx, a, uint32(r.IntN(0o1000)))
	case 10:
		m.SetModTime(ctx, a, epoch.Add(time.Duration(r.IntN(1e6))*time.Second))
	}
	return did
}

// TestCacheAgreesWithTheSite changes a small tree at random, with operations that fail before or after they
// happened, time that passes and a budget that may be too small, and compares everything after each step.
func TestCacheAgreesWithTheSite(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newSite("/a/", "/b/", "/a/c/", "/a/c/d/")
		s.noStat = seed%2 == 0
		if seed%3 == 0 {
			s.rounded = time.Minute
		}
		calm := true
		fail := func(_ context.Context, op, _ string) error {
			if !calm && r.IntN(6) == 0 {
				return ftpconn.ErrConnLost
			}
			return nil
		}
		s.before, s.after = fail, fail
		w := newWorld(t, s, func(c *MetaConfig) { c.Entries = []int{6, 15, 0}[r.IntN(3)] })
		dirs := []string{"/", "/a", "/b", "/a/c", "/a/c/d", "/b/x", "/b/x/c"}
		path := func() string {
			return join(dirs[r.IntN(len(dirs))], string("abcdxyz"[r.IntN(7)]))
		}
		for step := range 300 {
			w.pass(time.Duration(r.IntN(3000)) * time.Millisecond)
			calm = r.IntN(3) > 0
			a, b := path(), path()
			did := act(w.ctx, w.Meta, r, a, b)
			switch r.IntN(4) {
			case 0:
				w.Exact(w.ctx, path())
			case 1:
				w.Fresh(w.ctx, path(), time.Second)
			}
			calm = true
			err := errors.Join(agree(w.ctx, w.Meta, s, a), agree(w.ctx, w.Meta, s, b), agree(w.ctx, w.Meta, s, path()))
			if r.IntN(3) == 0 {
				for _, d := range dirs {
					err = errors.Join(err, agreeList(w.ctx, w.Meta, s, d))
				}
			}
			if err == nil {
				err = w.sound()
			}
			if err != nil {
				t.Fatalf("seed %d, step %d, after %d on %s and %s: %v", seed, step, did, a, b, err)
			}
		}
	}
}

// sound checks the cache's own accounts.
func (w *world) sound() error {
	w.Meta.mu.Lock()
	defer w.Meta.mu.Unlock()
	total := 0
	for _, d := range w.dirs.Keys() {
		l, _ := w.dirs.Peek(d)
		total += l.cost()
		coarse, holes, dead := 0, 0, 0
		for i := range l.list {
			if isCoarse(&l.list[i]) {
				coarse++
			}
			if n := l.list[i].Name; n == "" {
				dead++
			} else if l.find(n) != i {
				return fmt.Errorf("%s: %q is found at %d, not %d", d, n, l.find(n), i)
			}
		}
		for _, n := range l.notes {
			if n.forgotten {
				holes++
			}
		}
		if coarse != l.coarse || holes != l.holes || dead != l.dead {
			return fmt.Errorf("%s: %d coarse, %d holes, %d dead; counted %d, %d, %d", d, l.coarse, l.holes, l.dead, coarse, holes, dead)
		}
	}
	if total != w.total || total > w.budget {
		return fmt.Errorf("%d entries counted as %d, budget %d", total, w.total, w.budget)
	}
	if len(w.uploads) > 0 || len(w.flights) > 0 {
		return fmt.Errorf("left behind: %d uploads, %d requests", len(w.uploads), len(w.flights))
	}
	return nil
}

// TestEachSeesItsOwnChanges has several clients of one cache change names of their own in the same
// directories, while others list them: each must see at once what it did.
func TestEachSeesItsOwnChanges(t *testing.T) {
	for _, noStat := range []bool{false, true} {
		s := newSite("/a/", "/b/")
		s.noStat = noStat
		yield := func(context.Context, string, string) error {
			for range rand.IntN(4) {
				runtime.Gosched()
			}
			if rand.IntN(20) == 0 {
				return ftpconn.ErrConnLost
			}
			return nil
		}
		s.before, s.after = yield, yield
		w := newWorld(t, s, func(c *MetaConfig) { c.Entries = 60 })
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 2))
				path := func() string {
					return fmt.Sprintf("/%c/%d-%d", "ab"[r.IntN(2)], g, r.IntN(3))
				}
				for range 400 {
					w.pass(time.Duration(r.IntN(1000)) * time.Millisecond)
					a, b := path(), path()
					act(w.ctx, w.Meta, r, a, b)
					w.Exact(w.ctx, path())
					for _, p := range []string{a, b, path()} {
						if err := agree(w.ctx, w.Meta, s, p); err != nil && !errors.Is(err, ftpconn.ErrConnLost) {
							t.Error(err)
							return
						}
					}
					dir, name := split(a)
					if list, err := w.List(w.ctx, dir); err == nil {
						s.mu.Lock()
						_, gone := s.getLocked(a)
						s.mu.Unlock()
						has := slices.ContainsFunc(list, func(e ftpconn.Entry) bool { return e.Name == name })
						if has == (gone != nil) {
							t.Errorf("List(%s) has %s: %v, the site: %v", dir, name, has, gone)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		if err := w.sound(); err != nil {
			t.Error(err)
		}
	}
}
