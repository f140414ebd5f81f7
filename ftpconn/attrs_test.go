package ftpconn

import (
	"bytes"
	"os"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// putWith uploads data, and sets what the server doesn't confirm along with the end in the ordinary way.
func putWith(t *testing.T, cl *Client, path string, data []byte, a Attrs) (set Attrs) {
	t.Helper()
	u, err := cl.Store(t.Context(), path, Replace, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(data); err != nil {
		t.Fatal(err)
	}
	set, err = CloseWith(u, a)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestAttributesBehindAnUpload looks at the server's disk: what was confirmed is there.
func TestAttributesBehindAnUpload(t *testing.T) {
	servers(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server) {
		cl := dialTo(t, s)
		// What the server has is learned in the ordinary way.
		if err := put(cl, "/first", Replace, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
		canTime := cl.SetModTime(t.Context(), "/first", time.Unix(1e9, 0)) == nil
		canMode := cl.Chmod(t.Context(), "/first", 0o640) == nil
		for i, isNew := range []bool{true, false, true} {
			path := []string{"/a", "/a", "/b"}[i]
			want := Attrs{Mode: 0o604 + uint32(i), HasMode: true, ModTime: time.Unix(1e9+int64(i)*100, 0), New: isNew}
			data := random(1000 * (i + 1))
			set := putWith(t, cl, path, data, want)
			if set.HasMode != canMode || set.ModTime.IsZero() == canTime {
				t.Errorf("confirmed: %+v; times can be set: %v, modes: %v", set, canTime, canMode)
			}
			info, err := os.Stat(s.Path(path))
			if err != nil {
				t.Fatal(err)
			}
			if canTime && !info.ModTime().Equal(want.ModTime) {
				t.Errorf("%s: time %v, want %v", path, info.ModTime(), want.ModTime)
			}
			if canMode && uint32(info.Mode().Perm()) != want.Mode {
				t.Errorf("%s: mode %o, want %o", path, info.Mode().Perm(), want.Mode)
			}
			if got := get(t, cl, path, 0); !bytes.Equal(got, data) {
				t.Errorf("%s: %d of %d bytes", path, len(got), len(data))
			}
		}
	})
}

// TestRefusedUploadLeavesAttributes has an upload over a file refused: its mode stays.
func TestRefusedUploadLeavesAttributes(t *testing.T) {
	s := ftptest.NewScript(t)
	s.Greeting("220 (vsFTPd 3.0.3)")
	cl := clientOf(t, at(s.Addr(), "u", "p"))
	if err := cl.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Reply("STOR", "553 Could not create file.")
	u, err := cl.Store(t.Context(), "/f", Replace, 0)
	if err == nil {
		_, err = CloseWith(u, Attrs{Mode: 0o600, HasMode: true})
	}
	if err == nil {
		t.Fatal("the upload was taken")
	}
	if n := count(s.Commands(), "SITE"); n > 0 {
		t.Errorf("attributes were set: %q", s.Commands())
	}
}
