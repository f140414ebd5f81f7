package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

// Sizes of read streams, in bytes.
const (
	chunkSize  = 128 << 10 // what is read at once, and the unit of buffers
	smallFile  = 128 << 10 // up to here a file is read whole and kept while it is open
	minWindow  = 128 << 10 // read ahead of what was asked for, at first
	maxWindow  = 4 << 20   // and at most, after sequential reading by one connection
	minSkip    = 256 << 10 // a gap up to this is read over; a new RETR would take longer
	keptBehind = 4 << 20   // kept behind the furthest read: the kernel's readahead comes out of order, and up to 2 MiB of it at once
	keptFree   = 32        // chunks kept for the next use, by one connection
	streamIdle = 15 * time.Second
)

// errIdle ends a stream that nobody reads, so that its session serves others; servers cut stalled
// transfers after 30 s (IIS) to 300 s (vsftpd) anyway.
var errIdle = errors.New("download closed because nobody read it")

// errClosed ends a stream that was closed.
var errClosed = errors.New("download closed")

// errAway ends a download that may be of another file, which took the name while the download waited for its turn.
var errAway = errors.New("download closed because the file's name is changing")

// beginning is how a download is told from one of another file that took the name while it waited for its turn.
type beginning struct {
	stamped bool                      // the server is asked for the file's stamp, right before the download
	seen    func(ftpconn.Stamp) error // called before the first bytes are taken, nil for none: an error ends the stream
}

// errShort says that a download ended, confirmed by the server, before the size that the file
// was known to have.
var errShort = fmt.Errorf("the server ended the download before the end of the file: %w", io.ErrUnexpectedEOF)

// stream is the download of a file from an offset on, and the bytes around its position. A goroutine of its
// own reads ahead of the furthest request by a window that grows while requests follow each other;
// for a large file that is read in order there may be several, each with a segment (segment.go) on a session of
// its own. Any number of requests may wait at once, in any order. The mutex is never held over network I/O.
type stream struct {
	// dependencies
	remote  ftpconn.Remote
	buffers *budget

	// constant
	path   string
	limit  int64 // offset where the file ends, -1 if not known
	ctx    context.Context
	cancel context.CancelFunc
	landed func(error) // called once when the download is over
	beginning

	mu      sync.Mutex // guards following
	chunks  []*chunk   // chunks[i] begins at base + i*chunkSize; nil where nothing has come
	base    int64
	end     int64    // [base, end) is here, and of one version
	want    int64    // furthest end of a request
	window  int64    // bytes read ahead of want
	grown   int64    // how far want moved since the window grew
	free    []*chunk // chunks for the next use
	waiting []*waiter
	room    chan struct{} // closed when there may be room for more; nil if nobody waits for it
	closed  bool
	err     error // why no more will come; io.EOF at the confirmed end of a file of unknown size

	segments []*segment // what is still to come, in order and without gaps, up to frontier
	frontier int64      // up to here segments were made
	broken   error      // becomes err when all before brokenAt has come
	brokenAt int64
	fetchers int // goroutines that download
	workers  int // these, and others that use ctx
	pacing
}

// waiter is a read that waits.
type waiter struct {
	pos, end int64         // what it still needs
	ready    chan struct{} // gets one element when that is here, or no more will come
}

// openStream starts a download of path at off. The result can be read at once: the first reader gets
// the error of a download that can't be started. landed, if it isn't nil, is called once when the download is
// over, with why it is not complete.
func openStream(ctx context.Context, t *tree, path string, off, limit int64, begins beginning, landed func(error)) *stream {
	s := &stream{
		remote: t.remote, buffers: &t.buffers, path: path, limit: limit, beginning: begins, landed: landed,
		base: off, end: off, want: off, window: minWindow, brokenAt: math.MaxInt64,
	}
	s.pacing.t, s.pacing.from = t, off
	s.ctx, s.cancel = context.WithCancel(ctx)
	if limit >= 0 && limit <= smallFile {
		s.window = smallFile
	}
	s.frontier = limit
	if limit < 0 {
		s.frontier = math.MaxInt64
	}
	first := &segment{from: off, at: off, to: max(s.frontier, off), checked: true, busy: true}
	s.segments, s.fetchers, s.workers, s.target = []*segment{first}, 1, 1, 1
	go s.fetch(first)
	return s
}

