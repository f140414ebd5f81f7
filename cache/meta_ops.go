package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"ftpfs/ftpconn"
)

// Own changes. Each is asked of the server first and applied when that is answered: applying is
// idempotent, so that it doesn't matter whether a listing that was taken in between has it already. When a
// change fails it is unknown what the server did, and the names concerned are forgotten; but where
// nothing can have been done, what is known stays.

// Mkdir makes a directory, and remembers it as empty.
func (m *Meta) Mkdir(ctx context.Context, path string) error {
	err := m.next.Mkdir(ctx, path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failedLocked(err, path)
		return err
	}
	m.dropTreeLocked(path)
	m.putLocked(path, m.newEntryLocked(path, ftpconn.Dir))
	m.stirLocked(path)
	if m.ttl > 0 {
		now := m.now()
		l := m.dirLocked(path)
		l.complete, l.asked, l.at = true, now, now
		m.settleLocked(path, l)
	}
	return nil
}

// Rmdir removes a directory.
func (m *Meta) Rmdir(ctx context.Context, path string) error {
	err := m.next.Rmdir(ctx, path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if !untouched(err) { // not empty, though perhaps remembered as empty
			m.expireTreeLocked(path)
		}
		m.failedLocked(err, path)
		return err
	}
	m.goneLocked(path)
	m.stirLocked(path)
	return nil
}

// Remove removes a file or a symlink.
func (m *Meta) Remove(ctx context.Context, path string) error {
	err := m.next.Remove(ctx, path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failedLocked(err, path)
		return err
	}
	m.goneLocked(path)
	m.stirLocked(path)
	return nil
}

// Rename moves an entry with all that is known of it and of what is below it.
func (m *Meta) Rename(ctx context.Context, from, to string) error {
	m.movingPaths(+1, from, to)
	err := m.next.Rename(ctx, from, to)
	defer m.movingPaths(-1, from, to) // behind the lock
	if err == nil && from == to {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if !untouched(err) {
			m.expireTreeLocked(from)
			m.expireTreeLocked(to)
		}
		m.failedLocked(err, from, to)
		return err
	}
	m.movedLocked(from, to)
	m.stirLocked(from)
	m.stirLocked(to)
	return nil
}

// movingPaths counts the renames under way.
func (m *Meta) movingPaths(by int, paths ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range paths {
		if m.moving[p] += by; m.moving[p] == 0 {
			delete(m.moving, p)
		}
	}
	m.moved = m.now()
}

// Chmod sets the permission bits.
func (m *Meta) Chmod(ctx context.Context, path string, mode uint32) error {
	err := m.next.Chmod(ctx, path, mode)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changedLocked(err, path, attrMode, modeEdit(mode))
	return err
}

func modeEdit(mode uint32) func(*ftpconn.Entry) {
	return func(e *ftpconn.Entry) { e.Mode, e.HasMode = uint16(mode&07777), true }
}

// SetModTime sets the modification time, to the second.
func (m *Meta) SetModTime(ctx context.Context, path string, t time.Time) error {
	err := m.next.SetModTime(ctx, path, t)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changedLocked(err, path, attrTime, timeEdit(t))
	return err
}

func timeEdit(t time.Time) func(*ftpconn.Entry) {
	return func(e *ftpconn.Entry) { e.ModTime, e.ModPrecision = t.UTC().Truncate(time.Second), time.Second }
}

// untouched says that err left the server as it was, and that it is no evidence against what is
// known: rsync -a sets the mode of every file, and on a server that can't that may cost nothing.
func untouched(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ftpconn.ErrBadName)
}

// failedLocked makes unknown what a failed operation on paths leaves in doubt: the names
// themselves, and their directories if the server contradicts what is known of them.
func (m *Meta) failedLocked(err error, paths ...string) {
	if untouched(err) {
		return
	}
	wrong := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)
	for _, path := range paths {
		if dir, _ := split(path); wrong {
			m.expireLocked(dir)
		}
		m.forgetLocked(path)
	}
}

