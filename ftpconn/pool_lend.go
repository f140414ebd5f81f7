package ftpconn

import (
	"slices"
	"time"
)

func (p *pool[S]) upLocked() int { return len(p.idle) + len(p.leases) + p.busy.checking }

func (p *pool[S]) waitersLocked() []*waiter[S] { return slices.Concat(p.queue[:]...) }

// roomLocked is how many more sessions data and guesses may hold; negative after the limit fell.
func (p *pool[S]) roomLocked() int {
	return max(p.limit-1, 1) - p.held[classData] - p.held[classAhead]
}

// pumpLocked gives idle sessions to who waits, then dials, then asks leases to yield. It is called after
// every change that could help somebody.
func (p *pool[S]) pumpLocked(now time.Time) {
	if p.closed {
		return
	}
	for len(p.idle) > 0 {
		w := p.nextLocked(now)
		if w == nil {
			break
		}
		n := p.bestLocked()
		s := p.idle[n].s
		p.idle = slices.Delete(p.idle, n, n+1)
		if !s.alive() {
			p.endLocked(s)
			continue
		}
		if !s.ready() && w.class == classData {
			p.growLocked(now)
		}
		l := &lease[S]{s: s, class: w.class, p: p, asked: -askEvery}
		l.touch()
		p.leases[l] = struct{}{}
		p.held[l.class]++
		p.settleLocked(w, l, nil)
	}
	p.dialLocked(now)
	p.askLocked(now)
}

// bestLocked is the idle session to lend: the one used last, so that the others age, of those on which a
// transfer can begin at once.
func (p *pool[S]) bestLocked() int {
	for i := len(p.idle) - 1; i >= 0; i-- {
		if p.idle[i].s.alive() && p.idle[i].s.ready() {
			return i
		}
	}
	return len(p.idle) - 1
}

// nextLocked is the waiter to be served next, nil if there is none who may have a session now.
func (p *pool[S]) nextLocked(now time.Time) *waiter[S] {
	var head [classes]*waiter[S]
	for c, q := range p.queue {
		if len(q) > 0 {
			head[c] = q[0]
		}
	}
	meta, data, room := head[classMeta], head[classData], p.roomLocked() > 0
	switch {
	case data != nil && room && (meta == nil || data.since.Before(meta.since) && now.Sub(data.since) >= fairAfter):
		return data
	case meta != nil:
		return meta
	case room:
		return head[classAhead]
	}
	return nil
}

func (p *pool[S]) settleLocked(w *waiter[S], l *lease[S], err error) {
	p.leaveLocked(w)
	w.lease, w.err = l, err
	close(w.ready)
}

// leaveLocked takes w out of its queue, if it is there.
func (p *pool[S]) leaveLocked(w *waiter[S]) (was bool) {
	i := slices.Index(p.queue[w.class], w)
	if i >= 0 {
		p.queue[w.class] = slices.Delete(p.queue[w.class], i, i+1)
	}
	return i >= 0
}

// idleLocked makes e idle, in the order of last use.
func (p *pool[S]) idleLocked(e idleSession[S]) {
	i := len(p.idle)
	for i > 0 && p.idle[i-1].used.After(e.used) {
		i--
	}
	p.idle = slices.Insert(p.idle, i, e)
	p.alarmLocked(e.used.Add(p.cfg.idleTime))
	if p.cfg.keepEvery > 0 {
		p.alarmLocked(e.heard.Add(p.cfg.keepEvery))
	}
}

// endLocked closes s.
func (p *pool[S]) endLocked(s S) {
	p.busy.closing++
	p.wg.Go(func() {
		s.close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy.closing--
		p.lastEnd = time.Now()
		p.pumpLocked(p.lastEnd)
	})
}
