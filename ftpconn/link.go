package ftpconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxReplyLine  = 8 << 10 // bytes; a fact line with a 255 byte name needs less than 1 KiB
	maxReplyLines = 10_000  // lines of one reply that is kept
)

// reply is one complete reply: RFC 959 section 4.2.
type reply struct {
	code  int
	lines []string // without code and separator on the first and last line; inner lines whole
}

func (r reply) text() string { return strings.Join(r.lines, "\n") }

func (r reply) class() int { return r.code / 100 }

// wire is the reply as a server sends it, under another code.
func (r reply) wire(code int) string {
	if len(r.lines) <= 1 {
		return fmt.Sprintf("%03d %s\r\n", code, r.text())
	}
	last := len(r.lines) - 1
	return fmt.Sprintf("%03d-%s\r\n%03d %s\r\n", code, strings.Join(r.lines[:last], "\r\n"), code, r.lines[last])
}

// call is one command that was sent and whose replies are awaited.
type call struct {
	cmd      string // as it may be logged
	transfer bool   // a 1yz reply comes before the final one
	replies  chan reply
	onFinal  func(reply)   // called by the reader before the final reply is handed on; must not block
	onLine   func(string)  // takes the inner lines of a 2yz reply, by the reader, in place of reply.lines
	moved    atomic.Int64  // lines given to onLine: a long reply that goes on is not silence
	over     chan struct{} // closed when the final reply has come; nil if nothing waits for that

	// Guarded by link.mu.
	begun    bool // a 1yz reply was handed on
	anyFinal bool // the transfer was aborted: the next reply ends it, whatever its code
}

func newCall(cmd string) *call { return &call{cmd: cmd, replies: make(chan reply, 2)} }

func newCalls(lines []string) []*call {
	calls := make([]*call, len(lines))
	for i, line := range lines {
		calls[i] = newCall(redact(line))
	}
	return calls
}

// link is a control connection. Commands are answered in the order in which they were sent, so
// each is a call in a queue, and one goroutine reads the replies and hands them to the head.
// send may be used by several goroutines; a call is awaited by one.
type link struct {
	// constant
	conn    net.Conn
	br      *bufio.Reader
	timeout time.Duration
	log     *slog.Logger
	id      string
	done    chan struct{} // closed when the link is broken or closed

	heard  atomic.Int64 // when the last reply came, Unix nanoseconds
	inside atomic.Bool  // logged in
	telnet atomic.Bool  // the server heeds Telnet commands: a byte 0xFF is sent twice (RFC 854)

	forgetful atomic.Bool // what the server did not find it may miss for a while: denied tells what
	denied    denied

	// portsFirst: the server replies to EPRT and PORT when it has connected, and to what comes behind them before that (pyftpdlib 1.5.7).
	portsFirst atomic.Bool

	wmu  sync.Mutex // orders writes with the queue
	port *call      // such an EPRT or PORT, behind which nothing may be sent yet; guarded by wmu

	mu        sync.Mutex // guards the following
	queue     []*call
	err       error       // why done is closed
	lastFinal bool        // the reply before was the final one of a transfer: a second 226 is dropped
	onNotice  func(reply) // called by the reader for replies to nothing and for 421
}

func newLink(conn net.Conn, id string, timeout time.Duration, log *slog.Logger) *link {
	l := &link{conn: conn, br: bufio.NewReaderSize(conn, maxReplyLine), timeout: timeout, log: log, id: id, done: make(chan struct{})}
	l.heard.Store(time.Now().UnixNano())
	return l
}

// start begins to read replies; before it, readReply is called directly.
func (l *link) start() { go l.readLoop() }

func (l *link) readLoop() {
	for {
		r, err := l.readReply()
		if err != nil {
			l.fail(fmt.Errorf("%w: %w", ErrConnLost, err))
			return
		}
		l.heard.Store(time.Now().UnixNano())
		if l.inside.Load() && isOops(r.code, r.text()) {
			r.code = 421
		}
		l.dispatch(r)
	}
}

func (l *link) dispatch(r reply) {
	l.mu.Lock()
	if r.code == 226 && l.lastFinal && (len(l.queue) == 0 || !l.queue[0].transfer) {
		l.mu.Unlock() // some servers confirm twice
		return
	}
	if len(l.queue) == 0 {
		notice := l.onNotice
		l.mu.Unlock()
		if notice != nil {
			notice(r)
		}
		return
	}
	c := l.queue[0]
	if r.class() == 1 && !c.anyFinal {
		first := c.transfer && !c.begun
		c.begun = true
		l.mu.Unlock()
		if first {
			c.replies <- r
		}
		return
	}
	l.queue = l.queue[1:]
	l.lastFinal = c.transfer
	notice := l.onNotice
	l.mu.Unlock()
	if r.code == 421 && notice != nil {
		notice(r) // whatever the command was
	}
	if l.forgetful.Load() {
		l.denied.note(c.cmd, r)
	}
	if c.onFinal != nil {
		c.onFinal(r)
	}
	c.replies <- r
	if c.over != nil {
		close(c.over)
	}
}

