package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSite is a server without a network: it counts the sessions it has, from the moment a dial begins
// until close returns, as a server does.
type fakeSite struct {
	dialTime, closeTime, checkTime atomicDuration
	limit                          atomic.Int32 // sessions it takes, 0: any number

	mu    sync.Mutex
	fail  error           // of every dial
	fails []error         // of the next dials, before fail
	born  []*fakeSession  // in the order of their numbers
	begun []time.Duration // when dials began, since start
	count int             // sessions it has
	peak  int
	start time.Time
}

type atomicDuration struct{ ns atomic.Int64 }

func (d *atomicDuration) set(v time.Duration) { d.ns.Store(int64(v)) }
func (d *atomicDuration) get() time.Duration  { return time.Duration(d.ns.Load()) }

type fakeSession struct {
	site   *fakeSite
	n      int // 1 for the first
	dead   atomic.Bool
	closed atomic.Bool
	lame   atomic.Bool // keepalive fails
	busy   atomic.Bool // alive, and not ready for a transfer
	inUse  atomic.Int32
	checks atomic.Int32
}

var errNoNet = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}

func newFakeSite() *fakeSite { return &fakeSite{start: time.Now()} }

func (f *fakeSite) dial(ctx context.Context) (*fakeSession, error) {
	f.mu.Lock()
	f.begun = append(f.begun, time.Since(f.start))
	err := f.fail
	if len(f.fails) > 0 {
		err, f.fails = f.fails[0], f.fails[1:]
	}
	if lim := int(f.limit.Load()); err == nil && lim > 0 && f.count >= lim {
		err = fmt.Errorf("greeting: %w", ErrTooMany)
	}
	if err == nil {
		f.count++
		f.peak = max(f.peak, f.count)
	}
	f.mu.Unlock()
	select {
	case <-time.After(f.dialTime.get()):
	case <-ctx.Done():
		if err == nil {
			f.left()
		}
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &fakeSession{site: f, n: len(f.born) + 1}
	f.born = append(f.born, s)
	return s, nil
}

func (f *fakeSite) left() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
}

func (f *fakeSite) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakeSite) failNext(errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = errs
}

// dialsAt returns when dials began.
func (f *fakeSite) dialsAt() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.begun)
}

func (f *fakeSite) dials() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.begun)
}

func (s *fakeSession) alive() bool { return !s.dead.Load() }
func (s *fakeSession) ready() bool { return !s.busy.Load() }

func (s *fakeSession) keepalive(ctx context.Context) error {
	s.checks.Add(1)
	select {
	case <-time.After(s.site.checkTime.get()):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.lame.Load() {
		return ErrConnLost
	}
	return nil
}

func (s *fakeSession) close() {
	if s.closed.Swap(true) {
		panic("session closed twice")
	}
	time.Sleep(s.site.closeTime.get())
	s.site.left()
}

type (
	testPool  = pool[*fakeSession]
	testLease = lease[*fakeSession]
)

// poolTest runs f in a bubble of synthetic time with a pool that is closed at its end; a goroutine that outlives
// it, and a session that is neither closed nor on loan, fail the test.
func poolTest(t *testing.T, maxConns int, f func(t *testing.T, site *fakeSite, p *testPool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		site := newFakeSite()
		p := newPool(poolConfig[*fakeSession]{max: maxConns, dial: site.dial})
		f(t, site, p)
		p.close()
		lent := len(p.inUse())
		for _, s := range site.born {
			if !s.closed.Load() {
				lent--
			}
		}
		if lent != 0 {
			t.Errorf("after close, sessions open and sessions lent differ by %d", lent)
		}
	})
}

func mustGet(t *testing.T, p *testPool, c class) *testLease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := p.get(ctx, c)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return l
}

func mustGetN(t *testing.T, p *testPool, c class, n int) []*testLease {
	t.Helper()
	ls := make([]*testLease, n)
	for i := range ls {
		ls[i] = mustGet(t, p, c)
	}
	return ls
}

// waiting is a get that runs in its own goroutine.
type waiting struct {
	l    *testLease
	err  error
	took time.Duration
	done chan struct{}
}

func (w *waiting) isDone() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// goGet starts a get, and returns when it waits or is done.
func goGet(ctx context.Context, p *testPool, c class) *waiting {
	w := &waiting{done: make(chan struct{})}
	go func() {
		begin := time.Now()
		w.l, w.err = p.get(ctx, c)
		w.took = time.Since(begin)
		close(w.done)
	}()
	synctest.Wait()
	return w
}

// served waits until w is done and fails the test if it got no session.
func served(t *testing.T, w *waiting) *testLease {
	t.Helper()
	<-w.done
	if w.err != nil {
		t.Fatalf("waiter got %v, want a session", w.err)
	}
	return w.l
}

func TestPoolServesWaitersInOrder(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		var ws []*waiting
		for range 5 {
			ws = append(ws, goGet(t.Context(), p, classMeta))
		}
		for i, w := range ws {
			l.put(nil)
			l = served(t, w)
			for _, later := range ws[i+1:] {
				synctest.Wait()
				if later.isDone() {
					t.Fatalf("a waiter behind number %d was served with it", i)
				}
			}
		}
		l.put(nil)
	})
}

func TestPoolServesMetadataBeforeData(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		data, meta := goGet(t.Context(), p, classData), goGet(t.Context(), p, classMeta)
		l.put(nil)
		l = served(t, meta)
		synctest.Wait()
		if data.isDone() {
			t.Fatal("data was served together with metadata")
		}
		l.put(nil)
		served(t, data).put(nil)
	})
}

