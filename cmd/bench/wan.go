package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A slow line is two network namespaces, one for the client and one for the server, each with a TUN
// device, and this process between the two: it holds each packet for half the round-trip time. Unlike a TCP
// proxy it delays handshakes and closes as well, so that a new data connection costs what it costs a
// user far from the server. There is no limit on the rate.
//
// The namespaces have no name: they exist as long as this process (and what runs in them) does.
const (
	wanClient = "10.77.0.1"
	wanServer = "10.77.0.2"
	wanMTU    = 9000    // fewer packets, less of the processor for the line itself
	wanQueue  = 1 << 14 // packets on their way in one direction
)

// namespace is a network namespace held open, and its end of the line.
type namespace struct {
	net *os.File
	tun int
}

// enter is argv, run in the namespace. Mounts stay visible, unlike with "ip netns exec".
func (n *namespace) enter(argv ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), n.net.Fd())}, argv...)
}

// newWAN lays the line. It needs root, ip(8) and nsenter(1).
func newWAN(ctx context.Context, rtt time.Duration) (client, server *namespace, err error) {
	if client, err = newNamespace(ctx, wanClient); err != nil {
		return nil, nil, err
	}
	if server, err = newNamespace(ctx, wanServer); err != nil {
		client.net.Close()
		return nil, nil, err
	}
	go carry(client.tun, server.tun, rtt/2)
	go carry(server.tun, client.tun, rtt/2)
	return client, server, nil
}

func newNamespace(ctx context.Context, addr string) (*namespace, error) {
	var n *namespace
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		var err error
		n, err = openNamespace()
		made <- err
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", addr + "/24", "dev", "wan0"},
		{"ip", "link", "set", "wan0", "mtu", fmt.Sprint(wanMTU), "txqueuelen", "10000", "up"},
	} {
		argv := n.enter(args...)
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			n.net.Close()
			return nil, fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	return n, nil
}

// openNamespace moves the calling thread into a new namespace and makes the TUN device there.
func openNamespace() (*namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	net, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		net.Close()
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq("wan0")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(tun, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(tun)
		net.Close()
		return nil, fmt.Errorf("TUN device: %w", err)
	}
	return &namespace{net, tun}, nil
}

// packet is one that is due at the other end; data is buf as far as it is filled.
type packet struct {
	due time.Time
	buf []byte
	n   int
}

// carry moves packets from one device to the other, each delay later, as long as the process lives.
// Those that find the queue full are dropped, as a router does.
func carry(from, to int, delay time.Duration) {
	line := make(chan packet, wanQueue)
	free := make(chan []byte, wanQueue) // buffers to use again: no work for the garbage collector
	go func() {
		// A timer of the runtime's may be a millisecond late, which is a tenth of the way.
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		for p := range line {
			for wait := time.Until(p.due); wait > 0; wait = time.Until(p.due) {
				left := unix.NsecToTimespec(wait.Nanoseconds())
				_ = unix.Nanosleep(&left, nil)
			}
			// A device that is down or a reader that is gone lose packets; TCP knows what to do.
			_, _ = unix.Write(to, p.buf[:p.n])
			free <- p.buf
		}
	}()
	defer close(line)
	for {
		var buf []byte
		select {
		case buf = <-free:
		default:
			buf = make([]byte, wanMTU+64)
		}
		n, err := unix.Read(from, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return
		}
		select {
		case line <- packet{time.Now().Add(delay), buf, n}:
		default:
		}
	}
}
