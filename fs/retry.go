package fs

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// maxAttempts is how often a transfer is begun at least, however short the patience, before its failure is final.
	maxAttempts = 3

	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
)

// patience is how long a transfer whose connection breaks is begun again: for limit since the first of the
// failures in a row, and maxAttempts times at least. Used by one goroutine.
type patience struct {
	limit time.Duration
	lost  *atomic.Bool // set while the last transfer that was waited for came to nothing; shared
	tries int          // failures in a row
	since time.Time    // of the first of them
}

// patience returns Options.Retry's worth, or none if that was used up in vain by a transfer and none has succeeded since: a
// server that is gone for good costs each file a moment, and not all of them that time.
func (t *tree) patience() patience {
	p := patience{limit: t.opt.Retry, lost: &t.lost}
	if t.lost.Load() {
		p.limit = 0
	}
	return p
}

// progressed ends a row of failures: the transfer got further than ever before.
func (p *patience) progressed() {
	p.tries = 0
	if p.lost.Load() {
		p.lost.Store(false)
	}
}

// exhaust is for a failure behind which all patience was used up elsewhere.
func (p *patience) exhaust() { p.tries, p.since = maxAttempts, time.Time{} }

// wait counts the failure err and waits before the next attempt: not at all after the first of a row, then twice as long
// each time, up to longestPause. Its answer is nil for another attempt, else the error to give up with: err, or ctx's.
func (p *patience) wait(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p.tries++; p.tries == 1 {
		p.since = time.Now()
		return nil
	}
	pause := min(firstPause<<min(p.tries-2, 10), longestPause)
	left := time.Until(p.since.Add(p.limit))
	if left <= 0 {
		if p.tries >= maxAttempts {
			p.lost.Store(true)
			return err
		}
		left = firstPause
	}
	t := time.NewTimer(min(pause, left))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
