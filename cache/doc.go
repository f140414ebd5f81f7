// Package cache remembers what an FTP site said, and holds what is on its way there. It knows
// ftpconn's vocabulary (Remote, Entry) and nothing of sessions, replies or FUSE.
//
// # Meta: listings and entries
//
// [Meta] is an [ftpconn.Remote] over an [ftpconn.Remote]. With it taken away everything above
// works the same, one round trip later each time. It promises:
//
//   - What this process changed through it, it shows at once, without listing again. What
//     others change, it shows within the TTL, and within an age of the caller's choice through
//     [Meta.Fresh].
//   - A name is absent only on evidence: a complete listing without it, the server's own
//     ErrNotExist for that name, or an own removal that the server confirmed. A network error is
//     handed on and never remembered.
//   - Callers that ask the same thing at the same time cost one request. One who gives up
//     doesn't take the answer from the others; when all have given up, the request is
//     cancelled.
//   - Times never lose precision: an exact time that was seen once (a fact, MDTM, an own
//     SetModTime) is kept as long as coarser listings agree with it, beyond the TTL.
//   - Memory is bounded by a number of entries over all directories; directories leave as a
//     whole, the least recently used first.
//
// # Huge directories
//
// A listing of more than 4,096 entries is kept without a pointer for each (packed), at about 60 bytes and its name. [Open] shows it to a
// reader while it arrives ([Dir]): who reads to its end has the whole of it, or the error with which it broke. Nothing of it is remembered before
// its end was confirmed, except that a name which has arrived is known to Stat. A reader who comes after an own change waits for
// the end, because only there the change is put in. The last reader who leaves breaks the listing off.
//
// # Evidence, and how it ages
//
// Everything known of a directory is one listing value: its entries in the server's order, and
// notes on single names. A listing is complete (a LIST or MLSD was read to its end) or partial (names
// learned one by one, or a complete one that was found wrong or grew old). A note says where a
// name's own evidence differs from its directory's: learned at another time, absent, forgotten
// (ask before answering), without an exact time. Entries of a listing beyond the TTL answer
// nothing; they are kept only to recognise their exact times.
//
// A complete listing that has a forgotten name in it still answers for the other names, but List
// asks anew.
//
// # Generations
//
// Requests take time, and what they bring may be older than what was changed meanwhile. A
// counter rises with each own change and each name learned; a request remembers where it stood
// at its start, a note where it stood when it was made. When a listing arrives, notes younger than its
// start win over its lines, and it is stored with them in place. Where no note can hold the change (a
// single answer on its way, a directory moved or dropped, a listing evicted), the running request
// is detached: who waits for it gets its answer, or asks again if he came after a change that it may
// lack; nobody new joins it, and nothing of it is stored.
//
// # Locks
//
// Meta has one mutex. It guards the tree of listings, the running requests and the open uploads,
// is held for memory operations only, and never while next is called. Requests run in a goroutine of
// their own with the values, but without the cancellation, of the first caller's context; they end with their
// answer, with their last caller, or with Close.
//
// # Blocks: what files contain
//
// [Blocks] remembers bytes of files in memory and, where asked, on the local disk across mounts. It promises:
//
//   - What it gives is what was put for the same path, size and modification time; on disk, also for the same site.
//     Only times that are exact to the second count; others are told apart by an owner, and stay off the disk.
//   - What this process changes (ForgetChanges, ForgetTree) is forgotten, in all versions, and nothing that was asked for before the
//     change is stored after it: sizes and times may come out as they were.
//   - On disk a block is its bytes and their checksum, together with what they are of. A crash in the middle of a
//     write, a bad disk or another process can make blocks vanish, and not differ. Nothing is synced.
//   - Memory is bounded in bytes, the disk in bytes over all processes (approximately, if several write at the same
//     moment), with a reserve that is left free. What was not used for longest goes first.
//   - Trouble with the disk is logged and costs hits, and is no error to anybody.
//
// It doesn't see what others do to a file whose size and time stay what they were.
//
// A Blocks has one mutex for memory, and its disk one for the queue, both for memory operations only, in this order, and
// one that is held while the disk is written and while files are removed from it; that one is taken first.
//
// # Spool: what is on its way to the server
//
// [Spool] has local copies of files being written ([SpoolFile]), each with a lock for its marks that isn't held during I/O, and
// [Stream] reads one while it is written. A copy goes with its Close, except that
//
//   - one that was journaled ([SpoolFile.Journal]) outlives the process and a power cut, and [Spool.Resume] of a later Spool takes
//     it over: content and journal entry are synced before Journal returns, in this order, and an entry without its copy counts for nothing;
//   - one that could not be uploaded may be kept for people ([SpoolFile.Keep]), and so is, by the next OpenSpool, one that its process
//     was putting over a file of the server's when it was killed ([SpoolFile.Overwrites]). A power cut may take that one.
//
// # Attrs and Leftovers: what the next mount is to know
//
// [Attrs] remembers modes and times that were set and the server doesn't keep, [Leftovers] the files that are on the server for
// a while only. Both are files in SiteDir, one or more for a site, which mounts of one site share under locks; each type says what
// a crash can cost.
//
// # What it doesn't see
//
// Aliases: a directory reached by two paths (a symlink inside the site) is two directories here, and a
// change through one path is seen through the other within the TTL. An upload in progress: until its
// Close the name is what it was before.
package cache
