package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// siteAt gives settings for a URL, in a home of its own that has the netrc text given.
func siteAt(t *testing.T, url, netrc string) *settings {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	if netrc != "" {
		writeFile(t, filepath.Join(home, ".netrc"), netrc, 0o600)
	}
	t.Setenv(passwordEnv, "")
	os.Unsetenv(passwordEnv)
	s := defaults()
	if err := s.complete(url); err != nil {
		t.Fatal(err)
	}
	return &s
}

func writeFile(t *testing.T, file, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func noPrompt(string) (string, error) { return "", errors.New("prompted") }

func TestPasswordOrder(t *testing.T) {
	const netrc = "machine h login u password from-netrc\n"
	file := writeFile(t, filepath.Join(t.TempDir(), "pw"), "from-file\nsecond line\n", 0o600)
	for _, tt := range []struct {
		name, url, file, env, netrc, want string
	}{
		{"URL before all", "ftp://u:from-url@h/", file, "from-env", netrc, "from-url"},
		{"empty in URL counts", "ftp://u:@h/", file, "from-env", netrc, ""},
		{"file before environment", "ftp://u@h/", file, "from-env", netrc, "from-file"},
		{"environment before netrc", "ftp://u@h/", "", "from-env", netrc, "from-env"},
		{"netrc before prompt", "ftp://u@h/", "", "", netrc, "from-netrc"},
		{"prompt last", "ftp://other@h/", "", "", netrc, "from-prompt"},
		{"anonymous without a user", "ftp://h2/", "", "", netrc, "anonymous@"},
		{"anonymous by name", "ftp://anonymous@h2/", "", "", "", "anonymous@"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := siteAt(t, tt.url, tt.netrc)
			s.PasswordFile = tt.file
			if tt.env != "" {
				t.Setenv(passwordEnv, tt.env)
			}
			err := credentials(s, func(string) {}, func(string) (string, error) { return "from-prompt", nil })
			if err != nil || string(s.URL.Password) != tt.want {
				t.Errorf("%q %v, want %q", string(s.URL.Password), err, tt.want)
			}
		})
	}
}

func TestNetrcGivesUserAndAccount(t *testing.T) {
	s := siteAt(t, "ftp://h/", "machine h login me password p account a")
	if err := credentials(s, func(string) {}, noPrompt); err != nil || s.URL.User != "me" || s.Account != "a" {
		t.Errorf("user %q account %q %v", s.URL.User, string(s.Account), err)
	}
}

func TestPasswordWithoutUserIsRefused(t *testing.T) {
	s := siteAt(t, "ftp://h/", "")
	t.Setenv(passwordEnv, "SECRET")
	err := credentials(s, func(string) {}, noPrompt)
	if err == nil || !strings.Contains(err.Error(), "user=NAME") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("%v", err)
	}
}

func TestPasswordThatFTPCannotSendIsRefused(t *testing.T) {
	s := siteAt(t, "ftp://u@h/", "")
	t.Setenv(passwordEnv, "a\r\nDELE SECRET")
	err := credentials(s, func(string) {}, noPrompt)
	if err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("%v", err)
	}
}

func TestPasswordFilePermissions(t *testing.T) {
	dir := t.TempDir()
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o620: false, 0o666: false} {
		file := writeFile(t, filepath.Join(dir, mode.String()), "p", mode)
		p, err := readPasswordFile(file)
		if ok && (err != nil || p != "p") {
			t.Errorf("%o: %v", mode, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+file)) {
			t.Errorf("%o: error %v doesn't name the way out", mode, err)
		}
	}
}

func TestPasswordFileFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"p": "p", "p\n": "p", "p\r\n": "p", " p \nx": " p ", "#p\n": "#p", "pä\xff\n": "pä\xff", "": "error", "\nx": "error",
	} {
		got, err := readPasswordFile(writeFile(t, filepath.Join(t.TempDir(), "pw"), text, 0o600))
		if want == "error" {
			if err == nil {
				t.Errorf("%q: no error", text)
			}
		} else if got != want || err != nil {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
}

func TestPasswordFileFromAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("piped\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if p, err := readPasswordFile("/dev/fd/" + strconv.Itoa(int(r.Fd()))); err != nil || p != "piped" {
		t.Errorf("%q %v", p, err)
	}
}
