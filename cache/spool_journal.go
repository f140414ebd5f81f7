package cache

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
)

// journalFile lies in a Spool's own directory, beside the local copies that it is about. It is made with the first entry. Its lines
// are
//
//	+<crc32> <JSON of a Pending>   the local copy waits for its upload; replaces an earlier line of the same copy
//	-<name of the copy>            it doesn't any more
//
// A local copy is removed only after its upload was confirmed or it was given up, so a line without its copy is done with. What a
// crash cut off the end is a line that was never confirmed to anybody.
const journalFile = "journal"

// compactFrom is how many bytes of superseded lines a journal may hold beside as many of live ones.
const compactFrom = 1 << 20

// journal is the journal of one Spool.
type journal struct {
	own *ownDir // constant

	syncMu sync.Mutex // held while the disk is synced, and while file is replaced; taken before mu
	mu     sync.Mutex // guards following
	file   *os.File   // nil: not made yet
	live   map[string]string
	size   int64 // bytes of all lines
	liveAt int64 // bytes of live ones
	wrote  uint64
	synced uint64 // of wrote
	named  bool   // since the last sync a copy came in whose name may not be on the disk
	failed error  // what the disk failed in: nothing after it is certain
	cut    bool   // the last line may be a part
}

// put writes a line for a copy and, with durable, returns when it is safe on the disk.
func (j *journal) put(copy, line string, durable bool) error {
	j.mu.Lock()
	seq, err := j.appendLocked(line)
	if err == nil {
		was, known := j.live[copy]
		j.named = j.named || !known
		j.liveAt += int64(len(line) - len(was))
		j.live[copy] = line
	}
	compact := j.size > 2*j.liveAt+compactFrom
	j.mu.Unlock()
	switch {
	case err != nil:
		return err
	case compact:
		return j.compact()
	case durable:
		return j.sync(seq)
	}
	return nil
}

// drop says that a copy doesn't wait any more. It isn't synced.
func (j *journal) drop(copy string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, ok := j.live[copy]
	if !ok {
		return nil
	}
	delete(j.live, copy)
	j.liveAt -= int64(len(line))
	if len(j.live) == 0 && j.failed == nil {
		j.size = 0
		return j.file.Truncate(0)
	}
	_, err := j.appendLocked("-" + copy + "\n")
	return err
}

func (j *journal) appendLocked(line string) (uint64, error) {
	if j.failed != nil {
		return 0, j.failed
	}
	if j.file == nil {
		file, err := j.own.root.OpenFile(path.Join(j.own.id, journalFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		j.file = file
	}
	if j.cut { // ends the part of a line that a full disk left
		line = "\n" + line
	}
	if _, err := j.file.WriteString(line); err != nil {
		j.cut = true
		return 0, err
	}
	j.cut = false
	j.size += int64(len(line))
	j.wrote++
	return j.wrote, nil
}

// sync returns when line number seq, and the names of all copies made before it, are on the disk. Those who wait together share one
// pass.
func (j *journal) sync(seq uint64) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	file, upTo, done, first, named, err := j.file, j.wrote, j.synced >= seq, j.synced == 0, j.named, j.failed
	if !done {
		j.named = false
	}
	j.mu.Unlock()
	if done || err != nil {
		return err
	}
	if first {
		err = j.own.syncDir(".")
	}
	if err == nil && named {
		err = j.own.syncDir(j.own.id)
	}
	if err == nil {
		err = file.Sync()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.failed = err
		return err
	}
	j.synced = upTo
	return nil
}

// syncAll is sync for all lines.
func (j *journal) syncAll() error {
	j.mu.Lock()
	last := j.wrote
	j.mu.Unlock()
	return j.sync(last)
}

// compact writes the journal anew, of live lines alone.
func (j *journal) compact() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	name := path.Join(j.own.id, journalFile)
	file, err := j.own.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for _, line := range j.live {
		_, _ = w.WriteString(line) // Flush says it
	}
	if err = w.Flush(); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = j.own.root.Rename(name+".new", name)
	}
	if err == nil {
		err = j.own.syncDir(j.own.id)
	}
	if err != nil {
		file.Close()
		return err
	}
	j.file.Close()
	j.file, j.size, j.synced, j.named = file, j.liveAt, j.wrote, false
	return nil
}

// has says that a copy is in the journal.
func (j *journal) has(copy string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.live[copy]
	return ok
}

// close returns whether something is still waiting.
func (j *journal) close() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil {
		j.file.Close()
	}
	j.failed = os.ErrClosed
	return len(j.live) > 0
}

// syncDir makes the names in a directory safe on the disk.
func (o *ownDir) syncDir(name string) error {
	d, err := o.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// waiting reads the journal of the Spool named id: what still waits, by the name of its copy. Lines that are damaged are
// counted.
func (o *ownDir) waiting(id string) (live map[string]Pending, damaged int, err error) {
	file, err := o.root.Open(path.Join(id, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	live = make(map[string]Pending)
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadString('\n')
		whole := err == nil
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
		case !whole: // a crash cut it
			damaged++
		case line[0] == '-':
			delete(live, line[1:])
		default:
			if copy, p, ok := decodePending(line); ok {
				live[copy] = p
			} else {
				damaged++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, damaged, err
		}
	}
	for copy := range live {
		if _, err := o.root.Lstat(path.Join(id, copy)); errors.Is(err, fs.ErrNotExist) {
			delete(live, copy)
		} else if err != nil {
			return nil, damaged, err
		}
	}
	return live, damaged, nil
}

// Journal returns when the local copy and what p says of it are safe on the local disk: a crash or a power cut leaves them to
// Spool.Resume. The content is as it was at the call, or newer where it was changed meanwhile. A later Journal replaces what an earlier one
// said; one that changes nothing but p isn't synced.
func (f *SpoolFile) Journal(p Pending) error { return f.putDown(p, false) }

// JournalNow is Journal that is synced in any case: what an earlier one said holds no more.
func (f *SpoolFile) JournalNow(p Pending) error { return f.putDown(p, true) }

func (f *SpoolFile) putDown(p Pending, durable bool) error {
	f.mu.Lock()
	p.Shape = Shape{f.size, f.base, f.server, f.known.Ranges(), f.dirty.Ranges()}
	version, known, synced := f.version, f.known.Bytes(), f.synced
	f.named = true
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return f.errorf("journal", 0, os.ErrClosed)
	}
	now := syncMark{version, known, true}
	fresh := synced != now
	if fresh {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	line, err := encodePending(path.Base(f.local), p)
	if err == nil {
		err = f.spool.journal.put(path.Base(f.local), line, fresh || durable)
	}
	if err != nil {
		return fmt.Errorf("local copy of %q: journal: %w", f.name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fresh {
		f.synced = now
	}
	return nil
}

// syncMark is up to where a local copy was synced and journaled.
type syncMark struct {
	version uint64
	known   int64
	any     bool
}

// Unjournal takes back what Journal said: the server has the content, or nobody wants it there any more.
func (f *SpoolFile) Unjournal() {
	if err := f.spool.journal.drop(path.Base(f.local)); err != nil { // at worst the next mount sends again what is there
		f.spool.log.Warn("the journal of uploads", "dir", f.spool.dir, "err", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced = syncMark{}
}

// Journaled says that the local copy would outlive this process.
func (f *SpoolFile) Journaled() bool { return f.spool.journal.has(path.Base(f.local)) }
