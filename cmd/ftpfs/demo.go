package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/term"
)

// demo shows the program on a site of its own, by the commands that a user would type.
type demo struct {
	ctx    context.Context
	out    io.Writer
	dir    string // holds all files of the demo
	mnt    string
	server *demoServer
	failed []string // the steps that did
}

// demoCommand runs the demo on mountpoint ("": one of its own; a missing one is made for the time being). Its
// error names the steps that failed.
func demoCommand(ctx context.Context, mountpoint string, out io.Writer) error {
	if err := checkFUSE(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ftpfs-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if mountpoint == "" {
		mountpoint = filepath.Join(dir, "mnt")
	}
	if err := os.Mkdir(mountpoint, 0o755); err == nil {
		defer os.Remove(mountpoint)
	}
	d := &demo{ctx: ctx, out: out, dir: dir}
	if d.mnt, err = prepareMountpoint(mountpoint); err != nil {
		return err
	}
	if err := makeSampleSite(d.path("site")); err != nil {
		return fmt.Errorf("making the sample site: %w", err)
	}
	if d.server, err = startDemoServer(d.path("site"), rand.Text()); err != nil {
		return fmt.Errorf("starting the FTP server: %w", err)
	}
	defer d.server.Close()
	if err := d.mount(); err != nil {
		return err
	}
	defer d.unmountIfMounted()
	d.show()
	if len(d.failed) == 0 && isInteractive(out) {
		d.stay()
	}
	d.say("\nUnmounting.")
	if _, mounted, _ := findMount(d.mnt); mounted {
		d.do("ftpfs", "umount", d.mnt)
	}
	if len(d.failed) > 0 {
		return fmt.Errorf("%d steps of the demo failed:\n  %s", len(d.failed), strings.Join(d.failed, "\n  "))
	}
	if ctx.Err() == nil {
		d.say("Everything worked.")
	}
	return nil
}

func isInteractive(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && term.IsTerminal(int(os.Stdin.Fd()))
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) mount() error {
	d.say("An FTP server with a sample site runs inside this program. Mounting it, with the password in $%s:\n", passwordEnv)
	d.do("ftpfs", d.server.URL(), d.mnt)
	if len(d.failed) > 0 {
		return errors.New("the sample site can't be mounted")
	}
	return nil
}

// show runs the commands and compares what they did with the files that the server has.
func (d *demo) show() {
	m, site := d.mnt, d.path("site")
	d.say("\nThe site is a directory now:\n")
	d.do("ls", "-l", m, m+"/pictures")
	d.do("grep", "-rn", "lighthouse", m+"/notes")

	d.say("\nCopying a large file out, and comparing it with what the server has:\n")
	d.do("cp", m+"/large.bin", d.path("copy.bin"))
	d.do("cmp", d.path("copy.bin"), site+"/large.bin")
	d.do("cmp", m+"/pictures/sunset.png", site+"/pictures/sunset.png")

	d.say("\nCopying one in, appending to one, renaming, removing:\n")
	d.do("cp", d.path("copy.bin"), m+"/uploaded.bin")
	d.do("cmp", site+"/uploaded.bin", site+"/large.bin")
	d.do("sh", "-c", "echo 'The keeper is back.' >> "+shellWord(m+"/notes/logbook.txt"))
	d.do("tail", "-n", "2", site+"/notes/logbook.txt")
	d.do("mkdir", m+"/archive")
	d.do("mv", m+"/uploaded.bin", m+"/archive/large-2.bin")
	d.do("rm", m+"/large.bin")
	d.do("cmp", site+"/archive/large-2.bin", d.path("copy.bin"))
	d.do("ls", "-l", m+"/archive")
}

// stay keeps the site mounted until Ctrl-C, or until somebody else unmounts it.
func (d *demo) stay() {
	m, mounted, err := findMount(d.mnt)
	if err != nil || !mounted {
		return
	}
	serving := watchServer(m) // before anyone is told that there is something to unmount
	defer serving.Close()
	d.say(`
It stays mounted until Ctrl-C. In another terminal, try:

  ls -la %[1]s
  less %[1]s/notes/logbook.txt
  xdg-open %[1]s/pictures/sunset.png
  rsync -av %[1]s/ /tmp/mirror/
  curl --user %[2]s:%[3]s ftp://%[4]s/notes/     as FTP sees it
`, d.mnt, demoUser, d.server.password, d.server.listener.Addr())
	if serving.c == nil {
		<-d.ctx.Done()
		return
	}
	_ = serving.wait(d.ctx, quietly)
}

// do prints a command and runs it. "ftpfs" is this program.
func (d *demo) do(name string, args ...string) {
	line := shellLine(name, args)
	d.say("$ %s", line)
	cmd := exec.CommandContext(d.ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if name == "ftpfs" { // is done to its end, also after Ctrl-C
		cmd = exec.Command("/proc/self/exe", args...)
		// What it keeps locally goes with the demo's directory.
		cmd.Env = append(os.Environ(), passwordEnv+"="+d.server.password, "XDG_CACHE_HOME="+d.path("cache"))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // the mount's process must not hold a pipe of ours
	}
	if err := cmd.Run(); err != nil {
		d.say("  failed: %v", err)
		d.failed = append(d.failed, line)
	}
}

func (d *demo) unmountIfMounted() {
	if m, ok, _ := findMount(d.mnt); ok && m.Type == fsType {
		w := watchServer(m)
		defer w.Close()
		_ = unmount(d.mnt, true)
		_ = w.wait(context.Background(), quietly)
	}
}

// shellLine is a command as it would be typed.
func shellLine(name string, args []string) string {
	words := []string{name}
	for _, a := range args {
		words = append(words, shellWord(a))
	}
	return strings.Join(words, " ")
}

func shellWord(s string) string {
	if strings.ContainsAny(s, " '\"$&;<>|*?#\\") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
