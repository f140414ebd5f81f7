package ftptest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// NewServer is an FTP server in this process, over a directory of its own, until the test ends. It
// has MLSD, MFMT, AVBL, SITE CHMOD and SITE SYMLINK, and speaks TLS without asking for a session to be resumed.
func NewServer(t testing.TB, opt Options) *Server {
	t.Helper()
	s := newServer(t, Embedded, opt)
	switch {
	case opt.NoPassive:
		s.unsupported("NoPassive")
	case opt.NoAppend:
		s.unsupported("NoAppend")
	case opt.LocalTime != "":
		s.unsupported("LocalTime")
	case len(opt.Extra) > 0:
		s.unsupported("Extra")
	}
	s.impl = &embedded{s: s}
	return s.run()
}

// embedded runs a Server with ftpserverlib, and is its driver.
type embedded struct {
	s   *Server
	tls *tls.Config

	control  connSet
	data     connSet // and its listeners
	logged   logBuffer
	serving  sync.WaitGroup // accepts
	sessions sync.WaitGroup
	listener net.Listener // nil: not running
}

func (e *embedded) start() error {
	if e.s.TLS != NoTLS && e.tls == nil {
		cert, err := tls.LoadX509KeyPair(e.s.CACert, e.s.keyFile())
		if err != nil {
			return err
		}
		e.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	l, err := net.Listen("tcp", e.s.Addr()) // port 0 at first
	if err != nil {
		return err
	}
	e.s.Port = l.Addr().(*net.TCPAddr).Port
	e.listener = &trackingListener{Listener: l, conns: &e.control, accepted: &e.sessions,
		max: e.s.opt.MaxClients, tooMany: "421 Too many connections, please try later.\r\n"}
	server := ftpserver.NewFtpServer(e)
	level := slog.LevelWarn
	if e.s.opt.Verbose {
		level = slog.LevelDebug
	}
	server.Logger = slog.New(slog.NewTextHandler(&e.logged, &slog.HandlerOptions{Level: level, ReplaceAttr: hidePassword}))
	if err := server.Listen(); err != nil {
		l.Close()
		return err
	}
	e.serving.Go(func() { server.Serve() }) // ends when the listener is closed
	return nil
}

// hidePassword keeps passwords out of the log of commands.
func hidePassword(_ []string, a slog.Attr) slog.Attr {
	if line := a.Value.String(); a.Key == "line" && len(line) > 4 && strings.EqualFold(line[:5], "PASS ") {
		return slog.String(a.Key, "PASS ***")
	}
	return a
}

func (e *embedded) stop() {
	if e.listener == nil {
		return
	}
	e.listener.Close()
	e.serving.Wait()
	e.listener = nil
	e.drop()
	e.sessions.Wait()
}

func (e *embedded) drop() {
	e.control.closeAll()
	e.data.closeAll()
}

func (e *embedded) log() string { return e.logged.String() }

// GetSettings is ftpserverlib's question at each start.
func (e *embedded) GetSettings() (*ftpserver.Settings, error) {
	o := e.s.opt
	settings := &ftpserver.Settings{
		Listener:                e.listener,
		PublicHost:              o.PASVAddress,
		IdleTimeout:             or(o.IdleTimeout, 600),
		ActiveTransferPortNon20: true,
		DisableActiveMode:       o.NoActive,
		DefaultTransferType:     ftpserver.TransferTypeBinary,
	}
	switch o.TLS {
	case Explicit:
		settings.TLSRequired = ftpserver.MandatoryEncryption
	case Implicit:
		settings.TLSRequired = ftpserver.ImplicitEncryption
		settings.Listener = tls.NewListener(e.listener, e.tls)
	}
	return settings, nil
}

// WrapPassiveListener lets drop and stop find the data connections, and what waits for one.
func (e *embedded) WrapPassiveListener(l net.Listener) (net.Listener, error) {
	tracked := &trackingListener{Listener: l, conns: &e.data}
	e.data.add(tracked, 0)
	return tracked, nil
}

func (e *embedded) ClientConnected(cc ftpserver.ClientContext) (string, error) {
	cc.SetDebug(e.s.opt.Verbose)
	return "ready", nil
}

func (e *embedded) ClientDisconnected(ftpserver.ClientContext) { e.sessions.Done() }

func (e *embedded) GetTLSConfig() (*tls.Config, error) {
	if e.tls == nil {
		return nil, errors.New("no TLS here")
	}
	return e.tls, nil
}

func (e *embedded) AuthUser(_ ftpserver.ClientContext, name, pass string) (ftpserver.ClientDriver, error) {
	if name != e.s.User || pass != e.s.Password {
		return nil, errors.New("wrong user or password")
	}
	var files afero.Fs = afero.NewBasePathFs(afero.NewOsFs(), e.s.Root)
	if e.s.opt.ReadOnly {
		files = afero.NewReadOnlyFs(files)
	}
	return &embeddedFiles{Fs: files, s: e.s}, nil
}

// embeddedFiles tells files from directories where afero doesn't, and has what it lacks.
type embeddedFiles struct {
	afero.Fs
	s *Server
}

func (f *embeddedFiles) Remove(name string) error {
	if info, err := os.Lstat(f.s.Path(name)); err == nil && info.IsDir() {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.EISDIR}
	}
	return f.Fs.Remove(name)
}

func (f *embeddedFiles) RemoveDir(name string) error {
	if info, err := os.Lstat(f.s.Path(name)); err == nil && !info.IsDir() {
		return &fs.PathError{Op: "rmdir", Path: name, Err: syscall.ENOTDIR}
	}
	return f.Fs.Remove(name)
}

func (f *embeddedFiles) Symlink(target, name string) error {
	if f.s.opt.ReadOnly {
		return fs.ErrPermission
	}
	return os.Symlink(target, f.s.Path(name))
}

func (f *embeddedFiles) GetAvailableSpace(name string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.s.Path(name), &st); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// connSet has the open connections and listeners of a server. Safe for concurrent use.
type connSet struct {
	mu   sync.Mutex // guards open
	open map[io.Closer]struct{}
}

// add says false if max (above 0) are open already.
func (c *connSet) add(conn io.Closer, max int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if max > 0 && len(c.open) >= max {
		return false
	}
	if c.open == nil {
		c.open = map[io.Closer]struct{}{}
	}
	c.open[conn] = struct{}{}
	return true
}

func (c *connSet) remove(conn io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *connSet) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for conn := range open {
		conn.Close()
	}
}

// trackingListener enters what it accepts into conns and refuses with tooMany what is above max.
type trackingListener struct {
	net.Listener
	conns    *connSet
	accepted *sync.WaitGroup // counts connections, nil: doesn't
	max      int
	tooMany  string
}

func (l *trackingListener) Close() error {
	l.conns.remove(l)
	return l.Listener.Close()
}

func (l *trackingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tracked := &trackedConn{Conn: conn, conns: l.conns}
		if l.conns.add(tracked, l.max) {
			if l.accepted != nil {
				l.accepted.Add(1)
			}
			return tracked, nil
		}
		conn.Write([]byte(l.tooMany))
		conn.Close()
	}
}

type trackedConn struct {
	net.Conn
	conns *connSet
}

func (c *trackedConn) Close() error {
	c.conns.remove(c)
	return c.Conn.Close()
}

// logBuffer is a strings.Builder that may be written and read at once.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
