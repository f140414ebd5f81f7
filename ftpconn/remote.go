package ftpconn

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Type is the kind of a directory entry.
type Type uint8

// The kinds that a listing can tell apart. Other is what exists on the server but can be
// neither read nor entered by FTP (fifo, socket, device); Unknown is a line or fact set that
// names an entry without saying what it is.
const (
	Unknown Type = iota
	File
	Dir
	Symlink
	Other
)

func (t Type) String() string {
	return [...]string{"unknown", "file", "dir", "symlink", "other"}[t]
}

// Entry is one directory entry as the server describes it. What the server did not say is at
// the value named in each field's comment; callers choose their own defaults.
type Entry struct {
	Name   string // the bytes as sent, which need not be UTF-8; never "", ".", ".." or with a '/'
	Target string // target of a symlink, relative if it is inside the tree, "" if the server did not say
	Owner  string // owner as printed, "" if not said
	Group  string // group as printed, "" if not said
	Perm   string // perm fact (RFC 3659 section 7.5.5), lower case, "" if not said
	Unique string // unique fact, "" if not said

	Size    int64     // bytes; -1 if not said
	ModTime time.Time // UTC; zero if not said
	// ModPrecision is what ModTime was rounded down to: time.Second or less for facts and
	// MDTM, a minute or 24 h for ls-like lines, 0 if there is no ModTime.
	ModPrecision time.Duration

	UID, GID int32  // -1 if not said
	Mode     uint16 // permission bits 07777, valid if HasMode
	Nlink    uint16 // 0 if not said
	HasMode  bool
	Type     Type
}

// Download is a running RETR. It is used by one goroutine at a time.
type Download interface {
	// Read returns io.EOF only after the server's final reply confirmed the transfer; a data
	// connection that ends without it is an error (io.ErrUnexpectedEOF or the ReplyError). A
	// caller who knows the size stops reading there and never waits for that reply.
	io.Reader
	// Close ends the transfer, running or done, and gives the session back. It does not wait
	// for the network.
	Close() error
}

// Upload is a running STOR or APPE. It is used by one goroutine at a time.
type Upload interface {
	io.Writer
	// Close ends the data and waits for the server's verdict. Nil means the server confirmed
	// (2yz) that it has every byte written. ErrMismatch means that it did, and has not (Config.CheckUploads).
	Close() error
	// Abort breaks the transfer so that the server doesn't take it for complete, and gives the
	// session back. What the server keeps of it is the server's choice. It doesn't wait; the next Store to the path and
	// a Rename of it do. A no-op after Close.
	Abort()
	// Begun says, after a failure of Write or Close, that the server had begun to store (1yz): what it has under the
	// name since then is, for Replace, the beginning of what was written.
	Begun() bool
}

// FileSender is an Upload that takes bytes from a file of this machine without copying them, where the connection allows that.
type FileSender interface {
	// SendFile is Write of the n bytes of f at off, all of which have to be there. When it returns they are on their way, and are
	// taken from f until Close returns: what is changed in f meanwhile may arrive. ErrSource: f
	// can't be read there, and the upload is as complete as n says.
	SendFile(f *os.File, off, n int64) (int64, error)
}

// SendFile is u's own SendFile, or reads and writes.
func SendFile(u Upload, f *os.File, off, n int64) (int64, error) {
	if s, ok := u.(FileSender); ok {
		return s.SendFile(f, off, n)
	}
	return copyFile(u, f, off, n)
}

// StoreMode says where an upload's bytes go.
type StoreMode uint8

const (
	Replace StoreMode = iota // STOR: the bytes become the whole file
	Append                   // APPE: the bytes go behind what is there
	Restart                  // REST offset + STOR up to the end of the file
	Within                   // likewise, for bytes that others follow: which some servers keep, some cut, and some refuse
)

// Space is what a server says of its free space, in bytes; -1 for what it does not say.
type Space struct{ Total, Free int64 }

// Remote is an FTP site as a tree of absolute slash-separated paths, "/" being the root that the
// user named. Paths are clean (path.Clean), names are bytes. All methods may be called
// concurrently, honour ctx, and repeat themselves on a fresh session where a repetition can't
// do harm. Errors are *ReplyError (often wrapped) when the server refused, and satisfy
// errors.Is for io/fs's ErrNotExist, ErrExist, ErrPermission and this package's sentinels.
// ErrNotExist is returned only on evidence, never for a lost connection.
type Remote interface {
	// List returns all entries of dir, in the server's order, or an error. A listing that is
	// cut short is an error. Entries whose line could not be parsed wholly are included.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Stat returns one entry in one round trip, without listing its parent;
	// errors.ErrUnsupported if the server has no means for that.
	Stat(ctx context.Context, path string) (Entry, error)
	// ModTimes asks for the exact times (MDTM, pipelined, UTC, second) of files; the result has one
	// element per path, zero where the server gave none. errors.ErrUnsupported without MDTM.
	ModTimes(ctx context.Context, paths []string) ([]time.Time, error)

	// Retrieve starts a download at offset (bytes).
	Retrieve(ctx context.Context, path string, offset int64) (Download, error)
	// Store starts an upload; offset (bytes) is where Restart and Within begin to write, and for Append how much there is before it at
	// least, as far as known. A refusal may come from Store, from Write or from Close.
	Store(ctx context.Context, path string, mode StoreMode, offset int64) (Upload, error)

	Mkdir(ctx context.Context, path string) error
	Rmdir(ctx context.Context, path string) error
	Remove(ctx context.Context, path string) error
	// Rename is RNFR+RNTO: whether it replaces an existing target is the server's choice.
	Rename(ctx context.Context, from, to string) error

	// Chmod sets the permission bits (07777); errors.ErrUnsupported if the server can't.
	Chmod(ctx context.Context, path string, mode uint32) error
	// SetModTime sets the modification time, to the second; errors.ErrUnsupported if the
	// server can't.
	SetModTime(ctx context.Context, path string, t time.Time) error
	// Space asks for free space (AVBL); errors.ErrUnsupported if the server can't say.
	Space(ctx context.Context, path string) (Space, error)

	// Features is what was learned of the server; it is complete after the first session.
	Features() Features
	// Close ends all sessions. Running calls fail.
	Close() error
}

// Streamer is a Remote that can hand on a listing while it arrives.
type Streamer interface {
	// ListTo is List that gives add the entries piece by piece, in order. add may not keep the slice, and must not block for long. After an
	// error other than ErrIncomplete, what was added is the beginning of a listing, and no more.
	ListTo(ctx context.Context, dir string, add func([]Entry)) error
}

// ListTo is r's own ListTo, or List in one piece.
func ListTo(ctx context.Context, r Remote, dir string, add func([]Entry)) error {
	if s, ok := r.(Streamer); ok {
		return s.ListTo(ctx, dir, add)
	}
	list, err := r.List(ctx, dir)
	if len(list) > 0 && (err == nil || errors.Is(err, ErrIncomplete)) {
		add(list)
	}
	return err
}

// Features is what the server of a Remote can do, from FEAT and from experience.
type Features struct {
	Banner  string // greeting text, one line
	System  string // SYST reply text
	MLST    bool   // MLSD and MLST: exact times, single names in one round trip
	UTF8    bool
	MDTM    bool
	AVBL    bool
	SetTime string // "MFMT", "MDTM", "SITE UTIME" or "" (none known)
	Chmod   bool   // SITE CHMOD, as far as known
	Modes   bool   // listings tell permission bits, as far as FEAT says
	Append  bool   // APPE is not known to be refused
	Mode    string // data mode in force: "EPSV", "PASV", "EPRT", "PORT"; "" before the first transfer
}
