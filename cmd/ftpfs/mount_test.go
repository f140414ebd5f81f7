package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestMountReturnsWhenItAnswers(t *testing.T) {
	f := newFixture(t)
	f.mount()
	f.wantFile()
	m, ok, err := findMount(f.mnt)
	if err != nil || !ok || m.Type != "fuse.ftpfs" || m.Source != f.server.URL() {
		t.Errorf("%+v %v %v", m, ok, err)
	}
	f.umount()
	f.wantMounted(false)
}

func TestUmountReturnsWhenTheProcessHasEnded(t *testing.T) {
	f := newFixture(t)
	f.mount()
	if err := os.WriteFile(filepath.Join(f.mnt, "new"), []byte("text"), 0o644); err != nil {
		t.Error(err)
	}
	f.umount()
	if pids := f.processes(); len(pids) > 0 {
		t.Errorf("still running: %v", pids)
	}
	if text, err := os.ReadFile(filepath.Join(f.site, "new")); string(text) != "text" {
		t.Errorf("on the server: %q %v", text, err)
	}
}

func TestPasswordIsNowhereToBeSeen(t *testing.T) {
	f := newFixture(t)
	pw := writeFile(t, filepath.Join(f.home, "pw"), awkward+"\n", 0o600)
	netrc := writeFile(t, filepath.Join(f.home, "netrc"), `machine 127.0.0.1 login demo password "`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(awkward)+`"`, 0o600)
	log := filepath.Join(f.home, "log")
	for _, tt := range []struct {
		name, url string
		options   []string
		env       string
	}{
		{"in the URL", f.urlWithPassword(), nil, ""},
		{"in the environment", f.server.URL(), nil, passwordEnv + "=" + awkward},
		{"in a file", f.server.URL(), []string{"-o", "password_file=" + pw}, ""},
		{"in netrc", f.server.URL(), []string{"--netrc=" + netrc}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := *f
			g.t, g.env = t, []string{tt.env}
			args := append(tt.options, "-o", "log_level=debug,account=p@s/s", tt.url, g.mnt)
			if out, code := g.run(append([]string{"--log_file=" + log}, args...)...); code != 0 {
				t.Fatal(code, out)
			}
			g.wantFile()
			text, err := os.ReadFile(log)
			if err != nil || !strings.Contains(string(text), "USER demo") {
				t.Errorf("the log has no conversation: %v", err)
			}
			g.wantNoSecret(string(text))
			g.umount()

			cmd, out, ended := g.start(args...)
			g.wantNoSecret()
			_ = cmd.Process.Signal(syscall.SIGTERM)
			g.wantEnd(ended, true)
			if strings.Contains(out.String(), "p@s") {
				t.Errorf("the password is in the log: %s", out)
			}
		})
	}
}

func TestForegroundEndsWithSignal(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		f := newFixture(t)
		cmd, _, ended := f.start(f.urlWithPassword(), f.mnt)
		f.wantFile()
		_ = cmd.Process.Signal(sig)
		f.wantEnd(ended, true)
		f.wantMounted(false)
	}
}

func TestForegroundEndsWhenUnmountedByOthers(t *testing.T) {
	f := newFixture(t)
	_, _, ended := f.start(f.urlWithPassword(), f.mnt)
	if err := unmount(f.mnt, false); err != nil {
		t.Fatal(err)
	}
	f.wantEnd(ended, true)
}

func TestSignalDetachesABusyMount(t *testing.T) {
	f := newFixture(t)
	cmd, out, ended := f.start(f.urlWithPassword(), f.mnt)
	file, err := os.Open(filepath.Join(f.mnt, "hello.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, mounted, _ := findMount(f.mnt); !mounted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still mounted")
		}
	}
	b := make([]byte, 5)
	if _, err := file.ReadAt(b, 0); err != nil || string(b) != "hello" {
		t.Errorf("the open file gives %q %v", b, err)
	}
	file.Close()
	f.wantEnd(ended, true)
	if !strings.Contains(out.String(), "hello.txt open") {
		t.Errorf("the log doesn't say who uses it: %s", out)
	}
}

