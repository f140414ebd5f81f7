package ftptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// configurePureFTPd has the user in a PureDB of the server's own. There is no configuration file.
func configurePureFTPd(s *Server, dir string, p ports) (argv, env []string, err error) {
	o := s.opt
	switch {
	case o.NoPassive:
		s.unsupported("NoPassive")
	case o.NoActive:
		s.unsupported("NoActive")
	case o.NoAppend:
		s.unsupported("NoAppend")
	case o.TLS == Implicit:
		s.unsupported("TLS: Implicit")
	case o.IdleTimeout%60 != 0:
		s.unsupported("IdleTimeout: other than whole minutes")
	}
	db := filepath.Join(dir, "users.pdb")
	// The line is what pure-pw useradd makes, but for the hash: its Argon2 is as slow as it can be made,
	// seconds for each login.
	file := filepath.Join(dir, "passwd")
	line := fmt.Sprintf("%s:%s:%d:%d::%s/./::::::::::::\n", user, passwordHash, nobody, nobody, s.Root)
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		return nil, nil, err
	}
	out, err := exec.Command(filepath.Join(serversDir(), "pure-ftpd/usr/bin/pure-pw"), "mkdb", db, "-f", file).CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("pure-pw: %w: %s", err, out)
	}
	clients := strconv.Itoa(or(o.MaxClients, 200))
	argv = []string{
		filepath.Join(serversDir(), "pure-ftpd/usr/sbin/pure-ftpd"),
		"-4", "-S", fmt.Sprintf("%s,%d", s.Host, p.control),
		"-l", "puredb:" + db,
		"-A", "-E", "-H", // chroot, no anonymous users, no name look-ups
		"-u", "1", "-U", "022:022",
		"-c", clients, "-C", "200", "-I", strconv.Itoa(or(o.IdleTimeout, 600) / 60),
		"-L", "200000:64", "-z", // listings of so many entries; names may begin with a dot
		"-p", fmt.Sprintf("%d:%d", p.lo, p.hi),
		"-f", "none", "-g", filepath.Join(dir, "pure-ftpd.pid"),
	}
	if o.IPv6 {
		argv[1] = "-6"
	}
	if o.PASVAddress != "" {
		argv = append(argv, "-P", o.PASVAddress)
	}
	if s.TLS == Explicit {
		argv = append(argv, "-Y", "3", "-2", s.bothFile()) // 3: for data too
	}
	return append(argv, o.Extra...), nil, nil
}
