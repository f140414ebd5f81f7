package fs

const (
	// stepBack is how far below the beginning of the last download a read is still one of a row that goes down, and
	// how much is fetched below the third one of such a row; then twice as much, and so on up to mostBack.
	stepBack = 64 << 10
	mostBack = 256 << 10
)

// descent notices reads that go down through a file, as those of a database or of tac: each would be a download of its
// own. Guarded by reader.mu.
type descent struct {
	low  int64 // where the last download began
	rows int   // downloads that began shortly below the one before, in a row
}

// next takes note that a download is to begin at an offset, and returns where it begins better.
func (d *descent) next(at int64) int64 {
	if gap := d.low - at; gap > 0 && gap <= stepBack {
		d.rows++
	} else {
		d.rows = 0
	}
	if d.rows >= 2 {
		at = max(at-min(int64(stepBack)<<min(d.rows-2, 8), mostBack), 0)
	}
	d.low = at
	return at
}

// begunBelow tells a download that what is read first is at pos, and not what it begins with: that isn't reading in order.
func (s *stream) begunBelow(pos int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = max(s.want, pos)
	s.roomLocked()
}
