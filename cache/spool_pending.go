package cache

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"strconv"
	"strings"
	"time"

	"ftpfs/ftpconn"
)

// Pending is what is to be known of a local copy that waits for its upload, for a process that has nothing else.
type Pending struct {
	Site string // which it belongs to, as for OpenAttrs
	Path string // on the site; any bytes

	Created  bool // the server had no file of this name
	Replaces bool // it was renamed over the server's file, which is replaced by it, and not written to
	Patched  bool // the server's file may have some of the changes, put into it
	Appends  bool // all that is new was written behind the end, and belongs behind whatever is there
	// The server's file that the content is based on, or that it replaces: size in bytes (-1 not known), time (zero not known) and
	// what that was rounded to.
	ServerSize      int64
	ServerTime      time.Time
	ServerPrecision time.Duration

	Mode    uint32    // to be set behind the upload, if HasMode
	HasMode bool      // likewise
	SetTime time.Time // to be set behind the upload, zero for none
	ModTime time.Time // when it was written last
	Closed  time.Time // when its upload was put off
	DirTime time.Time // that its directory is to have behind the upload, zero for any

	Shape Shape // filled in by SpoolFile.Journal
}

// Shape is how much of a local copy there is (see SpoolFile).
type Shape struct {
	Size, Base, Server int64
	Known, Dirty       []Range
}

// Entry returns the server's file that the content is based on.
func (p Pending) Entry() ftpconn.Entry {
	return ftpconn.Entry{Name: path.Base(p.Path), Type: ftpconn.File, Size: p.ServerSize, ModTime: p.ServerTime,
		ModPrecision: p.ServerPrecision, UID: -1, GID: -1}
}

// pendingLine is a Pending as it is written: JSON has no strings of any bytes.
type pendingLine struct {
	Pending
	Copy       string
	QuotedPath string
}

func encodePending(copy string, p Pending) (string, error) {
	line := pendingLine{p, copy, strconv.Quote(p.Path)}
	line.Path = ""
	text, err := json.Marshal(line)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("+%08x %s\n", crc32.ChecksumIEEE(text), text), nil
}

// decodePending returns a line's Pending and the name of its copy; false for a line that is damaged.
func decodePending(line string) (copy string, p Pending, ok bool) {
	sum, text, _ := strings.Cut(strings.TrimPrefix(line, "+"), " ")
	if want, err := strconv.ParseUint(sum, 16, 32); err != nil || uint32(want) != crc32.ChecksumIEEE([]byte(text)) {
		return "", p, false
	}
	var l pendingLine
	if json.Unmarshal([]byte(text), &l) != nil {
		return "", p, false
	}
	var err error
	l.Path, err = strconv.Unquote(l.QuotedPath)
	return l.Copy, l.Pending, err == nil && strings.HasPrefix(l.Path, "/") && l.Copy == path.Base(l.Copy) && l.Copy != journalFile
}
