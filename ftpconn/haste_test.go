package ftpconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/ftpconn/ftptest"
)

// tcpState is the state of c in the kernel's numbers.
func tcpState(t *testing.T, c *net.TCPConn) uint8 {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	rc.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

// TestHastenedEndIsAnOrderlyOne is what the other end relies on: the reset has come, and all bytes and the end of
// the data are read before it.
func TestHastenedEndIsAnOrderlyOne(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	data := random(5000)
	c.Write(data)
	if !hasten(c) {
		t.Fatal("the end was not hastened")
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const closed = 7
	for deadline := time.Now().Add(5 * time.Second); tcpState(t, s.(*net.TCPConn)) != closed; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no reset came")
		}
	}
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d of %d bytes: %v", len(got), len(data), err)
	}
}

func TestHastenedUploadsAreWhole(t *testing.T) {
	if ok, why := ftptest.Installed(ftptest.VSFTPD); !ok {
		t.Skip(why)
	}
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	cl := dialTo(t, s, func(c *Config) { c.CheckUploads = true })
	for i := range 60 {
		data := random(1 + i*1111)
		name := fmt.Sprintf("/up%d", i%7)
		if err := put(cl, name, Replace, 0, data); err != nil {
			t.Fatal(err)
		}
		if got := get(t, cl, name, 0); !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes arrived", len(got), len(data))
		}
	}
	cl.site.mu.Lock()
	defer cl.site.mu.Unlock()
	if cl.site.hastened < 50 || cl.site.harmed > 0 {
		t.Errorf("of 60 uploads the ends of %d were hastened, and %d came to harm", cl.site.hastened, cl.site.harmed)
	}
}

// TestConfirmedUploadThatIsShort has a server, of the kind that queues commands, lose bytes and confirm them.
func TestConfirmedUploadThatIsShort(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Greeting("220 (vsFTPd 3.0.3)")
	cfg := at(s.Addr(), "u", "p")
	cfg.CheckUploads = true
	cl := clientOf(t, cfg)
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Reply("SIZE", "213 99")
	if err := put(cl, "/f", Replace, 0, random(100)); !errors.Is(err, ErrMismatch) {
		t.Errorf("a cut upload ended with %v", err)
	}
	if err := put(cl, "/f", Replace, 0, random(99)); err != nil {
		t.Error(err)
	}
}
