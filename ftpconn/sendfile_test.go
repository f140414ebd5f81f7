package ftpconn

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// TestSendFile mixes pieces of a file with others, in clear text and over TLS, and goes on after a piece that the file doesn't have.
func TestSendFile(t *testing.T) {
	data := random(3<<20 + 77)
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, security := range []ftptest.TLS{ftptest.NoTLS, ftptest.Explicit} {
		s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{TLS: security})
		cl := dialTo(t, s)
		u, err := cl.Store(t.Context(), "/up", Replace, 0)
		if err != nil {
			t.Fatal(err)
		}
		const first = 1<<20 + 5
		if n, err := SendFile(u, f, 0, first); n != first || err != nil {
			t.Fatalf("SendFile = %d, %v; want %d", n, err, first)
		}
		if _, err := u.Write(data[first : first+100]); err != nil {
			t.Fatal(err)
		}
		rest := int64(len(data) - first - 100)
		n, err := SendFile(u, f, first+100, rest+10)
		if n != rest || !errors.Is(err, ErrSource) || IsLost(err) {
			t.Fatalf("SendFile behind the end = %d, %v; want %d and an error of the file", n, err, rest)
		}
		if _, err := u.Write([]byte("end")); err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		if got := s.ReadFile("up"); !bytes.Equal(got, append(bytes.Clone(data), "end"...)) {
			t.Errorf("%d bytes arrived, not what was sent", len(got))
		}
		if got := cl.Traffic().Sent; got != int64(len(data)+3) {
			t.Errorf("counted %d bytes, want %d", got, len(data)+3)
		}
	}
}
