package ftpconn

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
)

// outage is a time in which no session can be had. Operations wait for its end, but for each outage only until
// Config.Retry after it was noticed: after that they fail at once until the server is back. Safe for concurrent use.
type outage struct {
	mu    sync.Mutex // guards following
	met   bool       // there was a session once: the address and the name are right
	since time.Time  // zero: there is none
}

// over takes note that a session was made.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.met, o.since = true, time.Time{}
}

// left is how long to wait for the end of an outage.
func (o *outage) left(limit time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.met {
		return 0
	}
	if o.since.IsZero() {
		o.since = time.Now()
	}
	return time.Until(o.since.Add(limit))
}

// session borrows a session for an operation of which nothing was sent yet. A server that is away for a moment, as when it is
// restarted, costs a wait and no error.
func (cl *Client) session(ctx context.Context) (*lease[*Conn], error) {
	pause := firstPause
	for {
		l, err := cl.pool.get(ctx, classFor(ctx, classMeta))
		if err == nil {
			return l, nil
		}
		left := cl.outage.left(cl.site.cfg.Retry)
		if !IsLost(err) || errors.Is(err, errPoolClosed) || ctx.Err() != nil || left <= 0 || classFor(ctx, classMeta) == classAhead {
			return nil, err
		}
		select {
		case <-time.After(min(pause, left)):
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			return nil, err
		case <-cl.pool.ctx.Done():
			return nil, err
		}
	}
}
