package cache

import (
	"errors"
	"os"
)

// ErrRewritten says that what a Stream had given out was changed afterwards: what was sent is no longer the file.
var ErrRewritten = errors.New("changed behind the part already sent")

// Stream reads a SpoolFile in order while others write it, and notices when they change what it has given
// out. So a file can be sent by STOR while it is being written:
//
//	for {
//		changed := f.Changed()          // first the channel, then the look
//		n, err := st.Next(buf)          // ErrRewritten: break the upload off and send by Plan
//		if n > 0 { upload buf[:n]; continue }
//		wait for changed, or for the flush, where
//			p := f.Plan()
//			if st.Pos() == p.Size && st.Intact() {
//				end the upload; once confirmed: f.MarkClean(p.Version, p.Size)
//			}
//	}
//
// The order of Plan and Intact matters: an intact stream has given out [0, Pos) as of any version
// that was read before. Used by one goroutine at a time, beside any use of its file.
type Stream struct {
	f *SpoolFile
	// guarded by f.mu
	pos       int64
	high      int64 // the furthest pos so far
	rewritten bool
}

// Stream starts one at off (bytes). Changes before off do count as changes of what was given out: for APPE
// that is what has to be noticed too. Close it when done.
func (f *SpoolFile) Stream(off int64) *Stream {
	s := &Stream{f: f, pos: max(off, 0), high: max(off, 0)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.streams[s] = struct{}{}
	}
	return s
}

// Next reads what is local at the position, len(p) bytes at most, and moves on. It doesn't wait: 0 and no error
// mean that nothing is there now, because the file ends here or the next bytes are only on the server (Missing).
// ErrRewritten, and nothing read, from the moment that what was given out has changed.
func (s *Stream) Next(p []byte) (int, error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	start := s.pos
	end, err := s.stepLocked(int64(len(p)))
	if err != nil || end == start {
		return 0, err
	}
	f.mu.Unlock()
	n, err := f.file.ReadAt(p[:end-start], start)
	f.mu.Lock()
	switch {
	case s.rewritten:
		return 0, f.errorf("read", start, ErrRewritten)
	case int64(n) < end-start:
		s.pos = start
		return 0, f.readError(start, err)
	}
	return n, nil
}

// stepLocked moves on over what is local at the position, most bytes at most, and returns the new one.
func (s *Stream) stepLocked(most int64) (int64, error) {
	f := s.f
	start := s.pos
	end := min(start+most, f.known.RunEnd(start), f.size)
	switch {
	case f.closed:
		return start, f.errorf("read", start, os.ErrClosed)
	case s.rewritten:
		return start, f.errorf("read", start, ErrRewritten)
	case end <= start:
		return start, nil
	}
	s.pos, s.high = end, max(s.high, end) // at once, so that a change during the read is noticed
	return end, nil
}

// Lend is Next without a copy: the n bytes at off in file, the local copy itself, which is to be read from only. 0, and
// nothing done, if there are fewer than least, or no such file. What was lent may change until whoever it is lent to has
// taken it: Steady, asked then, says that it didn't.
func (s *Stream) Lend(least, most int64) (file *os.File, off, n int64, err error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.file.(*diskCopy)
	start := s.pos
	if !ok || f.closed || min(f.known.RunEnd(start), f.size)-start < least {
		return nil, start, 0, nil
	}
	if file, err = d.open(); err != nil {
		return nil, start, 0, f.errorf("open", start, err)
	}
	end, err := s.stepLocked(most)
	return file, start, end - start, err
}

// Steady is Intact, and that nothing of what was given out is being changed at this moment.
func (s *Stream) Steady() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for _, c := range s.f.claims {
		if c.Off < s.high {
			return false
		}
	}
	return !s.rewritten
}

// Pos returns the offset of the next byte to be read.
func (s *Stream) Pos() int64 {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.pos
}

// Rewind goes back to off, to give out again what follows: the upload is taken up there. Changes of anything
// that was given out before still count, because the server may have it. False, and nothing done, if off was never reached
// or what was given out has changed.
func (s *Stream) Rewind(off int64) bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if off < 0 || off > s.high || s.rewritten || s.f.closed {
		return false
	}
	s.pos = off
	return true
}

// Intact says that nothing that was given out has changed since.
func (s *Stream) Intact() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return !s.rewritten
}

// Close ends the stream. The file stays.
func (s *Stream) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	delete(s.f.streams, s)
}
