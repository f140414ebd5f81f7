package ftpconn

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// What a server is still doing to a file that an upload was broken off for must be over before the next one.
func TestNextChangeWaitsForAnUploadThatWasBrokenOff(t *testing.T) {
	for verb, next := range map[string]func(cl *Client) error{
		"STOR": func(cl *Client) error { return put(cl, "/d/f", Replace, 0, []byte("new")) },
		"APPE": func(cl *Client) error { return put(cl, "/d/f", Append, 0, []byte("new")) },
		"RNTO": func(cl *Client) error { return cl.Rename(t.Context(), "/d", "/e") },
	} {
		t.Run(verb, func(t *testing.T) {
			s := ftptest.NewScript(t)
			s.WriteFile("/d/f", []byte("old"))
			s.Reply("RNFR", "350 and?")
			s.Reply("RNTO", "250 done")
			settle := make(chan struct{})
			held := ftptest.OrdinaryTransfer()
			held.Hold = settle
			s.Transfer("STOR", held)
			cl := clientOf(t, at(s.Addr(), "u", "p"))
			u, err := cl.Store(t.Context(), "/d/f", Replace, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.Write(random(1000)); err != nil {
				t.Fatal(err)
			}
			u.Abort()
			early := make(chan bool)
			time.AfterFunc(200*time.Millisecond, func() {
				n := len(slices.DeleteFunc(s.Commands(), func(c string) bool { return !strings.HasPrefix(c, verb) }))
				close(settle)
				early <- n > 1 || n > 0 && verb != "STOR"
			})
			if err := next(cl); err != nil {
				t.Error(err)
			}
			if <-early {
				t.Errorf("%s was sent before the upload had ended", verb)
			}
			if err := put(cl, "/d/other", Replace, 0, []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOtherFilesDontWaitForAnUploadThatWasBrokenOff(t *testing.T) {
	s := ftptest.NewScript(t)
	settle := make(chan struct{})
	held := ftptest.OrdinaryTransfer()
	held.Hold = settle
	s.Transfer("STOR", held)
	cl := clientOf(t, at(s.Addr(), "u", "p"))
	u, err := cl.Store(t.Context(), "/f", Replace, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(random(1000)); err != nil {
		t.Fatal(err)
	}
	u.Abort()
	s.Transfer("STOR", ftptest.OrdinaryTransfer())
	if err := put(cl, "/fg", Replace, 0, []byte("x")); err != nil {
		t.Error(err)
	}
	if cl.unsettled.find("/f") == nil {
		t.Error("the server has not ended it")
	}
	close(settle)
}
