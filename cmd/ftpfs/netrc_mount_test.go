package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inNetrc quotes a token.
func inNetrc(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// TestNetrcMounts takes user and password from a file. Like curl and lftp, and unlike a password_file, it is used if others can read it too, with a warning.
func TestNetrcMounts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		option bool // netrc=FILE, else ~/.netrc
		user   string
		others bool // can read it
	}{
		{"FILE", true, "", false},
		{"FILE with a user in the URL", true, "demo@", false},
		{"FILE that others can read", true, "", true},
		{"home", false, "", false},
		{"home that others can read", false, "demo@", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			file := filepath.Join(f.home, ".netrc")
			if tt.option {
				writeFile(t, file, "machine 127.0.0.1 login demo password WRONG\n", 0o600)
				file = filepath.Join(f.home, "other")
			}
			mode := os.FileMode(0o600)
			if tt.others {
				mode = 0o644
			}
			writeFile(t, file, "machine elsewhere login demo password WRONG\nmachine 127.0.0.1 login demo password "+inNetrc(awkward)+"\n", mode)
			args := []string{strings.Replace(f.server.URL(), "demo@", tt.user, 1), f.mnt}
			if tt.option {
				args = append(args, "-o", "netrc="+file)
			}
			out, code := f.run(args...)
			if code != exitOK {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if warned := strings.Contains(out, "chmod 600 "+file); warned != tt.others || !tt.others && out != "" {
				t.Errorf("says %q", out)
			}
			f.wantFile()
			f.wantNoSecret()
			f.umount()
		})
	}
}

func TestNetrcThatWasAskedForMustBeThere(t *testing.T) {
	f := newFixture(t)
	writeFile(t, filepath.Join(f.home, ".netrc"), "machine 127.0.0.1 login demo password "+inNetrc(awkward)+"\n", 0o600)
	missing := filepath.Join(f.home, "missing")
	if out, code := f.run(f.server.URL(), f.mnt, "-o", "netrc="+missing); code != exitFailure || !strings.Contains(out, missing) {
		t.Errorf("exit code %d: %s", code, out)
	}
	f.wantMounted(false)
}
