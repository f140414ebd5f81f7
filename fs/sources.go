package fs

import (
	"errors"
	"slices"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

const (
	// firstFlight is what a server sends in the first round trip of a data connection (ten segments, RFC 6928): a
	// read near the end of a file has as much of the end brought along.
	firstFlight = 14 << 10

	maxStreams = 4        // downloads of one open file, unless more reads run at once
	maxLeft    = 16       // ends of closed downloads that are remembered
	nearby     = 16 << 10 // a read so shortly behind one of them goes on there
)

// source is a download in a reader, and what the blocks need to know of it. Guarded by reader.mu.
type source struct {
	*stream
	version cache.FileVersion // what its bytes are kept as; zero if they aren't
	since   int64             // tree.renames when its path was looked up
	began   time.Time         // when its bytes were asked for, or some time before
	reads   int               // that it was asked for
	using   int               // reads that it is serving
	served  int64             // bytes
	goesOn  bool              // it began where another one was left
	down    bool              // it began below what it was asked for, for reads that go down: the next one won't go on with it
	instead int64             // where another one broke for which this is; -1: none
	high    int64             // furthest end of a read
	broken  bool              // no more will come
	spent   bool              // broken, and to be taken out next
	asked   bool              // given up, and the file was seen to be the same since
}

// paysLocked says that a download is worth a session while nobody reads from it: it was read in order for a while. The
// others are closed when the file is read elsewhere; if that was wrong, the next one that goes on there is kept.
func (s *source) paysLocked() bool {
	return s.using > 0 || s.goesOn || s.reads > 1 && s.served >= minWindow && !s.down
}

// acceptsLocked returns a running download that serves a read at pos, nil if there is none. One that was begun because
// another broke at from serves all who read that one.
func (r *reader) acceptsLocked(pos, from int64) *source {
	for i, s := range r.streams {
		ok := from >= 0 && s.instead == from && pos >= from || s.accepts(pos)
		if s.broken {
			ok = s.holds(pos)
		}
		if ok {
			r.streams = append(slices.Delete(r.streams, i, i+1), s)
			s.using++
			s.reads++
			return s
		}
	}
	return nil
}

// brokenLocked returns where a download broke that would serve pos and has not been taken up yet, -1 if there is none.
func (r *reader) brokenLocked(pos int64) int64 {
	for _, s := range r.streams {
		if at := s.position(); s.broken && !s.spent && pos >= at && pos-at <= minWindow+minSkip {
			return at
		}
	}
	return -1
}

// givenUp says that a download was ended with err to free its session.
func givenUp(err error) bool { return errors.Is(err, errIdle) || errors.Is(err, ftpconn.ErrPreempted) }

// givenUpLocked returns a download that was given up while nobody read, and why: the next one must not go on with another
// file of the same name.
func (r *reader) givenUpLocked() (*source, error) {
	for _, s := range r.streams {
		if err := s.ending(); !s.broken && !s.asked && givenUp(err) {
			return s, err
		}
	}
	return nil, nil
}

// start opens a download for pos, unless another read did so meanwhile: there, or where another broke (from, else -1) if that is
// shortly before, or with the rest of a small file or of the end of one.
func (r *reader) start(p string, since, pos, from int64) *source {
	r.mu.Lock()
	if s := r.acceptsLocked(pos, from); s != nil {
		r.mu.Unlock()
		return s
	}
	src := &source{since: since, reads: 1, using: 1, goesOn: r.continuesLocked(pos), instead: from}
	if from < 0 || from > pos || pos-from > minWindow+minSkip {
		from, src.instead = pos, -1
	}
	limit := r.ver.size
	small := limit >= 0 && limit <= smallFile
	switch {
	case small:
		from = 0
	case limit-from <= firstFlight && from < limit:
		from = limit - firstFlight
	}
	if src.instead < 0 && !small {
		first := from
		from = r.descent.next(from)
		src.down = from < first
	}
	over := r.makeRoomLocked()
	if small {
		if src.stream = r.n.t.ahead.take(p, r.ver); src.stream != nil {
			r.describeLocked(src, p, 2*aheadLife)
		}
	}
	if src.stream == nil {
		r.describeLocked(src, p, 0)
		src.stream = openStream(r.n.t.ctx, r.n.t, p, from, limit, r.beginningLocked(p, small), nil)
		if src.down {
			src.stream.begunBelow(pos)
		}
		src.stream.expect(r.ver, &r.n.t.found)
	}
	r.opened++
	first := r.opened == 1
	if r.closed {
		src.close()
	} else {
		r.streams = append(r.streams, src)
	}
	r.mu.Unlock()
	for _, s := range over {
		r.retire(s)
	}
	if first { // not at open(): what the blocks or the kernel have needs nothing fetched ahead
		r.n.t.ahead.opened(p)
	}
	return src
}

// makeRoomLocked takes out the downloads that don't pay, so that there may be another one.
func (r *reader) makeRoomLocked() (over []*source) {
	for i := len(r.streams) - 1; i >= 0; i-- {
		s := r.streams[i]
		switch {
		case s.broken && !s.spent: // the new one is for what it didn't bring
			s.spent = true
		case s.broken || !s.paysLocked():
			over = append(over, r.removeLocked(i))
		}
	}
	return append(over, r.trimLocked(maxStreams-1)...)
}

// trimLocked takes out downloads until there are n. One that serves a read stays: that read would begin another, which would take
// the place of the next, and where more reads run at once than there may be downloads none would ever end.
func (r *reader) trimLocked(n int) (over []*source) {
	for len(r.streams) > n {
		i := slices.IndexFunc(r.streams, func(s *source) bool { return s.using == 0 })
		if i < 0 {
			break
		}
		over = append(over, r.removeLocked(i))
	}
	return over
}

func (r *reader) removeLocked(i int) *source {
	s := r.streams[i]
	r.streams = slices.Delete(r.streams, i, i+1)
	if r.left = append(r.left, s.high); len(r.left) > maxLeft {
		r.left = slices.Delete(r.left, 0, 1)
	}
	return s
}

// continuesLocked says that a read at pos goes on where a download was left.
func (r *reader) continuesLocked(pos int64) bool {
	i := slices.IndexFunc(r.left, func(at int64) bool { return pos >= at && pos <= at+nearby })
	if i < 0 {
		return false
	}
	r.left = slices.Delete(r.left, i, i+1)
	return true
}

// used takes note that a read at off which stream served is over, and what it brought.
func (r *reader) used(s *source, off int64, parts ...[]byte) {
	n := int64(0)
	for _, p := range parts {
		n += int64(len(p))
	}
	r.mu.Lock()
	s.using--
	s.served += n
	s.high = max(s.high, off+n)
	served := s.served
	over := r.trimLocked(maxStreams)
	at := off
	for _, p := range parts {
		if len(p) > 0 {
			r.rememberLocked(at, p)
			at += int64(len(p))
		}
	}
	r.mu.Unlock()
	for _, p := range parts {
		if len(p) > 0 {
			r.kept(s, off, p, served)
			off += int64(len(p))
		}
	}
	for _, o := range over {
		r.retire(o)
	}
}

// ending returns why no more will come, nil while that isn't so.
func (s *stream) ending() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// holds says that what is at off has come.
func (s *stream) holds(off int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base <= off && off < s.end
}
