package cache

import (
	"context"
	"errors"
	"time"

	"ftpfs/ftpconn"
)

const (
	// exactBatch is how many times one request asks for: a pipelined MDTM costs about 60 bytes
	// both ways, and servers answered 300 commands in one write in order.
	exactBatch = 256
	// exactMax is the number of files without an exact time above which a directory keeps its coarse ones.
	exactMax = 5000
	// exactScan is how far in a directory the rest of a batch is looked for.
	exactScan = 8192
)

// Provisional is the ModPrecision of an entry that this process has just written: its ModTime is this
// machine's clock, and what the server's clock said is not known yet. It is coarser than
// a second for whoever compares, and nothing that a server's format rounds to.
const Provisional = time.Minute + time.Nanosecond

// Exact is Stat, and for a file whose time is coarser than a second, or provisional, it asks the
// server for the exact one (MDTM), together with the next files of the same directory that need
// it: one round trip for up to 256 of them. A server that has none to give is not asked again
// within the TTL, and the coarse time stands. So it does in a directory with more than 5,000
// such files, except for provisional ones, and where the request fails: an error is Stat's, or
// the end of ctx.
func (m *Meta) Exact(ctx context.Context, path string) (ftpconn.Entry, error) {
	e, err := m.stat(ctx, "stat", path, anyAge)
	if err != nil || !isCoarse(&e) {
		return e, err
	}
	m.mu.Lock()
	f := m.flights[flightKey{flightTimes, path}]
	if f != nil {
		f.waiters++
		m.stats.Shared++
	} else if paths := m.batchLocked(path, &e); len(paths) > 0 {
		f = m.flyTimesLocked(ctx, paths)
	}
	m.mu.Unlock()
	if f == nil {
		return e, nil
	}
	if err := m.wait(ctx, f); err != nil {
		return ftpconn.Entry{}, err
	}
	if f.err != nil {
		m.log.Debug("metadata cache: exact times not had", "path", path, "error", f.err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, _, st := m.lookupLocked(path); st == present {
		return now, nil
	}
	if t := f.times[path]; !t.IsZero() {
		e.ModTime, e.ModPrecision = t, time.Second
	}
	return e, nil
}

// batchLocked chooses whose times are asked for along with path's; none if path's can't be had.
func (m *Meta) batchLocked(path string, e *ftpconn.Entry) []string {
	dir, name := split(path)
	l, ok := m.dirs.Peek(dir)
	if !ok || m.ttl <= 0 {
		return []string{path}
	}
	now := m.now()
	many := l.coarse > exactMax
	switch {
	case now.Sub(l.notes[name].noExact) < m.ttl:
		return nil
	case many && e.ModPrecision != Provisional:
		return nil
	}
	paths := []string{path}
	i := l.find(name)
	if many || i < 0 {
		return paths
	}
	for k := 1; k < min(l.size(), exactScan) && len(paths) < exactBatch; k++ {
		c := l.place((i + k) % l.size())
		if !isCoarse(&c) || now.Sub(l.notes[c.Name].noExact) < m.ttl {
			continue
		}
		p := join(dir, c.Name)
		if m.flights[flightKey{flightTimes, p}] != nil {
			continue
		}
		if _, _, st := l.lookup(c.Name, now, m.ttl, m.negTTL); st == present {
			paths = append(paths, p)
		}
	}
	return paths
}

func (m *Meta) flyTimesLocked(ctx context.Context, paths []string) *flight {
	m.stats.Times++
	keys := make([]flightKey, len(paths))
	for i, p := range paths {
		keys[i] = flightKey{flightTimes, p}
	}
	return m.flyLocked(ctx, keys, func(ctx context.Context, f *flight) func() {
		times, final, err := m.askTimes(ctx, paths)
		return func() {
			f.times, f.err = times, err
			if err == nil {
				m.storeTimesLocked(f, final)
			}
		}
	})
}

// askTimes asks for the times of paths or, where the server has no MDTM, for the first one's by
// Stat. final has the paths of which the server has now said what it can.
func (m *Meta) askTimes(ctx context.Context, paths []string) (times map[string]time.Time, final []string, err error) {
	list, err := m.next.ModTimes(ctx, paths)
	times = make(map[string]time.Time, len(paths))
	if errors.Is(err, errors.ErrUnsupported) {
		e, err := m.next.Stat(ctx, paths[0])
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return times, paths, nil
		case err != nil:
			return nil, nil, err
		case e.Type == ftpconn.File && !isCoarse(&e):
			times[paths[0]] = e.ModTime
		}
		return times, paths[:1], nil
	}
	if err != nil {
		return nil, nil, err
	}
	for i, t := range list[:min(len(list), len(paths))] {
		if !t.IsZero() {
			times[paths[i]] = t.UTC()
		}
	}
	return times, paths, nil
}

// storeTimesLocked puts exact times into the listing, except for names that changed meanwhile.
func (m *Meta) storeTimesLocked(f *flight, final []string) {
	for _, path := range final {
		if !m.validLocked(f, flightKey{flightTimes, path}) {
			continue
		}
		dir, name := split(path)
		l, ok := m.dirs.Peek(dir)
		if !ok {
			continue
		}
		e, ok := l.entry(name)
		if !ok || !isCoarse(&e) {
			continue
		}
		if t := f.times[path]; !t.IsZero() {
			e.ModTime, e.ModPrecision = t, time.Second
			l.put(e)
		} else {
			n := l.notes[name]
			n.noExact = m.now()
			l.setNote(name, n)
		}
		m.settleLocked(dir, l)
	}
}

// isCoarse says that e is a file whose modification time isn't known to the second.
func isCoarse(e *ftpconn.Entry) bool {
	return e.Type == ftpconn.File && (e.ModTime.IsZero() || e.ModPrecision > time.Second)
}

// sameCoarse says that two descriptions of a file can't be told apart.
func sameCoarse(a, b *ftpconn.Entry) bool {
	return a.Type == b.Type && a.Size == b.Size && a.ModPrecision == b.ModPrecision && a.ModTime.Equal(b.ModTime)
}

// keepExact gives e the exact time that was known before, if e's coarser description agrees with it.
func keepExact(e, was *ftpconn.Entry) {
	exact := !was.ModTime.IsZero() && was.ModPrecision <= time.Second
	coarse := e.ModTime.IsZero() || e.ModPrecision > max(was.ModPrecision, time.Second)
	if !exact || !coarse || e.Type != was.Type || e.Size != was.Size {
		return
	}
	if d := was.ModTime.Sub(e.ModTime); e.ModTime.IsZero() || d >= 0 && d < e.ModPrecision {
		e.ModTime, e.ModPrecision = was.ModTime, was.ModPrecision
	}
}

// mergeSingle completes e, the answer for one name, by what was known and e doesn't say: where
// Stat is SIZE and MDTM it knows neither mode nor owner.
func mergeSingle(e, was *ftpconn.Entry) {
	if e.Type != was.Type {
		return
	}
	keepExact(e, was)
	if e.ModTime.IsZero() && e.Size == was.Size {
		e.ModTime, e.ModPrecision = was.ModTime, was.ModPrecision
	}
	if !e.HasMode {
		e.Mode, e.HasMode = was.Mode, was.HasMode
	}
	if e.UID < 0 {
		e.UID = was.UID
	}
	if e.GID < 0 {
		e.GID = was.GID
	}
	if e.Nlink == 0 {
		e.Nlink = was.Nlink
	}
	for _, s := range [...]struct {
		to   *string
		from string
	}{{&e.Target, was.Target}, {&e.Owner, was.Owner}, {&e.Group, was.Group}, {&e.Perm, was.Perm}, {&e.Unique, was.Unique}} {
		if *s.to == "" {
			*s.to = s.from
		}
	}
}
