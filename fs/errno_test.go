package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"ftpfs/ftpconn"
)

func TestErrnoOf(t *testing.T) {
	dial := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "connect", Err: e}}
	}
	reply := func(code int, text string, kind error) error {
		return &ftpconn.ReplyError{Command: "STOR f", Code: code, Text: text, Kind: kind}
	}
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{fs.ErrNotExist, syscall.ENOENT},
		{&fs.PathError{Op: "stat", Path: "/f", Err: fs.ErrNotExist}, syscall.ENOENT},
		{fmt.Errorf("local copy: %w", &fs.PathError{Op: "openat", Path: "1", Err: syscall.ENOENT}), syscall.EIO},
		{fmt.Errorf("local copy: %w", &fs.PathError{Op: "openat", Path: "1", Err: syscall.EACCES}), syscall.EIO},
		{fmt.Errorf("local copy: %w", &fs.PathError{Op: "write", Path: "1", Err: syscall.ENOSPC}), syscall.ENOSPC},
		{fs.ErrExist, syscall.EEXIST},
		{fs.ErrPermission, syscall.EACCES},
		{ftpconn.ErrNotEmpty, syscall.ENOTEMPTY},
		{ftpconn.ErrIsDir, syscall.EISDIR},
		{ftpconn.ErrNotDir, syscall.ENOTDIR},
		{ftpconn.ErrNoSpace, syscall.ENOSPC},
		{ftpconn.ErrQuota, syscall.EDQUOT},
		{ftpconn.ErrBusy, syscall.EBUSY},
		{ftpconn.ErrBadName, syscall.EINVAL},
		{ftpconn.ErrStale, syscall.ESTALE},
		{ftpconn.ErrTooMany, syscall.EIO},
		{ftpconn.ErrDataMode, syscall.EIO},
		{ftpconn.ErrLogin, syscall.EACCES},
		{ftpconn.ErrConnLost, syscall.EIO},
		{context.Canceled, syscall.EINTR},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
		{errors.ErrUnsupported, syscall.ENOTSUP},
		{syscall.ENOSYS, syscall.ENOTSUP},
		{syscall.ENAMETOOLONG, syscall.ENAMETOOLONG},
		{dial(syscall.ECONNREFUSED), syscall.ECONNREFUSED},
		{dial(syscall.EHOSTUNREACH), syscall.EHOSTUNREACH},
		{dial(syscall.ETIMEDOUT), syscall.ETIMEDOUT},
		{dial(syscall.ECONNRESET), syscall.EIO},
		{dial(syscall.EPIPE), syscall.EIO},
		{dial(syscall.ENOENT), syscall.EIO},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, syscall.EHOSTUNREACH},
		{&net.DNSError{Err: "timeout", IsTimeout: true}, syscall.ETIMEDOUT},
		{fmt.Errorf("%w: %w", ftpconn.ErrConnLost, io.EOF), syscall.EIO},
		{fmt.Errorf("%w: %w", fs.ErrNotExist, dial(syscall.ECONNREFUSED)), syscall.ECONNREFUSED},
		{reply(553, "Could not create file.", nil), syscall.EACCES},
		{reply(553, "Prohibited file name", nil), syscall.EINVAL},
		{reply(550, "Failed", nil), syscall.EACCES},
		{reply(550, "No such file", fs.ErrNotExist), syscall.ENOENT},
		{reply(452, "full", nil), syscall.ENOSPC},
		{reply(451, "local error", nil), syscall.EIO},
		{reply(502, "not implemented", nil), syscall.ENOTSUP},
		{errors.New("something else"), syscall.EIO},
	} {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err)} {
			if c.err == nil {
				err = nil
			}
			if got, _ := errnoOf(err); got != c.want {
				t.Errorf("%v: %v, want %v", err, got, c.want)
			}
		}
	}
}
