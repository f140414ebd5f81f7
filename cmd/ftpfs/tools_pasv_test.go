package main

import (
	"os"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// TestToolsDataAtAnotherAddress mounts a server whose data connections are made at an address of their own, named by PASV.
func TestToolsDataAtAnotherAddress(t *testing.T) {
	s := ftptest.NewScript(t)
	s.DataHost("127.0.0.2")
	s.WriteFile("/f", []byte("text\n"))
	url := "ftp://u:p@" + s.Addr() + "/"
	m := mountURL(t, nil, url, "pasv_address=server")
	if err := os.WriteFile(m.mnt+"/g", []byte("new\n"), 0o644); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(m.mnt + "/f"); err != nil || string(b) != "text\n" {
		t.Errorf("%q %v", b, err)
	}
	if b, _ := s.File("/g"); string(b) != "new\n" {
		t.Errorf("on the server: %q", b)
	}

	out, code := m.run("-o", "data=passive", url, m.home)
	if code != exitFailure || !strings.Contains(out, "no data connection can be made") {
		t.Errorf("without the option: exit code %d: %s", code, out)
	}
}
