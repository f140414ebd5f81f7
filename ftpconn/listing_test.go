package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

func TestListToGivesWhatListGives(t *testing.T) {
	servers(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server) {
		const n = 2*listPiece + 100
		for i := range n {
			s.WriteFile(fmt.Sprintf("big/f%05d", i), nil)
		}
		cl := dialTo(t, s)
		all, err := cl.List(t.Context(), "/big")
		if err != nil || len(all) != n {
			t.Fatalf("%d entries: %v", len(all), err)
		}
		var got []Entry
		pieces := 0
		err = cl.ListTo(t.Context(), "/big", func(l []Entry) { got = append(got, l...); pieces++ })
		if err != nil || !slices.Equal(got, all) {
			t.Errorf("%d entries that differ: %v", len(got), err)
		}
		if pieces < 3 {
			t.Errorf("%d entries came in %d pieces", n, pieces)
		}
	})
}

// TestListingThatBreaks has a server hang up behind listings, which is worth a repetition, unless entries were
// handed on.
func TestListingThatBreaks(t *testing.T) {
	for _, c := range []struct {
		lines int
		again bool
	}{{10, true}, {3 * listPiece, false}} {
		t.Run(fmt.Sprint(c.lines), func(t *testing.T) {
			var lines strings.Builder
			for i := range c.lines {
				fmt.Fprintf(&lines, "-rw-r--r-- 1 u g 5 Nov 20 2020 f%05d\r\n", i)
			}
			s := ftptest.NewScript(t)
			s.Listing(lines.String())
			cl := clientOf(t, at(s.Addr(), "u", "p"))
			if err := cl.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Transfer("LIST", ftptest.Transfer{Before: []string{"150 go"}, After: []string{ftptest.Hangup}})
			before := count(s.Commands(), "LIST")
			given := 0
			err := cl.ListTo(t.Context(), "/", func(l []Entry) { given += len(l) })
			if err == nil || errors.Is(err, ErrIncomplete) {
				t.Errorf("a broken listing ended with %v", err)
			}
			if asked := count(s.Commands(), "LIST") - before; asked > 1 != c.again || given > 0 == c.again {
				t.Errorf("asked %d times, %d entries were given (%v): %q", asked, given, err, s.Commands())
			}
		})
	}
}

func count(commands []string, verb string) (n int) {
	for _, c := range commands {
		if strings.HasPrefix(c, verb) {
			n++
		}
	}
	return n
}

// Who gives up a listing over the control connection has no part in the lines that still come.
func TestAListingByStatCanBeGivenUp(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	for i := range 3000 {
		s.WriteFile(fmt.Sprintf("d/f%04d", i), nil)
	}
	cl := newClient(t, s)
	if list, err := cl.List(t.Context(), "/d"); err != nil || len(list) != 3000 {
		t.Fatalf("%v, %d entries", err, len(list))
	}
	for i := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Millisecond)
		list, err := cl.List(ctx, "/d")
		if err == nil && len(list) != 3000 || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %d entries", err, len(list))
		}
		cancel()
	}
}