func TestPoolOldDataWaiterGoesBeforeYoungerMetadata(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		data := goGet(t.Context(), p, classData)
		time.Sleep(fairAfter)
		meta := goGet(t.Context(), p, classMeta)
		l.put(nil)
		served(t, data).put(nil)
		served(t, meta).put(nil)
	})
}

func TestPoolLeavesOneSessionToMetadata(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 2)
		third := goGet(t.Context(), p, classData)
		if third.isDone() {
			t.Fatal("data got the session left to metadata")
		}
		mustGet(t, p, classMeta).put(nil)
		synctest.Wait()
		if third.isDone() {
			t.Fatal("data got the session that metadata put back")
		}
		ls[0].put(nil)
		served(t, third).put(nil)
		ls[1].put(nil)
	})
}

func TestPoolDataBehindItsLimitOpensNoSession(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 2)
		w := goGet(t.Context(), p, classData)
		if n := site.dials(); n != 2 {
			t.Errorf("%d dials, want 2", n)
		}
		ls[0].put(nil)
		served(t, w).put(nil)
		ls[1].put(nil)
	})
}

func TestPoolOfOneServesAllClasses(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		for _, c := range []class{classData, classMeta, classAhead, classData} {
			mustGet(t, p, c).put(nil)
		}
		if site.peak != 1 || site.dials() != 1 {
			t.Errorf("%d sessions at once in %d dials, want 1 in 1", site.peak, site.dials())
		}
	})
}

func TestPoolLendsTheSessionUsedLast(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 3)
		for _, i := range []int{0, 2, 1} {
			ls[i].put(nil)
		}
		for range 3 {
			l := mustGet(t, p, classMeta)
			if l.s != ls[1].s {
				t.Errorf("got session %d, want %d", l.s.n, ls[1].s.n)
			}
			l.put(nil)
		}
	})
}

func TestPoolLendsAReadySession(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 2)
		ls[0].put(nil)
		ls[1].s.busy.Store(true)
		ls[1].put(nil)
		if l := mustGet(t, p, classData); l.s != ls[0].s {
			t.Error("got the session used last, which is not ready")
		}
	})
}

// Transfers that come faster than sessions become ready open one more session at a time, up to the limit.
func TestPoolGrowsWhileNoSessionIsReady(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		for range 6 {
			l := mustGet(t, p, classData)
			l.s.busy.Store(true)
			l.put(nil)
			synctest.Wait()
		}
		if n := site.dials(); n != 3 {
			t.Errorf("%d sessions for a limit of 3", n)
		}
	})
}

func TestPoolThrowsDeadSessionsAway(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		for _, l := range mustGetN(t, p, classMeta, 3) {
			l.put(nil)
		}
		for _, s := range site.born {
			s.dead.Store(true)
		}
		l := mustGet(t, p, classMeta)
		if l.s.n != 4 {
			t.Errorf("got session %d, want a fourth", l.s.n)
		}
		l.put(nil)
		synctest.Wait()
		for _, s := range site.born[:3] {
			if !s.closed.Load() {
				t.Errorf("dead session %d was not closed", s.n)
			}
		}
	})
}

func TestPoolPutKeepsOrClosesByError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		dead bool
		keep bool
	}{
		{"success", nil, false, true},
		{"refusal", &ReplyError{Command: "CWD x", Code: 550}, false, true},
		{"transfer broken off", &ReplyError{Command: "RETR x", Code: 426, Kind: ErrConnLost}, false, true},
		{"data connection refused", fmt.Errorf("%w: %w", ErrDataMode, errNoNet), false, true},
		{"cancelled", context.Canceled, false, true},
		{"success but dead", nil, true, false},
		{"421", &ReplyError{Command: "NOOP", Code: 421, Kind: ErrConnLost}, false, false},
		{"connection lost", fmt.Errorf("reading a reply: %w", ErrConnLost), false, false},
		{"too many", ErrTooMany, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			poolTest(t, 2, func(t *testing.T, _ *fakeSite, p *testPool) {
				l := mustGet(t, p, classMeta)
				l.s.dead.Store(c.dead)
				l.put(c.err)
				synctest.Wait()
				if got := !l.s.closed.Load(); got != c.keep {
					t.Errorf("kept: %v, want %v", got, c.keep)
				}
			})
		})
	}
}

func TestPoolSecondPutPanics(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		l.put(nil)
		defer func() {
			if recover() == nil {
				t.Error("second put did not panic")
			}
			mustGet(t, p, classMeta).put(nil) // the lock is free, the session still there
		}()
		l.put(nil)
	})
}

func TestPoolCancelledWaiterLeavesTheQueue(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := goGet(ctx, p, classMeta), goGet(t.Context(), p, classMeta)
		cancel()
		<-first.done
		if !errors.Is(first.err, context.Canceled) {
			t.Errorf("cancelled waiter got %v", first.err)
		}
		l.put(nil)
		served(t, second).put(nil)
	})
}

// lateContext ends just after get began to wait, and runs atDone right before that.
type lateContext struct {
	context.Context
	atDone func()
	ended  bool
}

func (c *lateContext) Done() <-chan struct{} {
	c.atDone()
	c.ended = true
	done := make(chan struct{})
	close(done)
	return done
}

func (c *lateContext) Err() error {
	if c.ended {
		return context.Canceled
	}
	return nil
}

