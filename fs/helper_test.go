package fs

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// Some things can't be done to a mount by the process that serves it: a page fault blocks a thread that the Go
// runtime takes for a running one. Tests have another process do them: this binary, with the
// helper's name in the environment.
const helperEnv = "FTPFS_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var helpers = map[string]func(args []string) error{
	"mmap":  mmapWrite,
	"write": func(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) },
}

// helper returns a command that runs one of helpers.
func helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	cmd.Stderr = t.Output()
	return cmd
}

// mmapWrite maps a file, closes it, writes an X at an offset and unmaps it. With a third argument it opens it with O_APPEND.
func mmapWrite(args []string) error {
	flags := os.O_RDWR
	if len(args) > 2 {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(args[0], flags, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	off, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	m[off] = 'X'
	return syscall.Munmap(m)
}

// testLog is a log that goes to the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// forget has the kernel forget names and nodes, as it does when memory is short, until the returned function is called.
func forget(t testing.TB) (end func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can have the kernel forget")
	}
	stop := make(chan struct{})
	var forgetting sync.WaitGroup
	forgetting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0)
			}
		}
	})
	return func() {
		close(stop)
		forgetting.Wait()
	}
}
