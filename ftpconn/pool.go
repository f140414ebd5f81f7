package ftpconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// session is what a pool keeps. A session is used by one goroutine at a time: its lease's holder or,
// while it is idle, the pool.
type session interface {
	// alive is false once the control connection is known to be dead. It does no I/O: the pool
	// calls it under its lock.
	alive() bool
	// ready says that a transfer could begin on the session at once. Like alive it does no I/O.
	ready() bool
	// keepalive makes one cheap exchange, in a time that it bounds itself and ctx may shorten. After an
	// error the session is closed.
	keepalive(ctx context.Context) error
	// close ends the session, with QUIT if it is alive, in a bounded time. The session counts
	// against the limit until close returns, because it does so at the server.
	close()
}

// class is what a session is wanted for.
type class uint8

const (
	classMeta  class = iota // listings, stat, delete, rename: short, goes first, has one session to itself
	classData               // RETR and STOR of an open file
	classAhead              // a guess: takes what is free, and never delays what was asked for
	classes
)

var (
	errBusy       = errors.New("no session is free for reading ahead")
	errPoolClosed = fmt.Errorf("all sessions are being closed: %w", net.ErrClosed)
)

const (
	maxDials   = 3                      // dials at a time; one after a failure, until one succeeds
	maxMisses  = 2                      // failed dials, one after the other, that a waiter sits through
	askEvery   = 500 * time.Millisecond // between two requests to yield, by a waiter or to a lease
	fairAfter  = 2 * time.Second        // a data waiter as old as this is as good as a metadata waiter
	lastFactor = 5                      // the last session is kept so many times longer
	// endGrace is how long a server may still count a session that we ended: a refusal that comes
	// so soon after an end says nothing of the server's limit.
	endGrace = time.Second
)

// poolConfig describes a pool. The zero value of each optional field is the default named.
type poolConfig[S session] struct {
	max        int           // sessions at most, 0: 1
	idleTime   time.Duration // an unused session is closed after it, 0: 60 s
	keepEvery  time.Duration // between two exchanges on an unused session, 0: none are made
	raiseAfter time.Duration // a learned limit is raised by one after it, 0: 5 min
	redialBase time.Duration // wait after a first failed dial, 0: 0.5 s; see failedLocked
	// dial makes a logged-in session in a time that it bounds itself. Its errors say what they mean
	// by errors.Is: ErrTooMany (the limit of the server: a 421 or 530 that says so, or a hang-up instead of
	// a greeting), ErrLogin (it never will), else the network's. It is called concurrently.
	dial func(ctx context.Context) (S, error)
	log  *slog.Logger // nil: discards
}

// pool keeps up to max logged-in sessions and lends them out. Its rules:
//
//   - Sessions that are up, being dialled or being closed are at most limit. The limit starts at max, falls to
//     what is up when the server refuses one more, and rises by one after each raiseAfter without a
//     refusal.
//   - Waiters of a class are served in the order they came, classMeta before classData (until a data
//     waiter is fairAfter old). Data and guesses hold limit-1 sessions at most, so that metadata always
//     finds one; with a limit of 1 there is one session for all.
//   - The session used last is lent first, so that the others can age out. A dead one is never lent
//     knowingly.
//   - Dials belong to the pool: a waiter whose context ends breaks none, and who is first in line
//     takes whatever comes first, a session put back or a new one.
//   - No call under mu does I/O or blocks: dial, keepalive, close, the callbacks of onWanted and the
//     logger run outside of it. Under mu only alive takes a lock; the pool is never called under that one.
//
// It is modelled on the pool of database/sql. All methods may be called concurrently.
type pool[S session] struct {
	// constant
	cfg    poolConfig[S]
	born   time.Time       // zero of the leases' clocks
	ctx    context.Context // of dials and keepalives; ends with close
	cancel context.CancelFunc

	wg sync.WaitGroup // dials, keepalives, closings; grows under mu only, and not from zero once closed

	mu sync.Mutex // guards the following

	closed bool
	idle   []idleSession[S]                         // by the time of their last use, the latest at the end
	leases map[*lease[S]]struct{}                   // lent and not yet put back
	held   [classes]int                             // leases by class
	queue  [classes][]*waiter[S]                    // who waits, first come first
	busy   struct{ dialing, checking, closing int } // sessions in the hands of the pool's goroutines
	seq    int                                      // orders the beginning of dials and of waits

	limit   int
	limitAt time.Time // last refusal or raise

	fails     int       // failed dials since the last good one, those made at once counting as one
	dialErr   error     // of the last dial, nil if it was good
	notBefore time.Time // no dial before it
	lastEnd   time.Time // when a session of ours was last closed

	timer   *time.Timer // runs tick
	alarmAt time.Time   // when timer fires, zero if it doesn't
	count   struct{ dials, failed, refused, keepalives, asked, waited uint64 }
}

