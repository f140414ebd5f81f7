package cache

import (
	"context"
	"errors"

	"ftpfs/ftpconn"
)

// What some servers do themselves.

var _ ftpconn.Linker = (*Meta)(nil)

// Symlink makes a symbolic link.
func (m *Meta) Symlink(ctx context.Context, target, link string) error {
	l, ok := m.next.(ftpconn.Linker)
	if !ok {
		return errors.ErrUnsupported
	}
	err := l.Symlink(ctx, target, link)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failedLocked(err, link)
		return err
	}
	m.forgetLocked(link) // the server chooses the text
	m.stirLocked(link)
	return nil
}

var _ ftpconn.Copier = (*Meta)(nil)

// Copy has the server copy a file.
func (m *Meta) Copy(ctx context.Context, from, to string, size int64) error {
	c, ok := m.next.(ftpconn.Copier)
	if !ok {
		return errors.ErrUnsupported
	}
	err := c.Copy(ctx, from, to, size)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.stirLocked(to)
	}
	if err == nil || !untouched(err) {
		m.forgetLocked(to)
	}
	return err
}
