package cache

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Resumed is a local copy that a mount left which crashed, or couldn't reach its server any more.
type Resumed struct {
	Pending
	File *SpoolFile
	// Torn says that it was being changed when that mount ended: it is what had reached the disk. Cut says that it is less than what
	// was closed.
	Torn, Cut bool
}

// Resume takes over what mounts of site that are no longer alive have in their journals, the first that was closed first: the copies
// are this Spool's from then on, and in its journal. An error may come along with some of it: what could not be taken over stays where
// it is.
func (s *Spool) Resume(site string) (list []Resumed, err error) {
	names, err := s.own.names()
	if err != nil {
		return nil, fmt.Errorf("spool directory %s: %w", s.dir, err)
	}
	var errs []error
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".lock")
		if !ok || !reOwnDir.MatchString(id) || id == s.own.id {
			continue
		}
		some, err := s.adopt(id, site)
		if err != nil {
			errs = append(errs, fmt.Errorf("spool directory %s: files of %s that wait for their upload: %w", s.dir, id, err))
		}
		list = append(list, some...)
	}
	slices.SortStableFunc(list, func(a, b Resumed) int { return a.Closed.Compare(b.Closed) })
	return list, errors.Join(errs...)
}

// adopt is Resume for the Spool named id. At each moment of it a crash leaves each copy with one journal, or two of which one is
// right: a line without its copy counts for nothing.
func (s *Spool) adopt(id, site string) (list []Resumed, err error) {
	lock, err := s.own.root.OpenFile(id+".lock", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close() // unlocks
	if err := flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil // alive
	} else if err != nil {
		return nil, err
	}
	live, damaged, err := s.own.waiting(id)
	if err != nil {
		return nil, err
	}
	if damaged > 0 {
		s.log.Warn("lines of a journal are damaged; what they say was never confirmed, or is said again by others", "dir", s.dir, "mount", id, "lines", damaged)
	}
	others := 0
	var copies []string // of list
	for _, copy := range slices.Sorted(maps.Keys(live)) {
		p := live[copy]
		if p.Site != site {
			others++
			continue
		}
		r, err := s.adoptOne(path.Join(id, copy), p)
		if err != nil {
			return nil, errors.Join(err, s.disown(list))
		}
		list, copies = append(list, r), append(copies, copy)
	}
	if len(list) > 0 {
		if err := s.journal.syncAll(); err != nil {
			return nil, errors.Join(err, s.disown(list))
		}
	}
	for i, copy := range copies {
		if err := s.own.root.Rename(path.Join(id, copy), list[i].File.local); err != nil {
			return list[:i], errors.Join(err, s.disown(list[i:]))
		}
	}
	if err := errors.Join(s.own.syncDir(s.own.id), s.own.syncDir(id)); err != nil {
		return list, err
	}
	if others > 0 {
		return list, nil
	}
	if err := s.own.rescue(id, nil, s.log); err != nil {
		return list, err
	}
	return list, errors.Join(s.own.root.RemoveAll(id), s.own.root.Remove(id+".lock"))
}

// disown takes adoptOne back.
func (s *Spool) disown(list []Resumed) error {
	var errs []error
	for _, r := range list {
		errs = append(errs, r.File.Close())
	}
	return errors.Join(errs...)
}

// adoptOne makes the copy from this Spool's own, but for its name, which is to be File.local.
func (s *Spool) adoptOne(from string, p Pending) (r Resumed, err error) {
	info, err := s.own.root.Lstat(from)
	if err != nil {
		return r, err
	}
	r.Pending = p
	closed := p.Shape.Size
	p.Shape, r.Torn = p.Shape.onDisk(info.Size())
	r.Cut = p.Shape.Size < closed
	r.Pending.Shape = p.Shape
	s.mu.Lock()
	s.serial++
	local := path.Join(s.own.id, fmt.Sprintf("%06d", s.serial))
	ended := s.closed
	s.mu.Unlock()
	if ended {
		return r, os.ErrClosed
	}
	f := newSpoolFile(s, p.Path, local, &diskCopy{root: s.own.root, name: local})
	f.restore(p.Shape)
	line, err := encodePending(path.Base(local), p)
	if err == nil {
		err = s.journal.put(path.Base(local), line, false)
	}
	if err != nil {
		return r, err
	}
	s.used.Add(f.alloc.Bytes()) // it is on the disk already, so nothing is asked
	s.mu.Lock()
	s.files[f] = struct{}{}
	s.mu.Unlock()
	r.File = f
	return r, nil
}

// onDisk returns the shape of a copy of which size bytes were found, and whether that isn't what was closed: then somebody was writing
// to it again when its mount ended, and it is whatever had come that far. A change that left the size as it was can't be told.
func (s Shape) onDisk(size int64) (now Shape, torn bool) {
	var known, dirty Extents
	for _, r := range s.Known {
		known.Add(r.Off, r.End)
	}
	for _, r := range s.Dirty {
		dirty.Add(r.Off, r.End)
	}
	last, _ := known.Last()
	switch {
	case size < last.End: // cut
		known.Remove(size, last.End)
		dirty.Remove(size, last.End)
		return Shape{size, min(s.Base, size), unknownSize, known.Ranges(), dirty.Ranges()}, true
	case size > s.Size && known.Bytes() == s.Size: // longer
		known.Add(s.Size, size)
		dirty.Add(s.Size, size)
		return Shape{size, s.Base, s.Server, known.Ranges(), dirty.Ranges()}, true
	}
	return s, false
}

// Arrived says that the server was found to have the first size bytes of this file, as of version, at the least Base of them. False if
// the file has changed since, and then nothing is noted.
func (f *SpoolFile) Arrived(version uint64, size int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.version != version || size < f.base || size > f.size {
		return false
	}
	f.base, f.server = size, size
	f.dirty.Remove(0, size)
	return true
}

// restore gives a new local copy the shape of an earlier one. The version is one that no Plan has named.
func (f *SpoolFile) restore(s Shape) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size, f.base, f.server, f.version, f.named = s.Size, min(s.Base, s.Size), s.Server, 1, true
	for _, r := range s.Known {
		f.known.Add(r.Off, r.End)
		blocks := inBlocks(r.Off, r.End)
		f.alloc.Add(blocks.Off, blocks.End)
	}
	for _, r := range s.Dirty {
		f.dirty.Add(r.Off, r.End)
	}
}
