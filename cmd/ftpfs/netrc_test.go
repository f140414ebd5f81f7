package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sampleNetrc = `# everything at home
machine nas.lan login me password #1 fan   # of hash signs
machine nas.lan login backup password se#cret

machine multi.example
	login  you
	password "two words \"and\" a \\"
	account dept-7
macdef init
cd /pub
machine notreally.example login x password y

machine nologin.example password justthis
machine empty.example login e password ""
default login anonymous password me@example.org
`

func TestNetrcLookup(t *testing.T) {
	entries, err := parseNetrc(strings.ReplaceAll(sampleNetrc, "#1 fan ", "#1fan "))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host, user, login, password, account string
	}{
		{"nas.lan", "", "me", "#1fan", ""},
		{"NAS.lan", "", "me", "#1fan", ""},
		{"nas.lan", "backup", "backup", "se#cret", ""},
		{"nas.lan", "anonymous", "anonymous", "me@example.org", ""},
		{"multi.example", "you", "you", `two words "and" a \`, "dept-7"},
		{"notreally.example", "", "anonymous", "me@example.org", ""},
		{"nologin.example", "anyone", "", "justthis", ""},
		{"empty.example", "", "e", "", ""},
		{"elsewhere", "", "anonymous", "me@example.org", ""},
	} {
		e, ok := netrcFor(entries, tt.host, tt.user)
		if !ok || e.Login != tt.login || string(e.Password) != tt.password || string(e.Account) != tt.account {
			t.Errorf("%s as %q: login %q password %q account %q (found %v)", tt.host, tt.user, e.Login, string(e.Password), string(e.Account), ok)
		}
	}
	if e, ok := netrcFor(entries, "nas.lan", "stranger"); ok {
		t.Errorf("a stranger gets the entry of %q", e.Login)
	}
}

func TestNetrcCRLF(t *testing.T) {
	entries, err := parseNetrc("machine h\r\nlogin u\r\npassword p\r\n")
	if err != nil || len(entries) != 1 || entries[0].Password != "p" {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestNetrcErrorsNameTheLineAndNoSecret(t *testing.T) {
	for in, want := range map[string]string{
		"machine h login u password SECRET words":   "line 1",
		"machine h\nlogin u\npassword \"SECRET":     "line 3",
		"machine h\nlogin":                          "line 2",
		"\nlogin u password SECRET":                 "line 2",
		"macdef x\na\n\nmachine h login u password": "line 4",
	} {
		_, err := parseNetrc(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v, want an error with %q", in, err, want)
		}
	}
}

func TestNetrcHomeMayBeMissing(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	if entries, err := readNetrc("", nil); err != nil || entries != nil {
		t.Errorf("%v %v", entries, err)
	}
	if _, err := readNetrc("/nonexistent/netrc", nil); err == nil {
		t.Error("a file that was asked for may not be missing")
	}
}

func TestNetrcReadableByOthersIsWarnedAbout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netrc")
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want bool
	}{
		{"machine h login u password p", 0o644, true},
		{"machine h login u password p", 0o600, false},
		{"default login anonymous password me@", 0o644, false},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		var warned string
		if _, err := readNetrc(file, func(s string) { warned = s }); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(warned, "chmod 600") != tt.want {
			t.Errorf("mode %o: warning %q", tt.mode, warned)
		}
	}
}

func FuzzNetrc(f *testing.F) {
	f.Add(sampleNetrc)
	f.Add("machine h login u password \"a\\")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseNetrc(text)
		if err != nil && entries != nil {
			t.Error("entries beside an error")
		}
	})
}
