package ftpconn

import (
	"errors"
	"io/fs"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

func TestWhatOneSessionMadeTheOthersFind(t *testing.T) {
	servers(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server) {
		ctx := t.Context()
		a, b := dialTo(t, s, func(c *Config) { c.MaxConns = 1 }), dialTo(t, s)
		_, err := a.Stat(ctx, "/new")
		if errors.Is(err, errors.ErrUnsupported) { // no MLST
			_, err = a.List(ctx, "/new")
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := b.Mkdir(ctx, "/new"); err != nil {
			t.Fatal(err)
		}
		if err := put(b, "/new/f", Replace, 0, []byte("content")); err != nil {
			t.Fatal(err)
		}
		if got := get(t, a, "/new/f", 0); string(got) != "content" {
			t.Errorf("got %q", got)
		}
		if err := put(a, "/new/g", Replace, 0, nil); err != nil {
			t.Error(err)
		}
		if l, err := a.List(ctx, "/new"); err != nil || len(l) != 2 {
			t.Errorf("%d entries, %v", len(l), err)
		}
	})
}
