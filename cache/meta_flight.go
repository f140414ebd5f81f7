package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"ftpfs/ftpconn"
)

// flightKind is what a running request asks for.
type flightKind uint8

const (
	flightList flightKind = iota
	flightStat
	flightTimes
)

type flightKey struct {
	kind flightKind
	path string
}

// flight is one running request and those who wait for it. It may be joined, and its answer
// stored, as long as it is in Meta.flights under its key: taking it out is how a change that its answer
// may miss makes itself known.
type flight struct {
	cancel context.CancelFunc
	keys   []flightKey // one, or one for each path of a flightTimes
	start  uint64      // generation
	began  time.Time
	maxAge time.Duration // flightStat: a listing used in its course began at most so long before

	waiters int // guarded by Meta.mu

	live    *stream       // flightList: what has arrived of a huge listing
	streams chan struct{} // closed when live has something

	done  chan struct{} // closed when the following fields are set
	list  []ftpconn.Entry
	big   *packed // in the place of list
	final bool    // list has all own changes up to its arrival
	entry ftpconn.Entry
	times map[string]time.Time
	err   error
}

// flyLocked starts a request. run asks without the lock and returns what is to be done under it.
func (m *Meta) flyLocked(ctx context.Context, keys []flightKey, run func(context.Context, *flight) (finish func())) *flight {
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, keys: keys, start: m.seq, began: m.now(), waiters: 1, done: make(chan struct{}), streams: make(chan struct{}), live: &stream{more: make(chan struct{})}}
	for _, k := range keys {
		m.flights[k] = f
	}
	go func() {
		defer cancel()
		finish := run(fctx, f)
		m.mu.Lock()
		finish()
		m.landLocked(f)
		m.mu.Unlock()
		close(f.done)
	}()
	return f
}

// validLocked says that f's answer for k may be stored. While a rename is under way none about what it moves may: it may be from
// behind the rename, and would be moved along.
func (m *Meta) validLocked(f *flight, k flightKey) bool {
	for p := range m.moving {
		if _, ok := below(k.path, p); ok {
			return false
		}
	}
	return m.ttl > 0 && m.flights[k] == f
}

// landLocked detaches f: nobody joins it anymore.
func (m *Meta) landLocked(f *flight) {
	for _, k := range f.keys {
		if m.flights[k] == f {
			delete(m.flights, k)
		}
	}
}

// wait waits for f or for the end of ctx, which is the only error it returns. The last one to leave
// cancels the request.
func (m *Meta) wait(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	m.leave(f)
	return ctx.Err()
}

// leave is for who waits no longer.
func (m *Meta) leave(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		m.landLocked(f)
		f.cancel()
	}
}

// joinListLocked joins or starts a listing of dir that began at since or later and can be believed
// about name, or about all names if that is "".
func (m *Meta) joinListLocked(ctx context.Context, dir, name string, since time.Time) *flight {
	k := flightKey{flightList, dir}
	if f := m.flights[k]; f != nil && !f.began.Before(since) && !m.forgottenSinceLocked(dir, name, f.start) {
		f.waiters++
		m.stats.Shared++
		return f
	}
	m.stats.Listings++
	return m.flyLocked(ctx, []flightKey{k}, func(ctx context.Context, f *flight) func() {
		g := gathering{f: f}
		err := g.ask(ctx, m.next, dir)
		g.list = m.withoutPassing(f, g.list)
		var l *listing
		if err == nil && m.ttl > 0 {
			l = g.listing()
		}
		return func() {
			f.list, f.err = g.list, err
			if g.big != nil {
				f.big = g.big.view()
			}
			switch {
			case !m.validLocked(f, k):
			case err == nil:
				m.storeListLocked(dir, l, f)
				f.final = true
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, ftpconn.ErrNotDir):
				m.expireTreeLocked(dir)
				m.forgetLocked(dir)
			}
		}
	})
}

// withoutPassing takes out of a listing what the server shows of our own renames while they are under way: it would stay for a TTL.
func (m *Meta) withoutPassing(f *flight, list []ftpconn.Entry) []ftpconn.Entry {
	passing := func(e ftpconn.Entry) bool { return ftpconn.IsPassing(e.Name) }
	if !slices.ContainsFunc(list, passing) {
		return list
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.moving) == 0 && m.moved.Before(f.began) {
		return list
	}
	return slices.DeleteFunc(list, passing)
}

// listLocked is awaitListLocked for the entries.
func (m *Meta) listLocked(ctx context.Context, dir, name string, since time.Time) ([]ftpconn.Entry, error) {
	f, err := m.awaitListLocked(ctx, dir, name, since, false)
	if err != nil {
		return nil, err
	}
	if f.big != nil {
		return f.big.entries(), f.err
	}
	return f.list, f.err
}