type idleSession[S session] struct {
	s     S
	used  time.Time // put back or dialled
	heard time.Time // last exchange
}

// lease is a session on loan. Its holder uses s until put.
type lease[S session] struct {
	s     S
	class class
	p     *pool[S]
	used  atomic.Int64 // last touch, ns since p.born

	// guarded by p.mu
	wanted func()
	asked  time.Duration // when wanted was last called, since p.born; negative: never
}

type waiter[S session] struct {
	class class
	since time.Time
	ready chan struct{} // closed once lease or err is set

	// guarded by pool.mu until ready is closed
	lease  *lease[S]
	err    error
	seq    int       // when it came or last saw a dial fail
	misses int       // dials that began after it came and failed, one after the other
	dialed bool      // a dial under way was begun for it
	askAt  time.Time // next request to yield; zero: as soon as there is whom to ask
}

// attempt is a dial under way.
type attempt[S session] struct {
	w     *waiter[S] // for whom it was begun
	began time.Time
	seq   int
	fails int // pool.fails when it began
}

// poolStats is a pool at one moment. Counters are since its start.
type poolStats struct {
	Limit, Max                int
	Up                        int // logged in: idle, leased or in a keepalive
	Idle, Meta, Data, Ahead   int // Up by what they do; the rest is in a keepalive
	Dialing, Closing, Waiting int
	Dials, Failed, Refused    uint64 // Failed includes Refused
	Keepalives, Asked         uint64 // Asked: requests to yield
	Waited                    uint64 // requests for a session, less guesses, that were not served at once
}

