package ftptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nobody is the account of the sessions when the tests run as root.
const nobody = 65534

// serversDir is where .ci/setup unpacks the servers' packages.
func serversDir() string {
	if dir := os.Getenv("FTPFS_SERVERS"); dir != "" {
		return dir
	}
	return "/opt/ftpd"
}

// program is one server's way to be run.
type program struct {
	root  bool     // must be started by root
	files []string // below serversDir, without which it can't run
	// configure writes what the server needs into dir and says how to start it.
	configure func(s *Server, dir string, ports ports) (argv, env []string, err error)
}

// ports are a server's: one for control, a range for passive data.
type ports struct{ control, lo, hi int }

func programs() map[Kind]program {
	return map[Kind]program{
		VSFTPD:    {true, []string{"vsftpd/usr/sbin/vsftpd"}, configureVSFTPD},
		ProFTPD:   {true, []string{"proftpd-core/usr/sbin/proftpd", "proftpd-mod-crypto/usr/lib/proftpd/mod_tls.so"}, configureProFTPD},
		PureFTPd:  {true, []string{"pure-ftpd/usr/sbin/pure-ftpd", "pure-ftpd/usr/bin/pure-pw"}, configurePureFTPd},
		Pyftpdlib: {false, nil, configurePyftpdlib},
	}
}

// Installed says whether [Start] can run a server here, and if not, why.
func Installed(kind Kind) (ok bool, reason string) {
	p, ok := programs()[kind]
	if !ok {
		return false, fmt.Sprintf("%v is not started by Start", kind)
	}
	if p.root && os.Geteuid() != 0 {
		return false, fmt.Sprintf("%v has to be started by root", kind)
	}
	for _, f := range p.files {
		if _, err := os.Stat(filepath.Join(serversDir(), f)); err != nil {
			return false, fmt.Sprintf("%v is not installed (run .ci/setup): %v", kind, err)
		}
	}
	if kind == Pyftpdlib {
		probe := exec.Command(python, "-W", "ignore", "-c", "import pyftpdlib.servers, OpenSSL")
		probe.Dir = "/" // where Python looks for modules first
		if out, err := probe.CombinedOutput(); err != nil {
			return false, fmt.Sprintf("pyftpdlib is not installed (run .ci/setup): %v: %s", err, out)
		}
	}
	return true, ""
}

// Start runs a server until the test ends. It listens when Start returns.
func Start(t testing.TB, kind Kind, opt Options) *Server {
	t.Helper()
	if ok, reason := Installed(kind); !ok {
		Unavailable(t, "%s", reason)
	}
	s := newServer(t, kind, opt)
	if os.Geteuid() == 0 {
		s.uid = nobody
		if !(opt.ReadOnly && kind == PureFTPd) {
			s.own(s.Root)
		}
	}
	s.Port = claimPorts(t, s.Host)
	argv, env, err := programs()[kind].configure(s, s.dir(), ports{s.Port, s.Port + 1, s.Port + slotPorts - 1})
	if err != nil {
		t.Fatalf("configuring %v: %v", kind, err)
	}
	zone := opt.LocalTime
	if zone == "" {
		zone = "UTC"
	}
	s.impl = &process{argv: argv, env: append(env, "TZ="+zone), port: s.Port, files: s.dir()}
	return s.run()
}

// config collects lines of a configuration file.
type config struct{ lines []string }

func (c *config) add(format string, args ...any) {
	c.lines = append(c.lines, fmt.Sprintf(format, args...))
}

func (c *config) addIf(cond bool, format string, args ...any) {
	if cond {
		c.add(format, args...)
	}
}

func (c *config) write(file string, extra []string) error {
	return os.WriteFile(file, []byte(strings.Join(append(c.lines, extra...), "\n")+"\n"), 0o600)
}

// or is v, or otherwise where v is 0.
func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}