// The select in get sees both a session handed over and the end of the context, and takes either.
func TestPoolCancelledWaiterGivesBackWhatItWasHanded(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		gaveBack := 0
		for range 50 {
			l := mustGet(t, p, classMeta)
			ctx := &lateContext{Context: t.Context(), atDone: func() { l.put(nil) }}
			if l, err := p.get(ctx, classMeta); err == nil {
				l.put(nil)
			} else {
				gaveBack++
			}
			if st := p.stats(); st.Idle != 1 || st.Meta != 0 || st.Waiting != 0 {
				t.Fatalf("session lost: %+v", st)
			}
		}
		if gaveBack == 0 || site.dials() != 1 {
			t.Errorf("%d of 50 waiters gave back, %d dials", gaveBack, site.dials())
		}
	})
}

func TestPoolCancelledWaitersDialIsKept(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.get(ctx, classMeta); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v, want the deadline", err)
		}
		time.Sleep(time.Second)
		mustGet(t, p, classMeta).put(nil)
		if site.dials() != 1 {
			t.Errorf("%d dials, want 1", site.dials())
		}
	})
}

func TestPoolAsksNothingForAnEndedContext(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.get(ctx, classMeta); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v, want context.Canceled", err)
		}
		if site.dials() != 0 {
			t.Error("it dialled all the same")
		}
	})
}

func TestPoolWaiterTakesWhateverComesFirst(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		site.dialTime.set(10 * time.Second)
		w := goGet(t.Context(), p, classMeta)
		time.Sleep(time.Second)
		l.put(nil)
		got := served(t, w)
		if got.s != l.s || w.took != time.Second {
			t.Errorf("got session %d after %v, want %d after 1s", got.s.n, w.took, l.s.n)
		}
		time.Sleep(10 * time.Second)
		if st := p.stats(); st.Idle != 1 || st.Dialing != 0 {
			t.Errorf("the dial nobody waits for should be idle: %+v", st)
		}
		got.put(nil)
	})
}

func TestPoolDialsThreeAtATime(t *testing.T) {
	poolTest(t, 8, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(time.Second)
		var ws []*waiting
		for range 8 {
			ws = append(ws, goGet(t.Context(), p, classMeta))
		}
		if n := p.stats().Dialing; n != 3 {
			t.Errorf("%d dials at once, want 3", n)
		}
		for i, w := range ws {
			served(t, w).put(nil)
			if w.took > 3*time.Second {
				t.Errorf("waiter %d was served after %v", i, w.took)
			}
		}
	})
}

func TestPoolNetworkErrorFailsOnlyTheWaiterWhoAsked(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(100 * time.Millisecond)
		site.failNext(errNoNet)
		first, second := goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classMeta)
		<-first.done
		if !errors.Is(first.err, errNoNet) {
			t.Errorf("first waiter: %v, want the dial's error", first.err)
		}
		served(t, second).put(nil)
		if second.took != 700*time.Millisecond { // two dials and the pause between them
			t.Errorf("second waiter was served after %v", second.took)
		}
	})
}

// Who waited through a log-in that nobody answered has waited as long as the one who asked for it.
func TestPoolSilenceFailsAllWhoWaited(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		site.failNext(errNoNet, errReplyTimeout)
		site.dialTime.set(2 * time.Second)
		first := goGet(t.Context(), p, classMeta)
		var ws []*waiting
		for range 3 {
			ws = append(ws, goGet(t.Context(), p, classMeta))
		}
		<-first.done
		time.Sleep(time.Second) // the second log-in is under way
		late := goGet(t.Context(), p, classMeta)
		for _, w := range ws {
			<-w.done
			if !errors.Is(w.err, errReplyTimeout) || w.took != 4500*time.Millisecond {
				t.Errorf("got %v after %v", w.err, w.took)
			}
		}
		served(t, late).put(nil)
	})
}

func TestPoolNetworkDownFailsAHerdSoonWithFewDials(t *testing.T) {
	poolTest(t, 8, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(10 * time.Millisecond)
		site.setFail(errNoNet)
		var ws []*waiting
		for range 100 {
			ws = append(ws, goGet(t.Context(), p, classMeta))
		}
		for _, w := range ws {
			<-w.done
			if !errors.Is(w.err, errNoNet) || w.took > 2*time.Second {
				t.Fatalf("got %v after %v", w.err, w.took)
			}
		}
		if n := site.dials(); n > 5 {
			t.Errorf("%d dials for 100 waiters", n)
		}
	})
}

func TestPoolDialsAfterNetworkErrorsAreSpaced(t *testing.T) {
	poolTest(t, 8, func(t *testing.T, site *fakeSite, p *testPool) {
		site.setFail(errNoNet)
		for range 5 {
			if _, err := p.get(t.Context(), classMeta); !errors.Is(err, errNoNet) {
				t.Fatalf("get: %v", err)
			}
		}
		want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 2500 * time.Millisecond, 3500 * time.Millisecond}
		if got := site.dialsAt(); !slices.Equal(got, want) {
			t.Errorf("dials at %v, want %v", got, want)
		}
	})
}

// A server that ends a session with 421 is there: the next log-in may work.
func TestPoolALoginThatMeets421IsRepeated(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		err421 := fmt.Errorf("log-in: %w", &ReplyError{Command: "USER", Code: 421, Text: "Service not available.", Kind: ErrConnLost})
		site.failNext(err421)
		for _, c := range []class{classData, classMeta} {
			w := goGet(t.Context(), p, c)
			served(t, w).put(nil)
		}
		if n := site.dials(); n != 2 {
			t.Errorf("%d dials", n)
		}
	})
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		site.setFail(fmt.Errorf("log-in: %w", &ReplyError{Command: "USER", Code: 421, Text: "Service not available.", Kind: ErrConnLost}))
		if _, err := p.get(t.Context(), classData); !is421(err) || site.dials() != maxMisses {
			t.Errorf("%v after %d dials", err, site.dials())
		}
	})
}