// newPool makes a pool that dials when it is first asked for a session. It must be closed.
func newPool[S session](cfg poolConfig[S]) *pool[S] {
	cfg.max = max(cfg.max, 1)
	cfg.idleTime = cmp.Or(cfg.idleTime, time.Minute)
	cfg.raiseAfter = cmp.Or(cfg.raiseAfter, 5*time.Minute)
	cfg.redialBase = cmp.Or(cfg.redialBase, 500*time.Millisecond)
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	p := &pool[S]{cfg: cfg, born: time.Now(), limit: cfg.max, leases: make(map[*lease[S]]struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// get lends a session and waits for one as long as ctx allows. Its errors are the dial's (ErrLogin or
// the network's), one that wraps ctx's (together with the last dial's, if no session is up), or one that wraps net.ErrClosed.
// classAhead gets errBusy, at once unless a session may be opened for it, and even then if that session
// is needed elsewhere when it is up.
func (p *pool[S]) get(ctx context.Context, c class) (*lease[S], error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("no session asked for: %w", err)
	}
	now := time.Now()
	w := &waiter[S]{class: c, since: now, ready: make(chan struct{})}
	if err := p.join(w, now); err != nil {
		return nil, err
	}
	select {
	case <-w.ready:
		return w.lease, w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.leaveLocked(w)
	l, last := w.lease, p.dialErr
	if p.upLocked() > 0 {
		last = nil
	}
	p.mu.Unlock()
	if l != nil {
		l.put(nil) // handed over just now, and never used
	}
	if last != nil {
		return nil, fmt.Errorf("no session became free: %w (last attempt to connect: %w)", ctx.Err(), last)
	}
	return nil, fmt.Errorf("no session became free: %w", ctx.Err())
}

// join puts w in its queue and serves whom it can.
func (p *pool[S]) join(w *waiter[S], now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errPoolClosed
	case w.class == classAhead && len(p.queue[classMeta])+len(p.queue[classData]) > 0:
		return errBusy
	case p.upLocked() == 0 && now.Before(p.notBefore) && errors.Is(p.dialErr, ErrLogin) && !errors.Is(p.dialErr, ErrTooMany):
		return p.dialErr // servers lock out who tries too often
	case p.upLocked() == 0 && now.Before(p.notBefore) && isSilence(p.dialErr):
		return p.dialErr // who comes on account of this failure has waited long enough
	}
	p.seq++
	w.seq = p.seq
	p.queue[w.class] = append(p.queue[w.class], w)
	p.pumpLocked(now)
	switch {
	case w.lease != nil:
	case w.class != classAhead:
		p.count.waited++
	case !w.dialed:
		p.leaveLocked(w)
		return errBusy
	}
	return nil
}

// put gives the session back, with the error that ended its use. It is kept if it is alive and
// err is nil, a refusal other than 421, or no loss of the connection (a cancelled context, a failed data
// connection). ErrTooMany lowers the limit. put doesn't wait, unless the pool is closed:
// then it returns when the session is closed. A second put panics.
func (l *lease[S]) put(err error) {
	p := l.p
	p.mu.Lock()
	if _, ok := p.leases[l]; !ok {
		p.mu.Unlock()
		panic("ftpconn: a session was put back twice")
	}
	delete(p.leases, l)
	p.held[l.class]--
	l.wanted = nil
	if p.closed {
		p.mu.Unlock()
		l.s.close()
		return
	}
	now := time.Now()
	if inStep(err) && l.s.alive() {
		p.idleLocked(idleSession[S]{l.s, now, now})
	} else {
		p.endLocked(l.s)
	}
	if errors.Is(err, ErrTooMany) {
		defer p.logLimit(p.limit, err)
		p.learnLocked(now)
	}
	p.pumpLocked(now)
	p.mu.Unlock()
}

// inStep says that a session whose use ended with err may be used again, as far as err can tell.
func inStep(err error) bool {
	var re *ReplyError
	switch {
	case errors.Is(err, ErrTooMany), is421(err):
		return false
	case errors.As(err, &re): // 426 is ErrConnLost, but of the data connection
		return true
	}
	return !errors.Is(err, ErrConnLost)
}

// touch marks the lease as in use now. It is cheap enough for every read.
func (l *lease[S]) touch() { l.used.Store(int64(time.Since(l.p.born))) }

// onWanted registers f, to be called in a goroutine of its own when somebody waits for a session: f
// gives this one up by having it put back, or does nothing and may be asked again. Guesses
// are asked first, then who was touched least recently. A call may still be on its way when put returns, and close doesn't wait for it.
// A later f replaces an earlier one, nil removes it.
func (l *lease[S]) onWanted(f func()) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if _, ok := l.p.leases[l]; ok {
		l.wanted = f
		l.p.pumpLocked(time.Now())
	}
}

// inUse returns the sessions on loan, for who has to cut them off.
func (p *pool[S]) inUse() []S {
	p.mu.Lock()
	defer p.mu.Unlock()
	ss := make([]S, 0, len(p.leases))
	for l := range p.leases {
		ss = append(ss, l.s)
	}
	return ss
}

func (p *pool[S]) stats() poolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return poolStats{
		Limit: p.limit, Max: p.cfg.max, Up: p.upLocked(), Idle: len(p.idle),
		Meta: p.held[classMeta], Data: p.held[classData], Ahead: p.held[classAhead],
		Dialing: p.busy.dialing, Closing: p.busy.closing, Waiting: len(p.waitersLocked()),
		Dials: p.count.dials, Failed: p.count.failed, Refused: p.count.refused,
		Keepalives: p.count.keepalives, Asked: p.count.asked, Waited: p.count.waited,
	}
}

// close fails who waits, ends the idle sessions, and returns when all dials, keepalives and closings are
// over. Sessions on loan are closed by put.
func (p *pool[S]) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.cancel()
		if p.timer != nil {
			p.timer.Stop()
		}
		for _, w := range p.waitersLocked() {
			p.settleLocked(w, nil, errPoolClosed)
		}
		for _, e := range p.idle {
			p.endLocked(e.s)
		}
		p.idle = nil
	}
	p.mu.Unlock()
	p.wg.Wait()
}