// expireLocked makes everything in dir unknown.
func (m *Meta) expireLocked(dir string) {
	delete(m.flights, flightKey{flightList, dir})
	if l, ok := m.dirs.Peek(dir); ok {
		l.expire()
		m.settleLocked(dir, l)
	}
}

// expireTreeLocked makes everything in dir and below it unknown.
func (m *Meta) expireTreeLocked(dir string) {
	m.detachTreeLocked(dir)
	for _, d := range m.treeLocked(dir) {
		m.expireLocked(d)
	}
}

// dropTreeLocked removes the listings of dir and of what is below it.
func (m *Meta) dropTreeLocked(dir string) {
	m.detachTreeLocked(dir)
	for _, d := range m.treeLocked(dir) {
		m.dirs.Remove(d)
	}
}

// treeLocked returns the directories at and below dir of which something is known, the least recently used
// first.
func (m *Meta) treeLocked(dir string) []string {
	return slices.DeleteFunc(m.dirs.Keys(), func(d string) bool {
		_, ok := below(d, dir)
		return !ok
	})
}

// detachTreeLocked keeps the answers of requests that run for dir, or for what is below it, from
// being stored.
func (m *Meta) detachTreeLocked(dir string) {
	for k := range m.flights {
		if _, ok := below(k.path, dir); ok {
			delete(m.flights, k)
		}
	}
}

// touchLocked keeps the answers of requests that run for path itself from being stored; a running listing
// of its directory is corrected by the note that the caller makes. Nothing corrects it without a
// TTL, so newcomers get one of their own.
func (m *Meta) touchLocked(path string) {
	m.seq++
	delete(m.flights, flightKey{flightStat, path})
	delete(m.flights, flightKey{flightTimes, path})
	if m.ttl <= 0 {
		dir, _ := split(path)
		delete(m.flights, flightKey{flightList, dir})
	}
}

// forgetLocked makes path unknown.
func (m *Meta) forgetLocked(path string) {
	m.touchLocked(path)
	if m.ttl <= 0 {
		return
	}
	dir, name := split(path)
	flying := m.flights[flightKey{flightList, dir}] != nil
	if _, ok := m.dirs.Peek(dir); !ok && !flying {
		return
	}
	l := m.dirLocked(dir)
	if e, ok := l.entry(name); ok && !e.ModTime.IsZero() {
		e.ModTime, e.ModPrecision = time.Time{}, 0 // no coarser time may revive it
		l.put(e)
	}
	if flying || l.fresh(m.now(), m.ttl) {
		l.setNote(name, note{seq: m.seq, forgotten: true})
	} else {
		l.dropNote(name) // nothing else speaks for it
	}
	m.settleLocked(dir, l)
}

// putLocked makes e what is known of path, as of now.
func (m *Meta) putLocked(path string, e ftpconn.Entry) {
	m.touchLocked(path)
	if m.ttl <= 0 {
		return
	}
	dir, name := split(path)
	l := m.dirLocked(dir)
	e.Name = name
	l.put(detached(e))
	l.setNote(name, note{seq: m.seq, at: m.now()})
	m.settleLocked(dir, l)
}

// goneLocked applies a confirmed removal.
func (m *Meta) goneLocked(path string) {
	if !m.leafLocked(path) {
		m.dropTreeLocked(path)
	}
	m.disturbLocked(path, path)
	m.touchLocked(path)
	if m.ttl <= 0 {
		return
	}
	dir, name := split(path)
	l := m.dirLocked(dir)
	m.noteAbsentLocked(dir, l, name, m.now())
	m.settleLocked(dir, l)
}

