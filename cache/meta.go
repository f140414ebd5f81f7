package cache

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ftpfs/ftpconn"
)

const (
	defaultEntries = 400_000
	// maxNegative bounds how long the server's "no" to a single name is believed: programs that
	// wait for a file ask for its name again and again.
	maxNegative = 5 * time.Second
	// knownMax is the size of the largest listing that Known copies.
	knownMax = 100_000
	// anyAge leaves the age of an answer to the TTL.
	anyAge = time.Duration(math.MaxInt64)
)

// MetaConfig configures a Meta.
type MetaConfig struct {
	// TTL is how long an answer is believed. Zero or less: nothing is remembered, and only
	// requests that run at the same time are shared.
	TTL time.Duration
	// Entries is the budget of remembered entries over all directories, 0: 400,000, which is
	// below 100 MB. A directory costs two more than it has entries, of which those of a huge one, with more than
	// 4,096, count a third. A listing larger than the budget is handed through and not kept.
	Entries int
	// Logger gets what is no error to the caller, at debug level; nil discards.
	Logger *slog.Logger
	// Now is the clock, nil: time.Now.
	Now func() time.Time
}

// MetaStats counts since NewMeta; Entries and Dirs are the present state.
type MetaStats struct {
	Hits      uint64 // answers from memory
	Misses    uint64 // answers that had to wait for a request
	Shared    uint64 // of the misses, those that joined a running request
	Listings  uint64 // List requests sent
	Singles   uint64 // Stat requests sent
	Times     uint64 // ModTimes requests sent
	Evictions uint64 // directories dropped for the budget
	Entries   int    // what counts against the budget
	Dirs      int    // directories of which something is known
}

// Meta is a cache of metadata: a Remote over a Remote. See the package comment for its promises. All
// methods may be called concurrently; paths are clean absolute slash paths.
type Meta struct {
	// Dependencies.
	next ftpconn.Remote
	log  *slog.Logger
	now  func() time.Time

	// Constant.
	ttl    time.Duration
	negTTL time.Duration
	budget int

	mu sync.Mutex // guards following fields; never held during a call of next
	// dirs has what is known of each directory. The directory of "/" itself is "".
	dirs    *simplelru.LRU[string, *listing]
	total   int                   // sum of listing.paid over dirs
	seq     uint64                // generation: rises with every change and every name learned
	flights map[flightKey]*flight // running requests that may still be joined and stored
	moving  map[string]int        // renames under way of, and to, a path
	moved   time.Time             // when a rename last began or ended
	uploads map[*metaUpload]struct{}
	stats   MetaStats
}

var _ ftpconn.Remote = (*Meta)(nil)

// NewMeta puts a cache before next, which it owns from now on: Close closes it.
func NewMeta(next ftpconn.Remote, cfg MetaConfig) *Meta {
	m := &Meta{
		next:    next,
		log:     cfg.Logger,
		now:     cfg.Now,
		ttl:     max(cfg.TTL, 0),
		budget:  cfg.Entries,
		flights: make(map[flightKey]*flight),
		moving:  make(map[string]int),
		uploads: make(map[*metaUpload]struct{}),
	}
	m.negTTL = min(m.ttl, maxNegative)
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.budget <= 0 {
		m.budget = defaultEntries
	}
	// The LRU orders; the bound is the budget of entries, which it can't count. Its constructor fails for sizes
	// below one alone.
	m.dirs, _ = simplelru.NewLRU(math.MaxInt, m.removedLocked)
	return m
}

// List returns all entries of dir in the server's order, from memory while that is younger than
// the TTL. The slice is shared with the cache and with other callers and must not be modified;
// it doesn't change under the caller. A huge listing is copied for it: Open is for those.
func (m *Meta) List(ctx context.Context, dir string) ([]ftpconn.Entry, error) {
	m.mu.Lock()
	if l, ok := m.dirs.Get(dir); ok && m.ttl > 0 && l.answers(m.now(), m.ttl) {
		m.stats.Hits++
		list := l.snapshot()
		m.settleLocked(dir, l)
		m.mu.Unlock()
		return list, nil
	}
	m.stats.Misses++
	return m.listLocked(ctx, dir, "", time.Time{})
}

