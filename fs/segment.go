package fs

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"ftpfs/ftpconn"
)

const (
	minSegment  = 1 << 20  // bytes; a new RETR costs a session three round trips
	maxSegment  = 16 << 20 // bytes
	farWindow   = 40 << 20 // read ahead of what was asked for while there are segments
	maxFetchers = 16       // of one stream; sessions are the tighter bound
	// noSession is how long a fetcher waits for a session, beside others that have one; it is also
	// how long one that has nothing to do keeps its session from who might need it.
	noSession = time.Second
	askAgain  = 10 * time.Millisecond
	maxTries  = 2 // of a segment that breaks
)

// errSpare ends a fetcher that waits for room beside others.
var errSpare = errors.New("download closed because there are others")

// segment is a part of the file that one RETR brings. Segments begin at chunks, so that no two
// fetchers write to one chunk. A stream that is one connection is one segment up to the end of the file.
type segment struct {
	from, at, to int64 // [from, at) has come, [at, to) is to come
	busy         bool  // a fetcher has it
	dead         bool  // nobody wants it any more
	asked        bool  // to be checked
	checked      bool  // what has come is of the stream's version
	tries        int   // downloads that broke without bringing anything
}

// fetch is a goroutine that downloads one segment after the other, beginning with g.
func (s *stream) fetch(g *segment) {
	var since time.Time // no session was free
	for {
		if g == nil {
			if g = s.next(); g == nil {
				return
			}
		}
		opened, err := s.download(g)
		if opened || since.IsZero() {
			since = time.Now()
		}
		if !s.ended(g, opened, err, since) {
			return
		}
		g = nil
		switch {
		case opened || err == nil:
		case errors.Is(err, ftpconn.ErrNoneFree):
			pause(s.ctx, askAgain)
		default:
			pause(s.ctx, 10*askAgain)
		}
	}
}

// next returns what to download next, nil if the fetcher has left because there is nothing.
func (s *stream) next() *segment {
	for {
		s.mu.Lock()
		g, more := s.claimLocked()
		if !more {
			s.leaveLocked(true)
		}
		if g != nil || !more {
			s.mu.Unlock()
			return g
		}
		room := s.moreRoomLocked()
		s.mu.Unlock()
		if err := s.awaitRoom(room); err != nil {
			s.mu.Lock()
			switch {
			case err != errSpare:
				s.finishLocked(err)
			case s.fetchers == 1: // the others left just now
				s.mu.Unlock()
				continue
			default:
				s.target = s.fetchers - 1
			}
			s.leaveLocked(true)
			s.mu.Unlock()
			return nil
		}
	}
}

// awaitRoom waits for room to read ahead into. If none comes it returns errIdle or, beside other fetchers and sooner,
// errSpare.
func (s *stream) awaitRoom(room <-chan struct{}) error {
	idle := time.NewTimer(noSession)
	defer idle.Stop()
	for began := time.Now(); ; {
		select {
		case <-room:
			return nil
		case <-s.ctx.Done():
			return errClosed
		case <-idle.C:
		}
		s.mu.Lock()
		spare := s.fetchers > 1
		s.mu.Unlock()
		left := streamIdle - time.Since(began)
		switch {
		case spare:
			return errSpare
		case left <= 0:
			return errIdle
		}
		idle.Reset(left)
	}
}

// claimLocked gives a fetcher a segment, or says whether there may be one later.
func (s *stream) claimLocked() (g *segment, more bool) {
	if s.err != nil || s.fetchers > s.target {
		return nil, false
	}
	for i, g := range s.segments {
		if !g.busy && g.at < g.to {
			g.busy = true
			if i == len(s.segments)-1 && s.target == 1 {
				g.to = s.stopLocked()
				s.frontier = g.to
			}
			return g, true
		}
	}
	stop := s.stopLocked()
	rest := stop - s.frontier
	if rest <= 0 {
		return nil, false
	}
	to := stop
	if s.target > 1 {
		size := min(s.size, max(s.least, rest/int64(2*s.target))) // all end together
		if rest > size+s.least/2 {
			to = s.alignLocked(s.frontier + size)
		}
		full := s.fullLocked(size) && s.frontier >= s.want
		if to > max(s.want, s.end)+farWindow || full {
			return nil, true
		}
	}
	g = &segment{from: s.frontier, at: s.frontier, to: to, busy: true}
	s.segments = append(s.segments, g)
	s.frontier = to
	return g, true
}

// fullLocked says that the buffers of the mount are used up, n bytes more taken into account.
func (s *stream) fullLocked(n int64) bool {
	return s.buffers.used.Load()-chunkSize*int64(len(s.free))+n > maxBuffers
}

// stopLocked is where the download ends.
func (s *stream) stopLocked() int64 {
	if s.limit < 0 {
		return math.MaxInt64
	}
	return min(s.limit, s.brokenAt)
}

// alignLocked is off or the first beginning of a chunk behind it.
func (s *stream) alignLocked(off int64) int64 {
	return s.base + (off-s.base+chunkSize-1)/chunkSize*chunkSize
}