func TestPoolNetworkErrorFailsNobodyWhileASessionIsUp(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		site.setFail(errNoNet)
		w := goGet(t.Context(), p, classMeta)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.isDone() {
			t.Fatalf("waiter got %v", w.err)
		}
		l.put(nil)
		served(t, w).put(nil)
		if limit := p.stats().Limit; limit != 4 {
			t.Errorf("limit %d after network errors, want 4", limit)
		}
	})
}

func TestPoolLoginRefusedFailsEverybody(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(time.Second)
		site.setFail(&ReplyError{Command: "PASS", Code: 530, Kind: ErrLogin})
		ws := []*waiting{goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classData), goGet(t.Context(), p, classMeta)}
		for _, w := range ws {
			<-w.done
			if !errors.Is(w.err, ErrLogin) || w.took != time.Second {
				t.Errorf("got %v after %v, want the refusal after 1s", w.err, w.took)
			}
		}
		if _, err := p.get(t.Context(), classMeta); !errors.Is(err, ErrLogin) || site.dials() != 1 {
			t.Errorf("right after it: %v with %d dials, want the refusal remembered", err, site.dials())
		}
		site.setFail(nil)
		time.Sleep(time.Second)
		mustGet(t, p, classMeta).put(nil)
	})
}

func TestPoolLoginRefusedWhileASessionIsUpIsALimit(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		site.setFail(&ReplyError{Command: "PASS", Code: 530, Kind: ErrLogin})
		w := goGet(t.Context(), p, classMeta)
		if w.isDone() || p.stats().Limit != 1 {
			t.Fatalf("done: %v (%v), limit %d", w.isDone(), w.err, p.stats().Limit)
		}
		l.put(nil)
		served(t, w).put(nil)
	})
}

func TestPoolSessionDeadAfterLoginIsAFailedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := newFakeSite()
		p := newPool(poolConfig[*fakeSession]{max: 2, dial: func(ctx context.Context) (*fakeSession, error) {
			s, err := site.dial(ctx)
			s.dead.Store(true)
			return s, err
		}})
		defer p.close()
		if _, err := p.get(t.Context(), classMeta); !errors.Is(err, ErrConnLost) {
			t.Errorf("get: %v, want ErrConnLost", err)
		}
		if site.dials() != maxMisses || site.count != 0 {
			t.Errorf("%d dials, %d sessions open", site.dials(), site.count)
		}
	})
}

func TestPoolLearnsTheLimit(t *testing.T) {
	poolTest(t, 8, func(t *testing.T, site *fakeSite, p *testPool) {
		site.limit.Store(3)
		site.dialTime.set(50 * time.Millisecond)
		var ws []*waiting
		for range 8 {
			ws = append(ws, goGet(t.Context(), p, classMeta))
		}
		time.Sleep(time.Second)
		st := p.stats()
		if st.Limit != 3 || st.Up != 3 || st.Waiting != 5 || st.Refused == 0 {
			t.Errorf("after the refusal: %+v", st)
		}
		for _, w := range ws {
			served(t, w).put(nil)
		}
		dials := site.dials()
		for _, l := range mustGetN(t, p, classMeta, 3) {
			l.put(nil)
		}
		if site.dials() != dials {
			t.Error("it dialled again beyond the learned limit")
		}
	})
}

func TestPoolKeepsTheMetadataLaneOfALearnedLimit(t *testing.T) {
	poolTest(t, 8, func(t *testing.T, site *fakeSite, p *testPool) {
		site.limit.Store(3)
		ls := mustGetN(t, p, classData, 3) // allowed: nothing refused so far
		w := goGet(t.Context(), p, classMeta)
		data := goGet(t.Context(), p, classData)
		ls[0].put(nil)
		m := served(t, w)
		m.put(nil)
		synctest.Wait()
		if data.isDone() {
			t.Error("data holds three sessions of three")
		}
		ls[1].put(nil)
		served(t, data).put(nil)
		ls[2].put(nil)
	})
}

// The refusal overtakes a dial that succeeds.
func TestPoolDialUnderWayAtARefusalRaisesTheLimitItTaught(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := newFakeSite()
		var n atomic.Int32
		p := newPool(poolConfig[*fakeSession]{max: 8, dial: func(ctx context.Context) (*fakeSession, error) {
			if n.Add(1) == 3 {
				time.Sleep(10 * time.Millisecond)
				return nil, ErrTooMany
			}
			time.Sleep(time.Second)
			return site.dial(ctx)
		}})
		ws := []*waiting{goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classMeta)}
		time.Sleep(1500 * time.Millisecond)
		if st := p.stats(); st.Limit != 2 || st.Up != 2 {
			t.Errorf("%+v, want 2 up and a limit of 2", st)
		}
		served(t, ws[0]).put(nil)
		served(t, ws[1]).put(nil)
		served(t, ws[2]).put(nil)
		p.close()
	})
}

