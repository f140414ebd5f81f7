package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"
)

// libConn is the control connection as the FTP library sees it: each command is one or more
// Writes that end in CRLF, each reply what Read then gives. Some commands are answered from here:
//
//   - EPSV, because the data connection is made by Conn before the library is called;
//   - REST, CWD and RNFR, which are sent in one packet with the command they belong to; a refusal of
//     one becomes the reply to that command;
//   - the 150 of an upload whose data connection stands already, so that the data can go at once.
//
// Codes are brought to the ones the library insists on. Used by the goroutine that holds the Conn.
type libConn struct {
	c    *Conn
	in   []byte // a command that has not ended yet
	out  []byte // what the library has still to read
	next func() (string, error)

	deferred []string             // commands that wait for the one they belong to
	presend  []*call              // commands of the log-in dialogue that were sent ahead
	instead  string               // sent in place of the next RETR
	first    string               // sent before the next RETR, for its own sake: no refusal of the RETR's
	stamp    *call                // that
	data     *dataConn            // for the next transfer
	xfer     atomic.Pointer[call] // the running transfer
	main     *call                // the last transfer command
	size     *call                // the SIZE behind it, nil if none was sent
	refused  *ReplyError          // the last refusal that was handed to the library
}

func (lc *libConn) Write(p []byte) (int, error) {
	lc.in = append(lc.in, p...)
	for {
		i := strings.Index(string(lc.in), "\r\n")
		if i < 0 {
			return len(p), nil
		}
		cmd := string(lc.in[:i])
		lc.in = lc.in[i+2:]
		if err := lc.command(cmd); err != nil {
			return 0, err
		}
	}
}

func (lc *libConn) Read(p []byte) (int, error) {
	if len(lc.out) == 0 {
		if lc.next == nil {
			return 0, errors.New("the library reads a reply to nothing")
		}
		s, err := lc.next()
		if err != nil {
			return 0, err
		}
		lc.out = []byte(s)
	}
	n := copy(p, lc.out)
	lc.out = lc.out[n:]
	return n, nil
}

// answer makes text the reply that the library reads next.
func (lc *libConn) answer(text string) error {
	lc.next = func() (string, error) { return text + "\r\n", nil }
	return nil
}

func (lc *libConn) command(cmd string) error {
	verb, arg, _ := strings.Cut(cmd, " ")
	pipeline := lc.c.site.pipelines()
	switch verb {
	case "EPSV", "PASV":
		return lc.answer("229 made already (|||1|)")
	case "PRET":
		return lc.answer("200 not needed")
	case "FEAT":
		if text := lc.c.site.featReply(); text != "" {
			return lc.answer(strings.TrimSuffix(text, "\r\n"))
		}
	case "REST", "RNFR":
		if pipeline {
			lc.deferred = append(lc.deferred, cmd)
			return lc.answer("350 deferred")
		}
	case "CWD":
		if pipeline {
			lc.deferred = append(lc.deferred, cmd)
			return lc.answer("250 deferred")
		}
	case "RETR":
		if lc.instead != "" {
			cmd, lc.instead = lc.instead, ""
		}
		return lc.transfer(cmd, false)
	case "STOR", "APPE":
		return lc.transfer(cmd, lc.c.optimistic())
	}
	if len(lc.presend) > 0 && lc.presend[0].cmd == redact(cmd) {
		c := lc.presend[0]
		lc.presend = lc.presend[1:]
		lc.next = func() (string, error) { return lc.finalOf(verb, arg, c, nil) }
		return nil
	}
	lines := append(lc.deferred, cmd)
	lc.deferred = nil
	calls := newCalls(lines)
	lc.next = func() (string, error) { return lc.finalOf(verb, arg, calls[len(calls)-1], calls[:len(calls)-1]) }
	return lc.c.l.send(calls, lines)
}

// finalOf waits for the final reply of a command without data.
func (lc *libConn) finalOf(verb, arg string, main *call, before []*call) (string, error) {
	refusal, err := lc.settle(before)
	if err != nil {
		return "", err
	}
	r, err := lc.c.l.wait(lc.c.ctx, main, 0)
	if err != nil {
		return "", err
	}
	if verb == "PASS" && r.code == 332 || verb == "USER" && r.code == 332 {
		if lc.c.site.cfg.Account == "" {
			return lc.refuse(main, r, ""), nil
		}
		if r, err = lc.c.raw(lc.c.ctx, "ACCT "+lc.c.site.cfg.Account); err != nil {
			return "", err
		}
	}
	if verb == "FEAT" && r.class() == 2 {
		lc.c.site.setFeat(r)
		return lc.c.site.featReply(), nil
	}
	if refusal != nil {
		return lc.refuse(refusal.call, refusal.reply, argOf(refusal.call.cmd)), nil
	}
	if r.class() >= 4 && !tolerated(verb, r) {
		return lc.refuse(main, r, arg), nil
	}
	return r.wire(normalCode(verb, r)), nil
}

type refusal struct {
	call  *call
	reply reply
}

// settle reads the replies of commands sent ahead of another; the first refusal counts.
func (lc *libConn) settle(before []*call) (*refusal, error) {
	var first *refusal
	for _, c := range before {
		r, err := lc.c.l.wait(lc.c.ctx, c, 0)
		if err != nil {
			return nil, err
		}
		if r.class() >= 4 && first == nil {
			first = &refusal{c, r}
		}
	}
	return first, nil
}

// refuse hands a refusal to the library and remembers it with its command.
func (lc *libConn) refuse(c *call, r reply, arg string) string {
	lc.refused = refusalOf(c.cmd, r, arg)
	return r.wire(max(r.code, 400))
}

