package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/fs"
)

// A serving process listens on an abstract Unix socket named after its mount's device number and source. Whoever unmounts
// connects before, and reads until the end of the stream, which comes with the end of the process.
// Everyone who waits gets a line for each step of the uploads that are left (progressLine), and then the process's last word, lifelineOK or
// what failed. A process that dies without a word resets the connections. When the mount is gone the kernel gives its number to the next one, so the name is given up then; that can
// take a while, for as long as a request that nobody waits for any more is under way (see numberFree), and the source keeps apart
// what has little to do with each other.
//
// Abstract names aren't protected, so the watcher asks the kernel whether the peer is the user
// who mounted (SO_PEERCRED). A mount from another network namespace can't be watched.

func lifelineName(m mountEntry) string {
	sum := sha256.Sum256([]byte(m.Source))
	return fmt.Sprintf("@ftpfs-mount-%s-%x", m.Dev, sum[:8])
}

const lifelineOK = "ok"

// lifeline is the serving side.
type lifeline struct {
	mu      sync.Mutex // guards following
	l       *net.UnixListener
	ended   bool
	waiting []int // descriptors that are closed by the end of the process
}

// numberFree is how long a mount that is gone may keep its number's name.
const numberFree = 3 * time.Second

// newLifeline listens for those who will wait for the end of the mount m.
func newLifeline(m mountEntry) (*lifeline, error) {
	for deadline := time.Now().Add(numberFree); ; time.Sleep(5 * time.Millisecond) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: lifelineName(m), Net: "unix"})
		if err == nil {
			return &lifeline{l: l}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return nil, err
		}
	}
}

// release gives up the name; those who wait already go on waiting. Safe on a nil lifeline, and more than once.
func (ll *lifeline) release() {
	if ll == nil {
		return
	}
	ll.mu.Lock()
	defer ll.mu.Unlock()
	raw, err := ll.l.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for {
			c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err != nil {
				return // EAGAIN: that was all
			}
			ll.waiting = append(ll.waiting, c)
		}
	})
	ll.l.Close()
}

// progressLine is what the waiting are told of what is still to be uploaded.
const progressLine = "progress %d %d %d %d\n"

// progress tells those who wait how far the uploads are. Who doesn't read is left out. Safe on a nil lifeline, and after release alone.
func (ll *lifeline) progress(b fs.Backlog) {
	if ll == nil {
		return
	}
	ll.mu.Lock()
	defer ll.mu.Unlock()
	if ll.ended {
		return
	}
	line := fmt.Appendf(nil, progressLine, b.Files, b.Bytes, b.DoneFiles, b.DoneBytes)
	for _, c := range ll.waiting {
		const room = 16 << 10 // of which most is for the last word, to somebody who is stopped meanwhile
		if unread, err := unix.IoctlGetInt(c, unix.TIOCOUTQ); err == nil && unread < room {
			_, _ = unix.Write(c, line)
		}
	}
}

// end tells the waiting what became of the mount (nil: all is well). Their streams end with the
// process. Safe on a nil lifeline.
func (ll *lifeline) end(err error) {
	if ll == nil {
		return
	}
	text := lifelineOK
	if err != nil {
		text = err.Error()
	}
	ll.release()
	ll.mu.Lock()
	defer ll.mu.Unlock()
	ll.ended = true
	for _, c := range ll.waiting {
		_, _ = unix.Write(c, []byte(text))
	}
}

// serverWatch is the waiting side; its zero value knows of no server.
type serverWatch struct{ c *net.UnixConn }

// watchServer connects to the process that serves m. Without one, wait returns at once.
func watchServer(m mountEntry) serverWatch {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: lifelineName(m), Net: "unix"})
	if err != nil {
		return serverWatch{}
	}
	if uid, err := peerUID(c); err != nil || uid != m.owner() {
		c.Close()
		return serverWatch{}
	}
	return serverWatch{c}
}

func peerUID(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if credErr = err; err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid, errors.Join(err, credErr)
}

// waiter is what somebody who waits for the end of a serving process wants to know meanwhile.
type waiter struct {
	say  func(text string) // that it takes long
	show func(fs.Backlog)  // what is left to upload
}

// quietly waits without a word.
var quietly = waiter{say: func(string) {}, show: func(fs.Backlog) {}}

// wait returns when the serving process has ended, with what it failed in.
func (w serverWatch) wait(ctx context.Context, tell waiter) error {
	if w.c == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = w.c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	slow := time.AfterFunc(2*time.Second, func() {
		tell.say("unmounted; waiting until everything written is on the server (Ctrl-C stops the waiting, not the writing)")
	})
	defer slow.Stop()
	var left fs.Backlog
	r := bufio.NewReader(w.c)
	for {
		head, err := r.Peek(len("progress "))
		if err != nil || string(head) != "progress " {
			break
		}
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		if _, err := fmt.Sscanf(line, progressLine, &left.Files, &left.Bytes, &left.DoneFiles, &left.DoneBytes); err == nil {
			tell.show(left)
		}
	}
	text, err := io.ReadAll(io.LimitReader(r, 64<<10))
	switch {
	case ctx.Err() != nil && left.Files > 0:
		return fmt.Errorf("unmounted, but not waited for: the process that served the mount goes on with %s", countFiles(left.Files, left.Bytes))
	case ctx.Err() != nil:
		return errors.New("unmounted, but not waited for: the process that serves the mount still runs")
	case err != nil || len(text) == 0:
		return errors.New("unmounted, but the process that served the mount died; what was being written may be lost")
	case string(text) == lifelineOK:
		return nil
	}
	return fmt.Errorf("unmounted, but %s", strings.TrimSpace(string(text)))
}

// Close gives up watching.
func (w serverWatch) Close() {
	if w.c != nil {
		w.c.Close()
	}
}