// send writes the commands in one packet and queues a call for each.
func (l *link) send(calls []*call, lines []string) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if l.port != nil {
		select {
		case <-l.port.over:
		case <-l.done:
		}
		l.port = nil
	}
	if last := calls[len(calls)-1]; l.portsFirst.Load() && (strings.HasPrefix(last.cmd, "EPRT ") || strings.HasPrefix(last.cmd, "PORT ")) {
		last.over = make(chan struct{})
		l.port = last
	}
	if l.forgetful.Load() {
		if first := l.denied.again(lines); len(first) > 0 { // their replies are for nobody
			calls, lines = append(newCalls(first), calls...), append(first, lines...)
		}
	}
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	l.queue = append(l.queue, calls...)
	l.mu.Unlock()
	for _, c := range calls {
		l.log.Debug("ftp >", "session", l.id, "command", c.cmd)
	}
	l.conn.SetWriteDeadline(time.Now().Add(l.timeout))
	text := strings.Join(lines, "\r\n") + "\r\n"
	if l.telnet.Load() {
		text = strings.ReplaceAll(text, "\xff", "\xff\xff")
	}
	if _, err := io.WriteString(l.conn, text); err != nil {
		err = fmt.Errorf("%w: %w", ErrConnLost, err)
		l.fail(err)
		return err
	}
	return nil
}

// wait gives the next reply of c. The time limit is the link's, and running into it breaks the
// link; the end of ctx doesn't, but leaves the reply unread.
func (l *link) wait(ctx context.Context, c *call, limit time.Duration) (reply, error) {
	select { // a reply that came is worth more than the end of the connection behind it
	case r := <-c.replies:
		return r, nil
	default:
	}
	if limit <= 0 {
		limit = l.timeout
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	for moved := int64(0); ; {
		select {
		case r := <-c.replies:
			return r, nil
		case <-l.done:
			select {
			case r := <-c.replies:
				return r, nil
			default:
			}
			return reply{}, l.error()
		case <-ctx.Done():
			return reply{}, ctx.Err()
		case <-t.C:
			if now := c.moved.Load(); now != moved {
				moved = now
				t.Reset(limit)
				continue
			}
			err := fmt.Errorf("%w: no reply to %s within %v", errReplyTimeout, c.cmd, limit)
			l.fail(err)
			return reply{}, err
		}
	}
}

// errReplyTimeout is a lost connection that satisfies net.Error's Timeout.
var errReplyTimeout error = &timeoutError{}

type timeoutError struct{}

func (*timeoutError) Error() string   { return "the server is silent" }
func (*timeoutError) Timeout() bool   { return true }
func (*timeoutError) Temporary() bool { return true }
func (*timeoutError) Is(target error) bool {
	return target == ErrConnLost || target == context.DeadlineExceeded
}

// fail breaks the link; the first error stays.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
		close(l.done)
		l.log.Debug("ftp control connection ended", "session", l.id, "reason", err)
	}
	l.mu.Unlock()
	l.conn.Close()
}

func (l *link) error() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// settleAny makes the next reply of c, whatever its code, the one that ends it: a transfer that
// is aborted by its data connection is answered with 426, 226, 451 or, by Pure-FTPd 1.0.50,
// with 150.
func (l *link) settleAny(c *call) {
	l.mu.Lock()
	c.anyFinal = true
	l.mu.Unlock()
}

// readReply reads one reply: RFC 959 section 4.2, with the deviations seen in the field: inner
// lines may carry the code, other digits or nothing.
func (l *link) readReply() (reply, error) {
	first, err := l.readLine()
	if err != nil {
		return reply{}, err
	}
	code, ok := replyCode(first)
	if !ok {
		return reply{}, fmt.Errorf("what came is not an FTP reply: %.80q", first)
	}
	r := reply{code: code, lines: []string{strings.TrimPrefix(first[3:], " ")}}
	if len(first) > 3 && first[3] == '-' {
		r.lines[0] = first[4:]
		taker := l.taker(code)
		for n := 1; ; n++ {
			line, err := l.readLine()
			if err != nil {
				return reply{}, err
			}
			if c, ok := replyCode(line); ok && c == code && (len(line) == 3 || line[3] == ' ') {
				r.lines = append(r.lines, strings.TrimPrefix(line[3:], " "))
				break
			}
			if taker != nil {
				taker.moved.Add(1)
				taker.onLine(line)
				continue
			}
			if n >= maxReplyLines {
				return reply{}, errors.New("a reply has no end")
			}
			if c, ok := replyCode(line); ok && c == code && line[3] == '-' { // ProFTPD 1.3.6, inetutils
				line = " " + strings.TrimPrefix(line[4:], " ")
			}
			r.lines = append(r.lines, line)
		}
	}
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("ftp <", "session", l.id, "code", r.code, "text", r.text())
	}
	return r, nil
}

// taker is the call that takes the inner lines of the reply being read.
func (l *link) taker(code int) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 && l.queue[0].onLine != nil && code/100 == 2 {
		return l.queue[0]
	}
	return nil
}

func (l *link) readLine() (string, error) {
	b, err := l.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a reply line is longer than %d bytes", maxReplyLine)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// isOops says that a reply is the last word of a vsftpd process that dies, of whatever cause (bug() in utility.c), and no
// answer to the command before it.
func isOops(code int, text string) bool { return code == 500 && strings.HasPrefix(text, "OOPS: ") }

func replyCode(line string) (int, bool) {
	if len(line) < 3 || (len(line) > 3 && line[3] != ' ' && line[3] != '-') {
		return 0, false
	}
	n := 0
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n >= 100 && n < 600
}
