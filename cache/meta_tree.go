package cache

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"ftpfs/ftpconn"
)

// split cuts a clean absolute path into its directory and its name. The directory of "/" is "".
func split(path string) (dir, name string) {
	if path == "/" {
		return "", "/"
	}
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 1)], path[i+1:]
}

// join is the path of name in dir.
func join(dir, name string) string {
	if dir == "/" || dir == "" {
		return dir + name
	}
	return dir + "/" + name
}

// below returns what is left of path under dir, "" for dir itself, and whether it is there.
func below(path, dir string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, dir)
	return rest, ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// lookupLocked says what is known of path, and when that was asked for.
func (m *Meta) lookupLocked(path string) (ftpconn.Entry, time.Time, state) {
	dir, name := split(path)
	l, ok := m.dirs.Get(dir)
	if !ok || m.ttl <= 0 {
		return ftpconn.Entry{}, time.Time{}, unknown
	}
	return l.lookup(name, m.now(), m.ttl, m.negTTL)
}

// dirLocked returns the listing of dir, a partial one if there was none. Whoever changes it calls
// settleLocked afterwards.
func (m *Meta) dirLocked(dir string) *listing {
	l, ok := m.dirs.Get(dir)
	if !ok {
		l = &listing{}
		m.dirs.Add(dir, l)
	}
	return l
}

// settleLocked brings the total up to date after a change of l, and keeps it within the budget.
func (m *Meta) settleLocked(dir string, l *listing) {
	if m.flights[flightKey{flightList, dir}] == nil { // which may need the oldest of them
		l.pruneNotes(m.now(), m.negTTL)
	}
	m.total += l.cost() - l.paid
	l.paid = l.cost()
	for m.total > m.budget {
		oldest, _, ok := m.dirs.RemoveOldest()
		if !ok {
			return
		}
		m.stats.Evictions++
		m.log.Debug("metadata cache: directory dropped for the budget", "dir", oldest, "for", dir, "entries", m.budget)
	}
}

// removedLocked is told of each listing that leaves the tree. A running request may not be stored
// without the notes that were in it.
func (m *Meta) removedLocked(dir string, l *listing) {
	m.total -= l.paid
	l.paid = 0
	delete(m.flights, flightKey{flightList, dir})
}

// storeListLocked puts a listing that just arrived in the place of what was known of dir, corrected by
// what became known since it was asked for, and gives f its entries.
func (m *Meta) storeListLocked(dir string, l *listing, f *flight) {
	l.complete, l.asked, l.at = true, f.began, m.now()
	if old, ok := m.dirs.Peek(dir); ok {
		l.inherit(old, f.start, m.now(), m.ttl)
		m.landLocked(f) // or the removal would find it
		m.dirs.Remove(dir)
	}
	if l.big != nil {
		f.big = l.big.view()
	} else {
		f.list = l.snapshot()
	}
	if l.cost() > m.budget {
		m.log.Debug("metadata cache: listing larger than the budget", "dir", dir, "entries", l.size(), "budget", m.budget)
		return
	}
	m.dirs.Add(dir, l)
	m.settleLocked(dir, l)
}

// inherit takes over what old knows better than l, which was asked for at generation start.
func (l *listing) inherit(old *listing, start uint64, now time.Time, ttl time.Duration) {
	for i := range l.size() {
		if old.coarse == old.size() && len(old.notes) == 0 {
			break // it knows nothing exactly
		}
		e := l.place(i)
		if !isCoarse(&e) {
			continue
		}
		was, ok := old.entry(e.Name)
		if !ok {
			continue
		}
		if n, ok := old.notes[e.Name]; ok && now.Sub(n.noExact) < ttl && sameCoarse(&was, &e) {
			l.setNote(e.Name, note{noExact: n.noExact})
		}
		if keepExact(&e, &was); !isCoarse(&e) {
			l.set(i, e)
		}
	}
	for name, n := range old.notes {
		e, ok := old.entry(name)
		switch {
		case n.seq > start && n.forgotten:
			l.setNote(name, n)
		case n.seq > start && n.absent:
			l.remove(name)
		case n.seq > start && ok:
			l.put(detached(e))
			l.setNote(name, n)
		case n.ownSeq > start && ok:
			l.inheritAttrs(name, &e, n)
		}
	}
}

// inheritAttrs takes over the parts of an entry that were changed here.
func (l *listing) inheritAttrs(name string, from *ftpconn.Entry, n note) {
	e, ok := l.entry(name)
	if !ok {
		return
	}
	if n.own&attrMode != 0 {
		e.Mode, e.HasMode = from.Mode, from.HasMode
	}
	if n.own&attrTime != 0 {
		e.ModTime, e.ModPrecision = from.ModTime, from.ModPrecision
	}
	l.put(e)
	l.setNote(name, note{ownSeq: n.ownSeq, own: n.own})
}

// storeSingleLocked stores the answer for one name, unless a whole listing was asked for after it,
// and returns the entry as it is to be shown.
func (m *Meta) storeSingleLocked(path string, e ftpconn.Entry, err error, f *flight) ftpconn.Entry {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e
	}
	dir, name := split(path)
	l := m.dirLocked(dir)
	defer m.settleLocked(dir, l)
	if l.fresh(m.now(), m.ttl) && l.asked.After(f.began) {
		return e
	}
	n := l.notes[name]
	was, had := l.entry(name)
	m.seq++
	if err != nil {
		m.noteAbsentLocked(dir, l, name, f.began)
		return e
	}
	if had {
		mergeSingle(&e, &was)
	}
	e = detached(e)
	l.put(e)
	fresh := note{seq: m.seq, at: f.began}
	if had && sameCoarse(&was, &e) {
		fresh.noExact = n.noExact
	}
	l.setNote(name, fresh)
	return e
}

// noteAbsentLocked takes name out of l, on evidence found at the given time.
func (m *Meta) noteAbsentLocked(dir string, l *listing, name string, at time.Time) {
	l.remove(name)
	if l.fresh(m.now(), m.ttl) && m.flights[flightKey{flightList, dir}] == nil {
		l.dropNote(name) // that it isn't in the complete listing says it all
		return
	}
	l.setNote(name, note{seq: m.seq, at: at, absent: true})
}

// forgottenSinceLocked says that name, or any name if that is "", was forgotten after the given
// generation.
func (m *Meta) forgottenSinceLocked(dir, name string, start uint64) bool {
	l, ok := m.dirs.Peek(dir)
	if !ok || l.holes == 0 {
		return false
	}
	if n := l.notes[name]; name != "" {
		return n.forgotten && n.seq > start
	}
	for _, n := range l.notes {
		if n.forgotten && n.seq > start {
			return true
		}
	}
	return false
}
