package ftpconn

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// dialLocked begins as many dials as there are waiters who could use a session and the limit allows.
func (p *pool[S]) dialLocked(now time.Time) {
	want := len(p.queue[classMeta]) + min(len(p.queue[classData])+len(p.queue[classAhead]), max(p.roomLocked(), 0))
	want = min(want, maxDials)
	if p.fails > 0 {
		want = min(want, 1)
	}
	for p.busy.dialing < want && p.upLocked()+p.busy.dialing+p.busy.closing < p.limit {
		if now.Before(p.notBefore) {
			p.alarmLocked(p.notBefore)
			return
		}
		ws := p.waitersLocked()
		i := slices.IndexFunc(ws, func(w *waiter[S]) bool { return !w.dialed })
		if i < 0 || ws[i].class == classAhead && p.fails > 0 {
			return
		}
		p.seq++
		p.count.dials++
		p.busy.dialing++
		ws[i].dialed = true
		a := attempt[S]{w: ws[i], began: now, seq: p.seq, fails: p.fails}
		p.wg.Go(func() { p.dial(a) })
	}
}

// growLocked opens one more session ahead of need: transfers come faster than the sessions that are up
// become ready for the next.
func (p *pool[S]) growLocked(now time.Time) {
	if p.busy.dialing > 0 || p.fails > 0 || now.Before(p.notBefore) || p.upLocked()+p.busy.closing+1 >= p.limit {
		return
	}
	p.seq++
	p.count.dials++
	p.busy.dialing++
	nobody := &waiter[S]{class: classAhead, since: now, ready: make(chan struct{})}
	a := attempt[S]{w: nobody, began: now, seq: p.seq, fails: p.fails}
	p.wg.Go(func() { p.dial(a) })
}

// grow opens one more session ahead of need, if the limit allows.
func (p *pool[S]) grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.growLocked(time.Now())
	}
}

func (p *pool[S]) dial(a attempt[S]) {
	s, err := p.cfg.dial(p.ctx)
	if err == nil && !s.alive() {
		s.close()
		err = errShortLived
	}
	p.mu.Lock()
	p.busy.dialing--
	a.w.dialed = false
	if p.closed {
		p.mu.Unlock()
		if err == nil {
			s.close()
		}
		return
	}
	defer p.logLimit(p.limit, err)
	defer p.mu.Unlock()
	now := time.Now()
	if p.dialErr = err; err == nil {
		p.fails, p.notBefore = 0, time.Time{}
		p.idleLocked(idleSession[S]{s, now, now})
		p.limit = max(p.limit, p.upLocked()) // a refusal that came while this dial was under way guessed too low
	} else {
		p.failedLocked(a, err, now)
	}
	p.pumpLocked(now)
	if a.w.class == classAhead && slices.Contains(p.queue[classAhead], a.w) {
		p.settleLocked(a.w, nil, cmp.Or(err, errBusy))
	}
}

// failedLocked draws the conclusions from a failed dial.
//
//   - A refusal of one more session lowers the limit and fails nobody: who waits gets a session that is put
//     back or, if none is up, a later dial. A refused login means the same while a session with the
//     same name and password is up.
//   - A refused login fails everybody.
//   - A network error fails the waiter who asked, and who has seen maxMisses dials fail, or one that nobody answered: they
//     have waited as long as could be; unless a session is up, then everybody waits for that. If the server is there, and ended
//     this session only (421), that is a miss for the waiter who asked, too.
//
// The next dial waits redialBase, doubled for each failure in a row, up to 10 redialBase after a refusal
// and 2 redialBase after a network error.
func (p *pool[S]) failedLocked(a attempt[S], err error, now time.Time) {
	if p.count.failed++; a.fails == p.fails {
		p.fails++
	}
	up, longest := p.upLocked(), 10*p.cfg.redialBase
	switch {
	case errors.Is(err, ErrTooMany), errors.Is(err, ErrLogin) && up > 0:
		p.count.refused++
		p.limitAt = now
		if up == 0 || a.fails > 0 || a.began.Sub(p.lastEnd) >= endGrace {
			p.learnLocked(now)
		}
	case errors.Is(err, ErrLogin):
		for _, w := range p.waitersLocked() {
			p.settleLocked(w, nil, err)
		}
	default:
		longest = 2 * p.cfg.redialBase
		if up > 0 {
			break
		}
		for _, w := range p.waitersLocked() {
			if w == a.w || w.seq < a.seq {
				p.seq++
				w.seq = p.seq
				w.misses++
			}
			if w == a.w && !is421(err) && !errors.Is(err, errShortLived) || w.misses >= maxMisses || w.misses > 0 && isSilence(err) {
				p.settleLocked(w, nil, err)
			}
		}
	}
	p.notBefore = now.Add(min(p.cfg.redialBase<<min(p.fails-1, 10), longest))
}

var errShortLived = fmt.Errorf("the server ended the session right after the login: %w", ErrConnLost)

func is421(err error) bool {
	var re *ReplyError
	return errors.As(err, &re) && re.Code == 421
}

// learnLocked lowers the limit to what is up.
func (p *pool[S]) learnLocked(now time.Time) {
	p.limit = min(p.limit, max(p.upLocked(), 1))
	p.limitAt = now
	p.alarmLocked(now.Add(p.cfg.raiseAfter))
}

// logLimit is called without the lock, deferred with the limit of before.
func (p *pool[S]) logLimit(before int, err error) {
	if err == nil {
		return
	}
	if now := p.stats().Limit; now < before {
		p.cfg.log.Info("the server takes no more sessions", "limit", now, "before", before, "err", err)
	} else {
		p.cfg.log.Debug("no new session", "limit", now, "err", err)
	}
}
