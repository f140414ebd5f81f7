package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The process that the user starts never serves: it reads what it was given, asks for what is
// missing, and starts the program anew with a command line and an environment that have no secret in
// them. The settings follow through a pipe, which is empty once they are read. In the foreground the new
// program takes the process over; in the background it is a child in a session of its own, which says
// through a second pipe whether the mount answers.

// stageEnv tells a process that it is the serving one: "SETTINGS" or "SETTINGS,REPORT", two descriptors.
const stageEnv = "FTPFS_STAGE"

// reportOK is what comes through the report pipe when the mount answers; anything else is an error's text.
const reportOK = "\x06"

// maxSettings is what fits into a pipe without a reader, in bytes.
const maxSettings = 60 << 10

// launch starts the serving process and returns when the mount answers. In the foreground it
// returns only if that fails.
func launch(s settings) error {
	r, err := settingsPipe(s)
	if err != nil {
		return err
	}
	defer r.Close()
	if s.Foreground {
		return takeOver(s, r)
	}
	return spawn(s, r)
}

func settingsPipe(s settings) (*os.File, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return nil, err
	}
	if b.Len() > maxSettings {
		return nil, errors.New("the options are too long")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, err := w.Write(b.Bytes()); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// serveArgs is the command line of the serving process, for ps to show.
func serveArgs(s settings) []string {
	args := []string{filepath.Base(os.Args[0])}
	if s.Foreground {
		args = append(args, "-f")
	}
	return append(append(args, s.Args...), s.Source, s.Mountpoint)
}

// serveEnv is the environment of the serving process.
func serveEnv(stage string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, passwordEnv+"=") && !strings.HasPrefix(e, stageEnv+"=") {
			env = append(env, e)
		}
	}
	return append(env, stageEnv+"="+stage)
}

func takeOver(s settings, r *os.File) error {
	fd := int(r.Fd()) // makes it blocking, as the new program expects
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return err
	}
	return fmt.Errorf("starting anew: %w", syscall.Exec("/proc/self/exe", serveArgs(s), serveEnv(strconv.Itoa(fd))))
}

func spawn(s settings, r *os.File) error {
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reportR.Close()
	defer reportW.Close()
	child := exec.Command("/proc/self/exe")
	child.Args = serveArgs(s)
	child.Env = serveEnv("3,4")
	child.ExtraFiles = []*os.File{r, reportW}
	child.Stderr = os.Stderr // until the mount answers: fusermount3 explains itself there
	child.Dir = "/"
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	// The child doesn't get a Ctrl-C of this terminal: it is told.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupted)
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting the serving process: %w", err)
	}
	reportW.Close()
	report := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(reportR)
		report <- string(text)
	}()
	for {
		select {
		case <-interrupted:
			_ = child.Process.Signal(syscall.SIGTERM)
		case text := <-report:
			return readReport(text, child)
		}
	}
}

func readReport(text string, child *exec.Cmd) error {
	switch text {
	case reportOK:
		return child.Process.Release()
	case "":
		err := child.Wait()
		if err == nil {
			return errors.New("the serving process ended before the mount was there")
		}
		return fmt.Errorf("the serving process ended before the mount was there: %w", err)
	}
	_ = child.Wait() // so that nothing of it is left when we return
	return errors.New(text)
}

// stage is the serving process's view of how it was started.
type stage struct {
	settings settings
	report   *os.File // nil in the foreground
}

// inheritedStage reads the settings if this is the serving process; ok is false in the one that the user started.
func inheritedStage() (st stage, ok bool, err error) {
	v, ok := os.LookupEnv(stageEnv)
	if !ok {
		return stage{}, false, nil
	}
	os.Unsetenv(stageEnv)
	in, out, hasReport := strings.Cut(v, ",")
	fd, err := strconv.Atoi(in)
	if err != nil {
		return stage{}, false, nil // someone else's variable
	}
	if hasReport {
		n, err := strconv.Atoi(out)
		if err != nil {
			return stage{}, false, nil
		}
		unix.CloseOnExec(n)
		st.report = os.NewFile(uintptr(n), "report")
	}
	unix.CloseOnExec(fd)
	r := os.NewFile(uintptr(fd), "settings")
	if r == nil {
		return stage{}, false, nil
	}
	defer r.Close()
	if err := gob.NewDecoder(r).Decode(&st.settings); err != nil {
		return stage{}, false, fmt.Errorf("%s is set, but the settings can't be read (unset it): %w", stageEnv, err)
	}
	return st, true, nil
}

// ready tells the process that the user started that the mount answers. An error means that nobody is there any more.
func (st *stage) ready() error {
	if st.report == nil {
		return nil
	}
	_, err := io.WriteString(st.report, reportOK)
	err = errors.Join(err, st.report.Close())
	st.report = nil
	return err
}

// fail hands err to the process that the user started, and is false if it isn't waiting for one.
func (st *stage) fail(err error) bool {
	if st.report == nil {
		return false
	}
	_, writeErr := io.WriteString(st.report, err.Error())
	st.report.Close()
	st.report = nil
	return writeErr == nil
}
