package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// appendTo appends to a file as the shell does.
func appendTo(p, text string) error {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestAppendToAFileOfAnotherIsDeniedWithoutFetchingIt(t *testing.T) {
	if os.Geteuid() != 0 {
		ftptest.Unavailable(t, "only root can lay files that the server's user may not change")
	}
	eachProxied(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server, p *ftptest.Proxy, mnt string) {
		want := pattern(2 << 20)
		s.WriteFile("f", want)
		must(t, os.Chown(s.Path("f"), 0, 0)) // readable, writable by its owner: the mode doesn't tell
		if err := appendTo(filepath.Join(mnt, "f"), "more"); !errors.Is(err, syscall.EACCES) {
			t.Errorf("appending: %v", err)
		}
		// pyftpdlib says "550 Permission denied.", which of vsftpd means the command: it has to be tried.
		if s.Kind != ftptest.Pyftpdlib && p.Count("RETR") != 0 || p.Count("APPE") > 1 {
			t.Errorf("%s", strings.Join(p.Commands(), "\n"))
		}
		sameOnServer(t, s, "f", want)
	})
}

func TestAppendWhereTheServerForbidsAPPE(t *testing.T) {
	for _, kind := range []ftptest.Kind{ftptest.VSFTPD, ftptest.ProFTPD, ftptest.Pyftpdlib} {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, ftptest.Options{NoAppend: true})
			p, mnt := proxied(t, s)
			s.WriteFile("f", pattern(100_000))
			must(t, appendTo(filepath.Join(mnt, "f"), "more"))
			sameOnServer(t, s, "f", append(pattern(100_000), "more"...))
			if p.Count("APPE") == 0 || p.Count("STOR") == 0 {
				t.Errorf("%s", strings.Join(p.Commands(), "\n"))
			}
		})
	}
}
