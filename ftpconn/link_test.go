package ftpconn

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// pipeLink is a link whose other end the test holds.
func pipeLink(t *testing.T) (*link, net.Conn) {
	ours, theirs := net.Pipe()
	l := newLink(ours, "1", time.Second, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { l.fail(io.EOF); theirs.Close() })
	return l, theirs
}

func TestReadReply(t *testing.T) {
	for _, c := range []struct{ name, wire, text string }{
		{"one line", "220 ready\r\n", "220 ready"},
		{"no text", "200\r\n", "200 "},
		{"bare LF", "200 ok\n", "200 ok"},
		{"many lines", "211-Features:\r\n EPSV\r\n211 End\r\n", "211 Features:\n EPSV\nEnd"},
		{"other digits inside", "220-hi\r\n226 not yet\r\n220 done\r\n", "220 hi\n226 not yet\ndone"},
		{"the code on each line", "211-Features:\r\n211-EPSV\r\n211 End\r\n", "211 Features:\n EPSV\nEnd"},
		{"a number that only begins alike", "220-a\r\n2200 x\r\n220 b\r\n", "220 a\n2200 x\nb"},
		{"empty lines inside", "230-a\r\n\r\n230 b\r\n", "230 a\n\nb"},
	} {
		l, server := pipeLink(t)
		go io.WriteString(server, c.wire)
		r, err := l.readReply()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		code, text, _ := strings.Cut(c.text, " ")
		if r.wire(r.code)[:3] != code || r.text() != text {
			t.Errorf("%s: %d %q", c.name, r.code, r.text())
		}
	}
	for _, wire := range []string{"hello\r\n", "SSH-2.0-x\r\n", "99 x\r\n", "600 x\r\n", strings.Repeat("2", 9000) + "\r\n"} {
		l, server := pipeLink(t)
		go io.WriteString(server, wire)
		if r, err := l.readReply(); err == nil {
			t.Errorf("%.20q was taken for %d", wire, r.code)
		}
	}
}

// TestDispatch has replies come in the forms that servers give to a transfer and the commands
// behind it.
func TestDispatch(t *testing.T) {
	for _, c := range []struct{ name, wire, transfer, next string }{
		{"by the book", "150 a\r\n226 b\r\n200 n\r\n", "150 226", "200"},
		{"a marker between", "150 a\r\n110 MARK 1 = 2\r\n226 b\r\n200 n\r\n", "150 226", "200"},
		{"confirmed twice", "125 a\r\n226 b\r\n226 c\r\n200 n\r\n", "125 226", "200"},
		{"no 1yz", "226 b\r\n200 n\r\n", "226", "200"},
		{"refused", "550 b\r\n200 n\r\n", "550", "200"},
		{"250 at the end", "150 a\r\n250 b\r\n200 n\r\n", "150 250", "200"},
	} {
		l, server := pipeLink(t)
		go io.Copy(io.Discard, server)
		xfer, next := newCall("RETR x"), newCall("NOOP")
		xfer.transfer = true
		if err := l.send([]*call{xfer, next}, []string{"RETR x", "NOOP"}); err != nil {
			t.Fatal(err)
		}
		l.start()
		go io.WriteString(server, c.wire)
		var got []string
		for {
			r, err := l.wait(t.Context(), xfer, 0)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got = append(got, r.wire(r.code)[:3])
			if r.class() != 1 {
				break
			}
		}
		if strings.Join(got, " ") != c.transfer {
			t.Errorf("%s: the transfer got %v", c.name, got)
		}
		if r, err := l.wait(t.Context(), next, 0); err != nil || r.wire(r.code)[:3] != c.next {
			t.Errorf("%s: the next command got %v, %v", c.name, r, err)
		}
	}
}

// An aborted transfer ends with the next reply: Pure-FTPd 1.0.50 gives it the code 150.
func TestAbortedTransferEndsWithAnyReply(t *testing.T) {
	l, server := pipeLink(t)
	go io.Copy(io.Discard, server)
	xfer := newCall("RETR x")
	xfer.transfer = true
	l.send([]*call{xfer}, []string{"RETR x"})
	l.start()
	io.WriteString(server, "150 go\r\n")
	l.wait(t.Context(), xfer, 0)
	l.settleAny(xfer)
	io.WriteString(server, "150 0.001 seconds (measured here)\r\n")
	if r, err := l.wait(t.Context(), xfer, 0); err != nil || r.code != 150 {
		t.Errorf("%v, %v", r, err)
	}
	next := newCall("NOOP")
	l.send([]*call{next}, []string{"NOOP"})
	io.WriteString(server, "200 ok\r\n")
	if r, err := l.wait(t.Context(), next, 0); err != nil || r.code != 200 {
		t.Errorf("next: %v, %v", r, err)
	}
}

func TestSilenceBreaksTheLink(t *testing.T) {
	l, server := pipeLink(t)
	go io.Copy(io.Discard, server)
	l.start()
	asked := newCall("NOOP")
	l.send([]*call{asked}, []string{"NOOP"})
	_, err := l.wait(t.Context(), asked, 20*time.Millisecond)
	if !IsLost(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	if err := l.send([]*call{newCall("NOOP")}, []string{"NOOP"}); err == nil {
		t.Error("a broken link still takes commands")
	}
}

func TestPasswordsAreRedacted(t *testing.T) {
	for cmd, want := range map[string]string{"PASS secret": "PASS ***", "pass s e": "pass ***", "ACCT x": "ACCT ***", "USER x": "USER x", "NOOP": "NOOP"} {
		if got := redact(cmd); got != want {
			t.Errorf("%s: %s", cmd, got)
		}
	}
}

// pyftpdlib 1.5.7 connects before it replies to EPRT, and meanwhile does what comes behind it, and replies to that.
func TestNothingIsSentBehindAnOpenEPRT(t *testing.T) {
	l, server := pipeLink(t)
	l.portsFirst.Store(true)
	l.start()
	lines := make(chan string, 4)
	go func() {
		for b := bufio.NewReader(server); ; {
			line, err := b.ReadString('\n')
			if err != nil {
				close(lines)
				return
			}
			lines <- strings.TrimSpace(line)
		}
	}()
	send := func(cmd string) *call {
		c := newCall(cmd)
		if err := l.send([]*call{c}, []string{cmd}); err != nil {
			t.Error(err)
		}
		return c
	}
	port := send("EPRT |1|127.0.0.1|1|")
	if got := <-lines; got != "EPRT |1|127.0.0.1|1|" {
		t.Fatalf("sent %q", got)
	}
	sent := make(chan *call)
	go func() { sent <- send("NOOP") }()
	select {
	case got := <-lines:
		t.Errorf("%q was sent before the reply", got)
	case <-time.After(50 * time.Millisecond):
	}
	io.WriteString(server, "425 no\r\n")
	if got := <-lines; got != "NOOP" {
		t.Errorf("sent %q", got)
	}
	noop := <-sent
	io.WriteString(server, "200 ok\r\n")
	for c, want := range map[*call]int{port: 425, noop: 200} {
		if r, err := l.wait(t.Context(), c, 0); err != nil || r.code != want {
			t.Errorf("%s: %d %v, want %d", c.cmd, r.code, err, want)
		}
	}
	// Nor does one that never comes hold anybody up for longer than the connection lives.
	send("PORT 127,0,0,1,0,1")
	<-lines
	go l.fail(io.EOF)
	if err := l.send([]*call{newCall("NOOP")}, []string{"NOOP"}); err == nil {
		t.Error("sent behind the end")
	}
}
