// Package fs is the FUSE tree: an [ftpconn.Remote] as a directory, over go-fuse's fs package
// (imported as fusefs). [Mount] is the way in.
//
// # What a reader may rely on
//
//   - What this mount changed, it shows at once: a created file is in its directory, with the size
//     written so far, before the server has a byte of it.
//   - What others change is seen within the TTL of the Remote, plus a second that the kernel may keep
//     an answer; by open() as soon as the Remote knows.
//   - An open file is read as one version, told by size and modification time. A download that breaks is
//     taken up where it broke if the version is the same, and reading fails with ESTALE from then on if it
//     isn't. So does a read elsewhere in a large file that needs a download of its own: with a server that tells times (MDTM)
//     each one asks for the time first, in the same packet. A file that grew, and in which what was read first and last still
//     stands, is taken for one that was appended to (tail -f); who had read it to the end when another took its place has read it
//     all. Bytes that did not come are an error, never zeros and never a short file.
//   - What the server says of a name is taken for that of the file which had it all the time: a rename or removal through this mount that
//     is under way is waited for (node.own), and an open() that finds its file gone succeeds when the kernel tries again (expected.go).
//   - readdir of a huge directory (from some 4,000 entries on) gives names while the listing arrives, and fails where
//     one broke off. Its times are as coarse as the listing's, and of one pass over more than 100,000 entries the
//     kernel keeps the last 32,000 nodes.
//   - A name keeps its inode number when the kernel forgets the node, and a file when it is renamed; other mounts have other numbers
//     (numbers.go).
//   - lstat() shows a file's time to the second where the server can tell it; a listing's coarser
//     time isn't given to the kernel to keep.
//
// # What a writer may rely on
//
//   - Everything written goes to a local copy (cache.Spool). close() and fsync() return when the server has
//     confirmed what was written until then, or with its refusal. What was refused stays dirty while the file is open,
//     and the next close() or fsync() tries again; at the last close it is moved to lost+found in the spool's directory, and
//     the log says so. A mount that is killed while it overwrites a file in place leaves that to the next one (cache.SpoolFile.Overwrites).
//   - A file written from its start is uploaded while it is written, from 256 KiB on, and a refusal of that fails
//     the next write(). Bytes behind the end of a file are appended (APPE). A change in a large file is put into the server's, where
//     that was seen to work (upload_patch.go). Anything else is uploaded whole,
//     after what is only on the server was fetched.
//   - With Options.Upload a file is sent to a temporary name beside it, and renamed when it is complete and checked. Such
//     names are on a list (cache.Leftovers): the next mount removes what a crash left.
//   - What the server confirms is compared by size, and by hash if asked for. A file that differs is
//     sent on from where it ends, then again as a whole, and then an error of close().
//   - An upload whose connection breaks goes on where the server's copy ends, or begins again where that isn't possible, for
//     Options.Retry since it got further last. Writers don't notice. A refusal ends it at once.
//   - Where the server is likely to refuse a file (its permissions say so, or it refused one in the last minute), open() asks
//     at once, because shells don't look at what close() of a redirection returns.
//   - What can't be reported (a shared mapping written after close(), a caller that was killed) is logged, and
//     [Mounted.PendingErr] has the first such failure. Unmounting waits for uploads.
//   - A mode or time set on a file that is being written is set behind its upload, in the same packet if the file is
//     new and the server keeps commands until a transfer is over (vsftpd). What a server doesn't keep of them
//     is remembered here (overrides.go, cache.Attrs), also across mounts, or refused ([Options.StrictAttrs]).
//   - With Options.Writeback close() returns when the local disk has the content and a journal entry, both synced; fsync(), also of a
//     directory, and unmounting wait for the server. A queue uploads what was closed (writeback.go): the oldest first, its newest content
//     only, never a file that is just being written again. A refusal shows at the next open(), once. The file's time is
//     that of its last write, to the second. A file that others changed since isn't overwritten, the local version is put beside it
//     (writeback_conflict.go). A rename of a file of which the server has nothing is one in the tree and in the journal, which is synced
//     then (writeback_rename.go): what it replaces on the server is there until the upload takes its place in one step, or doesn't, because
//     others changed it since. What is left at the end, or after a crash, is the next mount's to bring (writeback_resume.go).
//   - A file that is removed, or that another is renamed over, through this mount while it is open here stays what it
//     is for those who have it open (hidden.go), and goes with the last close; after a crash with the next mount.
//   - Two writers through one mount share one copy. Of two mounts, or another client, the later
//     close wins, except for O_APPEND: those bytes go behind what is there.
//
// # What there isn't
//
// Hard links can't be made, nor symlinks where the server has no command for them, and devices don't exist: EPERM, as on
// filesystems without them.
// chown to anybody but the owner that is shown: EPERM. Extended attributes, O_TMPFILE, holes: EOPNOTSUPP. Names with CR, LF
// or NUL: EINVAL, nothing sent. sync(2) and syncfs(2) (sync -f) wait for nothing: Linux 6.18 asks filesystems of type fuse for neither
// (FUSE_SYNCFS is for virtiofs and fuseblk), so there is nothing to answer. File locks are the kernel's, within this machine. O_EXCL
// excludes others on this mount, not other clients: FTP has no exclusive create. Entries that are neither files, directories nor symlinks
// are shown as files of mode 0. The types of entries of which the server doesn't say any are looked up one by one.
//
// errnoOf in errno.go is the one table of errors. It never gives ENOSYS: as the answer to one FLUSH
// or FSYNC that switches error reporting off for the whole mount.
//
// # Interrupts
//
// A call ends early with EINTR for signals that mean to end its caller, and for no other; see
// interrupt.go. An interrupted close() leaves the upload running. The kernel holds a program that waits for a page that
// is being read ahead until the signal is a fatal one; timeouts of the Remote bound that.
//
// # Who reads what
//
// An open file is a handle; the handles of one inode share a file, which hangs on its node while it is open. A
// handle reads through a reader (one version, up to four downloads), each download being a stream with a goroutine
// that reads ahead. The answer to a large read is lent from the download's buffers, and the kernel copies it from there
// (loan.go). Likewise what is uploaded in clear text is lent to the connection from the local copy, and what was changed on its way
// is sent again (send.go). Who only writes has no pages of the kernel's (direct.go). What downloads bring goes to the blocks (cache.Blocks), which are looked at first. As soon as
// something is written the file has a local copy, and all handles read that. Bringing it to the
// server is an upload, with a goroutine of its own, at most one for a file.
//
// No goroutine waits for a second session while it holds one: reads of the base of a file end before
// its upload begins, and a download that nobody reads may be ended by the Remote at any time
// (ftpconn.ErrPreempted) and is taken up later. Downloads of a file are closed before it is uploaded, because vsftpd
// lets a STOR wait for a RETR of the same file.
//
// # Locks
//
// In this order, each for memory operations only, none held over network I/O:
//
//	file.prep       making or replacing a local copy; a channel, so that waiting for it can be interrupted. The
//	                exception: it is held for the round trip that asks for the server's size
//	file.journalMu  what the journal says of a file; held while the local disk is synced
//	places.mu       which uploads use their files' paths
//	node.mu         a node's open file and what was last shown of it
//	file.appendMu   finding the end of the local copy and writing there
//	file.mu         a file's state
//	reader.mu       a reader's downloads
//	stream.mu       a download's buffer
//	upload.mu       the progress of an upload
//	hidden.mu       which files are hidden, and in which directories
//	writeback.mu, tree.pins, overrides.mu, doubtful.mu, missed.mu, fileSet.mu, tree.spaceMu, tree.pendingMu
//
// go-fuse's own inode locks are taken and released inside its calls, below all of these. Paths are read off the
// inode tree at the time of the call (node.path): no lock keeps them from changing. A rename waits for
// the uploads of what it moves, unless it needs no server, and holds up the next ones (moves.go); a read that finds nothing under the old name goes on
// under the new one.
package fs
