package ftptest

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands between FTP clients and a server, and does to their connections what [Proxy.On]
// says. It rewrites PASV, EPSV, PORT and EPRT, so that data goes through it too.
//
// It reads clear text only. From a client's TLS ClientHello on (AUTH TLS or implicit) it passes a
// control connection on unread, with latency, Freeze and Drop but without rules, and data goes directly.
//
// All methods may be called concurrently, also while clients are connected. A rule holds for the
// commands that come after it was completed: write it before what it is to hit.
type Proxy struct {
	t        testing.TB
	target   string
	listener net.Listener
	tasks    sync.WaitGroup
	conns    connSet
	done     chan struct{} // closed at the end of the test

	mu sync.Mutex // guards following fields; never held on the network
	proxyState
}

type proxyState struct {
	closed   bool
	refuse   bool
	rtt      time.Duration
	thawed   chan struct{} // closed unless frozen
	rules    []*Rule
	commands []string
	dialog   []string
	sessions int
	dataSeen int
	rounds   int
}

// NewProxy starts a proxy before the server at target (host:port) until the test ends. It listens on
// the same IP address.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, target: target, listener: l, done: make(chan struct{})}
	p.thawed = make(chan struct{})
	close(p.thawed)
	p.tasks.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

// Addr is host:port for clients.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.done)
	p.listener.Close()
	p.conns.closeAll()
	p.tasks.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.sessions++
		refuse := p.refuse
		p.mu.Unlock()
		if refuse || !p.track(conn) {
			reset(conn)
			continue
		}
		p.tasks.Go(func() {
			defer p.drop(conn)
			newSession(p, conn).run()
		})
	}
}

// track enters a connection or listener that Drop and the end of the test close; false if the test
// has ended.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.conns.add(c, 0)
}

// drop closes what track entered.
func (p *Proxy) drop(c net.Conn) {
	p.conns.remove(c)
	c.Close()
}

// sleep waits for d or for the end of the test.
func (p *Proxy) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-p.done:
	}
}

// SetLatency makes the line so long: a round trip on control and data takes rtt more. What is sent
// arrives rtt/2 later, and a connection that was made reaches the other side 1.5 rtt later, which
// is when the other side of a real line would accept it, although connect returns at once here. Holds for
// what is sent from now on.
func (p *Proxy) SetLatency(rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rtt = rtt
}

func (p *Proxy) latency() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt
}

// Freeze lets nothing through any more, neither bytes nor ends of connections, as a line that was
// cut; new connections are accepted and get no answer. Thaw ends it, and nothing was lost.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thawed:
		p.thawed = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thawed:
	default:
		close(p.thawed)
	}
}

// thaw is closed while the line works.
func (p *Proxy) thaw() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.thawed
}

// Refuse makes new control connections fail with a reset, or not any more.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// Drop closes all connections, control and data, on both sides.
func (p *Proxy) Drop() { p.conns.closeAll() }

// Commands are the command lines that came from clients, of all sessions in the order of arrival,
// the arguments of PASS and ACCT replaced by "***".
func (p *Proxy) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.commands...)
}

// Count is how many of Commands match pattern, which is as in [Proxy.On].
func (p *Proxy) Count(pattern string) int {
	re := commandPattern(pattern)
	n := 0
	for _, c := range p.Commands() {
		if re.MatchString(c) {
			n++
		}
	}
	return n
}

// Rounds is how often a client sent something on control after an answer had arrived, all sessions
// together: commands that go out in one write, or before any of their replies, are one round. A client
// that sends ahead for later (and waits for nothing) makes a round too.
func (p *Proxy) Rounds() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rounds
}

// Sessions is how many control connections were made.
func (p *Proxy) Sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions
}

// DataConns is how many data connections were made.
func (p *Proxy) DataConns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dataSeen
}

// ResetRecord forgets Commands, Rounds, Sessions, DataConns and Dialog; rules stay.
func (p *Proxy) ResetRecord() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands, p.dialog, p.rounds, p.sessions, p.dataSeen = nil, nil, 0, 0, 0
}

// Dialog is what clients saw, for a failing test to print: "> command" and "< reply" lines, each with the
// number of its session.
func (p *Proxy) Dialog() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.dialog, "\n")
}

// recordCommand keeps a command and counts a round if it begins one.
func (p *Proxy) recordCommand(session int, line string, newRound bool) {
	if verb, _, found := strings.Cut(line, " "); found && (strings.EqualFold(verb, "PASS") || strings.EqualFold(verb, "ACCT")) {
		line = verb + " ***"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = append(p.commands, line)
	p.dialog = append(p.dialog, fmt.Sprintf("%d > %s", session, line))
	if newRound {
		p.rounds++
	}
}

func (p *Proxy) recordReply(session int, reply string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialog = append(p.dialog, fmt.Sprintf("%d < %s", session, strings.TrimRight(reply, "\r\n")))
}

// commandPattern compiles a pattern of On: it matches from the start of a line, and ends at a word's end.
func commandPattern(pattern string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(?:` + pattern + `)(?:\s|$)`)
}

// reset closes a connection so that its peer gets RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
