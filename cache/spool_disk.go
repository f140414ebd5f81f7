package cache

import (
	"os"
	"sync"
)

// diskCopy is the local file behind a SpoolFile. While nobody uses it, it may be put to rest: many files can wait for their
// upload, and descriptors are few.
type diskCopy struct {
	root *os.Root // constant
	name string   // constant

	mu     sync.RWMutex // guards following; held for reading while file is used
	file   *os.File     // nil: at rest
	closed bool
}

// use calls op with the open file.
func (d *diskCopy) use(op func(*os.File) error) error {
	for {
		d.mu.RLock()
		if d.file != nil {
			defer d.mu.RUnlock()
			return op(d.file)
		}
		d.mu.RUnlock()
		if _, err := d.open(); err != nil {
			return err
		}
	}
}

// open returns the open file, which is good until the next rest or Close.
func (d *diskCopy) open() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, os.ErrClosed
	}
	if d.file != nil {
		return d.file, nil
	}
	file, err := d.root.OpenFile(d.name, os.O_RDWR, 0)
	if err == nil {
		d.file = file
	}
	return file, err
}

// rest gives the descriptor back until the next use.
func (d *diskCopy) rest() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}

func (d *diskCopy) ReadAt(p []byte, off int64) (n int, err error) {
	err = d.use(func(f *os.File) error {
		n, err = f.ReadAt(p, off)
		return err
	})
	return n, err
}

func (d *diskCopy) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.use(func(f *os.File) error {
		n, err = f.WriteAt(p, off)
		return err
	})
	return n, err
}

func (d *diskCopy) Truncate(size int64) error {
	return d.use(func(f *os.File) error { return f.Truncate(size) })
}

func (d *diskCopy) Sync() error { return d.use((*os.File).Sync) }

func (d *diskCopy) Close() error {
	err := d.rest()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return err
}

// Rest gives the descriptor of the local copy back until it is read or written again. No Stream of it may be in use.
func (f *SpoolFile) Rest() {
	d, ok := f.file.(*diskCopy)
	if !ok {
		return
	}
	if err := d.rest(); err != nil {
		f.spool.log.Warn("a local copy", "file", f.LocalPath(), "err", err)
	}
}
