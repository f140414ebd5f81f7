package ftpconn

import (
	"errors"
	"fmt"
	"io/fs"
)

// listPiece is how many entries are handed on at a time. A listing that is shorter is handed on when it has ended, so that
// it can be begun again on another session.
const listPiece = 1024

// lister gathers what a listing gives, or hands it on.
type lister struct {
	c         *Conn
	dir       string
	out       func([]Entry) // nil: all is kept in entries
	calibrate func([]Entry) // looks for the zone of LIST's times on another session
	facts     bool          // MLSD

	entries []Entry // what was not handed on
	given   bool    // something was
	hold    bool    // the rest has to wait for the end
	tried   bool    // calibrate was called
	looked  int     // so many entries can't tell the zone
	bad     int
	first   error // of the lines that could not be read
}

func (l *lister) add(e Entry) {
	l.entries = append(l.entries, e)
	if l.out == nil || l.hold {
		return
	}
	if l.facts && e.Type == Symlink && e.Target == "" { // LIST will have to tell it
		l.hold = true
		return
	}
	if len(l.entries) >= listPiece && l.settled() {
		if !l.facts {
			l.entries = l.c.inUTC(l.entries)
		}
		l.flush()
	}
}

// flush hands on what there is, its times being UTC.
func (l *lister) flush() {
	for i := range l.entries {
		if e := &l.entries[i]; e.Type == Symlink {
			e.Target = l.c.site.shownTarget(l.dir, e.Target)
		}
	}
	if l.out == nil || len(l.entries) == 0 {
		return
	}
	l.out(l.entries)
	l.given, l.looked = true, 0
	clear(l.entries)
	l.entries = l.entries[:0]
}

// settled says that the times of the entries so far are known to be what they are shown as.
func (l *lister) settled() bool {
	s := l.c.site
	known := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, mdtm := s.feat["MDTM"]
		return s.zoneSet || !mdtm
	}
	if l.facts || known() {
		return true
	}
	for ; !l.tried && l.looked < len(l.entries); l.looked++ {
		if e := l.entries[l.looked]; tellsZone(&e) {
			l.tried = true
			l.calibrate([]Entry{e})
		}
	}
	return l.tried && known()
}

// warn logs a line that could not be read wholly, and no more than a few of one listing.
func (l *lister) warn(err error) {
	if l.bad++; l.bad == 1 {
		l.first = err
	}
	if l.bad <= 5 {
		l.c.site.log.Warn("a line of a listing could not be read wholly", "directory", l.dir, "reason", err)
	}
}

// result says how a listing went that ended with err, and brings the times to UTC. Some servers (inetutils 2.4, netkit)
// send the reason for an empty listing in its place.
func (l *lister) result(err error, format listFormat) error {
	if l.bad > 5 {
		l.c.site.log.Warn("more lines of the listing could not be read wholly", "directory", l.dir, "lines", l.bad)
	}
	switch {
	case errors.Is(err, ErrIncomplete):
		err = fmt.Errorf("%w: %s", err, l.dir)
	case err != nil:
		l.entries = nil
		return err
	case !l.given && len(l.entries) == 0 && (errors.Is(l.first, fs.ErrPermission) || errors.Is(l.first, fs.ErrNotExist)):
		return fmt.Errorf("listing %s: %w", l.dir, l.first)
	}
	if format != formatMLSD {
		l.entries = l.c.inUTC(l.entries)
	}
	return err
}
