package cache

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
)

// A file of the server's that is overwritten in place is neither the old one nor the new one for a while, and a mount that is killed then
// leaves a part. So a note lies beside the local copy for that time, named like it with overEnd behind, and whoever clears away what
// the dead left moves the copy to keptDir. Nothing is synced: a power cut may take the copy.
const overEnd = ".over"

// overNote is what the note says, in JSON.
type overNote struct {
	QuotedPath string // on the site; JSON has no strings of any bytes
	Missing    int64  // bytes that are only on the server, zeros in the copy
}

// Overwrites says that the server's file p is about to be overwritten in place by this one, until Overwritten or Close.
func (f *SpoolFile) Overwrites(p string) error {
	f.mu.Lock()
	note := overNote{QuotedPath: strconv.Quote(p)}
	for _, gap := range f.known.Gaps(0, f.base) {
		note.Missing += gap.Len()
	}
	noted := f.noted || f.closed
	f.noted = true
	f.mu.Unlock()
	if noted {
		return nil
	}
	text, err := json.Marshal(note)
	if err == nil {
		err = f.spool.own.root.WriteFile(f.local+overEnd, text, 0o600)
	}
	if err != nil {
		return f.errorf("note", 0, err)
	}
	return nil
}

// Overwritten says that the server has the whole of a version.
func (f *SpoolFile) Overwritten() {
	f.mu.Lock()
	noted := f.noted
	f.noted = false
	f.mu.Unlock()
	if !noted {
		return
	}
	if err := f.spool.own.root.Remove(f.local + overEnd); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.spool.log.Warn("a local copy", "file", f.LocalPath(), "err", err)
	}
}

// rescue keeps the copies of the dead Spool named id of which the server may have a part, but for those that wait in its journal.
func (o *ownDir) rescue(id string, waiting map[string]Pending, log *slog.Logger) error {
	d, err := o.root.Open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		copy, ok := strings.CutSuffix(name, overEnd)
		if _, waits := waiting[copy]; !ok || waits {
			continue
		}
		text, err := o.root.ReadFile(path.Join(id, name))
		if err != nil {
			return err
		}
		var note overNote
		if json.Unmarshal(text, &note) != nil { // nothing was sent before it was written
			continue
		}
		p, err := strconv.Unquote(note.QuotedPath)
		if err != nil {
			continue
		}
		info, err := o.root.Lstat(path.Join(id, copy))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			continue
		}
		kept, err := o.moveToKept(path.Join(id, copy), p)
		if err != nil {
			return err
		}
		if err := o.root.Remove(path.Join(id, name)); err != nil {
			return err
		}
		log.Error("an earlier mount was killed while it overwrote a file: the server may have a part of it, and what it had of the new content is kept on this machine",
			"path", p, "kept", path.Join(o.dir, kept), "bytes", info.Size(), "missing", note.Missing)
	}
	return nil
}
