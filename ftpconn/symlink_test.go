package ftpconn

import "testing"

func TestRelativeTarget(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"/", "/f", "f"}, {"/", "/", "."}, {"/d", "/", ".."}, {"/d", "/f", "../f"}, {"/d", "/d", "."}, {"/d", "/d/f", "f"},
		{"/a/b", "/a/c/f", "../c/f"}, {"/a/b/c", "/x", "../../../x"}, {"/a", "/ab", "../ab"},
	} {
		if got := relative(c.from, c.to); got != c.want {
			t.Errorf("from %s to %s: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

func TestTargetsInsideTheTreeAreShownRelative(t *testing.T) {
	for _, c := range []struct{ base, dir, target, want string }{
		{"/", "/d", "/d/f", "f"}, {"/", "/d", "g", "g"}, {"/pub", "/pub/d", "/pub/f", "../f"},
		{"/pub", "/pub/d", "/pub", ".."}, {"/pub", "/pub", "/etc/passwd", "/etc/passwd"}, {"/pub", "/pub", "/pubs/f", "/pubs/f"}, {"/pub", "/pub", "/pub/../x", "/pub/../x"},
	} {
		s := &site{base: c.base}
		if got := s.shownTarget(c.dir, c.target); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
