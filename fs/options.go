package fs

import (
	"log/slog"
	"time"

	"ftpfs/cache"
)

// Options are the choices of a mount that the tree itself needs. The zero value of each field is
// a usable default.
type Options struct {
	// UID and GID own everything in the mount; Umask is taken off every mode, and off
	// DirMode/FileMode where the server told none.
	UID, GID uint32
	Umask    uint32
	// ReadOnly refuses every change with EROFS before anything is sent.
	ReadOnly bool
	// TTL is how long the kernel may keep attributes and entries.
	TTL time.Duration
	// NoPrefetch fetches nothing before it is asked for.
	NoPrefetch bool
	// Blocks remembers what files contain; nil: nothing does. It has to be told of each change (cache.ForgetChanges), and
	// stays the caller's.
	Blocks *cache.Blocks
	// Retry is how long a transfer whose connection breaks is taken up again, from the first failure on that nothing
	// came after. A few attempts are made however short it is.
	Retry time.Duration
	// Upload says where uploads go.
	Upload UploadMode
	// HashUploads compares the server's hash of each upload with that of the local copy, where the server has one.
	HashUploads bool
	// SpoolDir holds the local copies of files being written.
	SpoolDir string
	// Leftovers lists the files that are on the server for as long as they are open or being uploaded, so that the next mount
	// removes those that a crash leaves; nil: nothing does. It stays the caller's.
	Leftovers *cache.Leftovers
	// Attrs remembers what is set on entries and the server doesn't keep, and stays the caller's; nil: a memory for the
	// life of the mount. With StrictAttrs nothing is remembered, and what the server doesn't keep is refused.
	Attrs       *cache.Attrs
	StrictAttrs bool
	// Writeback has close() return when the local disk has what was written. SpoolDir is to be one that outlives the machine's
	// restart.
	Writeback bool
	// Site names the tree on the server for the next mount of the same (cache.Spool.Resume).
	Site string
	// Logger gets what an errno can't say; nil discards.
	Logger *slog.Logger

	// What mount(2) is told.
	Source             string // first column of /proc/mounts, without a password
	AllowOther         bool
	DefaultPermissions bool
	Debug              bool // log every FUSE request
}