// accepts says that a read at off is better served by s than by a new download.
func (s *stream) accepts(off int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.base || s.closed {
		return false
	}
	switch {
	case s.err == nil:
	case off < s.end || off == s.end && errors.Is(s.err, io.EOF):
		return true
	default: // who comes next after a loss is to share in the download that takes this one up
		return off <= s.want && errors.Is(s.err, ftpconn.ErrConnLost)
	}
	return off <= max(s.want, s.end)+max(minSkip, s.window)
}

// read copies what is at off, and waits for as much of dest as the file has. It returns fewer bytes
// only with an error; io.EOF is the confirmed end.
func (s *stream) read(ctx context.Context, dest []byte, off int64) (int, error) {
	end := off + int64(len(dest))
	if s.limit >= 0 {
		end = min(end, s.limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.base {
		return 0, errClosed // was dropped since accepts looked
	}
	s.askLocked(end)
	n := s.copyLocked(dest[:max(end-off, 0)], off)
	if off+int64(n) >= end {
		s.dropLocked()
		return n, nil
	}
	w := &waiter{pos: off + int64(n), end: end, ready: make(chan struct{}, 1)}
	s.waitLocked(w)
	defer func() {
		s.waitedLocked(w)
		if s.closed && len(s.waiting) == 0 {
			s.releaseLocked()
		}
		s.dropLocked()
	}()
	for {
		if s.err == nil {
			s.mu.Unlock()
			select {
			case <-w.ready:
			case <-ctx.Done():
			}
			s.mu.Lock()
		}
		n += s.copyLocked(dest[n:end-off], off+int64(n))
		w.pos = off + int64(n)
		switch {
		case w.pos >= end:
			return n, nil
		case ctx.Err() != nil:
			return n, ctx.Err()
		case s.err != nil:
			return n, s.err
		}
	}
}

// askLocked moves want, and lets the window grow with it.
func (s *stream) askLocked(end int64) {
	if end > s.want {
		s.grown += end - s.want
		s.want = end
		if s.grown >= s.window {
			s.window, s.grown = min(2*s.window, maxWindow), 0
		}
	}
	s.roomLocked()
	s.paceLocked()
}

// roomLocked tells the fetchers that there may be room.
func (s *stream) roomLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// moreRoomLocked returns what is closed when there may be room.
func (s *stream) moreRoomLocked() <-chan struct{} {
	if s.room == nil {
		s.room = make(chan struct{})
	}
	return s.room
}

func (s *stream) waitLocked(w *waiter) {
	if len(s.waiting) == 0 {
		s.since = time.Now()
	}
	s.waiting = append(s.waiting, w)
}

func (s *stream) waitedLocked(w *waiter) {
	i := slices.Index(s.waiting, w)
	s.waiting = slices.Delete(s.waiting, i, i+1)
	if len(s.waiting) == 0 {
		s.waited += time.Since(s.since)
	}
}

// notifyLocked wakes the reads that can be served, and all if no more will come.
func (s *stream) notifyLocked() {
	for _, w := range s.waiting {
		if s.end >= w.end || s.err != nil {
			select {
			case w.ready <- struct{}{}:
			default:
			}
		}
	}
}

// finishLocked ends the download with err, unless it has ended.
func (s *stream) finishLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	s.notifyLocked()
	s.roomLocked()
}

// close ends the download in the background and gives the buffers back, when those who wait have taken what
// is there for them. Who still waits gets errClosed.
func (s *stream) close() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishLocked(errClosed)
	s.closed = true
	if errors.Is(s.err, io.EOF) {
		s.err = errClosed
	}
	if len(s.waiting) == 0 {
		s.releaseLocked()
	}
}

// leaveLocked is called by a worker as the last thing that it does. fetcher says that it downloaded.
func (s *stream) leaveLocked(fetcher bool) {
	s.workers--
	if !fetcher {
		if s.workers == 0 {
			s.cancel()
		}
		return
	}
	s.fetchers--
	if s.fetchers > 0 {
		if s.target == 1 {
			s.trimLocked(keptFree)
		}
		return
	}
	s.trimLocked(0)
	if s.stopPace != nil {
		s.stopPace()
	}
	if s.workers == 0 {
		s.cancel()
	}
	if s.landed != nil {
		landed := s.landed
		s.landed = nil
		err := s.failureLocked()
		s.mu.Unlock()
		landed(err)
		s.mu.Lock()
	}
}

// failureLocked returns why the download is over, nil if it is complete.
func (s *stream) failureLocked() error {
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// position returns the offset up to which bytes have come.
func (s *stream) position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}
