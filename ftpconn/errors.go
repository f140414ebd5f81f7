package ftpconn

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strings"
)

// Kinds of failure beyond io/fs's ErrNotExist, ErrExist and ErrPermission. A caller tests for them
// with errors.Is.
var (
	ErrNotEmpty  = errors.New("directory not empty")
	ErrIsDir     = errors.New("is a directory")
	ErrNotDir    = errors.New("not a directory")
	ErrNoSpace   = errors.New("no space left on the server")
	ErrQuota     = errors.New("quota exceeded on the server")
	ErrBusy      = errors.New("file busy on the server")
	ErrBadName   = errors.New("name can't be sent to the server")
	ErrLogin     = errors.New("login refused")
	ErrTooMany   = errors.New("too many connections for the server")
	ErrConnLost  = errors.New("connection to the server lost")
	ErrStale     = errors.New("file changed on the server")
	ErrDataMode  = errors.New("no data connection could be made")
	ErrRemoteEOF = errors.New("offset beyond the end of the file")

	// ErrPortsInUse is an ErrDataMode whose cause is on this machine.
	ErrPortsInUse = errors.New("all local ports that are allowed for data connections are in use")
)

// ReplyError is a refusal by the server: a 4yz or 5yz reply.
type ReplyError struct {
	Command string // verb and argument as sent; the argument of PASS and ACCT is never here
	Code    int    // RFC 959 section 4.2
	Text    string // the server's words, lines joined by "\n"
	Kind    error  // what it means, nil if that isn't known; set by classify or by looking into it
}

func (e *ReplyError) Error() string {
	return fmt.Sprintf("%s: server says %d %s", e.Command, e.Code, strings.ReplaceAll(e.Text, "\n", " / "))
}

// Unwrap makes errors.Is work on the Kind.
func (e *ReplyError) Unwrap() error { return e.Kind }

// Temporary says that the server expects the same command to work later (4yz).
func (e *ReplyError) Temporary() bool { return e.Code >= 400 && e.Code < 500 }

var (
	reTooMany    = regexp.MustCompile(`(?i)too many|maximum|limit|already logged in|more than \d+ connection|exceed`)
	reNotExist   = regexp.MustCompile(`(?i)no such (file|dir)|not found|does ?n[o']t exist|can(no|')t find the (file|path)|check for file existence`)
	rePermission = regexp.MustCompile(`(?i)permission denied|access (is )?denied|not permitted|read-?only|prohibited|forbidden|not allowed`)
	reExist      = regexp.MustCompile(`(?i)file exists|already exists`)
	reNotEmpty   = regexp.MustCompile(`(?i)not empty`)
	reIsDir      = regexp.MustCompile(`(?i)is a directory|not a (regular|plain|valid) file|only retrieve regular`)
	reNotDir     = regexp.MustCompile(`(?i)not a directory`)
	reNoSpace    = regexp.MustCompile(`(?i)no space|disk full|insufficient (storage|disk|space)|out of space`)
	reQuota      = regexp.MustCompile(`(?i)quota`)
	reBadName    = regexp.MustCompile(`(?i)(invalid|illegal|prohibited|bad) (file|directory|path) ?name|invalid character`)
	reBroken     = regexp.MustCompile(`(?im)data connection|broken pipe|connection reset|link to file server|^\s*transfer aborted\s*$`)
	reCantWrite  = regexp.MustCompile(`(?i)failure writing to local file|error during write to file`)
	reNoSlave    = regexp.MustCompile(`(?i)transfer-slave|no (available )?slave`)
	reBusy       = regexp.MustCompile(`(?i)being used by another|text file busy|resource busy|file (is )?locked`)
)

// classify gives the Kind of a refusal by its code and, where the text quotes the system's own
// error string, by its text. path is the command's argument and is taken out of the text
// first, so that a file named "not empty" says nothing. Nil means: look into it.
//
// Texts measured on vsftpd 3.0.3, ProFTPD 1.3.8, Pure-FTPd 1.0.50, pyftpdlib 1.5.7, inetutils 2.4, busybox, Apache
// FtpServer; vsftpd and busybox never say why.
func classify(code int, text, path string) error {
	if path != "" && path != "/" {
		text = strings.ReplaceAll(text, path, "")
	}
	match := func(re *regexp.Regexp) bool { return re.MatchString(text) }
	switch code {
	case 421:
		if match(reTooMany) {
			return ErrTooMany
		}
		return ErrConnLost
	case 530:
		if match(reTooMany) {
			return ErrTooMany
		}
		return ErrLogin
	case 425:
		return ErrDataMode
	case 452:
		return ErrNoSpace
	case 552:
		if match(reQuota) {
			return ErrQuota
		}
		return ErrNoSpace
	case 532:
		return fs.ErrPermission
	case 500, 501, 502, 504:
		if isOops(code, text) {
			return ErrConnLost
		}
		if match(reNotExist) { // pyftpdlib: 501 to MLSD of a missing path
			return fs.ErrNotExist
		}
		return errors.ErrUnsupported
	case 554:
		return ErrRemoteEOF
	case 450, 451, 550, 553, 426, 551:
	default:
		return nil
	}
	switch {
	case match(reNoSpace):
		return ErrNoSpace
	case match(reQuota):
		return ErrQuota
	case code == 426: // texts behind it are often leftovers of errno (inetutils)
		return ErrConnLost
	case code == 451 && match(reCantWrite): // vsftpd 3.0.3 and Pure-FTPd 1.0.50 on a full disk
		return ErrNoSpace
	case code == 451 && match(reBroken): // Pure-FTPd 1.0.50, at times in two words. More words are another matter (ProFTPD)
		return ErrConnLost
	case match(reNotEmpty):
		return ErrNotEmpty
	case match(reNotDir):
		return ErrNotDir
	case match(reIsDir):
		return ErrIsDir
	case match(reExist):
		return fs.ErrExist
	case match(reNotExist):
		return fs.ErrNotExist
	case match(reBadName):
		return ErrBadName
	case match(rePermission):
		return fs.ErrPermission
	case match(reBusy):
		return ErrBusy
	}
	return nil
}

// refusalOf is the refusal r of cmd, whose argument is or has path.
func refusalOf(cmd string, r reply, path string) *ReplyError {
	e := &ReplyError{Command: redact(cmd), Code: r.code, Text: r.text(), Kind: classify(r.code, r.text(), path)}
	if e.Kind == ErrLogin && !ofLogin(cmd) {
		switch {
		case reNoSlave.MatchString(e.Text):
			e.Kind = ErrBusy
		case rePermission.MatchString(e.Text):
			e.Kind = fs.ErrPermission
		default:
			e.Kind = nil
		}
	}
	return e
}

// ofLogin says that a 530 to cmd is about the log-in. To other commands some servers say it of what the user may not do, and
// DrFTPD while the machine is away that has the file.
func ofLogin(cmd string) bool {
	switch verb, _, _ := strings.Cut(cmd, " "); verb {
	case connecting, "USER", "PASS", "ACCT":
		return true
	}
	return false
}

// connecting is the Command of what is said in place of a greeting.
const connecting = "(connect)"

// IsLost says that err is the network's or the session's end rather than an answer: the
// operation may have happened or not.
func IsLost(err error) bool {
	var ne net.Error
	return errors.Is(err, ErrConnLost) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne)
}
