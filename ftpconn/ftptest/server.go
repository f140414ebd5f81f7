package ftptest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Kind is a server's program.
type Kind int

// The programs. Embedded is what [NewServer] makes; the others are for [Start].
const (
	VSFTPD Kind = iota
	ProFTPD
	PureFTPd
	Pyftpdlib
	Embedded
)

func (k Kind) String() string {
	return [...]string{"vsftpd", "proftpd", "pure-ftpd", "pyftpdlib", "embedded"}[k]
}

// Kinds are all programs that [Start] can run.
func Kinds() []Kind { return []Kind{VSFTPD, ProFTPD, PureFTPd, Pyftpdlib} }

// TLS is how a server speaks TLS. Where it does, it refuses to log in or to transfer without.
type TLS int

// Explicit is AUTH TLS; Implicit is TLS from the first byte (not PureFTPd, Pyftpdlib).
const (
	NoTLS TLS = iota
	Explicit
	Implicit
)

// Options vary a server. The zero value is a server that allows everything. A variation that a
// program has no setting for ends the test: it is the test's mistake, not the machine's.
type Options struct {
	TLS TLS

	// NoPassive makes the server refuse PASV and EPSV, NoActive PORT and EPRT; PureFTPd can do
	// neither and Embedded no NoPassive: see Proxy.
	NoPassive, NoActive bool
	PASVAddress         string // IPv4 address in PASV replies instead of the server's own

	MaxClients  int    // sessions at most, 0: no limit
	ReadOnly    bool   // nothing can be changed (PureFTPd: nothing in the root directory)
	IdleTimeout int    // seconds until an idle session is ended, 0: 10 minutes (PureFTPd: whole minutes)
	NoAppend    bool   // ProFTPD: AllowStoreRestart off, its default; vsftpd, pyftpdlib: no APPE
	IPv6        bool   // listen on ::1 instead of 127.0.0.1
	LocalTime   string // TZ of the server, whose times are in it as far as the program does so; "": UTC

	Verbose bool // every command goes to the log (PureFTPd can't: it knows only syslog)

	// Extra is appended: lines of configuration for VSFTPD and ProFTPD, arguments for PureFTPd,
	// Python statements about the class Handler for Pyftpdlib.
	Extra []string
}

// Server is a running FTP server. Its methods end the test if they can't do what they say.
type Server struct {
	Kind           Kind
	Host           string // IP literal without brackets
	Port           int
	User, Password string
	Root           string // directory of the host that the user sees as "/"
	TLS            TLS
	CACert         string // PEM file with the certificate to trust, "" without TLS

	t    testing.TB
	opt  Options
	uid  int // owner of what the sessions create, in the group nogroup; -1: this process's own
	impl runner
}

// runner is the part of a Server that differs between a process and the embedded server.
type runner interface {
	start() error
	stop()
	drop()
	log() string
}

// The one user of every server. The password has what a URL must encode.
const (
	user     = "ftpfstest"
	password = "ftp/p@ss"
)

// newServer makes the parts that all servers share; the caller sets impl and Port, and calls run.
func newServer(t testing.TB, kind Kind, opt Options) *Server {
	t.Helper()
	s := &Server{Kind: kind, Host: "127.0.0.1", User: user, Password: password, TLS: opt.TLS, t: t, opt: opt, uid: -1}
	if opt.IPv6 {
		s.Host = "::1"
	}
	dir := tempDir(t)
	s.Root = filepath.Join(dir, "root")
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if opt.TLS != NoTLS {
		s.CACert = filepath.Join(dir, "cert.pem")
		if err := writeCertificate(s.CACert, s.keyFile(), s.bothFile()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// tempDir is t.TempDir for other users too: all above it may be entered by them.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ftptest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a server's files: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *Server) dir() string      { return filepath.Dir(s.Root) }
func (s *Server) keyFile() string  { return filepath.Join(s.dir(), "key.pem") }
func (s *Server) bothFile() string { return filepath.Join(s.dir(), "both.pem") }

func (s *Server) run() *Server {
	s.t.Helper()
	s.t.Cleanup(s.impl.stop)
	if err := s.impl.start(); err != nil {
		s.t.Fatalf("starting %v: %v\n%s", s.Kind, err, s.impl.log())
	}
	return s
}

// Addr is host:port of the control connection.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// URL is the server's root with user and password: ftp, or ftpes and ftps for explicit and
// implicit TLS.
func (s *Server) URL() string { return s.URLAt(s.Addr()) }

// URLAt is URL with another host:port, as of a proxy in between.
func (s *Server) URLAt(addr string) string {
	u := url.URL{Scheme: [...]string{"ftp", "ftpes", "ftps"}[s.TLS], Host: addr, Path: "/",
		User: url.UserPassword(s.User, s.Password)}
	return u.String()
}

// Stop ends the server and all sessions, without a word to the clients. No-op when stopped.
func (s *Server) Stop() { s.impl.stop() }

// Restart is Stop, and a start on the same port with the same files.
func (s *Server) Restart() {
	s.t.Helper()
	s.impl.stop()
	if err := s.impl.start(); err != nil {
		s.t.Fatalf("starting %v again: %v\n%s", s.Kind, err, s.impl.log())
	}
}

// Drop kills the sessions that are open now: their clients find closed connections, with no reply
// before. New ones are accepted.
func (s *Server) Drop() { s.impl.drop() }

// Log is what the server has written so far; with Options.Verbose that has all commands.
func (s *Server) Log() string { return s.impl.log() }

// Path is where the host keeps the file that the user sees as name.
func (s *Server) Path(name string) string {
	return filepath.Join(s.Root, filepath.Join("/", filepath.FromSlash(name)))
}

// WriteFile puts a file under Root, with its parents, owned by the server's user.
func (s *Server) WriteFile(name string, data []byte) {
	s.t.Helper()
	s.Mkdir(filepath.Dir(filepath.Join("/", name)))
	if err := os.WriteFile(s.Path(name), data, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.own(s.Path(name))
}

// Mkdir makes a directory under Root, with its parents, owned by the server's user.
func (s *Server) Mkdir(name string) {
	s.t.Helper()
	p := s.Path(name)
	if _, err := os.Stat(p); err == nil {
		return
	}
	s.Mkdir(filepath.Dir(filepath.Join("/", name)))
	if err := os.Mkdir(p, 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.own(p)
}

// ReadFile is the content of a file under Root.
func (s *Server) ReadFile(name string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(s.Path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func (s *Server) own(path string) {
	s.t.Helper()
	if s.uid < 0 {
		return
	}
	if err := os.Lchown(path, s.uid, nobody); err != nil {
		s.t.Fatal(err)
	}
}

// unsupported ends the test for an option that the program has no setting for.
func (s *Server) unsupported(option string) {
	s.t.Helper()
	s.t.Fatalf("%v can't do Options.%s", s.Kind, option)
}

// Unavailable skips the test for a reason that lies in the machine, or fails it if CI=true: there
// everything has been installed.
func Unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and %s", reason)
	}
	t.Skip(reason)
}
