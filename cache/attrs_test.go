package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openAttrs(t *testing.T, dir string, limit int) *Attrs {
	t.Helper()
	a, err := OpenAttrs(dir, "site", limit, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func withMode(mode uint32) func(*Attr) {
	return func(a *Attr) { a.Mode, a.HasMode = mode, true }
}

// modes returns what is remembered of some paths, "-" for nothing.
func modes(a *Attrs, paths ...string) string {
	s := ""
	for _, p := range paths {
		if v, ok := a.Get(p); ok {
			s += fmt.Sprintf("%o ", v.Mode)
		} else {
			s += "- "
		}
	}
	return s
}

func TestAttrsComeBackWhole(t *testing.T) {
	dir := t.TempDir()
	want := Attr{
		Mode: 0o4751, HasMode: true, ServerMode: 0o644, HasServerMode: true,
		ModTime: time.Unix(-5, 123456789).UTC(), Size: 17, ServerTime: time.Unix(1700000000, 0).UTC(), Precision: time.Minute,
	}
	const p = "/a \"b\"\n\xff/ü"
	a := openAttrs(t, dir, 10)
	a.Update(p, func(v *Attr) { *v = want })
	a.Update("/time", func(v *Attr) { v.ModTime, v.Size = want.ModTime, -1 })
	a.Close()
	b := openAttrs(t, dir, 10)
	if got, _ := b.Get(p); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, _ := b.Get("/time"); got.HasMode || !got.ServerTime.IsZero() || got.Size != -1 {
		t.Errorf("got %+v", got)
	}
}

func TestAttrsFollowRenames(t *testing.T) {
	dir := t.TempDir()
	a := openAttrs(t, dir, 100)
	for i, p := range []string{"/d", "/d/x", "/dx", "/e", "/e/y", "/f"} {
		a.Update(p, withMode(uint32(i+1)))
	}
	all := []string{"/d", "/d/x", "/dx", "/e", "/e/y", "/f"}
	steps := []struct {
		do   func()
		want string
	}{
		{func() { a.Exchange("/d", "/e", true) }, "4 - 3 1 - 6 "},
		{func() { a.Exchange("/d", "/e", true) }, "1 2 3 4 5 6 "},
		{func() { a.Rename("/f", "/dx", false) }, "1 2 6 4 5 - "},
		{func() { a.Rename("/e", "/f", true) }, "1 2 6 - - 4 "},
		{func() { a.Rename("/none", "/f", false) }, "1 2 6 - - - "},
		{func() { a.Drop("/d/x") }, "1 - 6 - - - "},
		{func() { a.Update("/d", func(v *Attr) { *v = Attr{} }) }, "- - 6 - - - "},
	}
	for i, s := range steps {
		s.do()
		if got := modes(a, all...); got != s.want {
			t.Errorf("step %d: %s, want %s", i, got, s.want)
		}
		if got := modes(openAttrs(t, dir, 100), all...); got != s.want {
			t.Errorf("step %d on disk: %s, want %s", i, got, s.want)
		}
	}
	if got := modes(a, "/f/y"); got != "5 " {
		t.Errorf("below a renamed directory: %s", got)
	}
}

func TestAttrsAreShared(t *testing.T) {
	dir := t.TempDir()
	a, b := openAttrs(t, dir, 10_000), openAttrs(t, dir, 10_000)
	for i := range 3 * minRewrite { // both write the log anew now and then
		a.Update("/a", withMode(uint32(i%0o1000)))
		b.Update("/b", withMode(uint32((i+1)%0o1000)))
	}
	const i = 3*minRewrite - 1
	want := fmt.Sprintf("%o %o ", i%0o1000, (i+1)%0o1000)
	for name, c := range map[string]*Attrs{"the last to write": b, "a third one": openAttrs(t, dir, 10)} {
		if got := modes(c, "/a", "/b"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(dir, filepath.Base(b.disk.name)))
	if err != nil || info.Size() > minRewrite*100 {
		t.Errorf("%v, %d bytes", err, info.Size())
	}
}

func TestAttrsSurviveACutLog(t *testing.T) {
	dir := t.TempDir()
	a := openAttrs(t, dir, 10)
	a.Update("/a", withMode(0o700))
	a.Update("/b", withMode(0o711))
	name := a.disk.name
	a.Close()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) {
		if err := os.WriteFile(name, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		b := openAttrs(t, dir, 10)
		b.Update("/c", withMode(0o722))
		b.Close()
		want := "- "
		if cut >= len(data)/2 {
			want = "700 "
		}
		c := openAttrs(t, dir, 10)
		if got := modes(c, "/a"); got != want {
			t.Errorf("cut at %d: /a %s", cut, got)
		}
		if got := modes(c, "/b", "/c"); got != "- 722 " {
			t.Errorf("cut at %d: %s", cut, got)
		}
		c.Close()
	}
}

func TestAttrsAreBounded(t *testing.T) {
	a := NewAttrs(10)
	for i := range 100 {
		a.Update(fmt.Sprint("/", i), withMode(0o600))
	}
	if got := modes(a, "/89", "/90", "/99"); got != "- 600 600 " {
		t.Errorf("remembered: %s", got)
	}
}
