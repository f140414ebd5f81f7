package cache

import (
	"io"
	"os"
	"testing"
)

func TestSmallCopiesAreUsedAgain(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := createFile(t, s)
	mustWrite(t, f, "secret", 0)
	first := f.LocalPath()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("late"), 0); err == nil {
		t.Error("a closed file was written to")
	}
	g := createFile(t, s)
	if g.LocalPath() != first {
		t.Errorf("the copy is %s, want %s again", g.LocalPath(), first)
	}
	mustTruncate(t, g, 6)
	got := make([]byte, 6)
	if n, _, err := g.ReadAt(got, 0); n != 6 || string(got) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("a new file begins with %q, %v", got[:n], err)
	}
	mustWrite(t, g, "kept", 0)
	kept, err := g.Keep("/g")
	if err != nil {
		t.Fatal(err)
	}
	h := createFile(t, s)
	mustWrite(t, h, "other", 0)
	if content, err := os.ReadFile(kept); string(content) != "kept\x00\x00" {
		t.Errorf("what was kept became %q, %v", content, err)
	}
}

// TestCopiesThatMayBeReadAreNotUsedAgain: neither one that is being sent, nor one that a journal has named.
func TestCopiesThatMayBeReadAreNotUsedAgain(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := createFile(t, s)
	mustWrite(t, f, "sent", 0)
	st := f.Stream(0)
	defer st.Close()
	file, off, n, err := st.Lend(1, 4)
	if n != 4 || err != nil {
		t.Fatalf("Lend = %d, %v", n, err)
	}
	f.Close()
	g := createFile(t, s)
	mustWrite(t, g, "another", 0)
	got := make([]byte, 4)
	if n, err := file.ReadAt(got, off); err == nil || err == io.EOF || n != 0 {
		t.Errorf("what was lent is %q, %v after Close; want an error", got[:n], err)
	}
	if err := g.Journal(Pending{Site: "ftp://x/", Path: "/g"}); err != nil {
		t.Fatal(err)
	}
	was := g.LocalPath()
	g.Close()
	if h := createFile(t, s); h.LocalPath() == was {
		t.Error("a copy that was journaled is used again")
	}
}