// movedLocked applies a confirmed rename.
func (m *Meta) movedLocked(from, to string) {
	e, asked, st := m.lookupLocked(from)
	was, had := m.staleLocked(from)
	dir, name := split(from)
	var n note
	if l, ok := m.dirs.Peek(dir); ok {
		n = l.notes[name]
	}
	m.dropTreeLocked(to)
	if !m.leafLocked(from) {
		m.moveTreeLocked(from, to)
	}
	m.disturbLocked(from, to)
	m.disturbLocked(to, to)
	m.goneLocked(from)
	switch {
	case m.ttl <= 0 || !had:
		m.forgetLocked(to)
	case st == present:
		m.putLocked(to, e)
		m.amendLocked(to, func(note note) note {
			note.at, note.noExact = asked, n.noExact
			return note
		})
	default:
		m.putLocked(to, was) // for its exact time
		m.amendLocked(to, func(n note) note { return note{seq: n.seq, forgotten: true} })
	}
}

// moveTreeLocked moves what is known of a directory, and of those below it, to another path. The requests
// that run for them are left to goneLocked.
func (m *Meta) moveTreeLocked(from, to string) {
	for _, d := range m.treeLocked(from) {
		l, _ := m.dirs.Peek(d)
		m.dirs.Remove(d)
		rest, _ := below(d, from)
		m.dirs.Add(to+rest, l)
		m.settleLocked(to+rest, l)
	}
}

// amendLocked edits the note on path.
func (m *Meta) amendLocked(path string, edit func(note) note) {
	dir, name := split(path)
	if l, ok := m.dirs.Peek(dir); ok {
		l.setNote(name, edit(l.notes[name]))
		m.settleLocked(dir, l)
	}
}

// changedLocked applies an own change of a part of an entry. A refusal changes nothing; another
// failure leaves it in doubt.
func (m *Meta) changedLocked(err error, path string, part attrs, edit func(*ftpconn.Entry)) {
	var reply *ftpconn.ReplyError
	switch {
	case err == nil:
	case errors.As(err, &reply) && !reply.Temporary() && !errors.Is(err, fs.ErrNotExist):
		return
	default:
		m.failedLocked(err, path)
		return
	}
	e, _, st := m.lookupLocked(path)
	if was, had := m.staleLocked(path); st != present || was.Type == ftpconn.Symlink {
		// Of a symlink the server changed the target. Of an unknown entry a running listing may have
		// the old state; a time that was set is worth keeping even so.
		if had && was.Type != ftpconn.Symlink {
			e = was
		} else {
			m.forgetLocked(path)
			return
		}
	}
	m.touchLocked(path)
	edit(&e)
	dir, _ := split(path)
	m.dirLocked(dir).put(e)
	m.amendLocked(path, func(n note) note {
		n.ownSeq, n.own, n.noExact = m.seq, n.own|part, time.Time{}
		return n
	})
}

// stirLocked notes that the directory of path has another time by now: rsync looks at it before it sets its own.
func (m *Meta) stirLocked(path string) {
	dir, _ := split(path)
	if e, _, st := m.lookupLocked(dir); st != present || e.Type != ftpconn.Dir {
		return
	}
	m.changedLocked(nil, dir, attrTime, func(e *ftpconn.Entry) {
		e.ModTime, e.ModPrecision = m.now().UTC().Truncate(time.Second), Provisional
	})
}

// leafLocked says that nothing can be known of names below path: what makes most changes cheap, for finding
// those goes through all directories.
func (m *Meta) leafLocked(path string) bool {
	e, _, st := m.lookupLocked(path)
	return st == present && e.Type == ftpconn.File && !m.dirs.Contains(path)
}

// staleLocked returns what was last known of path, however old, and whether anything was.
func (m *Meta) staleLocked(path string) (ftpconn.Entry, bool) {
	dir, name := split(path)
	l, ok := m.dirs.Peek(dir)
	if !ok {
		return ftpconn.Entry{}, false
	}
	return l.entry(name)
}

// newEntryLocked is what an entry that was just made looks like, as far as that is known.
func (m *Meta) newEntryLocked(path string, t ftpconn.Type) ftpconn.Entry {
	_, name := split(path)
	return ftpconn.Entry{
		Name: name, Type: t, Size: -1, UID: -1, GID: -1,
		ModTime: m.now().UTC().Truncate(time.Second), ModPrecision: Provisional,
	}
}
