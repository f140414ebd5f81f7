package main

import (
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

func TestTLS(t *testing.T) {
	for scheme, mode := range map[string]ftptest.TLS{"ftpes": ftptest.Explicit, "ftps": ftptest.Implicit} {
		t.Run(scheme, func(t *testing.T) {
			f := newFixture(t)
			s := ftptest.NewServer(t, ftptest.Options{TLS: mode})
			s.WriteFile("hello.txt", []byte("hello\n"))
			f.env = []string{passwordEnv + "=" + s.Password}
			url := scheme + "://" + s.User + "@" + s.Addr() + "/"

			if out, code := f.run(url, f.mnt); code != exitFailure || !strings.Contains(out, "cacert=FILE") {
				t.Errorf("a certificate of nobody: exit code %d: %s", code, out)
			}
			f.wantMounted(false)
			for _, option := range []string{"cacert=" + s.CACert, "tls_verify=off"} {
				if out, code := f.run("-o", option, url, f.mnt); code != exitOK {
					t.Fatalf("%s: exit code %d: %s", option, code, out)
				}
				f.wantFile()
				if m, _, _ := findMount(f.mnt); m.Source != url {
					t.Errorf("source %q, want %q", m.Source, url)
				}
				f.umount()
			}
		})
	}
}

func TestTLSNeverFallsBack(t *testing.T) {
	f := newFixture(t)
	f.env = []string{passwordEnv + "=" + awkward}
	for scheme, want := range map[string]string{"ftpes": "refuses explicit TLS", "ftps": "doesn't begin with TLS"} {
		url := strings.Replace(f.server.URL(), "ftp:", scheme+":", 1)
		if out, code := f.run("-o", "timeout=2", url, f.mnt); code != exitFailure || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d: %s", scheme, code, out)
		}
	}
}

func TestServerThatWantsTLSIsExplained(t *testing.T) {
	f := newFixture(t)
	s := ftptest.NewServer(t, ftptest.Options{TLS: ftptest.Explicit})
	f.env = []string{passwordEnv + "=" + s.Password}
	if out, code := f.run("ftp://"+s.User+"@"+s.Addr()+"/", f.mnt); code != exitFailure || !strings.Contains(out, "write ftpes://") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