// download brings a segment, or as much as there is room for and as comes. opened says that it had begun.
func (s *stream) download(g *segment) (opened bool, err error) {
	s.mu.Lock()
	over, at, ctx := s.overLocked(g), g.at, s.ctx
	ask := g.checked && s.stamped
	if s.fetchers > 1 {
		ctx = ftpconn.Guess(ctx)
	}
	s.mu.Unlock()
	if over {
		return false, nil
	}
	if ask {
		ctx = ftpconn.WithStamp(ctx)
	}
	d, err := s.remote.Retrieve(ctx, s.path, at)
	if err != nil {
		return false, err
	}
	defer d.Close()
	if s.seen != nil {
		if err := s.seen(ftpconn.StampOf(d)); err != nil {
			return false, err
		}
	}
	s.running(1)
	defer s.running(-1)
	for {
		buf, room := s.space(g)
		if room != nil {
			if err := s.awaitRoom(room); err != nil {
				return true, err
			}
			continue
		}
		if buf == nil {
			return true, nil
		}
		n, err := d.Read(buf)
		if complete, last := s.filled(g, n); complete {
			if err == nil && last {
				var none [1]byte
				d.Read(none[:]) // the server's last word, for nobody: the session goes back in peace
			}
			return true, nil
		}
		switch {
		case err == io.EOF && s.limit >= 0:
			return true, errShort
		case err != nil:
			return true, err
		}
	}
}

// running counts the downloads that are under way.
func (s *stream) running(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.most = max(s.most, s.open)
}

func (s *stream) overLocked(g *segment) bool { return s.err != nil || g.dead || g.at >= g.to }

// space returns where the next bytes go, or what to wait for if enough was read ahead, or neither when no
// more is to be read.
func (s *stream) space(g *segment) (buf []byte, room <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overLocked(g) {
		return nil, nil
	}
	window := s.window
	if len(s.segments) > 1 {
		window = farWindow
	}
	if g.at >= s.want && (g.at >= s.want+window || s.fullLocked(0)) {
		return nil, s.moreRoomLocked()
	}
	s.dropLocked()
	buf = s.bufferLocked(g.at)
	if int64(len(buf)) > g.to-g.at {
		buf = buf[:g.to-g.at]
	}
	return buf, nil
}

// filled says that n bytes have come, and returns whether they were the last ones wanted, of the segment and of
// the file: the server's final reply is not waited for.
func (s *stream) filled(g *segment, n int) (complete, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || g.dead { // closed
		return true, false
	}
	g.at += int64(n)
	s.came += int64(n)
	if n > 0 && !g.checked && !g.asked {
		g.asked = true
		s.unchecked = append(s.unchecked, g)
		if !s.checking {
			s.checking = true
			s.workers++
			go s.check()
		}
	}
	s.advanceLocked()
	return g.at >= g.to, g.at == s.limit
}

// advanceLocked moves end over what has come and was checked.
func (s *stream) advanceLocked() {
	for len(s.segments) > 0 {
		g := s.segments[0]
		if !g.checked {
			break
		}
		s.end = g.at
		if g.at < g.to {
			break
		}
		s.segments[0] = nil
		s.segments = s.segments[1:]
	}
	if s.broken != nil && s.end >= s.brokenAt && s.err == nil {
		s.finishLocked(s.broken)
		return
	}
	s.notifyLocked()
}

// ended takes a segment back from a fetcher after a download that ended with err, and says whether the
// fetcher goes on; if not, it has left. What did not come is left to others, or the stream is broken there.
func (s *stream) ended(g *segment, opened bool, err error, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.busy = false
	alone := s.fetchers == 1
	stays := false
	switch {
	case s.err != nil || g.dead:
		stays = s.err == nil
	case err == nil:
		stays = true
	case s.ctx.Err() != nil:
		s.finishLocked(errClosed)
	case errors.Is(err, io.EOF), errors.Is(err, errIdle):
		s.finishLocked(err)
	case errors.Is(err, errSpare):
		s.splitLocked(g)
		stays = alone // the others left just now
	case alone && !opened && s.segmented && errors.Is(err, ftpconn.ErrNoneFree): // the others left just now
		stays = true
	case alone, errors.Is(err, errShort), errors.Is(err, errStamp), errors.Is(err, errAway), opened && g.tries >= maxTries:
		s.breakLocked(g.at, err)
		stays = s.err == nil
	case !opened: // those that are ending may still count, or no more are to be had
		stays = time.Since(since) < noSession
	case errors.Is(err, ftpconn.ErrPreempted):
		s.splitLocked(g)
	default:
		s.splitLocked(g)
		stays = true
	}
	if !stays {
		s.target = max(min(s.target, s.fetchers-1), 1)
		s.leaveLocked(true)
	}
	s.roomLocked()
	return stays
}

// splitLocked makes what did not come of g a segment of its own.
func (s *stream) splitLocked(g *segment) {
	if g.at == g.from {
		g.tries++
		return
	}
	rest := &segment{from: g.at, at: g.at, to: g.to}
	g.to = g.at
	s.segments = slices.Insert(s.segments, slices.Index(s.segments, g)+1, rest)
	s.advanceLocked()
}

// breakLocked ends the stream with err once all before at has come.
func (s *stream) breakLocked(at int64, err error) {
	if at >= s.brokenAt {
		return
	}
	s.brokenAt, s.broken = at, err
	keep := s.segments[:0]
	for _, g := range s.segments {
		if g.to > at && g.from < at {
			g.to = max(g.at, at)
		}
		if g.from < at {
			keep = append(keep, g)
		} else {
			g.dead = true
		}
	}
	clear(s.segments[len(keep):])
	s.segments = keep
	s.frontier = min(s.frontier, at)
	s.advanceLocked()
	s.roomLocked()
}

// pause waits, and says whether it did to the end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
