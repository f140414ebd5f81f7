package cache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func openLeftovers(t *testing.T, dir, site string) *Leftovers {
	t.Helper()
	l, err := OpenLeftovers(dir, site, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// paths returns the sorted paths of leftovers, with their homes behind them.
func paths(list []Leftover) (paths []string) {
	for _, l := range list {
		paths = append(paths, strings.Join(append([]string{l.Path}, l.Homes...), " "))
	}
	slices.Sort(paths)
	return paths
}

func TestLeftoversOfTheDeadAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	dead := openLeftovers(t, dir, "site")
	for _, p := range []string{"/a", "/b\n\xff", "/c"} {
		if err := dead.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := dead.Add("/c", "/home", "/other"); err != nil {
		t.Fatal(err)
	}
	dead.Done("/a")
	if got := openLeftovers(t, dir, "site").Old(); len(got) != 0 {
		t.Fatalf("taken from the living: %q", got)
	}
	dead.Close()
	if got := openLeftovers(t, dir, "another site").Old(); len(got) != 0 {
		t.Fatalf("of another site: %q", got)
	}
	next := openLeftovers(t, dir, "site")
	got := paths(next.Old())
	if want := []string{"/b\n\xff", "/c /home /other"}; !slices.Equal(got, want) {
		t.Fatalf("left: %q, want %q", got, want)
	}
	next.Done("/c")
	next.Close()
	if got := paths(openLeftovers(t, dir, "site").Old()); !slices.Equal(got, []string{"/b\n\xff"}) {
		t.Fatalf("left in the end: %q", got)
	}
}

func TestLeftoversKeepNoFileForNothing(t *testing.T) {
	dir := t.TempDir()
	l := openLeftovers(t, dir, "site")
	if err := l.Add("/a"); err != nil {
		t.Fatal(err)
	}
	l.Done("/a")
	l.Close()
	files, err := filepath.Glob(filepath.Join(dir, "left-*"))
	if err != nil || len(files) != 0 {
		t.Errorf("%v %v", files, err)
	}
}

func TestLeftoversIgnoreACutLine(t *testing.T) {
	dir := t.TempDir()
	dead := openLeftovers(t, dir, "site")
	if err := dead.Add("/a"); err != nil {
		t.Fatal(err)
	}
	if err := dead.Add("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	name := dead.file.Name()
	dead.Close()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, info.Size()-2); err != nil {
		t.Fatal(err)
	}
	if got := paths(openLeftovers(t, dir, "site").Old()); !slices.Equal(got, []string{"/a"}) {
		t.Errorf("%q", got)
	}
}