func TestWrongPasswordLeavesNothing(t *testing.T) {
	for _, mode := range [][]string{nil, {"-f"}} {
		f := newFixture(t)
		f.env = []string{passwordEnv + "=WRONG"}
		out, code := f.run(append(mode, f.server.URL(), f.mnt)...)
		if code != exitFailure || !strings.Contains(out, "does not let demo in") || strings.Contains(out, "WRONG") {
			t.Errorf("%v: exit code %d: %s", mode, code, out)
		}
		f.wantMounted(false)
		if pids := f.processes(); len(pids) > 0 {
			t.Errorf("%v: still running: %v", mode, pids)
		}
	}
}

func TestMountErrorsSayWhatToDo(t *testing.T) {
	f := newFixture(t)
	f.env = []string{passwordEnv + "=" + awkward}
	file := writeFile(t, filepath.Join(f.home, "file"), "", 0o600)
	open := writeFile(t, filepath.Join(f.home, "open"), "p", 0o644)
	unused := listen(t)
	unused.Close()
	for _, tt := range []struct {
		want string
		code int
		args []string
	}{
		{"mkdir -p", exitFailure, []string{f.server.URL(), f.home + "/missing"}},
		{"not a directory", exitFailure, []string{f.server.URL(), file}},
		{"chmod 600 " + open, exitFailure, []string{"-o", "password_file=" + open, f.server.URL(), f.mnt}},
		{"does the FTP server run", exitFailure, []string{"ftp://u:p@" + unused.Addr().String() + "/", f.mnt}},
		{`no directory "missing"`, exitFailure, []string{f.server.URL() + "missing", f.mnt}},
		{"no answer in time", exitFailure, []string{"-o", "timeout=1", "ftp://u:p@" + silentServer(t) + "/", f.mnt}},
		{"PEM", exitFailure, []string{"-o", "tls=explicit,cacert=" + file, f.server.URL(), f.mnt}},
		{`unknown option "bogus"`, exitUsage, []string{"-o", "ro,bogus", f.server.URL(), f.mnt}},
		{"unknown flag: --bogus", exitUsage, []string{"--bogus", f.server.URL(), f.mnt}},
		{"ftp://host//path", exitUsage, []string{"host:/path", f.mnt}},
		{"mountpoint is missing", exitUsage, []string{f.server.URL()}},
		{"neither a command", exitUsage, []string{"unmount"}},
		{"what is to be mounted", exitUsage, nil},
		{"3 arguments", exitUsage, []string{f.server.URL(), "a", "mountpoint"}},
		{"one mountpoint", exitUsage, []string{"umount"}},
		{"nothing is mounted on", exitFailure, []string{"umount", f.mnt}},
		{"does not exist", exitFailure, []string{"umount", f.home + "/missing"}},
		{"is of type proc", exitFailure, []string{"umount", "/proc"}},
	} {
		out, code := f.run(tt.args...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%q: exit code %d, want %d with %q: %s", tt.args, code, tt.code, tt.want, out)
		}
	}
	f.wantMounted(false)
}

func TestMountTwiceIsRefused(t *testing.T) {
	f := newFixture(t)
	f.mount()
	defer f.umount()
	if out, code := f.run(f.server.URL(), f.mnt); code != exitFailure || !strings.Contains(out, "is mounted already") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestDeadMountIsReplaced(t *testing.T) {
	f := newFixture(t)
	f.mount()
	f.kill()
	f.mount()
	f.wantFile()
	f.umount()
	f.wantMounted(false)
}

// kill ends the mount's process like a crash.
func (f *fixture) kill() {
	f.t.Helper()
	for _, pid := range f.processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			f.t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(f.processes()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("the killed process stays")
		}
	}
}