// Stat returns one entry: from memory if there is evidence younger than the TTL, else from the
// server's answer for that name alone, else from a listing of its directory. "/" is always a
// directory: a server that can't describe it is answered for.
func (m *Meta) Stat(ctx context.Context, path string) (ftpconn.Entry, error) {
	return m.stat(ctx, "stat", path, anyAge)
}

// Fresh is Stat with evidence that is not older than maxAge, and not older than the TTL: for the moment a
// file is opened. What it learns replaces what was known, in the listing too.
func (m *Meta) Fresh(ctx context.Context, path string, maxAge time.Duration) (ftpconn.Entry, error) {
	return m.stat(ctx, "open", path, max(maxAge, 0))
}

func (m *Meta) stat(ctx context.Context, op, path string, maxAge time.Duration) (ftpconn.Entry, error) {
	m.mu.Lock()
	e, asked, st := m.lookupLocked(path)
	if st != unknown && m.now().Sub(asked) <= maxAge {
		m.stats.Hits++
		m.mu.Unlock()
		if st == absent {
			return ftpconn.Entry{}, notExist(op, path)
		}
		return e, nil
	}
	if e, ok := m.arrivedLocked(path, maxAge); ok {
		m.stats.Hits++
		m.mu.Unlock()
		return e, nil
	}
	m.stats.Misses++
	f := m.joinStatLocked(ctx, path, maxAge)
	m.mu.Unlock()
	if err := m.wait(ctx, f); err != nil {
		return ftpconn.Entry{}, err
	}
	return f.entry, f.err
}

// Forget drops what is known of path, and of everything below it.
func (m *Meta) Forget(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireTreeLocked(path)
	m.forgetLocked(path)
}

// ForgetAll drops everything.
func (m *Meta) ForgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs.Purge()
	clear(m.flights)
}

// Stats returns the counters.
func (m *Meta) Stats() MetaStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Entries, s.Dirs = m.total, m.dirs.Len()
	return s
}

// ModTimes is handed through. What it brings is remembered only when asked for by Exact.
func (m *Meta) ModTimes(ctx context.Context, paths []string) ([]time.Time, error) {
	return m.next.ModTimes(ctx, paths)
}

// Retrieve is handed through; a refusal that contradicts what is known corrects it.
func (m *Meta) Retrieve(ctx context.Context, path string, offset int64) (ftpconn.Download, error) {
	d, err := m.next.Retrieve(ctx, path, offset)
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ftpconn.ErrIsDir):
		m.mu.Lock()
		m.failedLocked(err, path)
		m.mu.Unlock()
	}
	return nil, err
}

// Space is handed through.
func (m *Meta) Space(ctx context.Context, path string) (ftpconn.Space, error) {
	return m.next.Space(ctx, path)
}

// Features is handed through.
func (m *Meta) Features() ftpconn.Features { return m.next.Features() }

// Close cancels the running requests and closes the Remote below.
func (m *Meta) Close() error {
	m.mu.Lock()
	for _, f := range m.flights {
		f.cancel()
	}
	clear(m.flights)
	m.mu.Unlock()
	return m.next.Close()
}

func notExist(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

// Known returns the listing of dir if it is remembered and younger than the TTL, and asks nobody. As with List the
// slice must not be modified. A listing of more than 100,000 entries is not given: it would have to be copied.
func (m *Meta) Known(dir string) ([]ftpconn.Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.Peek(dir)
	if !ok || m.ttl <= 0 || l.size() > knownMax || !l.answers(m.now(), m.ttl) {
		return nil, false
	}
	list := l.snapshot()
	m.settleLocked(dir, l)
	return list, true
}
