package fs

import (
	"context"
	"sync"
	"time"
)

const (
	paceAfter = 4 << 20                // bytes read in order before more connections are thought of
	paceKnown = 1 << 20                // the same, where they were found to pay
	worthRest = 8 << 20                // bytes still to come that make it worth while
	paceTime  = 250 * time.Millisecond // a throughput is taken over this, or some round trips
	worthGain = 1.15                   // the throughput with more connections by that with fewer
	// fastLine is the throughput, in bytes per second, from which the machine is the limit, and not the connection.
	fastLine = 256 << 20
	// liveFile is the age up to which a file may be still in writing: reading it by one RETR gives a file of its
	// time, more of them would find that it changed.
	liveFile = time.Minute
	// findingLife is how long it is believed how many connections pay.
	findingLife = 30 * time.Second
	maxDoubts   = 3 // times that a throughput may turn out to have been a moment's
)

// finding is how many connections were found to pay for one file on a mount. Safe for concurrent use.
type finding struct {
	mu    sync.Mutex // guards following
	n     int
	done  bool // more were tried, and did not pay
	until time.Time
}

func (f *finding) get() (n int, done bool, left time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if left = time.Until(f.until); left <= 0 {
		return 0, false, 0
	}
	return f.n, f.done, left
}

func (f *finding) set(n int, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.done, f.until = n, done, time.Now().Add(findingLife)
}

// pacing is what a stream knows of its throughput. It is guarded by the stream's mutex.
type pacing struct {
	t          *tree    // constant
	found      *finding // nil: always one connection
	ver        version  // exact once segments were begun
	from       int64    // constant: where the stream began
	came       int64    // bytes that all fetchers brought
	waited     time.Duration
	since      time.Time // when reads began to wait, if some do
	open, most int       // downloads under way, and at most since they were last counted
	target     int       // fetchers wanted
	size       int64     // bytes of a new segment
	least      int64     // the same near the end of the file
	segmented  bool
	stopPace   context.CancelFunc
	unchecked  []*segment // begun since the version was last asked for
	checking   bool
}

// expect allows the stream to use several connections: ver is the version of the file that it is to read, found is
// what is known of the mount.
func (s *stream) expect(ver version, found *finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit >= 0 && ver.size == s.limit {
		s.ver, s.found = ver, found
	}
}

