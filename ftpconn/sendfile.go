package ftpconn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSource is a failure of the file that is sent, and not of the connection: see FileSender.
var ErrSource = errors.New("reading what is sent")

// sendFile sends n bytes of f at off. In clear text the kernel takes them from the file's pages (sendfile(2)); over TLS, and from files that
// can't be sent so, they are copied.
func (d *dataConn) sendFile(f *os.File, off, n int64) (int64, error) {
	c, err := d.conn()
	if err != nil {
		return 0, err
	}
	done := int64(0)
	if t, ok := c.(*net.TCPConn); ok {
		d.wrote = true
		done, err = d.splice(t, f, off, n)
		d.sent += done
		if err != nil {
			return done, d.reason(err)
		}
	}
	if done < n { // the copy says what is wrong with the file, if anything is
		m, err := copyFile(d, f, off+done, n-done)
		return done + m, err
	}
	return done, nil
}

// splice sends as much of n bytes of f at off as sendfile(2) takes. An error is one of waiting for the socket.
func (d *dataConn) splice(t *net.TCPConn, f *os.File, off, n int64) (done int64, err error) {
	to, err := t.SyscallConn()
	if err != nil {
		return 0, err
	}
	from, err := f.SyscallConn()
	if err != nil {
		return 0, nil
	}
	for done < n {
		// The limit is for standing still, so each piece has its own.
		t.SetWriteDeadline(time.Now().Add(d.timeout))
		m := 0
		var failed error
		held := from.Control(func(in uintptr) {
			err = to.Write(func(out uintptr) bool {
				for {
					at := off + done
					m, failed = unix.Sendfile(int(out), int(in), &at, int(min(n-done, sendPiece)))
					if failed != unix.EINTR {
						return failed != unix.EAGAIN
					}
				}
			})
		})
		if err != nil {
			return done, err
		}
		if held != nil || failed != nil || m <= 0 {
			return done, nil
		}
		done += int64(m)
	}
	return done, nil
}

// sendPiece is how much is sent at once, in bytes.
const sendPiece = 256 << 10

// copyFile writes n bytes of f at off to w. An error of reading is an ErrSource.
func copyFile(w io.Writer, f *os.File, off, n int64) (done int64, err error) {
	buf := make([]byte, min(n, sendPiece))
	for done < n {
		m, err := f.ReadAt(buf[:min(n-done, sendPiece)], off+done)
		if m == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return done, fmt.Errorf("%w: %w", ErrSource, err)
		}
		if m, err = w.Write(buf[:m]); err != nil {
			return done + int64(m), err
		}
		done += int64(m)
	}
	return done, nil
}
