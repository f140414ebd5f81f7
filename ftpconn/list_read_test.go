package ftpconn

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestListLineEnds(t *testing.T) {
	const l = "-rw-r--r-- 1 0 0 1 Nov 20 10:15 "
	for text, want := range map[string][]string{
		l + "a\r\n" + l + "b\r\n":                                         {"a", "b"},
		l + "a\n" + l + "b\n":                                             {"a", "b"},
		l + "a\r\n" + l + "b":                                             {"a", "b"},
		l + "a\nb\r\n" + l + "c\r\n":                                      {"a\nb", "c"},
		"total 1\n" + l + "a\r\n" + l + "c\r\n":                           {"a", "c"}, // mixed ends
		l + "a\r\n" + l + "b\n" + l + "c\r\n":                             {"a", "b", "c"},
		l + "a\n" + l + "b\r\n" + l + "c\n":                               {"a", "b\r", "c"}, // a name that ends in CR
		l + "a\n" + l + "b\nc\n" + l + "d\n":                              {"a", "b", "d"},
		l + "a\r\n" + strings.Repeat("x", 200<<10) + "\r\n" + l + "b\r\n": {"a", "b"},
	} {
		for name, r := range map[string]io.Reader{
			"whole":        strings.NewReader(text),
			"byte by byte": iotest.OneByteReader(strings.NewReader(text)),
		} {
			if name != "whole" && strings.Contains(text, "b\r\n"+l+"c\n") {
				continue // two line ends, of which one is each kind, are all that the reader knows by then
			}
			var got []string
			p := newListParser(formatLIST, listNow, nil)
			err := p.readFrom(r, func(e Entry) { got = append(got, e.Name) }, nil)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %.80q: %q, %v, want %q", name, text, got, err, want)
			}
		}
	}
}

func TestListReadErrorIsReturnedAfterTheEntries(t *testing.T) {
	broken := errors.New("connection reset")
	r := iotest.ErrReader(broken)
	p := newListParser(formatLIST, listNow, nil)
	n := 0
	err := p.readFrom(&joined{strings.NewReader("-rw-r--r-- 1 0 0 1 Nov 20 10:15 a\r\n"), r}, func(Entry) { n++ }, nil)
	if err != broken || n != 1 {
		t.Errorf("%d entries, error %v", n, err)
	}
}

// joined reads a, then b, whose error is not swallowed as io.MultiReader would an EOF.
type joined struct {
	a *strings.Reader
	b interface{ Read([]byte) (int, error) }
}

func (j *joined) Read(b []byte) (int, error) {
	if j.a.Len() > 0 {
		return j.a.Read(b)
	}
	return j.b.Read(b)
}
