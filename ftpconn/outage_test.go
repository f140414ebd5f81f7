package ftpconn

import (
	"context"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

func TestServerThatIsAwayForAMomentCostsNoError(t *testing.T) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, ftptest.Options{})
			cl := dialTo(t, s, func(c *Config) { c.Retry = 20 * time.Second })
			s.Mkdir("d")
			s.Stop()
			back := make(chan struct{})
			go func() {
				defer close(back)
				time.Sleep(time.Second) // the outage
				s.Restart()
			}()
			defer func() { <-back }()
			if _, err := cl.List(t.Context(), "/d"); err != nil {
				t.Errorf("List: %v", err)
			}
			if err := cl.Mkdir(t.Context(), "/d/e"); err != nil {
				t.Errorf("Mkdir: %v", err)
			}
		})
	}
}

func TestOutageIsWaitedForOnce(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	cl := dialTo(t, s, func(c *Config) { c.Retry = 3 * time.Second })
	s.Stop()
	start := time.Now()
	if _, err := cl.List(t.Context(), "/"); err == nil {
		t.Fatal("listed without a server")
	}
	if took := time.Since(start); took < 3*time.Second || took > 10*time.Second {
		t.Errorf("gave up after %v", took)
	}
	start = time.Now()
	if _, err := cl.List(t.Context(), "/"); err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("the next one: %v after %v", err, time.Since(start))
	}
	s.Restart()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, err = cl.List(t.Context(), "/"); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("the server is back: %v", err)
	}
}

func TestWaitForAServerCanBeInterrupted(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	cl := dialTo(t, s, func(c *Config) { c.Retry = time.Minute })
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := cl.List(ctx, "/"); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestFirstConnectionIsNotWaitedFor(t *testing.T) {
	s := ftptest.NewServer(t, ftptest.Options{})
	cl := newClient(t, s, func(c *Config) { c.Retry = time.Minute })
	s.Stop()
	start := time.Now()
	if err := cl.Connect(t.Context()); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
