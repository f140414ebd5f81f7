package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

// Sizes of read streams, in bytes.
const (
	chunkSize   = 64 << 10  // what is read at once, and the unit of buffers
	smallFile   = 128 << 10 // up to here a file is read whole and kept while it is open
	minWindow   = 128 << 10 // read ahead of what was asked for, at first
	maxWindow   = 4 << 20   // and at most, after sequential reading
	minSkip     = 256 << 10 // a gap up to this is read over; a new RETR would take longer
	keptBehind  = 1 << 20   // kept behind the furthest read: the kernel's readahead comes out of order
	streamIdle  = 15 * time.Second
	maxAttempts = 3 // of an upload
)

// errIdle ends a stream that nobody reads, so that its session serves others; servers cut stalled
// transfers after 30 s (IIS) to 300 s (vsftpd) anyway.
var errIdle = errors.New("download closed because nobody read it")

// errClosed ends a stream that was closed.
var errClosed = errors.New("download closed")

// stream is a running download at an offset, and the bytes around its position. A goroutine of its own
// reads ahead of the furthest request by a window that grows while requests follow each other. Any number
// of requests may wait at once, in any order. The mutex is never held over network I/O.
type stream struct {
	buffers *budget // constant
	limit   int64   // constant: offset where the file ends, -1 if not known

	cancel context.CancelFunc
	wake   chan struct{} // tells the goroutine that there is something new, capacity 1

	mu      sync.Mutex // guards following
	chunks  [][]byte   // chunks[i] begins at base + i*chunkSize
	base    int64
	end     int64 // [base, end) is here
	want    int64 // furthest end of a request
	window  int64
	grown   int64 // how far want moved since the window grew
	waiting map[*int64]struct{}
	changed chan struct{} // closed at the next change; nil if nobody waits
	err     error         // why no more will come; io.EOF at the confirmed end of a file of unknown size
}

// openStream starts a download of path at off. The result can be read at once: the first reader gets
// the error of a download that can't be started. landed, if it isn't nil, is called once when the download is
// over, with why it is not complete.
func openStream(ctx context.Context, t *tree, path string, off, limit int64, landed func(error)) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		buffers: &t.buffers, limit: limit, cancel: cancel, wake: make(chan struct{}, 1),
		base: off, end: off, want: off, window: minWindow,
		waiting: make(map[*int64]struct{}),
	}
	if limit >= 0 && limit <= smallFile {
		s.window = smallFile
	}
	go func() {
		s.run(ctx, t.remote, path, off)
		if landed != nil {
			landed(s.failure())
		}
	}()
	return s
}

// accepts says that a read at off is better served by s than by a new download.
func (s *stream) accepts(off int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.base {
		return false
	}
	if s.err != nil {
		return off < s.end || off == s.end && errors.Is(s.err, io.EOF)
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
	pos := off
	s.waiting[&pos] = struct{}{}
	defer func() {
		delete(s.waiting, &pos)
		s.dropLocked()
	}()
	s.askLocked(end)
	n := 0
	for {
		n += s.copyLocked(dest[n:end-off], off+int64(n))
		pos = off + int64(n)
		switch {
		case pos >= end:
			return n, nil
		case s.err != nil:
			return n, s.err
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return n, ctx.Err()
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
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) copyLocked(dest []byte, off int64) int {
	n := 0
	if off < s.base {
		return 0
	}
	for n < len(dest) && off+int64(n) < s.end {
		at := off + int64(n) - s.base
		chunk := s.chunks[at/chunkSize]
		have := min(int64(chunkSize), s.end-s.base-at/chunkSize*chunkSize)
		n += copy(dest[n:], chunk[at%chunkSize:have])
	}
	return n
}

// dropLocked frees chunks that are behind what anybody is likely to ask for.
func (s *stream) dropLocked() {
	if s.limit >= 0 && s.limit <= smallFile {
		return
	}
	low := min(s.want, s.end) - keptBehind
	for pos := range s.waiting {
		low = min(low, *pos)
	}
	for len(s.chunks) > 0 && s.base+chunkSize <= low && s.base+chunkSize <= s.end {
		s.chunks[0] = nil
		s.chunks = s.chunks[1:]
		s.base += chunkSize
		s.buffers.used.Add(-chunkSize)
	}
}

// run is the goroutine that downloads.
func (s *stream) run(ctx context.Context, remote ftpconn.Remote, path string, off int64) {
	defer s.cancel()
	d, err := remote.Retrieve(ctx, path, off)
	if err != nil {
		s.finish(err)
		return
	}
	defer d.Close()
	idle := time.NewTimer(streamIdle)
	defer idle.Stop()
	for {
		buf, done := s.room()
		if done {
			return
		}
		if buf == nil {
			idle.Reset(streamIdle)
			select {
			case <-s.wake:
			case <-ctx.Done():
				s.finish(errClosed)
				return
			case <-idle.C:
				s.finish(errIdle)
				return
			}
			continue
		}
		n, err := d.Read(buf)
		if s.filled(n) {
			if err == nil {
				var none [1]byte
				d.Read(none[:]) // the server's last word, for nobody: the session goes back in peace
			}
			return
		}
		switch {
		case err == io.EOF && s.limit >= 0:
			s.finish(errShort)
			return
		case err != nil:
			s.finish(err)
			return
		}
	}
}

// errShort says that a download ended, confirmed by the server, before the size that the file
// was known to have.
var errShort = fmt.Errorf("the server ended the download before the end of the file: %w", io.ErrUnexpectedEOF)

// room returns where the next bytes go, nil if enough was read ahead, and done when no more is
// to be read.
func (s *stream) room() (buf []byte, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.limit >= 0 && s.end >= s.limit {
		return nil, true
	}
	if s.end >= s.want && (s.end >= s.want+s.window || s.buffers.used.Load() > maxBuffers) {
		return nil, false
	}
	s.dropLocked()
	at := s.end - s.base
	if at/chunkSize == int64(len(s.chunks)) {
		s.chunks = append(s.chunks, make([]byte, chunkSize))
		s.buffers.used.Add(chunkSize)
	}
	buf = s.chunks[at/chunkSize][at%chunkSize:]
	if s.limit >= 0 && int64(len(buf)) > s.limit-s.end {
		buf = buf[:s.limit-s.end]
	}
	return buf, false
}

// filled says that n bytes have come, and returns whether they were the last ones wanted: the server's
// final reply is not waited for.
func (s *stream) filled(n int) (complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil { // closed
		return true
	}
	s.end += int64(n)
	s.notifyLocked()
	return s.limit >= 0 && s.end >= s.limit
}

func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.notifyLocked()
}

func (s *stream) notifyLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// close ends the download in the background and gives the buffers back. Who still waits gets
// errClosed.
func (s *stream) close() {
	s.cancel()
	s.finish(errClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errClosed
	s.buffers.used.Add(-chunkSize * int64(len(s.chunks)))
	s.chunks, s.base = nil, s.end
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// failure returns why the download is over, nil if it is complete.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
