package cache

import (
	"errors"
	"os"
)

// A small file that is written, uploaded and closed costs the local disk more by the making and the removal of its copy than by its
// bytes. So some copies are kept, emptied, for the files to come. One that a journal has named is not among them: what is
// journaled of it may outlive what it is.
const (
	maxSpares    = 8
	maxSpareSize = 1 << 20 // bytes that it may have had: cutting a large one takes long
)

// spareLocked returns an empty copy, nil if there is none.
func (s *Spool) spareLocked() *diskCopy {
	last := len(s.spares) - 1
	if last < 0 {
		return nil
	}
	d := s.spares[last]
	s.spares[last], s.spares = nil, s.spares[:last]
	return d
}

// recycle keeps d, whose file is closed, for another one. False if it is to be removed as usual.
func (s *Spool) recycle(d *diskCopy) bool {
	s.mu.Lock()
	room := !s.closed && len(s.spares) < maxSpares
	s.mu.Unlock()
	if !room {
		return false
	}
	file := d.give()
	if file == nil {
		return false
	}
	if err := file.Truncate(0); err != nil {
		file.Close()
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.spares) >= maxSpares {
		file.Close()
		return false
	}
	s.spares = append(s.spares, &diskCopy{root: d.root, name: d.name, file: file})
	return true
}

// dropSpares removes the empty copies.
func (s *Spool) dropSpares() error {
	s.mu.Lock()
	spares := s.spares
	s.spares = nil
	s.mu.Unlock()
	var errs []error
	for _, d := range spares {
		errs = append(errs, d.Close(), s.own.root.Remove(d.name))
	}
	return errors.Join(errs...)
}

// give is Close that hands the open file over, nil if it is at rest.
func (d *diskCopy) give() *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := d.file
	d.file, d.closed = nil, true
	return file
}
