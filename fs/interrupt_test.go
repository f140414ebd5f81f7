package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ftpfs/ftpconn"
)

// interrupted is a request that the kernel has interrupted, by a caller with these signals pending.
func interrupted(pending func() uint64) *callContext {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := call(ctx)
	c.pid = 1
	c.pending = func(uint32) (uint64, error) { return pending(), nil }
	return c
}

func bit(s syscall.Signal) uint64 { return 1 << (s - 1) }

func TestSignalsThatEndACall(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGHUP} {
		synctest.Test(t, func(t *testing.T) {
			c := interrupted(func() uint64 { return bit(s) | bit(syscall.SIGURG) })
			defer c.end()
			<-c.Done()
			if !errors.Is(c.Err(), context.Canceled) {
				t.Errorf("%v: %v", s, c.Err())
			}
		})
	}
}

func TestSignalsThatDoNot(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGURG, syscall.SIGCHLD, syscall.SIGWINCH} {
		synctest.Test(t, func(t *testing.T) {
			c := interrupted(func() uint64 { return bit(s) })
			defer c.end()
			select {
			case <-c.Done():
				t.Errorf("%v ended the call", s)
			case <-time.After(time.Minute):
			}
		})
	}
}

func TestLaterSignalEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := interrupted(func() uint64 {
			if time.Since(start) > 5*time.Second {
				return bit(syscall.SIGINT)
			}
			return bit(syscall.SIGURG)
		})
		defer c.end()
		<-c.Done()
	})
}

func TestSIGINTEndsAReadThatHangs(t *testing.T) {
	s := newSite(t)
	p := s.put(t, "f", "content")
	free := make(chan struct{})
	defer close(free)
	s.remote.set(func() {
		s.remote.retrieved = func(string, ftpconn.Download) ftpconn.Download { return stuckDownload{free} }
	})
	// A program that catches the signal, as any one in Go does, the kernel keeps waiting for the page.
	cmd := exec.CommandContext(t.Context(), "cat", p)
	must(t, cmd.Start())
	waitFor(t, "the download", func() bool { return s.remote.count("Retrieve") > 0 })
	must(t, cmd.Process.Signal(os.Interrupt))
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("the reader ended with success")
		}
	case <-time.After(time.Minute):
		t.Error("the reader hangs")
	}
}

func TestInterruptedCloseGoesOnUploading(t *testing.T) {
	s := newSite(t)
	gate := make(chan struct{})
	s.remote.set(func() {
		s.remote.stored = func(_ string, u ftpconn.Upload) ftpconn.Upload {
			<-gate
			return u
		}
	})
	cmd := helper(t, "write", s.mnt+"/f", "content")
	must(t, cmd.Start())
	waitFor(t, "the upload", func() bool { return s.remote.count("Store") > 0 })
	must(t, cmd.Process.Signal(os.Interrupt))
	cmd.Wait()
	close(gate)
	waitFor(t, "the content", func() bool {
		data, err := os.ReadFile(s.dir + "/f")
		return err == nil && string(data) == "content"
	})
}
