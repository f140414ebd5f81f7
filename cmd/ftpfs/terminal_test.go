package main

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal: the side of the person, and that of the program.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// terminalRun is the program with a terminal of its own.
type terminalRun struct {
	t       *testing.T
	person  *os.File
	program *os.File
	seen    chan byte // what appears on the terminal
	text    bytes.Buffer
	ended   chan error
	code    func() int
}

func (f *fixture) atTerminal(args ...string) *terminalRun {
	f.t.Helper()
	r := &terminalRun{t: f.t, seen: make(chan byte, 64<<10), ended: make(chan error, 1)}
	r.person, r.program = openTerminal(f.t)
	cmd := f.command("ftpfs", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.program, r.program, r.program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	r.code = func() int { return cmd.ProcessState.ExitCode() }
	go func() { r.ended <- cmd.Wait() }()
	go func() {
		defer close(r.seen)
		var b [1]byte
		for {
			if _, err := io.ReadFull(r.person, b[:]); err != nil {
				return
			}
			r.seen <- b[0]
		}
	}()
	return r
}

// expect waits until the terminal shows want.
func (r *terminalRun) expect(want string) {
	r.t.Helper()
	timeout := time.After(30 * time.Second)
	for !strings.Contains(r.text.String(), want) {
		select {
		case c, ok := <-r.seen:
			if !ok {
				r.t.Fatalf("the terminal was closed before %q came: %q", want, r.text.String())
			}
			r.text.WriteByte(c)
		case <-timeout:
			r.t.Fatalf("no %q on the terminal: %q", want, r.text.String())
		}
	}
}

// enter types text. The program must have switched echo off before.
func (r *terminalRun) enter(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.person, text); err != nil {
		r.t.Fatal(err)
	}
}

func (r *terminalRun) wantCode(code int) {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		r.t.Fatal("the program doesn't end")
	}
	if got := r.code(); got != code {
		r.t.Errorf("exit code %d, want %d: %q", got, code, r.text.String())
	}
}

// waitForEcho returns when the terminal's echo is on or off as wanted.
func (r *terminalRun) waitForEcho(want bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := unix.IoctlGetTermios(int(r.program.Fd()), unix.TCGETS)
		if err != nil {
			r.t.Fatal(err)
		}
		if (state.Lflag&unix.ECHO != 0) == want {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("echo is not %v", want)
		}
	}
}

func TestPromptForThePassword(t *testing.T) {
	f := newFixture(t)
	r := f.atTerminal(f.server.URL(), f.mnt)
	r.expect("Password for demo at 127.0.0.1: ")
	r.waitForEcho(false)
	r.enter(awkward + "\n")
	r.wantCode(exitOK)
	r.waitForEcho(true)
	if strings.Contains(r.text.String(), "p@s") {
		t.Errorf("the password was echoed: %q", r.text.String())
	}
	f.wantFile()
	f.wantNoSecret()
	f.umount()
}

func TestInterruptedPromptGivesTheEchoBack(t *testing.T) {
	f := newFixture(t)
	r := f.atTerminal(f.server.URL(), f.mnt)
	r.expect("Password for")
	r.waitForEcho(false)
	r.enter("\x03") // Ctrl-C
	r.wantCode(exitFailure)
	r.waitForEcho(true)
	f.wantMounted(false)
}

func TestNoTerminalToAskAt(t *testing.T) {
	f := newFixture(t)
	cmd := f.command("ftpfs", f.server.URL(), f.mnt)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, code := f.finish(cmd); code != exitFailure || !strings.Contains(out, "password_file=FILE") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestDemoAtATerminalStaysUntilInterrupted(t *testing.T) {
	f := newFixture(t)
	r := f.atTerminal("demo", f.mnt)
	r.expect("stays mounted until Ctrl-C")
	r.expect("as FTP sees it")
	f.wantMounted(true)
	r.enter("\x03")
	r.wantCode(exitOK)
	f.wantMounted(false)
}

func TestDemoAtATerminalEndsWhenUnmounted(t *testing.T) {
	f := newFixture(t)
	r := f.atTerminal("demo", f.mnt)
	r.expect("as FTP sees it")
	f.umount()
	r.wantCode(exitOK)
}

// TestSignalThatComesTwiceIsOne sends a signal as timeout(1) does: to the process, and to its group.
func TestSignalThatComesTwiceIsOne(t *testing.T) {
	f := newFixture(t)
	cmd, out, ended := f.start(f.urlWithPassword(), f.mnt)
	file, err := os.Open(f.mnt + "/hello.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Process.Signal(syscall.SIGTERM) // two of one kind may arrive as one
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, mounted, _ := findMount(f.mnt); !mounted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still mounted")
		}
	}
	if _, err := io.ReadAll(file); err != nil {
		t.Errorf("reading on: %v", err)
	}
	file.Close()
	f.wantEnd(ended, true)
	if strings.Contains(out.String(), "second signal") {
		t.Errorf("%s", out)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	f := newFixture(t)
	cmd, out, ended := f.start(f.urlWithPassword(), f.mnt)
	file, err := os.Open(f.mnt + "/hello.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, mounted, _ := findMount(f.mnt); !mounted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still mounted")
		}
	}
	time.Sleep(sameSignal) // after the first, which came before
	_ = cmd.Process.Signal(syscall.SIGTERM)
	f.wantEnd(ended, false)
	if !strings.Contains(out.String(), "second signal") {
		t.Errorf("%s", out)
	}
}
