package fs

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errBroke = errors.New("broke")

// patiently counts how often a transfer that breaks at once is begun again, and how long that goes on.
func patiently(t *testing.T, p *patience) (tries int, took time.Duration) {
	t.Helper()
	start := time.Now()
	for {
		err := p.wait(t.Context(), errBroke)
		if err != nil {
			if !errors.Is(err, errBroke) {
				t.Errorf("ends with %v", err)
			}
			return tries, time.Since(start)
		}
		if tries++; tries > 1000 {
			t.Fatal("no end")
		}
	}
}

func TestPauses(t *testing.T) {
	for _, c := range []struct {
		limit     time.Duration
		tries     int
		most      time.Duration
		otherwise string
	}{
		{0, 2, time.Second, "a few attempts are made without any patience"},
		{10 * time.Second, 7, 10 * time.Second, "pauses grow"},
		{10 * time.Minute, 125, 10 * time.Minute, "and stay bounded"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries, took := patiently(t, &patience{limit: c.limit, lost: new(atomic.Bool)})
			if tries != c.tries || took > c.most || took < c.limit {
				t.Errorf("limit %v: %d attempts in %v, want %d: %s", c.limit, tries, took, c.tries, c.otherwise)
			}
		})
	}
}

func TestFirstFailureCostsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := patience{limit: time.Minute, lost: new(atomic.Bool)}
		start := time.Now()
		if err := p.wait(t.Context(), errBroke); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestProgressRenewsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := patience{limit: 5 * time.Second, lost: new(atomic.Bool)}
		for range 3 {
			patiently(t, &p)
			p.progressed()
		}
		if tries, took := patiently(t, &p); tries < 4 || took < 5*time.Second {
			t.Errorf("%d attempts in %v after progress", tries, took)
		}
	})
}

func TestPauseCanBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := patience{limit: time.Hour, lost: new(atomic.Bool)}
		for range 8 {
			if err := p.wait(ctx, errBroke); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if err := p.wait(ctx, errBroke); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestPatienceIsUsedUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := &tree{opt: Options{Retry: time.Minute}}
		first := tree.patience()
		patiently(t, &first)
		second := tree.patience()
		if _, took := patiently(t, &second); took > time.Second {
			t.Errorf("the next transfer was waited for too: %v", took)
		}
		third := tree.patience()
		third.progressed()
		if fourth := tree.patience(); fourth.limit != time.Minute {
			t.Errorf("patience %v after a success", fourth.limit)
		}
	})
}
