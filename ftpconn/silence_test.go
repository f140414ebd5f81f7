package ftpconn

import (
	"bytes"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// An upload takes as long as it takes: what is limited is the time in which nothing moves.
func TestUploadLongerThanTheTimeout(t *testing.T) {
	const timeout, pieces = time.Second, 12
	piece := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := ftptest.Start(t, kind, ftptest.Options{})
			cl := dialTo(t, s, func(c *Config) { c.Timeout = timeout })
			u, err := cl.Store(t.Context(), "/f", Replace, 0)
			if err != nil {
				t.Fatal(err)
			}
			for range pieces {
				if _, err := u.Write(piece); err != nil {
					t.Fatal(err)
				}
				time.Sleep(timeout / 3)
			}
			if err := u.Close(); err != nil {
				t.Errorf("upload: %v", err)
			}
			if got := s.ReadFile("f"); len(got) != pieces*len(piece) {
				t.Errorf("%d bytes, want %d", len(got), pieces*len(piece))
			}
		})
	}
}

// Who met a silent server has waited for the whole timeout; nothing that follows from it is to take as long again.
func TestSilenceIsWaitedForOnce(t *testing.T) {
	const timeout = 4 * time.Second
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	proxy := ftptest.NewProxy(t, s.Addr())
	cfg := at(proxy.Addr(), s.User, s.Password)
	cfg.Timeout = timeout
	cl := clientOf(t, cfg)
	var open []Download
	s.WriteFile("f", make([]byte, 8<<20))
	for range 3 { // three idle sessions, all of them to be silent
		d, err := cl.Retrieve(t.Context(), "/f", 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, d)
	}
	for _, d := range open {
		d.Close()
	}
	if _, err := cl.List(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	for i, limit := range []time.Duration{timeout + timeout/2, timeout / 2, timeout / 2} {
		start := time.Now()
		_, err := cl.List(t.Context(), "/")
		if took := time.Since(start); err == nil || took > limit {
			t.Errorf("listing %d: %v after %v, limit %v", i, err, took, limit)
		}
	}
	proxy.Thaw()
	for deadline := time.Now().Add(3 * timeout); ; time.Sleep(50 * time.Millisecond) {
		if _, err := cl.List(t.Context(), "/"); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the server answers again, and: %v", err)
		}
	}
}
