package ftptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long a server may take to listen: pyftpdlib needs half a second of an idle
// machine, and tests share theirs.
const startTimeout = 2 * time.Minute

// supervise runs "$@" in a process group of its own and kills the group when its input ends,
// which it does in whatever way the test process ends. (PR_SET_PDEATHSIG doesn't do: a process
// that changes its user, as all servers do, loses it.)
const supervise = `exec 3<&0
"$@" 3<&- </dev/null &
server=$!
(read -r end <&3; kill -KILL 0) &
exec 3<&-
wait $server
status=$?
kill $!
exit $status`

// process is a server as a child process. Its methods are called from one goroutine at a time.
type process struct {
	argv  []string
	env   []string // added to the environment
	port  int
	files string // directory that has the log files, *.log

	cmd   *exec.Cmd // nil: not running
	stdin interface{ Close() error }
	done  chan struct{} // closed when cmd has ended
}

func (p *process) start() error {
	out, err := os.OpenFile(filepath.Join(p.files, "out.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", supervise, "ftptest"}, p.argv...)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Dir = p.files
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		stdin.Close()
		return err
	}
	p.cmd, p.stdin, p.done = cmd, stdin, make(chan struct{})
	go func(done chan struct{}) {
		cmd.Wait()
		close(done)
	}(p.done)

	deadline := time.Now().Add(startTimeout)
	for !listening(p.port) {
		select {
		case <-p.done:
			err := fmt.Errorf("%s ended at once: %v", p.argv[0], p.cmd.ProcessState)
			p.stop()
			return err
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.stop()
			return fmt.Errorf("%s doesn't listen on port %d after %v", p.argv[0], p.port, startTimeout)
		}
	}
	return nil
}

// stop kills the server and every process it started, and waits until they are gone.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	pid := p.cmd.Process.Pid
	// Sessions may have left the process group; found while their parents live.
	rest := descendants(pid)
	syscall.Kill(-pid, syscall.SIGKILL)
	killAll(rest)
	<-p.done
	p.stdin.Close()
	p.cmd = nil
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if !anyAlive(rest) && !listening(p.port) {
			return
		}
	}
}

// drop kills the sessions: all processes below the server's first.
func (p *process) drop() {
	if p.cmd == nil {
		return
	}
	var sessions []int
	for _, child := range children()[p.cmd.Process.Pid] {
		sessions = append(sessions, descendants(child)...) // child is the server, or the supervisor's shell that waits for the end
	}
	killAll(sessions)
	for deadline := time.Now().Add(5 * time.Second); anyAlive(sessions) && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
}

// log is all log files, one after the other.
func (p *process) log() string {
	names, _ := filepath.Glob(filepath.Join(p.files, "*.log"))
	var b strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil || len(data) == 0 {
			continue
		}
		fmt.Fprintf(&b, "== %s\n%s", filepath.Base(name), data)
	}
	return b.String()
}

// children maps each process to its children, now.
func children() map[int][]int {
	m := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if _, ppid, ok := readStat(pid); ok {
			m[ppid] = append(m[ppid], pid)
		}
	}
	return m
}

// descendants are the processes below pid, children before grandchildren.
func descendants(pid int) []int {
	m := children()
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, m[queue[0]]...)
		queue = append(queue, m[queue[0]]...)
	}
	return all
}

func killAll(pids []int) {
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// anyAlive says whether one of pids still runs; a zombie has nothing open and doesn't count.
func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if state, _, ok := readStat(pid); ok && state != "Z" && state != "X" {
			return true
		}
	}
	return false
}

// readStat reads state and parent of a process: what follows the name, which is in parentheses and
// may have any character (proc_pid_stat(5)).
func readStat(pid int) (state string, ppid int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	_, rest, ok := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return "", 0, false
	}
	ppid, err = strconv.Atoi(fields[1])
	return fields[0], ppid, err == nil
}