// paceLocked begins to look for a better number of connections when enough was read in order.
func (s *stream) paceLocked() {
	if s.found == nil || s.stopPace != nil || s.err != nil || s.fetchers == 0 ||
		s.want-s.from < paceKnown || s.limit-s.want < worthRest {
		return
	}
	if s.want-s.from < paceAfter {
		if n, _, _ := s.found.get(); n < 2 {
			return
		}
	}
	var ctx context.Context
	ctx, s.stopPace = context.WithCancel(s.ctx)
	s.workers++
	go func() {
		s.pace(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leaveLocked(false)
	}()
}

// speed is a stream's throughput over some time.
type speed struct {
	rate    float64 // bytes per second
	waiting float64 // part of the time that reads waited for the network
	open    int     // downloads under way, at most; there may be more fetchers, which wait for sessions
	rest    int64   // bytes to come
}

// slow says that the network is what readers wait for.
func (v speed) slow() bool {
	return v.waiting >= 0.5 && v.rate < fastLine && v.rest >= worthRest
}

// pace doubles the connections as long as that pays, by measuring.
func (s *stream) pace(ctx context.Context) {
	var round time.Duration
	doubts := 0
	first := paceTime
	if n, _, _ := s.found.get(); n > 1 {
		first /= 2
	}
	now, ok := s.measure(ctx, first)
	for ok {
		if !now.slow() {
			now, ok = s.measure(ctx, 4*paceTime)
			continue
		}
		if round == 0 {
			if round, ok = s.settleVersion(ctx); !ok {
				return
			}
		}
		known, done, left := s.found.get()
		jump := known > now.open
		if done && !jump {
			if ok = pause(ctx, left); ok {
				now, ok = s.measure(ctx, paceTime)
			}
			continue
		}
		want := 2 * now.open
		if jump {
			want = known
		}
		want = min(want, maxFetchers)
		s.raise(want, now.rate)
		var then speed
		if ok = s.settled(ctx, round); ok {
			then, ok = s.measure(ctx, max(paceTime, 4*round))
		}
		switch {
		case !ok:
		case then.open <= now.open: // all sessions are needed elsewhere
			s.lower(now.open)
			now, ok = s.measure(ctx, 20*paceTime)
		case jump && done:
			now = then
		case jump || then.rate >= worthGain*now.rate:
			s.found.set(then.open, then.open < want || want == maxFetchers)
			now = then
		default: // as it seems; what came at once after a pause may have passed for throughput
			s.lower(now.open)
			var again speed
			if ok = s.lowered(ctx, now.open); ok {
				again, ok = s.measure(ctx, max(paceTime, 4*round))
			}
			if again.slow() && then.rate >= worthGain*again.rate && doubts < maxDoubts {
				doubts++
			} else {
				s.found.set(now.open, true)
			}
			now = again
		}
	}
}

// settleVersion finds out whether the file is one that can be read in segments: of a version that can
// be told from others, and not in writing. It returns how long a round trip takes.
func (s *stream) settleVersion(ctx context.Context) (round time.Duration, ok bool) {
	began := time.Now()
	v, err := s.look(ctx)
	round = max(time.Since(began), time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !v.exact() || !v.same(s.ver) || time.Since(v.time) < liveFile {
		return 0, false
	}
	s.ver = v
	return round, true
}

// measure takes the throughput of some time.
func (s *stream) measure(ctx context.Context, over time.Duration) (speed, bool) {
	count := func() (came int64, waited time.Duration, most int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		came, waited, most = s.came, s.waited, s.most
		if len(s.waiting) > 0 {
			waited += time.Since(s.since)
		}
		s.most = s.open
		return came, waited, most
	}
	began := time.Now()
	came0, waited0, _ := count()
	if !pause(ctx, over) {
		return speed{}, false
	}
	came1, waited1, most := count()
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	return speed{
		rate:    float64(came1-came0) / took.Seconds(),
		waiting: float64(waited1-waited0) / float64(took),
		open:    max(most, 1),
		rest:    s.limit - max(s.want, s.end),
	}, s.err == nil && s.fetchers > 0
}

// raise lets n fetchers work, each with segments that take about a second at the present rate.
func (s *stream) raise(n int, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.fetchers == 0 {
		return
	}
	s.segmented = true
	size := int64(rate / float64(s.fetchers))
	s.size = max(minSegment, min(size, maxSegment, farWindow/int64(n+1)))
	s.least = min(s.size, max(minSegment, size/3))
	if k := len(s.segments); k > 0 && s.segments[k-1].to == s.stopLocked() {
		last := s.segments[k-1]
		if cut := s.alignLocked(last.at + s.size); cut < last.to {
			last.to, s.frontier = cut, cut
		}
	}
	s.target = n
	for s.fetchers < n {
		s.fetchers++
		s.workers++
		go s.fetch(nil)
	}
}

// lower lets no more than n fetchers work. Of one the last segment has no end, so that none is begun anew.
func (s *stream) lower(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = max(min(n, s.target), 1)
	if k := len(s.segments); s.target == 1 && k > 0 && s.segments[k-1].busy && s.segments[k-1].at < s.segments[k-1].to {
		s.frontier = s.stopLocked()
		s.segments[k-1].to = s.frontier
	}
	s.roomLocked()
}

// lowered waits until no more than n fetchers are left.
func (s *stream) lowered(ctx context.Context, n int) bool {
	for {
		s.mu.Lock()
		fetchers := s.fetchers
		s.mu.Unlock()
		if fetchers <= n {
			return true
		}
		if !pause(ctx, paceTime/10) {
			return false
		}
	}
}

// settled waits until the fetchers are under way, and past a connection's slow start.
func (s *stream) settled(ctx context.Context, round time.Duration) bool {
	for end := time.Now().Add(noSession + 10*round); time.Now().Before(end); {
		if !pause(ctx, paceTime/10) {
			return false
		}
		s.mu.Lock()
		flowing := 0
		for _, g := range s.segments {
			if g.busy && g.at > g.from {
				flowing++
			}
		}
		all := flowing >= s.fetchers
		s.mu.Unlock()
		if all {
			break
		}
	}
	return pause(ctx, max(paceTime/2, 4*round))
}
