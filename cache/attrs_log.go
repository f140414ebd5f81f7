package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// attrLine is one change of Attrs.
type attrLine struct {
	op   byte
	path string
	to   string // of opMove and opSwap
	dir  bool   // of opMove and opSwap: what is below goes along
	attr Attr   // of opSet
}

const (
	opSet  = '='
	opDrop = '-'
	opMove = '>'
	opSwap = '~'
)

// String is the line without its end: fields between spaces, of which a quoted path is the first.
func (l attrLine) String() string {
	var b strings.Builder
	b.WriteByte(l.op)
	b.WriteString(" " + strconv.Quote(l.path))
	switch l.op {
	case opSet:
		a := l.attr
		mode, server, mtime, stime := "-", "-", "-", "-"
		if a.HasMode {
			mode = strconv.FormatUint(uint64(a.Mode), 8)
		}
		if a.HasServerMode {
			server = strconv.FormatUint(uint64(a.ServerMode), 8)
		}
		if !a.ModTime.IsZero() {
			mtime = formatTime(a.ModTime)
		}
		if !a.ServerTime.IsZero() {
			stime = formatTime(a.ServerTime)
		}
		fmt.Fprintf(&b, " %s %s %s %d %s %d", mode, server, mtime, a.Size, stime, int64(a.Precision))
	case opMove, opSwap:
		fmt.Fprintf(&b, " %t %s", l.dir, strconv.Quote(l.to))
	}
	return b.String()
}

func formatTime(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + "." + strconv.Itoa(t.Nanosecond())
}

func parseTime(s string) (time.Time, error) {
	if s == "-" {
		return time.Time{}, nil
	}
	sec, nsec, _ := strings.Cut(s, ".")
	a, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	b, err := strconv.ParseUint(nsec, 10, 31)
	return time.Unix(a, int64(b)).UTC(), err
}

func parseMode(s string) (mode uint32, has bool, err error) {
	if s == "-" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 8, 12)
	return uint32(n), true, err
}

// errNotALine says that a line isn't one, or that a crash cut it.
var errNotALine = errors.New("not a line of attributes")

func parseAttrLine(s string) (l attrLine, err error) {
	if len(s) < 4 || s[1] != ' ' {
		return l, errNotALine
	}
	l.op = s[0]
	quoted, err := strconv.QuotedPrefix(s[2:])
	if err != nil {
		return l, err
	}
	if l.path, err = strconv.Unquote(quoted); err != nil {
		return l, err
	}
	rest := strings.TrimPrefix(s[2+len(quoted):], " ")
	switch l.op {
	case opDrop:
	case opMove, opSwap:
		dir, to, _ := strings.Cut(rest, " ")
		l.dir = dir == "true"
		l.to, err = strconv.Unquote(to)
	case opSet:
		f := strings.Fields(rest)
		if len(f) != 6 {
			return l, errNotALine
		}
		var errs [6]error
		a := &l.attr
		a.Mode, a.HasMode, errs[0] = parseMode(f[0])
		a.ServerMode, a.HasServerMode, errs[1] = parseMode(f[1])
		a.ModTime, errs[2] = parseTime(f[2])
		a.Size, errs[3] = strconv.ParseInt(f[3], 10, 64)
		a.ServerTime, errs[4] = parseTime(f[4])
		var precision int64
		precision, errs[5] = strconv.ParseInt(f[5], 10, 64)
		a.Precision = time.Duration(precision)
		err = errors.Join(errs[:]...)
	default:
		err = errNotALine
	}
	return l, err
}

// minRewrite is from how many lines on a log is written anew, if most of them say nothing any more.
const minRewrite = 1000

// attrLog is the file of an Attrs. It is used by one goroutine at a time.
type attrLog struct {
	name  string
	lock  *os.File
	file  *os.File
	read  int64 // bytes of file that were read, or written here
	lines int
}

func openAttrLog(dir, site string) (*attrLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(site))
	name := filepath.Join(dir, fmt.Sprintf("attrs-%x", sum[:8]))
	lock, err := os.OpenFile(name+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &attrLog{name: name, lock: lock}, nil
}

func (d *attrLog) close() error {
	err := d.lock.Close()
	if d.file != nil {
		err = errors.Join(err, d.file.Close())
	}
	return err
}

// begin locks the log and gives apply what others have written since. end has to follow, unless it fails.
func (d *attrLog) begin(apply func(attrLine)) error {
	if err := flock(d.lock, syscall.LOCK_EX); err != nil {
		return err
	}
	err := d.current()
	if err == nil {
		err = d.follow(apply)
	}
	if err != nil {
		err = errors.Join(err, flock(d.lock, syscall.LOCK_UN))
	}
	return err
}

// end writes a line, the zero attrLine being none, and unlocks. It writes the log anew from all if that is worth it.
func (d *attrLog) end(l attrLine, all func() []string) error {
	defer flock(d.lock, syscall.LOCK_UN)
	if l.op != 0 {
		n, err := d.file.WriteAt([]byte(l.String()+"\n"), d.read)
		d.read += int64(n)
		d.lines++
		if err != nil {
			return err
		}
	}
	if d.lines >= minRewrite {
		if now := all(); len(now) < d.lines/2 {
			return d.rewrite(now)
		}
	}
	return nil
}

// current opens the file that has the name now: another mount may have written it anew.
func (d *attrLog) current() error {
	if d.file != nil {
		mine, err := d.file.Stat()
		if err != nil {
			return err
		}
		if now, err := os.Stat(d.name); err == nil && os.SameFile(mine, now) {
			return nil
		}
		d.file.Close()
	}
	file, err := os.OpenFile(d.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	d.file, d.read, d.lines = file, 0, 0
	return nil
}

// follow reads what is behind what was read. What isn't a line is skipped, and a last line without an end cut off: a
// crash left it.
func (d *attrLog) follow(apply func(attrLine)) error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < d.read { // somebody cut it
		d.read = info.Size()
	}
	if info.Size() == d.read {
		return nil
	}
	data := make([]byte, info.Size()-d.read)
	n, err := d.file.ReadAt(data, d.read)
	if err != nil && err != io.EOF {
		return err
	}
	data = data[:n]
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole < len(data) {
		if err := d.file.Truncate(d.read + int64(whole)); err != nil {
			return err
		}
	}
	for line := range strings.Lines(string(data[:whole])) {
		d.lines++
		if l, err := parseAttrLine(strings.TrimSuffix(line, "\n")); err == nil {
			apply(l)
		}
	}
	d.read += int64(whole)
	return nil
}

// rewrite puts a file of these lines in the log's place.
func (d *attrLog) rewrite(lines []string) error {
	file, err := os.OpenFile(d.name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	data := []byte(strings.Join(lines, "\n") + "\n")
	if len(lines) == 0 {
		data = nil
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(file.Name(), d.name)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	d.file.Close()
	d.file, d.read, d.lines = file, int64(len(data)), len(lines)
	return nil
}