func TestOpenFileThatWasRemovedGoesAfterACrash(t *testing.T) {
	f := newFixture(t)
	writeFile(t, filepath.Join(f.site, "large"), strings.Repeat("x", 6<<20), 0o644)
	hidden := func() []string {
		names, err := filepath.Glob(filepath.Join(f.site, ".ftpfs-hidden-*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	f.mount()
	open, err := os.Open(filepath.Join(f.mnt, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := os.Remove(filepath.Join(f.mnt, "large")); err != nil {
		t.Fatal(err)
	}
	if names := hidden(); len(names) != 1 {
		t.Errorf("hidden on the server: %q", names)
	}
	f.kill()
	f.mount()
	for deadline := time.Now().Add(20 * time.Second); len(hidden()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("hidden on the server: %q", hidden())
		}
	}
	f.wantFile()
	f.umount()
}

func TestTimesOutliveTheMount(t *testing.T) {
	f := newFixture(t)
	p, want := filepath.Join(f.mnt, "hello.txt"), time.Unix(1_500_000_000, 123_456_789)
	f.mount()
	if err := os.Chtimes(p, want, want); err != nil {
		t.Fatal(err)
	}
	f.kill() // at once: it is on disk when the call returns
	f.mount()
	info, err := os.Stat(p)
	if err != nil || !info.ModTime().Equal(want) {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
	f.umount()
}

func TestInterruptedWhileConnecting(t *testing.T) {
	f := newFixture(t)
	l := listen(t)
	cmd := f.command("ftpfs", "ftp://u:p@"+l.Addr().String()+"/", f.mnt)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept() // it is waiting for our greeting now
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = cmd.Process.Signal(syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	f.wantEnd(ended, false)
	f.wantMounted(false)
}

func TestBusyMountNamesItsUsers(t *testing.T) {
	f := newFixture(t)
	f.mount()
	holder := exec.Command("cat")
	holder.Dir = f.mnt
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	out, code := f.run("umount", f.mnt)
	if code != exitFailure || !strings.Contains(out, "cat (process") || !strings.Contains(out, "working directory") {
		t.Errorf("exit code %d: %s", code, out)
	}
	f.wantMounted(true)

	lazy := f.command("ftpfs", "umount", "--lazy", f.mnt)
	if err := lazy.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close() // the holder ends, and lets the process end that umount waits for
	_ = holder.Wait()
	ended := make(chan error, 1)
	go func() { ended <- lazy.Wait() }()
	f.wantEnd(ended, true)
	f.wantMounted(false)
}

func TestMountHelperForm(t *testing.T) {
	for _, name := range []string{"ftpfs", "mount.ftpfs", "/sbin/mount.fuse.ftpfs"} {
		f := newFixture(t)
		f.env = []string{passwordEnv + "=" + awkward}
		out, code := f.finish(f.command(name, f.server.URL(), f.mnt, "-s", "-v", "-n", "-o", "rw,noauto,user,_netdev,x-systemd.automount,nofail,ro,comment=x,unheard=of"))
		if code != exitOK || !strings.Contains(out, "unheard skipped") {
			t.Fatalf("%s: exit code %d: %s", name, code, out)
		}
		f.wantFile()
		if err := os.WriteFile(filepath.Join(f.mnt, "x"), nil, 0o644); err == nil {
			t.Errorf("%s: -o ro had no effect", name)
		}
		f.umount()
	}
}

func TestMountHelperFake(t *testing.T) {
	f := newFixture(t)
	if out, code := f.finish(f.command("mount.ftpfs", f.server.URL(), f.mnt, "-f", "-o", "rw")); code != exitOK {
		t.Errorf("exit code %d: %s", code, out)
	}
	f.wantMounted(false)
}

func TestDemo(t *testing.T) {
	f := newFixture(t)
	out, code := f.run("demo", f.mnt)
	if code != exitOK || !strings.Contains(out, "Everything worked") || !strings.Contains(out, "$ grep -rn lighthouse") {
		t.Errorf("exit code %d: %s", code, out)
	}
	f.wantMounted(false)
}

func TestDemoMakesAMissingMountpointAndRemovesIt(t *testing.T) {
	f := newFixture(t)
	mnt := filepath.Join(f.home, "missing")
	if out, code := f.run("demo", mnt); code != exitOK {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, err := os.Stat(mnt); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
