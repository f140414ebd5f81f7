package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
)

// Local disk that is never taken: the smaller of the two.
const (
	reserveBytes = 256 << 20
	reservePart  = 20 // one twentieth of the disk
)

// allocUnit is what space is counted in: the block of the usual local filesystems, so that one byte
// written here and there costs the budget what it costs the disk.
const allocUnit = 4096

// Spool is a directory of local copies of files that are being written. Several Spools, of one process or of
// several, may share a directory: each has its own subdirectory, and a lock that ends with its process.
// All methods may be called concurrently.
//
// Space is a budget of this Spool's limit, counted in blocks that hold data (holes are free), and of the
// local disk, of which 256 MiB or a twentieth, whichever is less, stays free. What would exceed either
// fails with syscall.ENOSPC before anything is written. Files that could not be uploaded (SpoolFile.Keep) give way first.
//
// No lock of a Spool is held while one of a SpoolFile is taken, nor the other way round.
type Spool struct {
	dir   string
	limit int64 // bytes, 0 for none
	log   *slog.Logger
	own   *ownDir
	// journal says which copies are to outlive this process.
	journal *journal
	// space tells the bytes that may still be written to the disk of dir and those of the whole disk.
	space func() (free, total int64, err error)

	used      atomic.Int64 // bytes reserved or allocated
	keptBytes atomic.Int64 // bytes in keptDir, as far as known

	keptMu sync.Mutex // held while keptDir is changed; no other lock is taken under it

	mu     sync.Mutex // guards the following fields
	files  map[*SpoolFile]struct{}
	serial uint64
	spares []*diskCopy // empty, for files to come
	closed bool
}

// OpenSpool makes the directory (mode 0700) if it is missing, and removes what mounts that are no longer
// alive left in it; what live ones have there is untouched. limit is in bytes, 0 for no other limit than the
// local disk. log may be nil.
//
// The directory has to belong to this user, and to nobody else: one that others may enter is closed to
// them if it is empty or a spool already, and refused otherwise, because a directory in common use, such
// as /tmp, must not be closed. The error says what to do.
func OpenSpool(dir string, limit int64, log *slog.Logger) (*Spool, error) {
	if limit < 0 {
		return nil, fmt.Errorf("spool limit of %d bytes: can't be negative: %w", limit, syscall.EINVAL)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	own, err := openOwnDir(dir, log)
	if err != nil {
		return nil, err
	}
	s := &Spool{
		dir: dir, limit: limit, log: log, own: own,
		space:   func() (int64, int64, error) { return diskSpace(dir) },
		files:   make(map[*SpoolFile]struct{}),
		journal: &journal{own: own, live: make(map[string]string)},
	}
	s.reportKept()
	return s, nil
}

// Create starts the local copy of a file that is not on the server yet, or whose content there no longer
// matters: empty, and dirty. For one that is there, SetBase follows. name is for messages
// only and may hold anything. os.ErrClosed after Close.
func (s *Spool) Create(name string) (*SpoolFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("spool %s: %w", s.dir, os.ErrClosed)
	}
	d := s.spareLocked()
	if d == nil {
		s.serial++
		local := path.Join(s.own.id, fmt.Sprintf("%06d", s.serial))
		file, err := s.own.root.OpenFile(local, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("spool %s: local copy of %q: %w", s.dir, name, err)
		}
		d = &diskCopy{root: s.own.root, name: local, file: file}
	}
	f := newSpoolFile(s, name, d.name, d)
	s.files[f] = struct{}{}
	return f, nil
}

// Usage returns the bytes of local disk that the files of this Spool take or are about to take.
func (s *Spool) Usage() int64 { return s.used.Load() }

// Close closes every file and removes what this Spool has on the local disk, whether or not the server
// has it: the caller uploads first. What is in the journal stays, for Resume. A second Close does nothing.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	files := make([]*SpoolFile, 0, len(s.files))
	for f := range s.files {
		files = append(files, f)
	}
	s.mu.Unlock()

	var errs []error
	for _, f := range files {
		errs = append(errs, f.end(true))
	}
	errs = append(errs, s.dropSpares())
	return errors.Join(append(errs, s.own.close(s.journal.close()))...)
}

// forget takes a closed file off the list and, unless it is to stay, its copy off the disk.
func (s *Spool) forget(f *SpoolFile, stay bool) error {
	s.mu.Lock()
	delete(s.files, f)
	s.mu.Unlock()
	if stay {
		return nil
	}
	err := s.own.root.Remove(f.local)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrClosed) {
		return nil // Spool.Close was quicker
	}
	return err
}

// reserve takes n bytes from the budget, or fails with ENOSPC and takes none.
func (s *Spool) reserve(n int64) error {
	if n <= 0 {
		return nil
	}
	used := s.used.Add(n)
	for {
		err := s.room(used, n)
		if err == nil {
			return nil
		}
		if !s.dropKept() {
			s.used.Add(-n)
			return fmt.Errorf("spool %s: %w", s.dir, err)
		}
	}
}

// room says that used bytes, of which n are new, are within the limit and what the local disk has.
func (s *Spool) room(used, n int64) error {
	if kept := s.keptBytes.Load(); s.limit > 0 && used+kept > s.limit {
		return fmt.Errorf("it is full: files being written take %d of its %d bytes, %d more were needed: %w",
			used-n, s.limit, n, syscall.ENOSPC)
	}
	free, total, err := s.space()
	if err == nil && free-n < min(reserveBytes, total/reservePart) {
		err = fmt.Errorf("the local disk has %d bytes free and %d of them are left alone: %w",
			free, min(reserveBytes, total/reservePart), syscall.ENOSPC)
	}
	return err
}

// release gives n reserved or allocated bytes back.
func (s *Spool) release(n int64) { s.used.Add(-n) }

// diskSpace asks the local filesystem of dir for its bytes: those that this user may still write, and all.
func diskSpace(dir string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of the local disk: %w", err)
	}
	unit := int64(st.Bsize)
	return int64(st.Bavail) * unit, int64(st.Blocks) * unit, nil
}
