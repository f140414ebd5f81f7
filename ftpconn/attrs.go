package ftpconn

import (
	"context"
	"fmt"
	"time"
)

// Attrs are attributes that a file is to get behind its upload; the zero value is none.
type Attrs struct {
	Mode    uint32 // permission bits (07777), if HasMode
	HasMode bool
	ModTime time.Time // to the second, zero for none
	// New says that the file was not there before: it does no harm to set attributes behind an upload that fails.
	New bool
}

// AttrCloser is an Upload that can set attributes along with its end.
type AttrCloser interface {
	// CloseWith is Close, and sets attributes: of a new file in the same round trip where the server reads commands behind a
	// transfer, and else in one more. set has those that the server confirmed. The others are left to Chmod and SetModTime, which know
	// other ways and say why one failed; err is of the upload alone.
	CloseWith(a Attrs) (set Attrs, err error)
}

// CloseWith is u's own CloseWith, or Close.
func CloseWith(u Upload, a Attrs) (set Attrs, err error) {
	if c, ok := u.(AttrCloser); ok && (a.HasMode || !a.ModTime.IsZero()) {
		return c.CloseWith(a)
	}
	return Attrs{}, u.Close()
}

// attrCommands are the commands that set a on an absolute path, as far as it is known which ones this server has, and
// what each sets.
func (s *site) attrCommands(path string, a Attrs) (cmds []string, sets []Attrs) {
	s.mu.Lock()
	_, mlst := s.feat["MLST"]
	_, mdtm := s.feat["MDTM"]
	clock, ahead := s.clock.known || mlst || !mdtm, s.clock.ahead // not known: the upload's own time will tell it
	setTime, chmod := s.setTime, !s.noChmod
	s.mu.Unlock()
	for _, form := range setTimeForms {
		if a.ModTime.IsZero() || form.name != setTime || !clock {
			continue
		}
		t := a.ModTime
		if form.verb == "MDTM" {
			t = t.Add(ahead)
		}
		cmds = append(cmds, form.verb+" "+form.arg(t.UTC().Format(timeFormat), path))
		sets = append(sets, Attrs{ModTime: a.ModTime})
	}
	if a.HasMode && chmod && clock {
		cmds = append(cmds, fmt.Sprintf("SITE CHMOD %04o %s", a.Mode&07777, path))
		sets = append(sets, Attrs{Mode: a.Mode, HasMode: true})
	}
	return cmds, sets
}

// CloseWith implements AttrCloser.
func (u *upload) CloseWith(a Attrs) (set Attrs, err error) {
	c := u.c
	cmds, sets := c.site.attrCommands(u.path, a)
	if len(cmds) == 0 || u.aborted.Load() != nil {
		return Attrs{}, u.Close()
	}
	var calls []*call
	if a.New && c.site.queues() {
		select {
		case <-u.running: // the transfer command is on its way
			calls = newCalls(cmds)
			if c.l.send(calls, cmds) != nil {
				calls = nil
			}
		case <-u.ended:
		}
	}
	u.end(func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.site.cfg.Timeout)
		defer cancel()
		var replies []reply
		for _, asked := range calls {
			r, err := c.l.wait(ctx, asked, 0)
			if err != nil {
				c.broken.Store(true)
				return
			}
			replies = append(replies, r)
		}
		if u.err != nil {
			return
		}
		if calls == nil {
			replies, _ = c.askAll(ctx, cmds)
		}
		for i, r := range replies {
			switch {
			case r.class() != 2 || r.code == 202: // 202: not implemented, and superfluous
			case sets[i].HasMode:
				set.Mode, set.HasMode = sets[i].Mode, true
			default:
				set.ModTime = sets[i].ModTime
			}
		}
	})
	return set, u.verdict()
}
