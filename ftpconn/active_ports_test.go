package ftpconn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// occupy takes a port of this machine that no outgoing connection gets by chance.
func occupy(t *testing.T) (net.Listener, PortRange) {
	t.Helper()
	for range 100 {
		port := uint16(20000 + rand.IntN(10000))
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			t.Cleanup(func() { l.Close() })
			return l, PortRange{port, port}
		}
	}
	t.Fatal("no port is free")
	return nil, PortRange{}
}

func activeOn(s *ftptest.Script, rng PortRange, data DataMode) Config {
	cfg := at(s.Addr(), "u", "p")
	cfg.Data, cfg.ActivePorts, cfg.MaxConns = data, rng, 1
	return cfg
}

// That no port is left is waited out, and then the error says so: it is nothing that another mode or session would change.
func TestActivePortsInUse(t *testing.T) {
	for _, data := range []DataMode{DataActive, DataAuto} {
		s := ftptest.NewScript(t)
		s.Reply("EPSV", "500 no")
		s.Reply("PASV", "500 no")
		_, rng := occupy(t)
		cfg := activeOn(s, rng, data)
		cfg.Timeout = 600 * time.Millisecond
		began := time.Now()
		err := clientOf(t, cfg).Connect(t.Context())
		if took := time.Since(began); took < cfg.Timeout {
			t.Errorf("data=%v: failed after %v", data, took)
		}
		if !errors.Is(err, ErrPortsInUse) || !errors.Is(err, ErrDataMode) || !strings.Contains(err.Error(), fmt.Sprintf("active_ports=%d-%d", rng.Lo, rng.Hi)) {
			t.Errorf("data=%v: %v", data, err)
		}
		if slices.ContainsFunc(s.Commands(), func(c string) bool { return strings.HasPrefix(c, "EPRT") || strings.HasPrefix(c, "PORT") }) || s.Sessions() != 1 {
			t.Errorf("data=%v: %d sessions said %q", data, s.Sessions(), s.Commands())
		}
	}
}

func TestActivePortsFreedMeanwhile(t *testing.T) {
	s := ftptest.NewScript(t)
	s.WriteFile("/f", []byte("content"))
	l, rng := occupy(t)
	cl := clientOf(t, activeOn(s, rng, DataActive))
	done := make(chan error, 1)
	go func() { done <- cl.Connect(t.Context()) }()
	for cl.Stats().Meta == 0 { // the session is with who waits for a port
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("it didn't wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	l.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b := get(t, cl, "/f", 0); string(b) != "content" {
		t.Errorf("content %q", b)
	}
}

// A mode that worked stays in force while its ports are in use by others, and the session is kept.
func TestActivePortsTakenLater(t *testing.T) {
	s := ftptest.NewScript(t)
	s.WriteFile("/f", []byte("content"))
	l, rng := occupy(t)
	l.Close()
	cfg := activeOn(s, rng, DataAuto)
	cfg.Timeout = time.Second
	s.Reply("EPSV", "500 no")
	s.Reply("PASV", "500 no")
	cl := clientOf(t, cfg)
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cl.Retrieve(t.Context(), "/f", 0); !errors.Is(err, ErrPortsInUse) {
			t.Errorf("with the port in use: %v", err)
		}
	}
	l.Close()
	if b := get(t, cl, "/f", 0); string(b) != "content" {
		t.Errorf("content %q", b)
	}
	if mode := cl.Features().Mode; mode != "EPRT" || s.Sessions() != 1 {
		t.Errorf("mode %s, %d sessions", mode, s.Sessions())
	}
}