func TestPoolRaisesTheLimit(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.limit.Store(2)
		ls := mustGetN(t, p, classMeta, 2)
		w := goGet(t.Context(), p, classMeta)
		if limit := p.stats().Limit; limit != 2 {
			t.Fatalf("limit %d, want 2", limit)
		}
		site.limit.Store(0)
		time.Sleep(5*time.Minute - time.Millisecond)
		if w.isDone() {
			t.Fatal("raised too soon")
		}
		ls = append(ls, served(t, w))
		if w.took != 5*time.Minute || p.stats().Limit != 3 {
			t.Errorf("served after %v with a limit of %d, want 5m and 3", w.took, p.stats().Limit)
		}
		time.Sleep(5*time.Minute + time.Millisecond)
		if limit := p.stats().Limit; limit != 4 {
			t.Errorf("limit %d after ten minutes, want 4", limit)
		}
		time.Sleep(time.Hour)
		if limit := p.stats().Limit; limit != 4 {
			t.Errorf("limit %d beyond max", limit)
		}
		for _, l := range ls {
			l.put(nil)
		}
	})
}

func TestPoolRefusalAfterARaiseLowersAgain(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.limit.Store(2)
		ls := mustGetN(t, p, classMeta, 2)
		w := goGet(t.Context(), p, classMeta)
		time.Sleep(21 * time.Minute)
		if st := p.stats(); st.Limit != 2 || st.Refused != 5 || w.isDone() {
			t.Errorf("%+v, done %v; want a limit of 2 and a refusal per five minutes", st, w.isDone())
		}
		ls[0].put(nil)
		served(t, w).put(nil)
		ls[1].put(nil)
	})
}

func TestPoolRefusedWithNoSessionUpTriesAgain(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.setFail(ErrTooMany)
		ws := []*waiting{goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classData)}
		time.Sleep(15 * time.Second)
		ms := time.Millisecond
		want := []time.Duration{0, 500 * ms, 1500 * ms, 3500 * ms, 7500 * ms, 12500 * ms}
		if got := slices.Compact(site.dialsAt()); !slices.Equal(got, want) {
			t.Errorf("dials at %v, want %v", got, want)
		}
		site.setFail(nil)
		for _, w := range ws {
			served(t, w).put(nil)
		}
	})
}

func TestPoolRefusedWaiterGetsBothErrorsInTheEnd(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.setFail(ErrTooMany)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := p.get(ctx, classMeta)
		if !errors.Is(err, ErrTooMany) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v, want the refusal and the deadline", err)
		}
	})
}

// A server may count a session for a moment after we ended it.
func TestPoolRefusalRightAfterAnEndTeachesNothing(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 2)
		ls[0].put(ErrConnLost)
		synctest.Wait()
		site.failNext(ErrTooMany)
		w := goGet(t.Context(), p, classMeta)
		served(t, w).put(nil)
		if st := p.stats(); st.Limit != 2 || st.Refused != 1 || w.took != 500*time.Millisecond {
			t.Errorf("served after %v: %+v", w.took, st)
		}
		ls[1].put(nil)
	})
}

func TestPoolSessionThatIsToldTooManyLowersTheLimit(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 3)
		ls[0].put(&ReplyError{Command: "RETR x", Code: 421, Kind: ErrTooMany})
		if st := p.stats(); st.Limit != 2 || st.Up != 2 {
			t.Errorf("%+v, want two up and a limit of 2", st)
		}
		ls[1].put(nil)
		ls[2].put(nil)
	})
}

func TestPoolSessionBeingClosedCountsAgainstTheLimit(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		site.closeTime.set(time.Second)
		mustGet(t, p, classMeta).put(ErrConnLost)
		w := goGet(t.Context(), p, classMeta)
		served(t, w).put(nil)
		if w.took != time.Second || site.peak != 1 {
			t.Errorf("served after %v with %d sessions at once, want 1s and 1", w.took, site.peak)
		}
	})
}

func TestPoolClosesIdleSessions(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		for i, l := range mustGetN(t, p, classMeta, 3) {
			time.Sleep(time.Duration(i) * time.Second) // put back at 0, 1 and 3 s
			l.put(nil)
		}
		up := func(at time.Duration, want int) {
			t.Helper()
			time.Sleep(at - time.Since(site.start))
			synctest.Wait()
			if n := p.stats().Up; n != want {
				t.Errorf("%d sessions up after %v, want %d", n, at, want)
			}
		}
		up(59*time.Second, 3)
		up(60*time.Second, 2)
		up(61*time.Second, 1)
		up(3*time.Second+5*time.Minute-1, 1) // the last is kept longer
		up(3*time.Second+5*time.Minute, 0)
	})
}

func TestPoolUseKeepsOneSessionAndLetsTheOthersGo(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		for _, l := range mustGetN(t, p, classMeta, 3) {
			l.put(nil)
		}
		for range 90 {
			time.Sleep(time.Second)
			mustGet(t, p, classMeta).put(nil)
		}
		if st := p.stats(); st.Up != 1 || site.dials() != 3 {
			t.Errorf("%d up after %d dials, want 1 after 3", st.Up, site.dials())
		}
	})
}

func keepingPool(t *testing.T, f func(t *testing.T, site *fakeSite, p *testPool)) {
	synctest.Test(t, func(t *testing.T) {
		site := newFakeSite()
		p := newPool(poolConfig[*fakeSession]{max: 2, keepEvery: 20 * time.Second, dial: site.dial})
		defer p.close()
		f(t, site, p)
	})
}

func TestPoolKeepsIdleSessionsAlive(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		time.Sleep(time.Minute) // none while it is in use
		l.put(nil)
		time.Sleep(50 * time.Second)
		if n := l.s.checks.Load(); n != 2 {
			t.Errorf("%d keepalives in 50 s, want 2", n)
		}
		time.Sleep(5 * time.Minute)
		if !l.s.closed.Load() {
			t.Error("keepalives kept the session from ageing")
		}
	})
}

