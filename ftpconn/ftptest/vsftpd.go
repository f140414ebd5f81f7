package ftptest

import (
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// vsftpd knows no users but PAM's, and PAM's modules for users outside /etc/passwd are no use: pam_exec
// hangs, because vsftpd's SIGCHLD handler waits for the module's child, and others aren't everywhere. So
// root adds an account: expired since 1970 and without a shell, which every service respects except this one,
// whose rules skip the account phase. Its password, public in this file, opens nothing else.
//
// Neither changes once it is there; test processes share them, and they may stay.
const (
	pamService = "ftpfs-ftptest"
	pamFile    = "/etc/pam.d/" + pamService
	pamRules   = `# Used by the tests of ftpfs, for FTP servers on loopback. May be removed.
auth    required pam_unix.so nodelay
account required pam_permit.so
session required pam_permit.so
`
)

// installPAM makes account and service, one test process at a time.
func installPAM() error {
	lock, err := os.Open(filepath.Dir(pamFile))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	if !strings.Contains("\n"+string(shadow), "\n"+user+":"+passwordHash+":") {
		out, err := exec.Command("useradd", "--system", "--no-create-home", "--home-dir", "/",
			"--gid", "nogroup", "--shell", "/usr/sbin/nologin", "--expiredate", "1970-01-02",
			"--password", passwordHash, "--comment", "tests of ftpfs", user).CombinedOutput()
		if err != nil {
			return fmt.Errorf("useradd %s: %w: %s", user, err, out)
		}
	}
	if have, err := os.ReadFile(pamFile); err == nil && string(have) == pamRules {
		return nil
	}
	if err := os.WriteFile(pamFile+".new", []byte(pamRules), 0o644); err != nil {
		return err
	}
	return os.Rename(pamFile+".new", pamFile)
}

func yes(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

// configureVSFTPD lets the account in, chrooted to Root.
func configureVSFTPD(s *Server, dir string, p ports) (argv, env []string, err error) {
	if err := installPAM(); err != nil {
		return nil, nil, fmt.Errorf("PAM service for vsftpd: %w", err)
	}
	account, err := osuser.Lookup(user)
	if err != nil {
		return nil, nil, err
	}
	if s.uid, err = strconv.Atoi(account.Uid); err != nil {
		return nil, nil, err
	}
	s.own(s.Root)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o555); err != nil {
		return nil, nil, err
	}
	var c config
	o := s.opt
	c.addIf(!o.IPv6, "listen=YES\nlisten_address=%s", s.Host)
	c.addIf(o.IPv6, "listen=NO\nlisten_ipv6=YES\nlisten_address6=%s", s.Host)
	c.add("listen_port=%d", p.control)
	c.add("background=NO")
	c.add("pam_service_name=%s", pamService)
	c.add("secure_chroot_dir=%s", empty)
	c.add("seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO") // containers forbid what these need

	c.add("anonymous_enable=NO\nlocal_enable=YES\nguest_enable=NO")
	c.add("chroot_local_user=YES\nallow_writeable_chroot=YES")
	c.add("local_root=%s", s.Root)
	c.add("local_umask=022\nfile_open_mode=0666\nchmod_enable=YES\nmdtm_write=YES\nutf8_filesystem=YES")
	c.add("write_enable=%s", yes(!o.ReadOnly))
	c.addIf(o.NoAppend, "cmds_denied=APPE")

	c.add("pasv_enable=%s", yes(!o.NoPassive))
	c.add("pasv_min_port=%d\npasv_max_port=%d", p.lo, p.hi)
	c.addIf(o.PASVAddress != "", "pasv_address=%s", o.PASVAddress)
	c.add("port_enable=%s\nconnect_from_port_20=NO", yes(!o.NoActive))

	c.add("max_clients=%d\nmax_per_ip=0", o.MaxClients)
	c.add("idle_session_timeout=%d\ndata_connection_timeout=120", or(o.IdleTimeout, 600))
	c.add("use_localtime=%s", yes(o.LocalTime != ""))
	c.add("xferlog_enable=%s\nlog_ftp_protocol=%[1]s\nxferlog_std_format=NO", yes(o.Verbose))
	c.add("vsftpd_log_file=%s", filepath.Join(dir, "vsftpd.log"))
	if s.TLS != NoTLS {
		c.add("ssl_enable=YES\nssl_tlsv1=YES\nssl_ciphers=HIGH\nrequire_ssl_reuse=YES\nstrict_ssl_read_eof=YES")
		c.add("force_local_logins_ssl=YES\nforce_local_data_ssl=YES\nallow_anon_ssl=YES")
		c.add("implicit_ssl=%s", yes(s.TLS == Implicit))
		c.add("rsa_cert_file=%s\nrsa_private_key_file=%s", s.CACert, s.keyFile())
	}
	file := filepath.Join(dir, "vsftpd.conf")
	return []string{filepath.Join(serversDir(), "vsftpd/usr/sbin/vsftpd"), file}, nil, c.write(file, o.Extra)
}
