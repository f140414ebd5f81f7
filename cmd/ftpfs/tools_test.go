package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// toolLimit is how long one script of tools may take before it counts as hanging: far more than it needs
// on a loaded machine.
var toolLimit = func() time.Duration {
	if long() {
		return 15 * time.Minute
	}
	return 60 * time.Second
}()

// toolMount is the program with a mount of a server.
type toolMount struct {
	*fixture
	server  *ftptest.Server
	url     string
	options []string
	log     string // file with the whole conversation
}

// startServer starts a server whose umask makes files 0644: Pure-FTPd takes its umask off 0777.
func startServer(t *testing.T, kind ftptest.Kind, opt ftptest.Options) *ftptest.Server {
	t.Helper()
	if kind == ftptest.PureFTPd {
		opt.Extra = append(opt.Extra, "-U", "133:022")
	}
	return ftptest.Start(t, kind, opt)
}

// mountURL mounts url in the background until the test ends. Then it must unmount, leave no process and have
// written nothing to its spool directory that stays.
func mountURL(t *testing.T, server *ftptest.Server, url string, options ...string) *toolMount {
	t.Helper()
	if err := checkFUSE(); err != nil {
		ftptest.Unavailable(t, "FUSE is needed to mount: %v", err)
	}
	dir := t.TempDir()
	m := &toolMount{
		fixture: &fixture{t: t, mnt: filepath.Join(dir, "mnt"), home: filepath.Join(dir, "home")},
		server:  server,
		url:     url,
		options: options,
		log:     filepath.Join(dir, "log"),
	}
	for _, d := range []string{m.mnt, m.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.begin()
	t.Cleanup(func() {
		m.t = t
		m.end()
	})
	return m
}

// begin mounts, the first time or again: with what it remembers from before.
func (m *toolMount) begin() {
	m.t.Helper()
	args := []string{"--log_level=debug", "--log_file=" + m.log}
	for _, o := range m.options {
		args = append(args, "-o", o)
	}
	if out, code := m.run(append(args, m.url, m.mnt)...); code != exitOK || out != "" {
		m.t.Fatalf("mounting: exit code %d: %s\n%s", code, out, m.logFrom(0))
	}
}

// remount unmounts, and mounts again.
func (d *toolDir) remount() {
	d.t.Helper()
	before := d.m.t
	d.m.t = d.t
	defer func() { d.m.t = before }()
	d.m.end()
	d.m.begin()
}

// mountServer mounts the root of a server.
func mountServer(t *testing.T, server *ftptest.Server, options ...string) *toolMount {
	t.Helper()
	if server.CACert != "" {
		options = append(options, "cacert="+server.CACert)
	}
	return mountURL(t, server, server.URL(), options...)
}

// end unmounts if that was not done yet, and looks at what is left.
func (m *toolMount) end() {
	m.t.Helper()
	if _, mounted, _ := findMount(m.mnt); mounted {
		out, code := m.run("umount", m.mnt)
		// A process that another test just starts has copies of open files until it is what it is to be.
		for deadline := time.Now().Add(10 * time.Second); code != exitOK && strings.Contains(out, "is in use") && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
			out, code = m.run("umount", m.mnt)
		}
		if code != exitOK {
			m.t.Errorf("umount: exit code %d: %s", code, out)
			_ = unmount(m.mnt, true)
		}
	}
	left := m.processes()
	for deadline := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = m.processes() {
		time.Sleep(10 * time.Millisecond) // its last word is what umount waits for
	}
	for _, pid := range left {
		m.t.Errorf("process %d was left behind", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	reports, _ := filepath.Glob(filepath.Join(m.home, "race.*"))
	for _, report := range reports {
		text, _ := os.ReadFile(report)
		m.t.Errorf("the race detector reports:\n%s", text)
	}
	if left, _ := filepath.Glob(filepath.Join(m.home, "ftpfs", "*")); len(left) > 0 {
		for _, p := range left {
			if i, err := os.Lstat(p); err == nil && i.Mode().IsRegular() && i.Size() > 0 {
				m.t.Errorf("left in the spool directory: %s, %d bytes", p, i.Size())
			}
		}
	}
	if text, _ := os.ReadFile(m.log); bytes.Contains(text, []byte("panic:")) {
		m.t.Errorf("the program panicked:\n%s", m.logFrom(0))
	}
}

// logSize is a position for logFrom.
func (m *toolMount) logSize() int64 {
	if i, err := os.Stat(m.log); err == nil {
		return i.Size()
	}
	return 0
}

// logFrom returns what the program said since a position, shortened to its last part.
func (m *toolMount) logFrom(pos int64) string {
	const most = 24 << 10
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	text = text[min(pos, int64(len(text))):]
	if len(text) > most {
		text = append([]byte("...\n"), text[len(text)-most:]...)
	}
	return string(text)
}

// toolDir is a directory of the mount with a test's name, and the same directory on the server's side.
type toolDir struct {
	t      *testing.T
	m      *toolMount
	server *ftptest.Server
	mnt    string // on the mount
	srv    string // on the server
	tmp    string // elsewhere
	name   string // path on the server as its user sees it
}

// dir makes a directory for a test through the mount, unless it is there already. A test that fails shows the
// conversation that the server had during it.
func (m *toolMount) dir(t *testing.T, name string) *toolDir {
	t.Helper()
	d := &toolDir{t: t, m: m, server: m.server, name: name, tmp: t.TempDir(),
		mnt: filepath.Join(m.mnt, name), srv: m.server.Path(name)}
	pos := m.logSize()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the program's log:\n%s", m.logFrom(pos))
		}
	})
	if err := os.MkdirAll(d.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// need ends the test as unavailable if a tool is missing.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			ftptest.Unavailable(t, "%s is not installed", tool)
		}
	}
}

