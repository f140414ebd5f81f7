package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	gopath "path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ftpfs/ftpconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// site is a Remote in memory that counts what it is asked. Its fields but for mu's are set before
// use.
type site struct {
	noStat  bool          // Stat and the facts are unsupported
	noMDTM  bool          // ModTimes is unsupported
	rounded time.Duration // what times in listings are rounded down to
	follow  bool          // Stat follows symlinks
	bare    bool          // Stat is SIZE and MDTM
	noRoot  error         // what Stat says of "/"
	// before and after are called around each request, with its effect in between. What they return
	// is the request's error.
	before, after func(ctx context.Context, op, path string) error

	mu    sync.Mutex
	dirs  map[string][]ftpconn.Entry
	now   time.Time
	calls map[string]int // by verb, and by verb and path
	asked [][]string     // the paths of each ModTimes
}

func newSite(paths ...string) *site {
	s := &site{dirs: map[string][]ftpconn.Entry{"/": nil}, calls: make(map[string]int), now: epoch}
	for _, p := range paths {
		s.set(p, 0)
	}
	return s
}

// set makes path a file of that size, or a directory if it ends in a slash, as another client would.
func (s *site) set(path string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clean := strings.TrimSuffix(path, "/")
	e := ftpconn.Entry{Type: ftpconn.File, Size: size}
	if clean != path {
		e.Type, e.Size = ftpconn.Dir, 4096
		s.dirs[clean] = s.dirs[clean]
	}
	if d, _ := split(clean); s.dirs[d] == nil {
		s.dirs[d] = []ftpconn.Entry{}
	}
	s.putLocked(clean, e)
}

func (s *site) putLocked(path string, e ftpconn.Entry) {
	dir, name := split(path)
	e.Name = name
	if e.ModTime.IsZero() {
		e.ModTime, e.ModPrecision = s.now.Truncate(time.Second), time.Second
	}
	e.UID, e.GID = 7, 8
	for i, o := range s.dirs[dir] {
		if o.Name == name {
			if !e.HasMode {
				e.Mode, e.HasMode = o.Mode, o.HasMode
			}
			s.dirs[dir][i] = e
			return
		}
	}
	s.dirs[dir] = append(s.dirs[dir], e)
}

func (s *site) edit(path string, f func(*ftpconn.Entry)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.getLocked(path)
	if err != nil {
		panic(err)
	}
	f(&e)
	s.putLocked(path, e)
}

func (s *site) getLocked(path string) (ftpconn.Entry, error) {
	dir, name := split(path)
	for _, e := range s.dirs[dir] {
		if e.Name == name {
			return e, nil
		}
	}
	return ftpconn.Entry{}, refuse(path, fs.ErrNotExist)
}

func (s *site) hasLocked(dir string) bool {
	_, ok := s.dirs[dir]
	return ok
}

func (s *site) cutLocked(path string) {
	dir, name := split(path)
	s.dirs[dir] = slices.DeleteFunc(slices.Clone(s.dirs[dir]), func(e ftpconn.Entry) bool { return e.Name == name })
}

// cut removes path as another client would.
func (s *site) cut(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutLocked(path)
}

func refuse(what string, kind error) error {
	return fmt.Errorf("site: %w", &ftpconn.ReplyError{Command: what, Code: 550, Text: "No.", Kind: kind})
}

// do counts a request and runs it.
func (s *site) do(ctx context.Context, op, path string, f func() error) error {
	s.mu.Lock()
	s.calls[op]++
	s.calls[op+" "+path]++
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(ctx, op, path); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := f()
	s.mu.Unlock()
	if err == nil && s.after != nil {
		err = s.after(ctx, op, path)
	}
	return err
}

func (s *site) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

