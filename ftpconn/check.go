package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrMismatch says that the server confirmed an upload, and has something else.
var ErrMismatch = errors.New("the server confirmed an upload, and its file is not what was sent")

// What a 226 is worth. It says that the server came to the end of the data connection, and not that this is where the
// client ended it: pyftpdlib 1.5.7 confirms an upload whose connection was reset; one that lost its end of a connection made
// ahead confirms a file of no bytes; a middle box that goes away closes its connections in good order; and over TLS
// ProFTPD, Pure-FTPd, pyftpdlib and Apache FtpServer don't miss the close_notify. That the client's kernel has seen
// every byte acknowledged says nothing against the last two. So the size is asked for after each upload of any bytes, in the
// same packet where the server keeps commands for after the transfer (vsftpd), and else for one round trip.

// sizeCommand is what is sent behind a transfer command, "" for nothing.
func (c *Conn) sizeCommand(cmd string) string {
	verb, path, _ := strings.Cut(cmd, " ")
	if verb != "STOR" && verb != "APPE" || !c.site.checksSizes() || !c.site.queues() {
		return ""
	}
	return "SIZE " + path
}

func (s *site) checksSizes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.CheckUploads && !s.noSize
}

// check compares the size of a file that was just stored: at Replace and Restart it is want, at Append no less, because
// others may append too, and at Within no less, because there is more. asked is the SIZE that was sent behind the transfer, nil for none. A size that can't be had is no
// error: the server's confirmation stands.
func (c *Conn) check(path string, mode StoreMode, want int64, asked *call) error {
	var r reply
	var err error
	switch {
	case asked != nil:
		r, err = c.l.wait(context.Background(), asked, 0)
	case c.site.checksSizes():
		r, err = c.raw(context.Background(), "SIZE "+path)
	default:
		return nil
	}
	if err == nil && r.code == 421 {
		err = refusalOf("SIZE "+path, r, path)
	}
	if err != nil {
		return fmt.Errorf("the size of what was stored: %w", err)
	}
	return c.site.judge(path, mode, want, r)
}

// judge is check's comparison.
func (s *site) judge(path string, mode StoreMode, want int64, r reply) error {
	got, err := strconv.ParseInt(strings.TrimSpace(r.text()), 10, 64)
	switch {
	case r.code == 213 && err == nil && (got == want || (mode == Append || mode == Within) && got > want):
		s.update(func(s *site) { s.sized = true })
	case r.code == 213 && err == nil:
		s.update(func(s *site) { s.noHaste = true })
		return fmt.Errorf("%w: %s has %d of %d bytes", ErrMismatch, path, got, want)
	default: // may be written to and not looked at
		s.update(func(s *site) { s.noHaste = true })
		s.log.Debug("the size of an upload can't be had", "path", path, "code", r.code, "text", r.text())
		if r.code == 500 || r.code == 502 {
			s.update(func(s *site) { s.noSize = true })
		}
	}
	return nil
}
