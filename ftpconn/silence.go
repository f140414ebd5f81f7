package ftpconn

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// silence is what a site knows of a server or a line that gave no sign for a whole timeout. Who met it has waited
// that long; what is tried next on account of it must not wait as long again. So the sessions that have not been heard
// since are not lent any more, and for a while a log-in has a quarter of the time, or twice what one has taken here.
type silence struct {
	since, until atomic.Int64 // Unix nanoseconds, 0: never
	longest      atomic.Int64 // log-in that went well, nanoseconds
}

// met notes that nothing was heard for timeout.
func (s *silence) met(timeout time.Duration) {
	now := time.Now()
	s.since.Store(now.Add(-timeout).UnixNano())
	s.until.Store(now.Add(2 * timeout).UnixNano())
}

// over notes that the server answers, and how long a log-in took.
func (s *silence) over(login time.Duration) {
	s.until.Store(0)
	for old := s.longest.Load(); int64(login) > old && !s.longest.CompareAndSwap(old, int64(login)); old = s.longest.Load() {
	}
}

// limit is how long a log-in may take.
func (s *silence) limit(timeout time.Duration) time.Duration {
	if time.Now().UnixNano() < s.until.Load() {
		return min(timeout, max(timeout/4, time.Second, 2*time.Duration(s.longest.Load())))
	}
	return timeout
}

// covers says that a session last heard of at a time was silent with the others.
func (s *silence) covers(heard int64) bool { return heard < s.since.Load() }

// isSilence says that err is a wait that was as long as it could be.
func isSilence(err error) bool {
	var ne net.Error
	return errors.Is(err, errReplyTimeout) || errors.As(err, &ne) && ne.Timeout()
}