func TestPoolClosesASessionWhoseKeepaliveFails(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		l.s.lame.Store(true)
		l.put(nil)
		time.Sleep(21 * time.Second)
		if !l.s.closed.Load() || p.stats().Up != 0 {
			t.Errorf("closed: %v, %d up", l.s.closed.Load(), p.stats().Up)
		}
		mustGet(t, p, classMeta).put(nil)
	})
}

func TestPoolSessionInAKeepaliveIsNotLent(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		site.checkTime.set(time.Second)
		l := mustGet(t, p, classMeta)
		l.put(nil)
		time.Sleep(20*time.Second + time.Millisecond)
		site.dialTime.set(5 * time.Second)
		w := goGet(t.Context(), p, classMeta)
		if st := p.stats(); w.isDone() || st.Up != 1 || st.Dialing != 1 {
			t.Fatalf("done %v, %+v; want to wait for either", w.isDone(), st)
		}
		if got := served(t, w); got.s != l.s {
			t.Errorf("got session %d, want the one whose keepalive ended first", got.s.n)
		} else {
			got.put(nil)
		}
	})
}

func TestPoolKeepaliveDoesNotCountAsUse(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 2)
		ls[0].put(nil)
		time.Sleep(15 * time.Second)
		ls[1].put(nil)
		time.Sleep(10 * time.Second) // the first had a keepalive at 20 s, the second none so far
		if a, b := ls[0].s.checks.Load(), ls[1].s.checks.Load(); a != 1 || b != 0 {
			t.Fatalf("%d and %d keepalives", a, b)
		}
		l := mustGet(t, p, classMeta)
		if l.s != ls[1].s {
			t.Error("a keepalive made an old session the one used last")
		}
		l.put(nil)
	})
}

func TestPoolFindsDeadSessionsWhileIdle(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		l.put(nil)
		l.s.dead.Store(true)
		time.Sleep(21 * time.Second)
		if !l.s.closed.Load() || l.s.checks.Load() != 0 {
			t.Errorf("closed: %v, after %d keepalives", l.s.closed.Load(), l.s.checks.Load())
		}
	})
}

func TestPoolGuessTakesOnlyWhatIsFree(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		idle := mustGet(t, p, classMeta)
		idle.put(nil)
		a := mustGet(t, p, classAhead)
		if a.s != idle.s {
			t.Error("a guess did not take the idle session")
		}
		b := mustGet(t, p, classAhead) // dialled
		if _, err := p.get(t.Context(), classAhead); err != errBusy {
			t.Errorf("a guess took the session left to metadata: %v", err)
		}
		m := mustGet(t, p, classMeta)
		w := goGet(t.Context(), p, classMeta)
		b.put(nil)
		served(t, w).put(nil)
		for _, l := range []*testLease{a, m} {
			l.put(nil)
		}
	})
}

func TestPoolGuessNeverWaits(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classMeta, 2)
		begin := time.Now()
		if _, err := p.get(t.Context(), classAhead); err != errBusy || time.Since(begin) != 0 {
			t.Errorf("all in use: %v after %v", err, time.Since(begin))
		}
		w := goGet(t.Context(), p, classMeta)
		if _, err := p.get(t.Context(), classAhead); err != errBusy {
			t.Errorf("somebody waits: %v", err)
		}
		ls[0].put(nil)
		served(t, w).put(nil)
		ls[1].put(nil)
		if st := p.stats(); st.Waiting != 0 {
			t.Errorf("a guess is left in the queue: %+v", st)
		}
	})
}

func TestPoolGuessOpensNothingWhileSomebodyWaits(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(time.Second)
		w := goGet(t.Context(), p, classMeta)
		if _, err := p.get(t.Context(), classAhead); err != errBusy || site.dials() != 1 {
			t.Errorf("guess: %v with %d dials, want errBusy and the waiter's dial", err, site.dials())
		}
		served(t, w).put(nil)
	})
}

func TestPoolGuessGivesItsDialToWhoNeedsIt(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		site.dialTime.set(time.Second)
		guess := goGet(t.Context(), p, classAhead)
		w := goGet(t.Context(), p, classData)
		l := served(t, w)
		<-guess.done
		if guess.err != errBusy || w.took != time.Second {
			t.Errorf("guess: %v; waiter served after %v", guess.err, w.took)
		}
		l.put(nil)
	})
}

func TestPoolGuessDoesNotProbeAFailingServer(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, site *fakeSite, p *testPool) {
		site.setFail(errNoNet)
		if _, err := p.get(t.Context(), classMeta); err == nil {
			t.Fatal("want an error")
		}
		time.Sleep(time.Minute)
		if _, err := p.get(t.Context(), classAhead); err != errBusy || site.dials() != 1 {
			t.Errorf("guess: %v, %d dials", err, site.dials())
		}
	})
}

// yielding registers a callback that puts l back, and reports into asked.
func yielding(l *testLease, asked *atomic.Int32, give bool) {
	l.onWanted(func() {
		asked.Add(1)
		if give {
			l.put(nil)
		}
	})
}

func TestPoolAsksTheLeaseUsedLeastRecently(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 3)
		asked := make([]atomic.Int32, 3)
		for i, l := range ls {
			yielding(l, &asked[i], true)
		}
		for _, i := range []int{0, 2, 1} {
			time.Sleep(time.Second)
			ls[i].touch()
		}
		time.Sleep(time.Second)
		w := goGet(t.Context(), p, classData)
		if l := served(t, w); l.s != ls[0].s || w.took != 0 {
			t.Errorf("got session %d after %v, want %d at once", l.s.n, w.took, ls[0].s.n)
		} else {
			l.put(nil)
		}
		if asked[1].Load()+asked[2].Load() != 0 {
			t.Error("more than one lease was asked for one waiter")
		}
		ls[1].put(nil)
		ls[2].put(nil)
	})
}

