package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ftpfs/ftpconn"
)

// check compares the file's version after segments were opened, and lets readers have them: all bytes that
// they get come from downloads during which the file was seen to be the version that the stream began with.
func (s *stream) check() {
	for {
		s.mu.Lock()
		list := s.unchecked
		s.unchecked = nil
		if len(list) == 0 || s.err != nil {
			s.checking = false
			s.leaveLocked(false)
			s.mu.Unlock()
			return
		}
		want := s.ver
		s.mu.Unlock()
		now, err := s.look(s.ctx)
		switch {
		case err != nil && s.ctx.Err() == nil:
			err = fmt.Errorf("%s: whether the file is still the same can't be told: %v", s.path, err)
		case err == nil && !now.same(want):
			err = fmt.Errorf("%s changed while it was read: %w", s.path, ftpconn.ErrStale)
		}
		s.mu.Lock()
		for _, g := range list {
			if err != nil {
				s.breakLocked(g.from, err)
			} else {
				g.checked = true
			}
		}
		s.advanceLocked()
		s.roomLocked()
		s.mu.Unlock()
	}
}

// look asks the server for the file's version, to the second.
func (s *stream) look(ctx context.Context) (version, error) {
	if s.remote.Features().MLST {
		e, err := s.t.fresh(ctx, s.path, 0)
		if v := versionOf(e); err != nil || v.exact() {
			return v, err
		}
	}
	times, err := s.remote.ModTimes(ctx, []string{s.path})
	if err != nil {
		return version{}, err
	}
	if len(times) != 1 || times[0].IsZero() {
		return version{}, errors.New("the server does not tell its time")
	}
	return version{size: s.limit, time: times[0], precision: time.Second}, nil
}
