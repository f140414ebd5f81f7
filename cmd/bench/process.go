package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server or the program behind a mount: it runs until it is stopped, and dies with this one.
type process struct {
	cmd  *exec.Cmd
	log  string        // file with its stdout and stderr
	done chan struct{} // closed when it has ended
}

// startProcess is to be called from the main goroutine (see main). ifAlone is what the process gets when this
// one dies without having stopped it.
func startProcess(argv, env []string, ifAlone syscall.Signal, log string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: Ctrl-C on the terminal is for this process, which then stops the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: ifAlone}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, log, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process and its group, and returns when it is gone.
func (p *process) kill() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // fails if all are gone
	<-p.done
}

// awaitEnd waits for the process to end by itself.
func (p *process) awaitEnd(patience time.Duration) error {
	select {
	case <-p.done:
	case <-time.After(patience):
		return fmt.Errorf("%s has not ended %v after its mount was taken away", p.cmd.Path, patience)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %v%s", p.cmd.Path, p.cmd.ProcessState, p.tail())
	}
	return nil
}

// tail is the end of the log, as the end of an error message.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" {
		return ""
	}
	const most = 500
	return ": " + strings.Join(strings.Fields(text[max(0, len(text)-most):]), " ")
}

// usage is what a process has used so far.
type usage struct {
	peak int64         // resident memory at most, bytes
	cpu  time.Duration // user and system, in steps of 10 ms
}

// clockTick is the unit of times in /proc/PID/stat, on every architecture that Go runs on.
const clockTick = time.Second / 100

// processUsage reads /proc (proc_pid_status(5), proc_pid_stat(5)).
func processUsage(pid int) (u usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return u, fmt.Errorf("VmHWM of process %d: %w", pid, err)
			}
			u.peak = kib << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the 3rd field first
	if len(fields) < 13 {
		return u, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	for _, field := range fields[11:13] { // utime and stime, the 14th and 15th
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	return u, nil
}

// tool runs a command to its end and says how long it took. Its output goes to out (nil: nowhere); what it
// wrote to stderr is in the error. The end of ctx kills it with all it started.
func tool(ctx context.Context, out io.Writer, env []string, argv ...string) (time.Duration, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "TZ=UTC"), env...)
	cmd.Stdout, cmd.Stderr = out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if ctx.Err() != nil {
		return took, context.Cause(ctx)
	}
	if err != nil {
		text := stderr.String()
		return took, fmt.Errorf("%s: %w: %s", argv[0], err, strings.Join(strings.Fields(text[:min(len(text), 500)]), " "))
	}
	return took, nil
}

// lineCounter counts lines.
type lineCounter int

func (c *lineCounter) Write(p []byte) (int, error) {
	*c += lineCounter(bytes.Count(p, []byte{'\n'}))
	return len(p), nil
}

var errTooLong = errors.New("took too long")