func TestPoolAsksGuessesFirst(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, _ *fakeSite, p *testPool) {
		data, guess := mustGet(t, p, classData), mustGet(t, p, classAhead)
		var n, m atomic.Int32
		yielding(data, &n, true)
		yielding(guess, &m, true)
		time.Sleep(time.Second)
		guess.touch()
		l := mustGet(t, p, classData)
		if l.s != guess.s {
			t.Error("an open file had to yield before a guess")
		}
		l.put(nil)
		data.put(nil)
	})
}

func TestPoolAsksOneLeasePerWaiter(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 3)
		var asked atomic.Int32
		for _, l := range ls {
			yielding(l, &asked, true)
			time.Sleep(time.Millisecond)
			l.touch()
		}
		a, b := goGet(t.Context(), p, classData), goGet(t.Context(), p, classData)
		served(t, a).put(nil)
		served(t, b).put(nil)
		if n := asked.Load(); n != 2 {
			t.Errorf("%d leases asked for 2 waiters", n)
		}
		ls[2].put(nil)
	})
}

func TestPoolAsksAgainAndThenAnother(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 2)
		var stubborn, willing atomic.Int32
		yielding(ls[0], &stubborn, false)
		time.Sleep(time.Second)
		ls[1].touch()
		yielding(ls[1], &willing, true)
		w := goGet(t.Context(), p, classData)
		served(t, w).put(nil)
		if stubborn.Load() != 1 || willing.Load() != 1 || w.took != askEvery {
			t.Errorf("asked %d and %d times, served after %v", stubborn.Load(), willing.Load(), w.took)
		}
		ls[0].put(nil)
	})
}

func TestPoolAsksARefusingLeaseEveryHalfSecond(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		var asked atomic.Int32
		yielding(l, &asked, false)
		a, b := goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classData)
		time.Sleep(1900 * time.Millisecond)
		if n := asked.Load(); n != 4 {
			t.Errorf("asked %d times in 1.9 s, want 4", n)
		}
		l.put(nil)
		served(t, a).put(nil)
		served(t, b).put(nil)
	})
}

func TestPoolAsksALeaseThatRegistersWhileSomebodyWaits(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		w := goGet(t.Context(), p, classMeta)
		time.Sleep(100 * time.Millisecond)
		var asked atomic.Int32
		yielding(l, &asked, true)
		served(t, w).put(nil)
		if w.took != 100*time.Millisecond {
			t.Errorf("served after %v, want 100ms", w.took)
		}
	})
}

func TestPoolAsksNobodyWhileASessionIsOnItsWay(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		var asked atomic.Int32
		yielding(l, &asked, true)
		site.dialTime.set(400 * time.Millisecond)
		mustGet(t, p, classMeta).put(nil)
		if asked.Load() != 0 {
			t.Error("a lease was asked though a session was being dialled")
		}
		l.put(nil)
	})
}

func TestPoolAsksWhenADialTakesLong(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classData)
		var asked atomic.Int32
		yielding(l, &asked, true)
		site.dialTime.set(time.Minute)
		w := goGet(t.Context(), p, classMeta)
		served(t, w).put(nil)
		if w.took != askEvery {
			t.Errorf("served after %v, want %v", w.took, askEvery)
		}
	})
}

func TestPoolDoesNotAskMetadataForAFullDataLane(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, _ *fakeSite, p *testPool) {
		meta, data := mustGet(t, p, classMeta), mustGet(t, p, classData)
		var asked atomic.Int32
		yielding(meta, &asked, true)
		w := goGet(t.Context(), p, classData)
		time.Sleep(time.Second)
		if asked.Load() != 0 {
			t.Error("metadata was asked for a session that data could not have had")
		}
		data.put(nil)
		served(t, w).put(nil)
		meta.put(nil)
	})
}

func TestPoolCloseFailsWaiters(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, _ *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		ws := []*waiting{goGet(t.Context(), p, classMeta), goGet(t.Context(), p, classData)}
		p.close()
		for _, w := range ws {
			<-w.done
			if !errors.Is(w.err, net.ErrClosed) {
				t.Errorf("waiter: %v, want net.ErrClosed", w.err)
			}
		}
		if _, err := p.get(t.Context(), classMeta); !errors.Is(err, net.ErrClosed) {
			t.Errorf("get after close: %v, want net.ErrClosed", err)
		}
		l.put(nil)
	})
}

func TestPoolCloseWaitsForItsSessions(t *testing.T) {
	poolTest(t, 3, func(t *testing.T, site *fakeSite, p *testPool) {
		site.closeTime.set(time.Second)
		ls := mustGetN(t, p, classMeta, 3)
		ls[0].put(nil)
		ls[1].put(nil)
		begin := time.Now()
		p.close()
		if d := time.Since(begin); d != time.Second || site.count != 1 {
			t.Errorf("close returned after %v with %d sessions open, want 1s and the one in use", d, site.count)
		}
		if got := p.inUse(); len(got) != 1 || got[0] != ls[2].s {
			t.Errorf("in use: %v, want the third session", got)
		}
		ls[2].put(nil)
		if site.count != 0 {
			t.Error("put after close returned before the session was closed")
		}
	})
}

