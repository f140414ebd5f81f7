package ftpconn

import (
	"cmp"
	"slices"
	"time"
)

// askLocked asks one lease to yield for each waiter whom no session is on its way to.
func (p *pool[S]) askLocked(now time.Time) {
	coming := p.busy.dialing + p.busy.checking
	for i, w := range slices.Concat(p.queue[classMeta], p.queue[classData]) {
		if w.askAt.IsZero() && i < coming {
			w.askAt = now.Add(askEvery)
		}
		if now.Before(w.askAt) {
			p.alarmLocked(w.askAt)
			continue
		}
		l, some := p.yielderLocked(w, now)
		if !some {
			w.askAt = time.Time{}
			continue
		}
		if l != nil {
			l.asked = now.Sub(p.born)
			p.count.asked++
			go l.wanted()
		}
		w.askAt = now.Add(askEvery)
		p.alarmLocked(w.askAt)
	}
}

// yielderLocked chooses whom to ask for w: who wasn't asked in vain since its last use, then a guess, then
// who was used least recently. It is nil if all were asked just now; some is false if there is nobody to ask.
func (p *pool[S]) yielderLocked(w *waiter[S], now time.Time) (best *lease[S], some bool) {
	order := func(a, b *lease[S]) int {
		vain := func(l *lease[S]) int { return max(0, cmp.Compare(int64(l.asked), l.used.Load())) }
		return cmp.Or(cmp.Compare(vain(a), vain(b)), -cmp.Compare(a.class, b.class), cmp.Compare(a.used.Load(), b.used.Load()))
	}
	full := w.class == classData && p.roomLocked() <= 0
	for l := range p.leases {
		if l.wanted == nil || full && l.class == classMeta {
			continue
		}
		some = true
		if now.Sub(p.born)-l.asked < askEvery {
			continue
		}
		if best == nil || order(l, best) < 0 {
			best = l
		}
	}
	return best, some
}

// stalled says that somebody waits while no session lent for data was touched for d: none is about to be put back.
func (p *pool[S]) stalled(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue[classMeta])+len(p.queue[classData]) == 0 {
		return false
	}
	for l := range p.leases {
		if l.class != classMeta && time.Since(p.born)-time.Duration(l.used.Load()) < d {
			return false
		}
	}
	return true
}

// alarmLocked has tick run at t or before.
func (p *pool[S]) alarmLocked(t time.Time) {
	if p.closed || !p.alarmAt.IsZero() && !t.Before(p.alarmAt) {
		return
	}
	p.alarmAt = t
	if p.timer == nil {
		p.timer = time.AfterFunc(time.Until(t), p.tick)
	} else {
		p.timer.Reset(time.Until(t))
	}
}

// tick does all that is due by time, and sets the next alarm.
func (p *pool[S]) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	p.alarmAt = time.Time{}
	if p.limit < p.cfg.max {
		if now.Sub(p.limitAt) >= p.cfg.raiseAfter {
			p.limit++
			p.limitAt = now
		}
		p.alarmLocked(p.limitAt.Add(p.cfg.raiseAfter))
	}
	p.reapLocked(now)
	p.pumpLocked(now)
}

// reapLocked ends idle sessions that are dead or unused for too long, and keeps the others alive.
func (p *pool[S]) reapLocked(now time.Time) {
	for i := 0; i < len(p.idle); {
		e := p.idle[i]
		end, check := e.used.Add(p.cfg.idleTime), e.heard.Add(p.cfg.keepEvery)
		if p.upLocked() == 1 {
			end = e.used.Add(lastFactor * p.cfg.idleTime)
		}
		switch {
		case !now.Before(end) || !e.s.alive():
			p.idle = slices.Delete(p.idle, i, i+1)
			p.endLocked(e.s)
		case p.cfg.keepEvery > 0 && !now.Before(check):
			p.idle = slices.Delete(p.idle, i, i+1)
			p.busy.checking++
			p.count.keepalives++
			p.wg.Go(func() { p.check(e) })
		default:
			p.alarmLocked(end)
			if p.cfg.keepEvery > 0 {
				p.alarmLocked(check)
			}
			i++
		}
	}
}

// check makes an exchange on a session that was idle.
func (p *pool[S]) check(e idleSession[S]) {
	err := e.s.keepalive(p.ctx)
	p.mu.Lock()
	p.busy.checking--
	if p.closed {
		p.mu.Unlock()
		e.s.close()
		return
	}
	defer p.mu.Unlock()
	now := time.Now()
	if err == nil && e.s.alive() {
		e.heard = now
		p.idleLocked(e)
	} else {
		p.endLocked(e.s)
	}
	p.pumpLocked(now)
}
