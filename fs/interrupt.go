package fs

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The kernel interrupts a request for any signal that its caller did not block: SIGCHLD, SIGWINCH, and in
// Go programs SIGURG some hundred times a second. A local disk is not disturbed by these, and a close() that
// answers EINTR is a lost verdict. So a request ends early only for the signals by which somebody
// wants to end the caller; the kernel itself marks a fatal one as SIGKILL.
const endingSignals = 1<<(syscall.SIGKILL-1) | 1<<(syscall.SIGINT-1) | 1<<(syscall.SIGTERM-1) |
	1<<(syscall.SIGHUP-1) | 1<<(syscall.SIGQUIT-1) | 1<<(syscall.SIGALRM-1) | 1<<(syscall.SIGXCPU-1)

// interruptPoll is how often an interrupted request looks whether its caller has been signalled
// again: the kernel tells of the first signal alone.
const interruptPoll = 100 * time.Millisecond

// callContext is a request's context, done when the caller is to end. Watching starts with the
// first Done, so that a request answered from memory costs nothing.
type callContext struct {
	context.Context
	pid     uint32
	cancel  <-chan struct{}
	pending func(pid uint32) (uint64, error) // the caller's pending signals

	once  sync.Once
	done  chan struct{}
	ended chan struct{} // closed by end
}

// call wraps the context that go-fuse hands to a request. The caller must call end when the request is
// answered.
func call(ctx context.Context) *callContext {
	c := &callContext{Context: ctx, pending: pendingSignals, done: make(chan struct{}), ended: make(chan struct{})}
	if fc, ok := ctx.(*fuse.Context); ok {
		c.pid, c.cancel = fc.Pid, fc.Cancel
	} else {
		c.cancel = ctx.Done()
	}
	return c
}

// end stops watching.
func (c *callContext) end() { close(c.ended) }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.once.Do(func() {
		if c.cancel != nil {
			go c.watch()
		}
	})
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func (c *callContext) watch() {
	select {
	case <-c.ended:
		return
	case <-c.cancel:
	}
	for {
		// A caller that can't be looked at (another pid namespace) is taken at its word.
		if set, err := c.pending(c.pid); err != nil || set&endingSignals != 0 {
			close(c.done)
			return
		}
		select {
		case <-c.ended:
			return
		case <-time.After(interruptPoll):
		}
	}
}

// pendingSignals reads which signals wait for a thread or its process (proc(5), SigPnd and ShdPnd).
func pendingSignals(pid uint32) (uint64, error) {
	if pid == 0 {
		return 0, fmt.Errorf("caller is in another pid namespace")
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	var set uint64
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return 0, err
		}
		set |= bits
	}
	return set, nil
}
