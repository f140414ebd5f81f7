package ftpconn

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// TestPRET has a server that says where a passive data connection leads to once it knows what for.
func TestPRET(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(*ftptest.Script)
		mode   string
	}{
		{"EPSV", func(*ftptest.Script) {}, "EPSV"},
		{"PASV", func(s *ftptest.Script) { s.Reply("EPSV", "500 EPSV: Command not understood") }, "PASV"},
		{"MLSD", func(s *ftptest.Script) { s.Features("EPSV", "MLST size*;modify*;type*;") }, "EPSV"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ftptest.NewScript(t)
			c.script(s)
			s.PRET()
			s.WriteFile("/d/f", []byte("content"))
			cfg := at(s.Addr(), "u", "p")
			cfg.MaxConns = 1 // the commands of two sessions would be mixed
			cl := clientOf(t, cfg)
			if err := cl.Connect(t.Context()); err != nil {
				t.Fatalf("%v; said: %v", err, s.Commands())
			}
			before := len(s.Commands())
			if l, err := cl.List(t.Context(), "/d"); err != nil || len(l) != 1 {
				t.Errorf("List: %v, %v", l, err)
			}
			for range 3 {
				if b := get(t, cl, "/d/f", 3); string(b) != "tent" {
					t.Errorf("content %q", b)
				}
			}
			if _, err := cl.Retrieve(t.Context(), "/d/missing", 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Retrieve of what is missing: %v", err)
			}
			data := random(300_000)
			if err := put(cl, "/d/new file", Replace, 0, data); err != nil {
				t.Error(err)
			}
			if b, _ := s.File("/d/new file"); !bytes.Equal(b, data) {
				t.Errorf("%d bytes were stored, of %d", len(b), len(data))
			}
			if err := put(cl, "/d/f", Append, 0, []byte("!")); !errors.Is(err, errors.ErrUnsupported) || cl.Features().Append {
				t.Errorf("an append that the server can't plan: %v", err)
			}
			if got := cl.Features().Mode; got != c.mode {
				t.Errorf("mode %s, want %s", got, c.mode)
			}
			said := s.Commands()
			for i := before; i < len(said); i++ {
				switch {
				case said[i] == c.mode && !strings.HasPrefix(said[i-1], "PRET "):
					t.Errorf("%s without PRET, behind %s", said[i], said[i-1])
				case said[i] == "EPRT", said[i] == "PORT":
					t.Errorf("%s was tried", said[i])
				}
			}
		})
	}
}

// TestPRETNotNeeded has a server that lists PRET and does without it.
func TestPRETNotNeeded(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Features("EPSV", "PRET")
	s.WriteFile("/f", []byte("content"))
	cl := clientOf(t, at(s.Addr(), "u", "p"))
	if b := get(t, cl, "/f", 0); string(b) != "content" {
		t.Errorf("content %q", b)
	}
	if last := lastOf(s.Commands(), "PRET"); last != "" {
		t.Errorf("PRET was sent: %v", s.Commands())
	}
}
