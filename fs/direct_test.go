package fs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestReadersOfAFileThatIsOnlyWritten see each write at once, also within a page that they have read, by read() and in a new mapping.
func TestReadersOfAFileThatIsOnlyWritten(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	w, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	must(t, err)
	defer w.Close()
	var r *os.File
	var want []byte
	for i := range 50 {
		piece := pattern(1000)[i:]
		_, err := w.Write(piece)
		must(t, err)
		want = append(want, piece...)
		if i == 0 {
			r, err = os.Open(p)
			must(t, err)
			defer r.Close()
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<20))
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("after write %d: %d bytes read, %d written, or others", i, len(got), len(want))
		}
	}
	_, err = w.WriteAt([]byte("header"), 10)
	must(t, err)
	copy(want[10:], "header")
	got := make([]byte, 20)
	_, err = r.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want[:20]) {
		t.Errorf("after a write below: %q, want %q", got, want[:20])
	}
	must(t, w.Close())
	s.onServer(t, "f", string(want))
	got, err = os.ReadFile(p)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("another file than was written is read afterwards")
	}
}

// TestMappingOfAFileThatIsOnlyWritten is seen by those who read it, and reaches the server.
func TestMappingOfAFileThatIsOnlyWritten(t *testing.T) {
	s := newSite(t)
	p := filepath.Join(s.mnt, "f")
	want := pattern(10000)
	w, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	must(t, err)
	defer w.Close()
	_, err = w.Write(want)
	must(t, err)
	must(t, helper(t, "mmap", p, "5000").Run())
	want[5000] = 'X'
	_, err = w.WriteAt([]byte("header"), 4990)
	must(t, err)
	copy(want[4990:], "header")
	must(t, w.Close())
	got, err := os.ReadFile(p)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("another file than was written is read afterwards")
	}
	s.onServer(t, "f", string(want))
}
