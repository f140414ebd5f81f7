package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// keptDir is where, in a spool directory, the content of files that could not be uploaded stays. Its names begin with the
// time, so that the oldest is the first, and go on with the file's path, a '%' for each '/'. All Spools of the directory
// share it, and nobody but people and the want of room removes what is there.
const keptDir = "lost+found"

// maxKeptName bounds the part of a kept file's name that is made of its path, in bytes.
const maxKeptName = 200

// Keep is Close for a file whose content has no other place: it stays under the local path that is returned, which is made
// of the file's path name, until somebody
// takes it away or its room is needed. The oldest go first, and the log says so: kept files and those being
// written share the Spool's limit, and without one the kept take half of the free space at most. Bytes that are only on
// the server (Missing) are zeros in it. If it can't be kept, the file is as it was.
func (f *SpoolFile) Keep(name string) (string, error) {
	kept, err := f.spool.keep(f, name)
	if err != nil {
		return "", fmt.Errorf("local copy of %q: %w", f.name, err)
	}
	f.mu.Lock()
	f.moved = true
	f.mu.Unlock()
	return kept, f.Close()
}

// LocalPath is where the local copy is on this machine, for messages.
func (f *SpoolFile) LocalPath() string { return path.Join(f.spool.dir, f.local) }

// IsRemoved says that somebody took the local copy away: what it has goes with the process.
func (f *SpoolFile) IsRemoved() bool {
	_, err := f.spool.own.root.Lstat(f.local)
	return errors.Is(err, os.ErrNotExist)
}

// keep gives the local copy of f another name.
func (s *Spool) keep(f *SpoolFile, name string) (string, error) {
	if err := f.Sync(); err != nil {
		return "", err
	}
	bytes := locked(f, f.alloc.Bytes)
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	kept, _ := s.own.weigh(keptDir)
	for s.keptTooMuch(bytes) && s.dropKeptLocked() {
	}
	name, err := s.own.moveToKept(f.local, name)
	if err != nil {
		return "", err
	}
	if kept == 0 {
		s.log.Info("files that could not be uploaded are kept", "dir", path.Join(s.dir, keptDir))
	}
	s.keptBytes.Add(bytes)
	return path.Join(s.dir, name), nil
}

// moveToKept moves a local copy to keptDir, under a name made of its file's path p, and returns it.
func (o *ownDir) moveToKept(local, p string) (kept string, err error) {
	if err := o.root.Mkdir(keptDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	name := strings.ReplaceAll(p, "/", "%")
	kept = path.Join(keptDir, time.Now().UTC().Format("20060102-150405.000000")+"-"+name[max(0, len(name)-maxKeptName):])
	return kept, o.root.Rename(local, kept)
}

// keptTooMuch says that n more bytes would be more than may be kept.
func (s *Spool) keptTooMuch(n int64) bool {
	_, kept := s.own.weigh(keptDir)
	s.keptBytes.Store(kept)
	if s.limit > 0 {
		return kept+s.used.Load() > s.limit // which has the n already
	}
	free, _, err := s.space()
	return err == nil && kept+n > (free+kept+n)/2
}

// dropKept removes the oldest kept file, and says whether there was one.
func (s *Spool) dropKept() bool {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	return s.dropKeptLocked()
}

func (s *Spool) dropKeptLocked() bool {
	d, err := s.own.root.Open(keptDir)
	if err != nil {
		return false
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil || len(names) == 0 {
		return false
	}
	oldest := path.Join(keptDir, slices.Min(names))
	var size int64
	if info, err := s.own.root.Lstat(oldest); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			size = st.Blocks * 512
		}
	}
	if err := s.own.root.Remove(oldest); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("can't make room", "kept file", path.Join(s.dir, oldest), "err", err)
		return false
	}
	s.keptBytes.Add(-min(size, s.keptBytes.Load()))
	s.log.Warn("a file that could not be uploaded was removed to make room", "file", path.Join(s.dir, oldest), "bytes", size)
	return true
}

// reportKept says at the start what earlier mounts left, as far as there is room for it.
func (s *Spool) reportKept() {
	for s.keptTooMuch(0) && s.dropKept() {
	}
	files, bytes := s.own.weigh(keptDir)
	s.keptBytes.Store(bytes)
	if files > 0 {
		s.log.Warn("there are files that earlier mounts could not upload", "dir", path.Join(s.dir, keptDir), "files", files, "bytes", bytes)
	}
}
