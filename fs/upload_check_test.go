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

func TestCutUploadIsMadeWhole(t *testing.T) {
	eachProxied(t, ftptest.Options{}, func(t *testing.T, s *ftptest.Server, p *ftptest.Proxy, mnt string) {
		cut := p.On("STOR").Times(1).CutData(100_000) // as a middle box that goes away: the server says 226
		want := pattern(200_000)
		must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
		if cut.Hits() != 1 {
			t.Fatalf("nothing was cut:\n%s", p.Dialog())
		}
		sameOnServer(t, s, "f", want)
		cut = p.On("APPE").Times(1).CutData(100_000)
		f, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write(want)
		must(t, err)
		must(t, f.Close())
		if cut.Hits() != 1 {
			t.Fatalf("nothing was cut:\n%s", p.Dialog())
		}
		sameOnServer(t, s, "f", append(want, want...))
	})
}

func TestUploadThatIsAlwaysCutIsAnError(t *testing.T) {
	s := ftptest.Start(t, ftptest.Pyftpdlib, ftptest.Options{}) // where no data overtakes the STOR
	p, mnt := proxied(t, s)
	p.On("STOR").CutData(0)
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	_, err = f.WriteString("content")
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync of a file that the server confirmed and has not: %v", err)
	}
	p.ClearRules()
	must(t, f.Close()) // which tries again
	sameOnServer(t, s, "f", []byte("content"))
}

func TestCheckCostsNoRoundTripOnVsftpd(t *testing.T) {
	s := ftptest.Start(t, ftptest.VSFTPD, ftptest.Options{})
	p, mnt := proxied(t, s)
	for _, name := range []string{"a", "b", "c"} { // the first makes data connections known to work
		must(t, os.WriteFile(filepath.Join(mnt, name), []byte("abc"), 0o644))
	}
	dialog := p.Dialog()
	i := strings.LastIndex(dialog, "> STOR /c")
	size, answer := strings.Index(dialog[i:], "> SIZE /c"), strings.Index(dialog[i:], "< 226")
	if size < 0 || answer < 0 || size > answer {
		t.Errorf("the size wasn't asked for together with the upload:\n%s", dialog)
	}
}

func TestEmptyFileIsNotChecked(t *testing.T) {
	s := ftptest.Start(t, ftptest.PureFTPd, ftptest.Options{})
	p, mnt := proxied(t, s)
	must(t, os.WriteFile(filepath.Join(mnt, "f"), nil, 0o644))
	if n := p.Count("SIZE"); n != 0 {
		t.Errorf("%d SIZE commands for a file of no bytes", n)
	}
}

func TestServerWithoutSizeIsBelieved(t *testing.T) {
	s := ftptest.Start(t, ftptest.PureFTPd, ftptest.Options{})
	p, mnt := proxied(t, s)
	p.On("SIZE").Reply("502 SIZE command not implemented.")
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(mnt, name), []byte("abc"), 0o644))
	}
	if n := p.Count("SIZE"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// digesting is a ProFTPD with mod_digest.
func digesting(t *testing.T) (*ftptest.Server, *ftptest.Proxy, string) {
	t.Helper()
	s := ftptest.Start(t, ftptest.ProFTPD, ftptest.Options{Extra: []string{"LoadModule mod_digest.c", "DigestEngine on"}})
	p, mnt := proxied(t, s, func(o *Options) { o.HashUploads = true })
	return s, p, mnt
}

func TestHashOfAnUploadIsCompared(t *testing.T) {
	s, p, mnt := digesting(t)
	want := pattern(1 << 20)
	must(t, os.WriteFile(filepath.Join(mnt, "f"), want, 0o644))
	sameOnServer(t, s, "f", want)
	if p.Count("HASH") != 1 {
		t.Errorf("no HASH:\n%s", p.Dialog())
	}
}

func TestUploadWithAnotherHashIsNotBelieved(t *testing.T) {
	s, p, mnt := digesting(t)
	p.On("HASH").Times(3).Reply("213 SHA1 0-3 a9993e364706816aba3e25717850c26c9cd0d89e f")
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	_, err = f.WriteString("abd")
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync: %v", err)
	}
	must(t, f.Close())
	sameOnServer(t, s, "f", []byte("abd"))
}

func TestServerWithoutHashIsCheckedBySize(t *testing.T) {
	s := ftptest.Start(t, ftptest.Pyftpdlib, ftptest.Options{})
	p, mnt := proxied(t, s, func(o *Options) { o.HashUploads = true })
	must(t, os.WriteFile(filepath.Join(mnt, "f"), []byte("abc"), 0o644))
	if p.Count("SIZE") != 1 {
		t.Errorf("no SIZE:\n%s", p.Dialog())
	}
}

func TestHashOfPiecesIsCompared(t *testing.T) {
	s, p, mnt := digesting(t)
	p.On("STOR").Times(1).ResetData(3 << 20)
	p.On("HASH").Times(1).Reply("213 SHA1 0-3 a9993e364706816aba3e25717850c26c9cd0d89e f") // the pieces don't fit
	want := pattern(8 << 20)
	f, err := os.Create(filepath.Join(mnt, "f"))
	must(t, err)
	_, err = f.Write(want)
	must(t, err)
	if err := f.Sync(); err != nil && p.Count("REST") > 0 {
		t.Errorf("fsync: %v", err) // it's sent again as a whole
	}
	must(t, f.Close())
	sameOnServer(t, s, "f", want)
}

func TestLostHashIsAskedForAgain(t *testing.T) {
	s, p, mnt := digesting(t)
	p.On("HASH").Times(1).CloseBefore()
	must(t, os.WriteFile(filepath.Join(mnt, "f"), []byte("abc"), 0o644))
	sameOnServer(t, s, "f", []byte("abc"))
	if n := p.Count("STOR"); n != 1 {
		t.Errorf("sent %d times", n)
	}
}