// transfer sends a command that moves data over lc.data. With ahead the library is told 150 at
// once.
func (lc *libConn) transfer(cmd string, ahead bool) error {
	d := lc.data
	if d == nil {
		return errors.New("a transfer without a data connection")
	}
	ahead = ahead && len(lc.deferred) == 0
	lines := append(lc.deferred, cmd)
	lc.deferred = nil
	calls := newCalls(lines)
	before, main := calls[:len(calls)-1], calls[len(calls)-1]
	if lc.first != "" {
		lc.stamp = newCall(lc.first)
		lines, calls = append([]string{lc.first}, lines...), append([]*call{lc.stamp}, calls...)
		lc.first = ""
	}
	main.transfer = true
	over := make(chan struct{})
	main.onFinal = func(r reply) {
		close(over)
		if r.class() >= 4 {
			d.interrupt(fmt.Errorf("%w: %w", errRefusedTransfer, refusalOf(main.cmd, r, argOf(cmd))))
		}
	}
	if size := lc.c.sizeCommand(cmd); size != "" {
		lc.size = newCall(size)
		lines, calls = append(lines, size), append(calls, lc.size)
	}
	next, nextData := lc.c.queueNext()
	if nextData != nil {
		lines = append(lines, next)
		calls = append(calls, newCall(next))
	}
	if err := lc.c.l.send(calls, lines); err != nil {
		return err
	}
	if nextData != nil {
		lc.c.await(nextData, calls[len(calls)-1], over)
	}
	lc.main = main
	lc.xfer.Store(main)
	arg := argOf(cmd)
	last := func() (string, error) {
		for {
			r, err := lc.c.l.wait(context.Background(), main, d.patience())
			if err != nil {
				return "", err
			}
			if r.class() == 1 && !main.settled(lc.c.l) {
				continue
			}
			return lc.lastReply(main, r, arg), nil
		}
	}
	if ahead {
		lc.next = func() (string, error) { lc.next = last; return "150 go ahead\r\n", nil }
		return nil
	}
	lc.next = func() (string, error) {
		ref, err := lc.settle(before)
		if err != nil {
			return "", err
		}
		r, err := lc.c.l.wait(lc.c.ctx, main, 0)
		if err != nil {
			return "", err
		}
		if ref != nil { // the command itself must not be believed
			if r.class() == 1 {
				lc.c.breakOff(d, main)
			}
			return lc.refuse(ref.call, ref.reply, argOf(ref.call.cmd)), nil
		}
		switch r.class() {
		case 1:
			lc.next = last
			return r.wire(150), nil
		case 2: // no 1yz before the end: seen with old servers and empty listings
			lc.next = func() (string, error) { return lc.lastReply(main, r, arg), nil }
			return "150 assumed\r\n", nil
		}
		return lc.refuse(main, r, arg), nil
	}
	return nil
}

var errRefusedTransfer = errors.New("the server refused the transfer")

// settled says that the transfer was aborted.
func (c *call) settled(l *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.anyFinal
}

// lastReply is the final reply of a transfer for the library.
func (lc *libConn) lastReply(c *call, r reply, arg string) string {
	lc.xfer.Store(nil)
	lc.c.lastText = r.text()
	if c.settled(lc.c.l) || r.class() == 2 {
		return r.wire(226)
	}
	return lc.refuse(c, r, arg)
}

func argOf(cmd string) string {
	_, arg, _ := strings.Cut(cmd, " ")
	return arg
}

// redact is a command as it may be seen in a log or an error.
func redact(cmd string) string {
	verb, _, found := strings.Cut(cmd, " ")
	if found && (strings.EqualFold(verb, "PASS") || strings.EqualFold(verb, "ACCT")) {
		return verb + " ***"
	}
	return cmd
}

// tolerated are refusals that the log-in goes on with.
func tolerated(verb string, r reply) bool { return r.code != 421 && (verb == "OPTS" || verb == "PBSZ") }

// normalCode is the code that the library expects of a success.
func normalCode(verb string, r reply) int {
	want := map[string]int{
		"DELE": 250, "RMD": 250, "CWD": 250, "RNTO": 250, "MKD": 257, "NOOP": 200, "TYPE": 200, "PBSZ": 200, "PROT": 200,
		"OPTS": 200, "PASS": 230, "SIZE": 213, "MDTM": 213, "MFMT": 213,
	}
	switch {
	case r.class() == 2 && verb == "USER":
		return 230
	case r.class() == 3 && verb == "RNFR", r.class() == 3 && verb == "REST":
		return 350
	case r.class() == 2 && want[verb] != 0, tolerated(verb, r):
		return want[verb]
	}
	return r.code
}

// failure is err of a library call as this package's error: the refusal with its command, or
// what happened to the connection.
func (lc *libConn) failure(err error) error {
	if err == nil {
		return nil
	}
	var te *textproto.Error
	if errors.As(err, &te) {
		if r := lc.refused; r != nil && max(r.Code, 400) == te.Code {
			return r
		}
		return &ReplyError{Command: "(library)", Code: te.Code, Text: te.Msg, Kind: classify(te.Code, te.Msg, "")}
	}
	if l := lc.c.l.error(); l != nil && !errors.Is(err, l) {
		return fmt.Errorf("%w (%w)", l, err)
	}
	return err
}

func (lc *libConn) Close() error                     { return nil }
func (lc *libConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (lc *libConn) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(lc.c.peer) }
func (lc *libConn) SetDeadline(time.Time) error      { return nil }
func (lc *libConn) SetReadDeadline(time.Time) error  { return nil }
func (lc *libConn) SetWriteDeadline(time.Time) error { return nil }
