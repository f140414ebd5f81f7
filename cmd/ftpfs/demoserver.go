package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// demoUser is the one account of the demo's server; its password is made anew each time.
const demoUser = "demo"

// demoServer is an FTP server on loopback, in this process, over one directory. It is its library's driver.
type demoServer struct {
	root     string
	password string
	listener net.Listener
	done     chan struct{}
}

// startDemoServer serves root to demoUser with the password given.
func startDemoServer(root, password string) (*demoServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &demoServer{root: root, password: password, listener: l, done: make(chan struct{})}
	server := ftpserver.NewFtpServer(d)
	server.Logger = slog.New(slog.DiscardHandler)
	if err := server.Listen(); err != nil {
		l.Close()
		return nil, err
	}
	go func() {
		defer close(d.done)
		_ = server.Serve() // ends when the listener is closed
	}()
	return d, nil
}

// URL is how a client reaches the server; it has no password in it.
func (d *demoServer) URL() string {
	return fmt.Sprintf("ftp://%s@%s/", demoUser, d.listener.Addr())
}

// Close ends the server; sessions end with the process.
func (d *demoServer) Close() {
	d.listener.Close()
	<-d.done
}

func (d *demoServer) GetSettings() (*ftpserver.Settings, error) {
	return &ftpserver.Settings{
		Listener:                d.listener,
		IdleTimeout:             900, // seconds
		ActiveTransferPortNon20: true,
		DefaultTransferType:     ftpserver.TransferTypeBinary,
	}, nil
}

func (d *demoServer) ClientConnected(ftpserver.ClientContext) (string, error) {
	return "ftpfs demo", nil
}

func (d *demoServer) ClientDisconnected(ftpserver.ClientContext) {}

func (d *demoServer) AuthUser(_ ftpserver.ClientContext, user, password string) (ftpserver.ClientDriver, error) {
	if user != demoUser || password != d.password {
		return nil, errors.New("wrong user or password")
	}
	return demoFiles{afero.NewBasePathFs(afero.NewOsFs(), d.root)}, nil
}

func (d *demoServer) GetTLSConfig() (*tls.Config, error) { return nil, errors.New("no TLS here") }

// demoFiles tells DELE from RMD, which afero's Remove doesn't.
type demoFiles struct{ afero.Fs }

func (f demoFiles) Remove(name string) error {
	if st, err := f.Stat(name); err == nil && st.IsDir() {
		return &os.PathError{Op: "remove", Path: name, Err: errors.New("is a directory")}
	}
	return f.Fs.Remove(name)
}

func (f demoFiles) RemoveDir(name string) error {
	if st, err := f.Stat(name); err == nil && !st.IsDir() {
		return &os.PathError{Op: "rmdir", Path: name, Err: errors.New("not a directory")}
	}
	return f.Fs.Remove(name)
}
