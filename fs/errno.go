package fs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"regexp"
	"syscall"

	"ftpfs/ftpconn"
)

// errnoKinds is searched from the top; the first kind that errors.Is finds decides. What the
// network did stands before what a server said, so that a lost connection never becomes ENOENT.
var errnoKinds = []struct {
	kind  error
	errno syscall.Errno
}{
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
	{ftpconn.ErrTooMany, syscall.EIO},
	{ftpconn.ErrDataMode, syscall.EIO},
	{ftpconn.ErrLogin, syscall.EACCES},
	{ftpconn.ErrConnLost, syscall.EIO},
	{ftpconn.ErrMismatch, syscall.EIO},
	{ftpconn.ErrStale, syscall.ESTALE},
	{ftpconn.ErrNotEmpty, syscall.ENOTEMPTY},
	{ftpconn.ErrIsDir, syscall.EISDIR},
	{ftpconn.ErrNotDir, syscall.ENOTDIR},
	{ftpconn.ErrNoSpace, syscall.ENOSPC},
	{ftpconn.ErrQuota, syscall.EDQUOT},
	{ftpconn.ErrBusy, syscall.EBUSY},
	{ftpconn.ErrBadName, syscall.EINVAL},
	{fs.ErrNotExist, syscall.ENOENT},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrPermission, syscall.EACCES},
}

// reBadName finds the refusals of a name among the 553 texts; the other 553 are a lack of rights
// (RFC 959 has "File name not allowed" for both).
var reBadName = regexp.MustCompile(`(?i)(prohibited|invalid|illegal|bad|malformed).{0,12}name|invalid character|name.{0,8}(too long|invalid)|syntax is incorrect`)

// errnoOf makes an errno of an error: the only place that does. It is never ENOSYS, which in an
// answer to FLUSH or FSYNC makes the kernel stop asking for the whole mount. lost says that the errno
// tells less than err does, so that err belongs in the log.
func errnoOf(err error) (errno syscall.Errno, lost bool) {
	if err == nil {
		return 0, false
	}
	for _, k := range errnoKinds[:3] {
		if errors.Is(err, k.kind) {
			return k.errno, k.errno != syscall.EINTR
		}
	}
	if e, ok := errnoOfNet(err); ok {
		return e, true
	}
	if e, ok := errnoOfLocal(err); ok {
		return e, true
	}
	for _, k := range errnoKinds[3:] {
		if errors.Is(err, k.kind) {
			return k.errno, k.errno == syscall.EIO || k.kind == ftpconn.ErrLogin
		}
	}
	var sys syscall.Errno
	var reply *ftpconn.ReplyError
	switch {
	case errors.As(err, &sys) && sys != 0 && sys != syscall.ENOSYS:
		return sys, false
	case errors.Is(err, errors.ErrUnsupported), sys == syscall.ENOSYS:
		return syscall.ENOTSUP, true
	case errors.As(err, &reply):
		return errnoOfReply(reply), true
	}
	return syscall.EIO, true
}

// errnoOfLocal is for what the kernel said of a file on this machine's disk, as of a local copy: that it isn't there, or may not
// be touched, says nothing of the one on the server. ok is false for an error of another kind.
func errnoOfLocal(err error) (e syscall.Errno, ok bool) {
	var local *fs.PathError
	if !errors.As(err, &local) || !errors.As(local.Err, &e) {
		return 0, false
	}
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(local, e) {
			return e, true
		}
	}
	return syscall.EIO, true
}

// errnoOfNet tells apart the ways in which a network fails; ok is false for an error of
// another kind. ECONNRESET and EPIPE are EIO: a program that wrote to a file knows neither.
func errnoOfNet(err error) (syscall.Errno, bool) {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if dns.IsTimeout {
			return syscall.ETIMEDOUT, true
		}
		return syscall.EHOSTUNREACH, true
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		switch sys {
		case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT:
			return sys, true
		case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, syscall.ENETDOWN, syscall.ENETRESET, syscall.ENOTCONN:
			return syscall.EIO, true
		}
	}
	var op *net.OpError
	var ne net.Error
	if errors.As(err, &ne) {
		if ne.Timeout() {
			return syscall.ETIMEDOUT, true
		}
		if sys == 0 || errors.As(err, &op) { // a syscall.Errno is a net.Error too
			return syscall.EIO, true
		}
	}
	return 0, false
}

// errnoOfReply is for refusals that ftpconn looked into without finding what they mean.
func errnoOfReply(e *ftpconn.ReplyError) syscall.Errno {
	switch e.Code {
	case 553:
		if reBadName.MatchString(e.Text) {
			return syscall.EINVAL
		}
		return syscall.EACCES
	case 550, 530, 532:
		// RFC 959: "not found, no access". Not found was looked for and excluded.
		return syscall.EACCES
	case 452, 552:
		return syscall.ENOSPC
	case 500, 501, 502, 504:
		return syscall.ENOTSUP
	}
	return syscall.EIO
}

// errno is errnoOf for an operation on path, and logs what the errno can't say: with the
// server's words, at level warning where the cause isn't in the errno and debug elsewhere.
func (t *tree) errno(op, path string, err error) syscall.Errno {
	e, lost := errnoOf(err)
	if e == 0 || e == syscall.EINTR {
		return e
	}
	level := slog.LevelDebug
	if lost {
		level = slog.LevelWarn
	}
	t.log.Log(context.Background(), level, op+" failed", "path", path, "errno", e.Error(), "err", err)
	return e
}