// command is a shell script with the directories in MNT (which it starts in), SRV and TMP.
func (d *toolDir) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-euc", script)
	cmd.Dir = d.tmp
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + d.tmp, "LC_ALL=C.UTF-8", "TZ=UTC",
		"MNT=" + d.mnt, "SRV=" + d.srv, "TMP=" + d.tmp,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@localhost"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		// What the program was doing is in its log then. Its end also frees processes that SIGKILL can't.
		for _, pid := range d.m.processes() {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// try runs a script and returns what it wrote, and the error of its last command.
func (d *toolDir) try(script string) (string, error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	out, err := d.command(ctx, script).CombinedOutput()
	if ctx.Err() != nil {
		d.t.Fatalf("%s\nhangs: %s", script, out)
	}
	return string(out), err
}

// sh runs a script that has to succeed and returns what it wrote.
func (d *toolDir) sh(script string) string {
	d.t.Helper()
	out, err := d.try(script)
	if err != nil {
		d.t.Fatalf("%s\n%v: %s", script, err, out)
	}
	return out
}

// want fails the test if a script's output isn't what it should be.
func (d *toolDir) want(script, want string) {
	d.t.Helper()
	if out := d.sh(script); out != want {
		d.t.Errorf("%s\nwrote %q, want %q", script, shorten(out), shorten(want))
	}
}

// onServer compares a file with what the server has.
func (d *toolDir) onServer(name string, want []byte) {
	d.t.Helper()
	got, err := os.ReadFile(filepath.Join(d.srv, name))
	if err != nil {
		d.t.Errorf("on the server: %v", err)
		return
	}
	if !bytes.Equal(got, want) {
		d.t.Errorf("%s on the server: %s", name, difference(got, want))
	}
}

// onMount compares a file with what the mount shows.
func (d *toolDir) onMount(name string, want []byte) {
	d.t.Helper()
	got, err := os.ReadFile(filepath.Join(d.mnt, name))
	if err != nil {
		d.t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		d.t.Errorf("%s on the mount: %s", name, difference(got, want))
	}
}

// both is onServer and onMount.
func (d *toolDir) both(name string, want []byte) {
	d.t.Helper()
	d.onServer(name, want)
	d.onMount(name, want)
}

// wantErrno fails the test if err is not one of the errors given.
func (d *toolDir) wantErrno(what string, err error, want ...syscall.Errno) {
	d.t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	d.t.Errorf("%s: %v, want %v", what, err, want)
}

func shorten(s string) string {
	if len(s) > 600 {
		return s[:300] + "..." + s[len(s)-300:]
	}
	return s
}

// difference says where two contents part.
func difference(got, want []byte) string {
	n := min(len(got), len(want))
	for i := range n {
		if got[i] != want[i] {
			return fmt.Sprintf("%d bytes, want %d; they differ from byte %d on: %q, want %q", len(got), len(want), i,
				got[i:min(len(got), i+40)], want[i:min(len(want), i+40)])
		}
	}
	return fmt.Sprintf("%d bytes, want %d; the first %d are right", len(got), len(want), n)
}

// noise is n bytes that don't repeat, different for each seed.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := 0; i < n; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(x >> (8 * (j - i)))
		}
	}
	return b
}

// seed lays one file on the server.
func seed(name string, data []byte) func(*ftptest.Server, string) {
	return func(s *ftptest.Server, dir string) { s.WriteFile(dir+"/"+name, data) }
}

// toolTest is one test of a tool on a mount that it shares with the others.
type toolTest struct {
	name  string
	tools string                              // that it needs, separated by spaces
	seed  func(s *ftptest.Server, dir string) // lays files into the test's directory before anything is mounted
	run   func(t *testing.T, d *toolDir)
}

// dir is the directory of a test.
func (test *toolTest) dir() string { return strings.ReplaceAll(test.name, " ", "-") }

// eachServer runs a test for each server.
func eachServer(t *testing.T, f func(t *testing.T, kind ftptest.Kind)) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			f(t, kind)
		})
	}
}

// TestTools runs the tools that people use, on each server. In the end another mount must show the
// whole server as this one left it.
func TestTools(t *testing.T) {
	var tests []toolTest
	for _, list := range [][]toolTest{copyTools(), syncTools(), editTools(), logTools(), programTools(), buildTools(), treeTools(), nameTools()} {
		tests = append(tests, list...)
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{})
		for _, test := range tests {
			if test.seed != nil {
				test.seed(server, test.dir())
			}
		}
		m := mountServer(t, server)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				need(t, strings.Fields(test.tools)...)
				start := time.Now()
				test.run(t, m.dir(t, test.dir()))
				if d := time.Since(start); d > 10*time.Second {
					t.Logf("took %v", d)
				}
			})
		}
		t.Run("another mount shows the same", func(t *testing.T) {
			need(t, "diff")
			other := mountServer(t, server)
			d := other.dir(t, "")
			d.sh(`diff -r --no-dereference --exclude=links --exclude=names "$SRV" "$MNT"`)
		})
	})
}