func (s *site) List(ctx context.Context, dir string) (list []ftpconn.Entry, err error) {
	err = s.do(ctx, "list", dir, func() error {
		l, ok := s.dirs[dir]
		if !ok {
			return refuse(dir, fs.ErrNotExist)
		}
		list = slices.Clone(l)
		for i := range list {
			if s.rounded > 0 {
				list[i].ModTime, list[i].ModPrecision = list[i].ModTime.Truncate(s.rounded), s.rounded
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *site) Stat(ctx context.Context, path string) (e ftpconn.Entry, err error) {
	if s.noStat {
		return e, errors.ErrUnsupported
	}
	err = s.do(ctx, "stat", path, func() error {
		if path == "/" {
			e = ftpconn.Entry{Type: ftpconn.Dir, Mode: 0o755, HasMode: true}
			return s.noRoot
		}
		if e, err = s.getLocked(path); err == nil && s.follow && e.Type == ftpconn.Symlink {
			name := e.Name
			e, err = s.getLocked(gopath.Join(gopath.Dir(path), e.Target))
			e.Name = name
		}
		if s.bare && err == nil {
			e = ftpconn.Entry{Name: e.Name, Type: e.Type, Size: e.Size, ModTime: e.ModTime, ModPrecision: time.Second, UID: -1, GID: -1}
		}
		return err
	})
	return e, err
}

func (s *site) ModTimes(ctx context.Context, paths []string) ([]time.Time, error) {
	if s.noMDTM {
		return nil, errors.ErrUnsupported
	}
	times := make([]time.Time, len(paths))
	err := s.do(ctx, "times", "", func() error {
		s.asked = append(s.asked, slices.Clone(paths))
		for i, p := range paths {
			if e, err := s.getLocked(p); err == nil && e.Owner != "timeless" {
				times[i] = e.ModTime.Truncate(time.Second)
			}
		}
		return nil
	})
	return times, err
}

type siteUpload struct {
	s      *site
	ctx    context.Context
	path   string
	mode   ftpconn.StoreMode
	offset int64
	n      int64
	over   bool
}

func (s *site) Store(ctx context.Context, path string, mode ftpconn.StoreMode, offset int64) (ftpconn.Upload, error) {
	err := s.do(ctx, "store", path, func() error {
		if dir, _ := split(path); !s.hasLocked(dir) {
			return refuse(path, fs.ErrNotExist)
		}
		if e, _ := s.getLocked(path); e.Type == ftpconn.Dir {
			return refuse(path, ftpconn.ErrIsDir)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &siteUpload{s: s, ctx: ctx, path: path, mode: mode, offset: offset}, nil
}

func (u *siteUpload) Write(p []byte) (int, error) {
	u.n += int64(len(p))
	return len(p), nil
}

func (u *siteUpload) Close() error {
	u.over = true
	return u.s.do(u.ctx, "close", u.path, func() error {
		e := ftpconn.Entry{Type: ftpconn.File, Size: u.n}
		old, err := u.s.getLocked(u.path)
		switch {
		case old.Type == ftpconn.Dir:
			return refuse(u.path, ftpconn.ErrIsDir)
		case err == nil && u.mode == ftpconn.Append:
			e.Size += old.Size
		case u.mode == ftpconn.Restart:
			e.Size = max(u.offset+u.n, old.Size)
		}
		u.s.putLocked(u.path, e)
		return nil
	})
}

func (u *siteUpload) Abort() {
	if u.over {
		return
	}
	u.over = true
	_ = u.s.do(u.ctx, "abort", u.path, func() error {
		u.s.putLocked(u.path, ftpconn.Entry{Type: ftpconn.File, Size: u.n / 2})
		return nil
	})
}

func (u *siteUpload) Begun() bool { return true }

func (s *site) Mkdir(ctx context.Context, path string) error {
	return s.do(ctx, "mkdir", path, func() error {
		dir, _ := split(path)
		if !s.hasLocked(dir) {
			return refuse(path, fs.ErrNotExist)
		}
		if _, err := s.getLocked(path); err == nil {
			return refuse(path, fs.ErrExist)
		}
		s.dirs[path] = []ftpconn.Entry{}
		s.putLocked(path, ftpconn.Entry{Type: ftpconn.Dir, Size: 4096})
		return nil
	})
}

func (s *site) Rmdir(ctx context.Context, path string) error {
	return s.do(ctx, "rmdir", path, func() error {
		switch e, err := s.getLocked(path); {
		case err != nil:
			return err
		case e.Type != ftpconn.Dir:
			return refuse(path, ftpconn.ErrNotDir)
		case len(s.dirs[path]) > 0:
			return refuse(path, ftpconn.ErrNotEmpty)
		}
		s.cutLocked(path)
		delete(s.dirs, path)
		return nil
	})
}

func (s *site) Remove(ctx context.Context, path string) error {
	return s.do(ctx, "remove", path, func() error {
		switch e, err := s.getLocked(path); {
		case err != nil:
			return err
		case e.Type == ftpconn.Dir:
			return refuse(path, ftpconn.ErrIsDir)
		}
		s.cutLocked(path)
		return nil
	})
}

func (s *site) Rename(ctx context.Context, from, to string) error {
	return s.do(ctx, "rename", from, func() error {
		e, err := s.getLocked(from)
		if err != nil {
			return err
		}
		if dir, _ := split(to); !s.hasLocked(dir) {
			return refuse(to, fs.ErrNotExist)
		}
		if _, inside := below(to, from); inside && to != from {
			return refuse(to, nil)
		}
		if t, err := s.getLocked(to); err == nil && (t.Type == ftpconn.Dir || e.Type == ftpconn.Dir) {
			return refuse(to, fs.ErrExist)
		}
		s.cutLocked(from)
		s.cutLocked(to)
		s.putLocked(to, e)
		moved := make(map[string][]ftpconn.Entry)
		for d, l := range s.dirs {
			if rest, ok := below(d, from); ok {
				delete(s.dirs, d)
				moved[to+rest] = l
			}
		}
		for d, l := range moved {
			s.dirs[d] = l
		}
		return nil
	})
}

func (s *site) Chmod(ctx context.Context, path string, mode uint32) error {
	return s.do(ctx, "chmod", path, func() error {
		e, err := s.getLocked(path)
		e.Mode, e.HasMode = uint16(mode), true
		if err == nil {
			s.putLocked(path, e)
		}
		return err
	})
}

func (s *site) SetModTime(ctx context.Context, path string, t time.Time) error {
	return s.do(ctx, "utime", path, func() error {
		e, err := s.getLocked(path)
		e.ModTime = t.UTC().Truncate(time.Second)
		if err == nil {
			s.putLocked(path, e)
		}
		return err
	})
}

func (s *site) Retrieve(ctx context.Context, path string, _ int64) (ftpconn.Download, error) {
	return nil, s.do(ctx, "retrieve", path, func() error {
		_, err := s.getLocked(path)
		return err
	})
}

func (s *site) Space(context.Context, string) (ftpconn.Space, error) {
	return ftpconn.Space{}, errors.ErrUnsupported
}
func (s *site) Features() ftpconn.Features { return ftpconn.Features{MLST: !s.noStat, MDTM: !s.noMDTM} }
func (s *site) Close() error               { return nil }

// world is a Meta over a site, with a clock that stands still.
type world struct {
	*Meta
	site *site
	t    *testing.T
	ctx  context.Context

	mu  sync.Mutex
	now time.Time
}

const testTTL = 30 * time.Second

func newWorld(t *testing.T, s *site, edit ...func(*MetaConfig)) *world {
	w := &world{site: s, t: t, ctx: t.Context(), now: epoch}
	cfg := MetaConfig{TTL: testTTL, Now: func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}}
	for _, f := range edit {
		f(&cfg)
	}
	w.Meta = NewMeta(s, cfg)
	return w
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.site.mu.Lock()
	w.site.now = w.site.now.Add(d)
	w.site.mu.Unlock()
}

func (w *world) names(dir string) string {
	w.t.Helper()
	list, err := w.List(w.ctx, dir)
	if err != nil {
		w.t.Fatalf("List(%s): %v", dir, err)
	}
	return namesOf(list)
}

func namesOf(list []ftpconn.Entry) string {
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
	}
	return strings.Join(names, " ")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) entry(path string) ftpconn.Entry {
	w.t.Helper()
	e, err := w.Stat(w.ctx, path)
	w.must(err)
	return e
}

func (w *world) missing(path string) {
	w.t.Helper()
	if e, err := w.Stat(w.ctx, path); !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatalf("Stat(%s) = %+v, %v, want ErrNotExist", path, e, err)
	}
}

func (w *world) upload(path string, mode ftpconn.StoreMode, offset int64, n int) error {
	w.t.Helper()
	u, err := w.Store(w.ctx, path, mode, offset)
	if err != nil {
		return err
	}
	if _, err := u.Write(make([]byte, n)); err != nil {
		w.t.Fatal(err)
	}
	return u.Close()
}

// asked checks how often the site was asked, as "list 1, stat /a/b 2".
func (w *world) asked(want string) {
	w.t.Helper()
	for part := range strings.SplitSeq(want, ", ") {
		var n int
		i := strings.LastIndexByte(part, ' ')
		fmt.Sscan(part[i+1:], &n)
		if got := w.site.count(part[:i]); got != n {
			w.t.Errorf("site was asked %q %d times, want %d", part[:i], got, n)
		}
	}
}