// awaitListLocked is joinListLocked and wait, and returns without the lock. A listing that was detached
// when somebody had joined it already may lack what was changed before he did: he asks again. Who comes early
// gets a huge listing when its beginning is there, and has to leave it, unless something was changed since it was asked for.
func (m *Meta) awaitListLocked(ctx context.Context, dir, name string, since time.Time, early bool) (*flight, error) {
	for {
		f, joined := m.joinListLocked(ctx, dir, name, since), m.seq
		m.mu.Unlock()
		if early && joined == f.start {
			select {
			case <-f.streams:
				return f, nil
			case <-f.done:
			case <-ctx.Done():
			}
		}
		if err := m.wait(ctx, f); err != nil {
			return nil, err
		}
		switch {
		case errors.Is(f.err, ftpconn.ErrNoneFree) && !ftpconn.IsGuess(ctx): // joined somebody's guess
		case f.err != nil || f.final || joined == f.start || m.ttl <= 0:
			return f, nil
		}
		m.mu.Lock()
	}
}

// joinStatLocked joins or starts a request for one entry whose evidence is not older than maxAge.
func (m *Meta) joinStatLocked(ctx context.Context, path string, maxAge time.Duration) *flight {
	k := flightKey{flightStat, path}
	now := m.now()
	if f := m.flights[k]; f != nil && f.maxAge <= maxAge && now.Sub(f.began) <= maxAge {
		f.waiters++
		m.stats.Shared++
		return f
	}
	m.stats.Singles++
	var since time.Time
	if maxAge != anyAge {
		since = now.Add(-maxAge)
	}
	f := m.flyLocked(ctx, []flightKey{k}, func(ctx context.Context, f *flight) func() {
		e, err, listed := m.askEntry(ctx, path, since)
		return func() {
			f.entry, f.err = e, err
			if !listed && m.validLocked(f, k) {
				f.entry = m.storeSingleLocked(path, e, err, f)
			}
		}
	})
	f.maxAge = maxAge
	return f
}

// askEntry asks the server for one entry. listed says that the answer comes out of a listing, which is
// stored already.
func (m *Meta) askEntry(ctx context.Context, path string, since time.Time) (e ftpconn.Entry, err error, listed bool) {
	e, err = m.next.Stat(ctx, path)
	dir, name := split(path)
	e.Name = name
	switch {
	case path == "/":
		if err != nil && !refused(err) {
			return ftpconn.Entry{}, err, false
		}
		if err != nil || e.Type != ftpconn.Dir {
			e = rootEntry()
		}
		return e, nil, false
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return ftpconn.Entry{}, err, false
	case !m.wasSymlink(path) || err == nil && e.Type == ftpconn.Symlink:
		if err != nil {
			e = ftpconn.Entry{}
		}
		return e, err, false
	}
	m.mu.Lock()
	f, err := m.awaitListLocked(ctx, dir, name, since, false)
	if err == nil {
		err = f.err
	}
	if err != nil {
		return ftpconn.Entry{}, err, true
	}
	m.mu.Lock()
	e, _, st := m.lookupLocked(path)
	m.mu.Unlock()
	switch st {
	case present:
		return e, nil, true
	case absent:
		return ftpconn.Entry{}, notExist("stat", path), true
	}
	d := Dir{list: f.list, big: f.big}
	for i := 0; ; i++ { // the listing couldn't be stored
		e, ok, _ := d.At(ctx, i)
		if !ok || e.Name == name {
			if ok {
				return e, nil, true
			}
			break
		}
	}
	return ftpconn.Entry{}, notExist("stat", path), true
}

// wasSymlink says that path was listed as a symlink, however long ago. For such a name an answer for
// the name alone is no evidence: MLST and SIZE follow links on ProFTPD 1.3.8, pyftpdlib 1.5.7 and Apache
// FtpServer, and say 550 to a dangling one.
func (m *Meta) wasSymlink(path string) bool {
	dir, name := split(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.Peek(dir)
	if !ok {
		return false
	}
	e, _ := l.entry(name)
	return e.Type == ftpconn.Symlink
}

// refused says that err is the server's answer to the question, or that it has no means for it.
func refused(err error) bool {
	var reply *ftpconn.ReplyError
	switch {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist):
		return true
	case ftpconn.IsLost(err), errors.Is(err, ftpconn.ErrLogin), errors.Is(err, ftpconn.ErrTooMany):
		return false
	}
	return errors.As(err, &reply) && !reply.Temporary()
}

// rootEntry is what "/" is where the server doesn't say: the session's being logged in is evidence
// enough that it is a directory.
func rootEntry() ftpconn.Entry {
	return ftpconn.Entry{Name: "/", Type: ftpconn.Dir, Size: -1, UID: -1, GID: -1}
}
