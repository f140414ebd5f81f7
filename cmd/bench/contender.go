package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// contender is a program that is measured: ftpfs or a peer.
type contender struct {
	name    string
	program string // path; "": not installed
	version string
	// mount says how the program mounts a server's root and stays in the foreground; nil: it doesn't mount.
	mount func(c *contender, j *job, options string) (argv, env []string)
}

const ftpfsName = "ftpfs"

// contenders are ftpfs first, unless program is "none", and the peers, missing ones with an empty program.
// curlftpfs, which no current Debian has, is among them only if it is here.
func contenders(program string, peers bool) []*contender {
	var cs []*contender
	if program != "none" {
		cs = append(cs, &contender{ftpfsName, program, version(firstLine(program, "version")), mountFTPFS})
	}
	if !peers {
		return cs
	}
	for _, c := range []*contender{{name: "curl"}, {name: "lftp"}, {name: "rclone", mount: mountRclone}, {name: "curlftpfs", mount: mountCurlFTPFS}} {
		if path, err := exec.LookPath(c.name); err == nil {
			c.program, c.version = path, version(firstLine(path, "--version"))
		} else if c.name == "curlftpfs" {
			continue
		}
		cs = append(cs, c)
	}
	return cs
}

// firstLine is what a command says first, "" if it fails.
func firstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// version finds the number in what a program says of itself.
func version(said string) string {
	for word := range strings.FieldsSeq(said) {
		if number := strings.TrimPrefix(word, "v"); number != "" && number[0] >= '0' && number[0] <= '9' {
			return number
		}
	}
	return cmp.Or(strings.TrimPrefix(said, ftpfsName+" "), "version unknown")
}

// offers says whether ftpfs has a mount option, by its help text.
func (c *contender) offers(option string) bool {
	out, err := exec.Command(c.program, "--help").CombinedOutput()
	return err == nil && strings.Contains(string(out), "\n  "+option)
}

func mountFTPFS(c *contender, j *job, options string) (argv, env []string) {
	all := "log_level=warn,spool_dir=" + filepath.Join(j.scratch, "spool")
	if options != "" {
		all += "," + options
	}
	return []string{c.program, "-f", "-o", all, j.srv.url(""), j.mnt}, nil
}

// mountRclone has no configuration file: the environment says it all. Writes go straight to the server, which is
// the default.
func mountRclone(c *contender, j *job, _ string) (argv, env []string) {
	host, port, _ := strings.Cut(j.srv.addr, ":")
	name := j.srv.user
	if name == "" {
		name = "anonymous"
	}
	env = []string{"RCLONE_FTP_HOST=" + host, "RCLONE_FTP_PORT=" + port, "RCLONE_FTP_USER=" + name,
		"RCLONE_FTP_PASS=" + firstLine(c.program, "--config", "/dev/null", "obscure", password), "RCLONE_FTP_WRITING_MDTM=true"}
	return []string{c.program, "mount", ":ftp:", j.mnt, "--config", "/dev/null", "--cache-dir", filepath.Join(j.scratch, "cache")}, env
}

func mountCurlFTPFS(c *contender, j *job, _ string) (argv, env []string) {
	return []string{c.program, "-f", j.srv.url(""), j.mnt}, nil
}

// mount is a mounted server.
type mount struct {
	point string
	proc  *process
}

// newMount returns when the mount answers.
func newMount(ctx context.Context, c *contender, j *job, options string) (*mount, error) {
	argv, env := c.mount(c, j, options)
	p, err := startProcess(j.line.onClient(argv...), append(env, "HOME="+j.scratch), syscall.SIGTERM, filepath.Join(j.scratch, "mount.log"))
	if err != nil {
		return nil, err
	}
	m := &mount{j.mnt, p}
	deadline := time.Now().Add(30 * time.Second)
	for !mounted(m.point) {
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case p.ended():
			err = fmt.Errorf("can't mount: %v%s", p.cmd.ProcessState, p.tail())
		case time.Now().After(deadline):
			err = errors.New("isn't mounted after 30 s" + p.tail())
		default:
			time.Sleep(5 * time.Millisecond)
			continue
		}
		m.kill()
		return nil, err
	}
	return m, nil
}

// mounted reads this process' table of mounts; it doesn't touch the mount, which may hang.
func mounted(point string) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		// 5th: the mount point (proc_pid_mountinfo(5)); the names here have nothing that is escaped in it.
		if fields := strings.Fields(s.Text()); len(fields) > 4 && fields[4] == point {
			return true
		}
	}
	return false
}

// unmount waits until the program has ended: then all that was written is on the server. What it says about
// losses is the error.
func (m *mount) unmount(patience time.Duration) error {
	if err := detach(m.point, false); err != nil {
		m.kill()
		return fmt.Errorf("can't be unmounted: %w", err)
	}
	if err := m.proc.awaitEnd(patience); err != nil {
		m.kill()
		return err
	}
	return nil
}

// kill takes the mount away without asking. Who waits for it gets an error. It may be called again, and
// from another goroutine.
func (m *mount) kill() {
	if !m.proc.ended() {
		m.proc.kill()
	}
	for range 100 {
		if !mounted(m.point) {
			return
		}
		_ = detach(m.point, true) // tried again; at last the directory's removal tells
		time.Sleep(10 * time.Millisecond)
	}
}

func detach(point string, lazy bool) error {
	flags, arg := 0, "-u"
	if lazy {
		flags, arg = unix.MNT_DETACH, "-uz"
	}
	var err error
	for range 50 { // who looked at the mount just now may not have let go
		if os.Geteuid() == 0 {
			err = unix.Unmount(point, flags)
		} else if out, failed := exec.Command("fusermount3", arg, point).CombinedOutput(); failed != nil {
			err = fmt.Errorf("%w: %s", failed, out)
		} else {
			err = nil
		}
		if err == nil || lazy || (os.Geteuid() == 0 && !errors.Is(err, syscall.EBUSY)) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