func TestPoolCloseEndsDialsAndKeepalives(t *testing.T) {
	keepingPool(t, func(t *testing.T, site *fakeSite, p *testPool) {
		mustGet(t, p, classMeta).put(nil)
		site.checkTime.set(time.Hour)
		site.dialTime.set(time.Hour)
		time.Sleep(20*time.Second + time.Millisecond)
		w := goGet(t.Context(), p, classMeta)
		if st := p.stats(); st.Dialing != 1 || st.Keepalives != 1 {
			t.Fatalf("%+v, want a dial and a keepalive under way", st)
		}
		begin := time.Now()
		p.close()
		<-w.done
		if d := time.Since(begin); d != 0 || site.count != 0 {
			t.Errorf("close took %v, %d sessions left", d, site.count)
		}
	})
}

func TestPoolCloseTwice(t *testing.T) {
	poolTest(t, 1, func(t *testing.T, site *fakeSite, p *testPool) {
		mustGet(t, p, classMeta).put(nil)
		p.close() // poolTest closes again; a session closed twice panics
		if site.count != 0 {
			t.Error("session left open")
		}
	})
}

func TestPoolDeadlineWhileSessionsAreUpIsNoDialError(t *testing.T) {
	poolTest(t, 2, func(t *testing.T, site *fakeSite, p *testPool) {
		l := mustGet(t, p, classMeta)
		site.setFail(errNoNet)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.get(ctx, classMeta)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNoNet) {
			t.Errorf("get: %v, want the deadline alone", err)
		}
		l.put(nil)
	})
}

// Hundreds of users of all classes, cancelled or not, over a server that takes fewer sessions than the pool may
// make, that loses some, and whose dials fail now and then: the server's count is never above max, no session
// is with two users at once, and every user who has the time is served.
func TestPoolStress(t *testing.T) {
	for _, c := range []struct{ max, site int }{{1, 0}, {2, 0}, {8, 0}, {8, 3}, {8, 1}} {
		t.Run(fmt.Sprintf("max=%d,site=%d", c.max, c.site), func(t *testing.T) {
			site := newFakeSite()
			site.limit.Store(int32(c.site))
			site.dialTime.set(200 * time.Microsecond)
			p := newPool(poolConfig[*fakeSession]{
				max: c.max, dial: site.dial, redialBase: 100 * time.Microsecond, raiseAfter: 5 * time.Millisecond,
				idleTime: 3 * time.Millisecond, keepEvery: time.Millisecond,
			})
			var served, guesses, cancelled atomic.Int32
			var wg sync.WaitGroup
			for range 300 {
				wg.Go(func() {
					for range 10 {
						cl := class(rand.IntN(int(classes)))
						ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
						impatient := rand.IntN(5) == 0
						if impatient {
							cancel()
							ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
						}
						l, err := p.get(ctx, cl)
						cancel()
						switch {
						case err == nil:
						case cl == classAhead && (errors.Is(err, errBusy) || errors.Is(err, ErrTooMany)):
							guesses.Add(1)
							continue
						case impatient && errors.Is(err, context.DeadlineExceeded):
							cancelled.Add(1)
							continue
						default:
							t.Errorf("class %d: %v", cl, err)
							return
						}
						useForAMoment(t, l)
						served.Add(1)
					}
				})
			}
			wg.Wait()
			st := p.stats()
			p.close()
			if st.Meta+st.Data+st.Ahead+st.Waiting != 0 {
				t.Errorf("somebody is still there: %+v", st)
			}
			if site.peak > c.max || site.count != 0 {
				t.Errorf("%d sessions at once with a limit of %d, %d left over", site.peak, c.max, site.count)
			}
			if n := served.Load() + guesses.Load() + cancelled.Load(); n != 3000 || served.Load() < 1000 {
				t.Errorf("%d of 3000 accounted for, %d served", n, served.Load())
			}
			t.Logf("%d served, %d guesses refused, %d cancelled, %+v", served.Load(), guesses.Load(), cancelled.Load(), st)
		})
	}
}

// useForAMoment holds l, checks that nobody else does, and gives it back in one of many states.
func useForAMoment(t *testing.T, l *testLease) {
	if l.s.inUse.Add(1) != 1 || l.s.closed.Load() {
		t.Error("a session is with two users, or was lent closed")
	}
	gone := make(chan struct{})
	var once sync.Once
	if rand.IntN(4) == 0 {
		l.onWanted(func() { once.Do(func() { close(gone) }) })
		select {
		case <-gone:
		case <-time.After(500 * time.Microsecond):
		}
		l.touch()
	} else {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
	}
	var err error
	switch rand.IntN(20) {
	case 0:
		l.s.dead.Store(true)
	case 1:
		err = ErrConnLost
	case 2:
		l.s.lame.Store(true)
	case 3:
		err = &ReplyError{Command: "DELE x", Code: 550}
	}
	l.s.inUse.Add(-1)
	l.put(err)
}

func TestPoolIsStalledWhenNobodyMovesData(t *testing.T) {
	poolTest(t, 4, func(t *testing.T, _ *fakeSite, p *testPool) {
		ls := mustGetN(t, p, classData, 3)
		time.Sleep(time.Second)
		if p.stalled(time.Second) {
			t.Error("stalled, and nobody waits")
		}
		w := goGet(t.Context(), p, classData)
		if !p.stalled(time.Second) {
			t.Error("nobody has moved data for a second, and it isn't stalled")
		}
		ls[1].touch()
		if p.stalled(time.Second) {
			t.Error("stalled, and a session is in use")
		}
		ls[0].put(nil)
		served(t, w).put(nil)
		ls[1].put(nil)
		ls[2].put(nil)
	})
}
