package fs

import "ftpfs/cache"

// report says in the log what became of an upload that failed, and where the content is.
func (u *upload) report(err error) {
	u.f.mu.Lock()
	behind := u.f.behind
	u.f.mu.Unlock()
	if behind { // said where the queue is worked on
		return
	}
	u.f.t.log.Warn("an upload failed; the content is kept while the file is open, and goes with the next flush",
		"path", u.f.n.shownPath(), "local copy", u.copy.LocalPath(), "err", err)
}

// keep closes the local copy of a file whose upload failed for good, at its last close. The content stays on this machine:
// not every program looks at what close() returns.
func (t *tree) keep(p string, copy *cache.SpoolFile) {
	if copy.Size() == 0 || !copy.Dirty() {
		copy.Close()
		return
	}
	var missing int64
	for _, r := range copy.Missing(0, copy.Size()) {
		missing += r.Len()
	}
	where, err := copy.Keep(p)
	switch {
	case where == "":
		copy.Close()
		t.log.Error("what could not be uploaded is lost", "path", p, "err", err)
	case missing > 0:
		t.log.Error("what could not be uploaded is kept on this machine, with zeros for what only the server has",
			"path", p, "kept", where, "missing", missing)
	default:
		t.log.Error("what could not be uploaded is kept on this machine", "path", p, "kept", where)
	}
}

// overwrites has the local copy outlive the program, for people, if it is killed while the server's file p is written to. What waits for its
// upload does so anyway, and a new file has nothing to lose.
func (u *upload) overwrites(p string) {
	f := u.f
	f.mu.Lock()
	loses := !f.created && !f.behind && f.server.Size != 0
	f.mu.Unlock()
	if !loses {
		return
	}
	if err := u.copy.Overwrites(p); err != nil {
		f.t.log.Warn("if the program were killed now, a file that it overwrites would be lost", "path", p, "err", err)
	}
}
