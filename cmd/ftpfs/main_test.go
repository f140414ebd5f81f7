package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// beFtpfs makes the test's own binary the program, so that it runs with what the tests were built
// with (the race detector, too).
const beFtpfs = "FTPFS_TEST_BE_FTPFS"

func TestMain(m *testing.M) {
	if os.Getenv(beFtpfs) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// awkward has what shells, URLs and option lists treat specially.
const awkward = `p@s/s:w,%20#"'$\=ü `

// fixture is a server with files, a mountpoint, and the program.
type fixture struct {
	t      *testing.T
	server *demoServer
	site   string // the server's directory
	mnt    string
	home   string
	env    []string // beside the fixture's own
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	if err := checkFUSE(); err != nil {
		t.Skip("FUSE is needed to mount: ", err)
	}
	dir := t.TempDir()
	f := &fixture{t: t, site: filepath.Join(dir, "site"), mnt: filepath.Join(dir, "a mountpoint"), home: filepath.Join(dir, "home")}
	for _, d := range []string{f.site, f.mnt, f.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(f.site, "hello.txt"), "hello\n", 0o644)
	var err error
	if f.server, err = startDemoServer(f.site, awkward); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.server.Close)
	t.Cleanup(func() {
		if _, mounted, _ := findMount(f.mnt); mounted {
			t.Errorf("%s was left mounted", f.mnt)
			_ = unmount(f.mnt, true)
		}
		for _, pid := range f.processes() {
			t.Errorf("process %d was left behind", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		reports, _ := filepath.Glob(filepath.Join(f.home, "race.*"))
		for _, report := range reports {
			text, _ := os.ReadFile(report)
			t.Errorf("the race detector reports:\n%s", text)
		}
	})
	return f
}

// command is the program with arguments, under the name given.
func (f *fixture) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = name
	cmd.Env = append([]string{
		beFtpfs + "=1", "HOME=" + f.home, "XDG_CACHE_HOME=" + f.home, "PATH=" + os.Getenv("PATH"),
		"GORACE=atexit_sleep_ms=0 log_path=" + filepath.Join(f.home, "race"), // a background process has no stderr
	}, f.env...)
	return cmd
}

// run runs the program to its end and returns what it wrote and its exit code.
func (f *fixture) run(args ...string) (string, int) {
	f.t.Helper()
	return f.finish(f.command("ftpfs", args...))
}

func (f *fixture) finish(cmd *exec.Cmd) (string, int) {
	f.t.Helper()
	out, err := cmd.CombinedOutput() // ends when no process holds the pipe any more
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mount mounts in the background with the password in the environment.
func (f *fixture) mount(args ...string) {
	f.t.Helper()
	f.env = append(f.env, passwordEnv+"="+awkward)
	if out, code := f.run(append(args, f.server.URL(), f.mnt)...); code != exitOK || out != "" {
		f.t.Fatalf("exit code %d: %s", code, out)
	}
}

func (f *fixture) umount(args ...string) {
	f.t.Helper()
	if out, code := f.run(append([]string{"umount", f.mnt}, args...)...); code != exitOK || out != "" {
		f.t.Errorf("umount: exit code %d: %s", code, out)
	}
}

// urlWithPassword is the server's URL with everything in it.
func (f *fixture) urlWithPassword() string {
	return strings.Replace(f.server.URL(), "@", ":"+strings.ReplaceAll(url.QueryEscape(awkward), "+", "%20")+"@", 1)
}

// start runs the program in the foreground and returns when the mount answers. What it writes is complete when ended is closed.
func (f *fixture) start(args ...string) (cmd *exec.Cmd, out *bytes.Buffer, ended chan error) {
	f.t.Helper()
	cmd = f.command("ftpfs", append([]string{"-f"}, args...)...)
	out = new(bytes.Buffer)
	r, w, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	w.Close()
	mounted, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var b [4096]byte
		told := false
		for {
			n, err := r.Read(b[:])
			out.Write(b[:n])
			if !told && strings.Contains(out.String(), "msg=mounted") {
				told = true
				close(mounted)
			}
			if err != nil {
				r.Close()
				ended <- cmd.Wait()
				return
			}
		}
	}()
	select {
	case <-mounted:
	case err := <-ended:
		f.t.Fatalf("%v: %s", err, out)
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		f.t.Fatal("no mount after 30 s")
	}
	return cmd, out, ended
}

func (f *fixture) wantEnd(ended chan error, want bool) {
	f.t.Helper()
	select {
	case err := <-ended:
		if (err == nil) != want {
			f.t.Errorf("the process ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		f.t.Fatal("the process doesn't end")
	}
}

func (f *fixture) wantMounted(want bool) {
	f.t.Helper()
	if _, ok, err := findMount(f.mnt); err != nil || ok != want {
		f.t.Fatalf("mounted: %v (%v), want %v", ok, err, want)
	}
}

func (f *fixture) wantFile() {
	f.t.Helper()
	if text, err := os.ReadFile(filepath.Join(f.mnt, "hello.txt")); err != nil || string(text) != "hello\n" {
		f.t.Errorf("%q %v", text, err)
	}
}

// processes are those that have the mountpoint on their command line.
func (f *fixture) processes() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		cmdline, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		for arg := range bytes.SplitSeq(cmdline, []byte{0}) {
			if string(arg) == f.mnt {
				pid, _ := strconv.Atoi(filepath.Base(d))
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// wantNoSecret looks for the password, as it is and as URLs write it, wherever others could see it.
func (f *fixture) wantNoSecret(texts ...string) {
	f.t.Helper()
	pids := f.processes()
	if len(pids) != 1 {
		f.t.Errorf("%d processes serve the mount", len(pids))
	}
	files := []string{"/proc/self/mounts", "/proc/self/mountinfo"}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		files = append(files, dir+"/cmdline", dir+"/environ", dir+"/comm")
		// A pipe or memory file that still has it could be read again.
		fds, _ := filepath.Glob(dir + "/fd/*")
		for _, fd := range fds {
			if target, _ := os.Readlink(fd); strings.HasPrefix(target, "/memfd:") {
				f.t.Errorf("process %d has %s open", pid, target)
			}
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.t.Error(err)
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		for _, secret := range []string{awkward, "p@s/s", "p%40s%2Fs", passwordEnv} {
			if strings.Contains(text, secret) {
				f.t.Errorf("the password is in %q", text)
			}
		}
	}
}

// silentServer accepts connections and says nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() })
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	return l.Addr().String()
}
