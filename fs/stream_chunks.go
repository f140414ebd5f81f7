package fs

// The bytes around a stream's position, in chunks.

// chunk is a buffer of a stream, by whose mutex it is guarded. What has come to it doesn't change while it is lent.
type chunk struct {
	data  []byte
	taken int  // bytes of it that reads had, some maybe twice
	lent  int  // loans that it is in
	gone  bool // the stream is done with it
}

func (s *stream) copyLocked(dest []byte, off int64) int {
	n := 0
	if off < s.base {
		return 0
	}
	for n < len(dest) && off+int64(n) < s.end {
		at := off + int64(n) - s.base
		c := s.chunks[at/chunkSize]
		have := min(int64(chunkSize), s.end-s.base-at/chunkSize*chunkSize)
		m := copy(dest[n:], c.data[at%chunkSize:have])
		c.taken += m
		n += m
	}
	return n
}

// dropLocked frees chunks that are behind what anybody is likely to ask for. Those that were not read yet are kept for longer:
// the requests for them may be late, on a busy machine.
func (s *stream) dropLocked() {
	if s.limit >= 0 && s.limit <= smallFile {
		return
	}
	at := min(s.want, s.end)
	read, unread := at-min(keptBehind, s.window), at-keptBehind
	for _, w := range s.waiting {
		read, unread = min(read, w.pos), min(unread, w.pos)
	}
	for len(s.chunks) > 0 && s.base+chunkSize <= s.end {
		low := unread
		if s.chunks[0].taken >= chunkSize {
			low = read
		}
		if s.base+chunkSize > low {
			return
		}
		s.letGoLocked(s.chunks[0])
		s.chunks[0] = nil
		s.chunks = s.chunks[1:]
		s.base += chunkSize
	}
}

// letGoLocked keeps a chunk for the next use or gives its memory back, now or when it is no longer lent.
func (s *stream) letGoLocked(c *chunk) {
	switch {
	case c == nil:
	case c.lent > 0:
		c.gone = true
	case len(c.data) == chunkSize && s.fetchers > 0 && (len(s.free) < keptFree || s.target > 1):
		s.free = append(s.free, c)
	default:
		s.buffers.used.Add(-int64(len(c.data)))
	}
}

// trimLocked gives back chunks that were kept for the next use.
func (s *stream) trimLocked(keep int) {
	if over := len(s.free) - keep; over > 0 {
		s.buffers.used.Add(-chunkSize * int64(over))
		clear(s.free[keep:])
		s.free = s.free[:keep]
	}
}

// bufferLocked returns where the bytes at an offset go, up to the end of their chunk.
func (s *stream) bufferLocked(off int64) []byte {
	i := int((off - s.base) / chunkSize)
	for i >= len(s.chunks) {
		s.chunks = append(s.chunks, nil)
	}
	if s.chunks[i] == nil {
		size := int64(chunkSize)
		if n := len(s.free); n > 0 {
			s.chunks[i], s.free[n-1] = s.free[n-1], nil
			s.free = s.free[:n-1]
			s.chunks[i].taken = 0
		} else {
			if s.limit >= 0 {
				size = min(size, s.limit-s.base-int64(i)*chunkSize)
			}
			s.chunks[i] = &chunk{data: make([]byte, size)}
			s.buffers.used.Add(size)
		}
	}
	return s.chunks[i].data[(off-s.base)%chunkSize:]
}

func (s *stream) releaseLocked() {
	for _, c := range s.chunks {
		s.letGoLocked(c)
	}
	s.trimLocked(0)
	s.chunks, s.base = nil, s.end
}
