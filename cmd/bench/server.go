package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a running vsftpd that shows a fixture's root.
type server struct {
	addr string // host:port
	user string // "": anonymous
	proc *process
}

// password opens a server that serves made-up data for some minutes; any other would do as well.
const password = "bench"

func vsftpdProgram() string {
	dir := os.Getenv("FTPFS_SERVERS")
	if dir == "" {
		dir = "/opt/ftpd"
	}
	return filepath.Join(dir, "vsftpd/usr/sbin/vsftpd")
}

// vsftpdVersion asks the program, which answers on its input.
func vsftpdVersion() string {
	r, w, err := os.Pipe()
	if err != nil {
		return ""
	}
	defer r.Close()
	cmd := exec.Command(vsftpdProgram(), "-v")
	cmd.Stdin = w
	err = cmd.Run()
	w.Close()
	said, _ := io.ReadAll(r)
	if err != nil && len(said) == 0 {
		return "version unknown"
	}
	return version(strings.TrimPrefix(string(said), "vsftpd: version "))
}

// url is the address of a name below the root. The password is in it.
func (s *server) url(name string) string {
	login := ""
	if s.user != "" {
		login = s.user + ":" + password + "@"
	}
	return "ftp://" + login + s.addr + "/" + name
}

// startServer starts vsftpd on one side of the line. rate caps each connection, bytes/s, 0: no cap.
//
// Root runs it as it is usually run, with local users in a chroot. Accounts and PAM service are
// its own: it lives in a mount namespace where they lie over the system's. Others run it
// as themselves, with anonymous users who may write.
func (l *line) startServer(ctx context.Context, dir, root string, rate int64) (*server, error) {
	if _, err := os.Stat(vsftpdProgram()); err != nil {
		return nil, fmt.Errorf("%w: run .ci/setup, or say in $FTPFS_SERVERS where the servers are", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{addr: fmt.Sprintf("%s:%d", l.host, port)}
	for _, d := range []string{dir, filepath.Join(dir, "empty")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	conf := []string{
		"listen=YES", "listen_address=" + l.host, fmt.Sprintf("listen_port=%d", port), "background=NO",
		"secure_chroot_dir=" + filepath.Join(dir, "empty"),
		"seccomp_sandbox=NO", "isolate=NO", "isolate_network=NO", // containers forbid what these need
		"write_enable=YES", "file_open_mode=0666", "mdtm_write=YES", "utf8_filesystem=YES", "allow_writeable_chroot=YES",
		"connect_from_port_20=NO", "max_clients=0", "max_per_ip=0", "idle_session_timeout=600", "use_localtime=NO",
		"xferlog_enable=NO", "vsftpd_log_file=" + filepath.Join(dir, "vsftpd.log"),
	}
	file := filepath.Join(dir, "vsftpd.conf")
	argv := []string{vsftpdProgram(), file}
	if os.Geteuid() == 0 {
		s.user = "bench"
		conf = append(conf, "pam_service_name=bench", "anonymous_enable=NO", "local_enable=YES", "chroot_local_user=YES",
			"local_root="+root, "local_umask=022", "chmod_enable=YES", fmt.Sprintf("local_max_rate=%d", rate))
		argv, err = withAccounts(dir, s.user, argv)
	} else {
		var me *user.User
		if me, err = user.Current(); err == nil {
			conf = append(conf, "run_as_launching_user=YES", "ftp_username="+me.Username, "nopriv_user="+me.Username,
				"anonymous_enable=YES", "no_anon_password=YES", "anon_root="+root, "anon_umask=022", "anon_world_readable_only=NO",
				"anon_upload_enable=YES", "anon_mkdir_write_enable=YES", "anon_other_write_enable=YES",
				fmt.Sprintf("anon_max_rate=%d", rate))
		}
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(strings.Join(conf, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	if s.proc, err = startProcess(l.onServer(argv...), nil, syscall.SIGKILL, filepath.Join(dir, "out.log")); err != nil {
		return nil, err
	}
	if err := s.awaitGreeting(ctx, l); err != nil {
		s.proc.kill()
		return nil, err
	}
	return s, nil
}

// withAccounts is argv in a mount namespace with one account and a PAM service that lets it in.
func withAccounts(dir, name string, argv []string) ([]string, error) {
	passwd := fmt.Sprintf("root:x:0:0:root:/:/bin/sh\n%s:x:%d:%d::/:/bin/sh\n", name, serverUser, serverUser)
	pam := "auth required pam_permit.so\naccount required pam_permit.so\n"
	if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte(passwd), 0o644); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "pam.d"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "pam.d", "bench"), []byte(pam), 0o644); err != nil {
		return nil, err
	}
	// A namespace of processes too, because vsftpd's sessions leave its process group: they end with the
	// first process there. That is the shell: vsftpd itself ends when it inherits an orphan.
	const script = `mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/pam.d" /etc/pam.d && shift && "$@"; exit $?`
	return append([]string{"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", dir}, argv...), nil
}

// awaitGreeting returns when the server listens: it looks from the server's side of the line, in the table of
// sockets, because a connection would be a session.
func (s *server) awaitGreeting(ctx context.Context, l *line) error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	var number int
	if _, err := fmt.Sscan(port, &number); err != nil {
		return err
	}
	mark := fmt.Sprintf(":%04X 00000000:0000 0A", number)
	for range 1000 {
		// The process' own view of the network: its namespace.
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", s.proc.pid()))
		if err == nil && strings.Contains(string(table), mark) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.proc.done:
			return fmt.Errorf("vsftpd ended at once: %v%s", s.proc.cmd.ProcessState, s.proc.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("vsftpd doesn't listen on %s", s.addr)
}

// freePort is a port that nobody has, at this moment and on this side.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
