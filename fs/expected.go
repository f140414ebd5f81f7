package fs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A file that loses its name between the LOOKUP and the OPEN of one open(2) is on the server no longer, and nobody has it open: that open
// can only fail. The kernel looks the name up once more then, and tries with what has it. So that this doesn't fail in the same way where a
// file is replaced all the time, whoever takes the name next waits for that second OPEN.

const (
	// missedFor is how long it is remembered that an OPEN failed.
	missedFor = time.Second
	// expectedFor is how long a name is kept for an OPEN that is expected.
	expectedFor = 100 * time.Millisecond
	// maxMissed bounds how many are remembered.
	maxMissed = 100
)

// miss is an OPEN that failed because the file had just lost its name.
type miss struct {
	path string
	at   time.Time
}

// missed is the last miss of each thread.
type missed struct {
	count atomic.Int32 // of by, for those who needn't look

	mu sync.Mutex // guards following
	by map[uint32]miss
}

// missed is called when the caller's OPEN failed because n has no name any more.
func (n *node) missed(caller uint32) {
	n.mu.Lock()
	was := n.was
	n.mu.Unlock()
	m := &n.t.missed
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil || len(m.by) >= maxMissed {
		m.by = make(map[uint32]miss)
	}
	m.by[caller] = miss{was, time.Now()}
	m.count.Store(int32(len(m.by)))
}

// recent says whether the caller has just missed what was at p.
func (m *missed) recent(caller uint32, p string) bool {
	if m.count.Load() == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.by[caller]
	if !ok || last.path != p {
		return false
	}
	if time.Since(last.at) > missedFor {
		delete(m.by, caller)
		m.count.Store(int32(len(m.by)))
		return false
	}
	return true
}

func (m *missed) drop(caller uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.by, caller)
	m.count.Store(int32(len(m.by)))
}

// lookedUp is called when the caller has looked n up at p. It says false if n is losing that name by now, having waited for the end of it.
func (n *node) lookedUp(ctx context.Context, p string) bool {
	caller := caller(ctx)
	if !n.t.missed.recent(caller, p) {
		return true
	}
	n.mu.Lock()
	leaving := n.leaving
	if leaving == nil {
		if n.expected == nil {
			n.expected = make(map[uint32]chan struct{})
		}
		if n.expected[caller] == nil {
			n.expected[caller] = make(chan struct{})
		}
	}
	n.mu.Unlock()
	if leaving == nil {
		return true
	}
	select {
	case <-leaving:
	case <-ctx.Done():
	}
	return false
}

// opened is called when the caller has opened n.
func (n *node) opened(caller uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.arrivedLocked(caller) {
		n.t.missed.drop(caller)
	}
}

// arrivedLocked ends the waiting for a caller.
func (n *node) arrivedLocked(caller uint32) bool {
	c := n.expected[caller]
	if c == nil {
		return false
	}
	close(c)
	delete(n.expected, caller)
	return true
}

// awaitOpenLocked returns when no OPEN is expected of a node, which it unlocks meanwhile.
func (n *node) awaitOpenLocked() {
	if len(n.expected) == 0 {
		return
	}
	over := time.NewTimer(expectedFor)
	defer over.Stop()
	for late := false; len(n.expected) > 0; {
		for caller, c := range n.expected {
			if late { // it has failed in another way, or there was none to come
				n.arrivedLocked(caller)
				continue
			}
			n.mu.Unlock()
			select {
			case <-c:
			case <-over.C:
				late = true
			}
			n.mu.Lock()
			break
		}
	}
}

// caller is the thread that a request is for, 0 if that isn't known.
func caller(ctx context.Context) uint32 {
	if c, ok := ctx.(*callContext); ok {
		return c.pid
	}
	return 0
}
