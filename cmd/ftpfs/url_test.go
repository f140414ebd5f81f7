package main

import (
	"fmt"
	"strings"
	"testing"

	"ftpfs/ftpconn"
)

func TestParseURL(t *testing.T) {
	off, expl, impl := ftpconn.TLSOff, ftpconn.TLSExplicit, ftpconn.TLSImplicit
	for _, tt := range []struct {
		in   string
		want siteURL
		str  string // "" is in itself
	}{
		{"ftp://host", siteURL{Host: "host", TLS: off}, "ftp://host/"},
		{"ftp://host/", siteURL{Host: "host"}, ""},
		{"FTP://Host/", siteURL{Host: "Host"}, "ftp://Host/"},
		{"ftps://host/", siteURL{Host: "host", TLS: impl}, ""},
		{"ftpes://host/", siteURL{Host: "host", TLS: expl}, ""},
		{"ftp://10.0.0.1:2121/", siteURL{Host: "10.0.0.1", Port: 2121}, ""},
		{"ftp://host:/", siteURL{Host: "host"}, "ftp://host/"},
		{"ftp://[::1]/", siteURL{Host: "::1"}, ""},
		{"ftp://[2001:db8::7]:21/x", siteURL{Host: "2001:db8::7", Port: 21, Root: "x"}, ""},
		{"ftp://[fe80::1%25eth0]/", siteURL{Host: "fe80::1%eth0"}, ""},
		{"ftp://u@host/", siteURL{Host: "host", User: "u"}, ""},
		{"ftp://u:@host/", siteURL{Host: "host", User: "u", HasPassword: true}, "ftp://u@host/"},
		{"ftp://u:p@host/", siteURL{Host: "host", User: "u", Password: "p", HasPassword: true}, "ftp://u@host/"},
		{"ftp://u:a:b@host/", siteURL{Host: "host", User: "u", Password: "a:b", HasPassword: true}, "ftp://u@host/"},
		{"ftp://u:a@b@host/", siteURL{Host: "host", User: "u", Password: "a@b", HasPassword: true}, "ftp://u@host/"},
		{"ftp://u:a#b?c@host/", siteURL{Host: "host", User: "u", Password: "a#b?c", HasPassword: true}, "ftp://u@host/"},
		{"ftp://me%40corp:%2F%25%3a%00@host/", siteURL{}, "error: NUL"},
		{"ftp://me%40corp:%2F%25%3a@host/", siteURL{Host: "host", User: "me@corp", Password: "/%:", HasPassword: true}, "ftp://me%40corp@host/"},
		{"ftp://host/x", siteURL{Host: "host", Root: "x"}, ""},
		{"ftp://host/x/y/", siteURL{Host: "host", Root: "x/y"}, "ftp://host/x/y"},
		{"ftp://host//x", siteURL{Host: "host", Root: "/x"}, ""},
		{"ftp://host/%2Fx/y", siteURL{Host: "host", Root: "/x/y"}, "ftp://host//x/y"},
		{"ftp://host/%2fx", siteURL{Host: "host", Root: "/x"}, "ftp://host//x"},
		{"ftp://host//", siteURL{Host: "host", Root: "/"}, ""},
		{"ftp://host/.", siteURL{Host: "host"}, "ftp://host/"},
		{"ftp://host/a%20b,c", siteURL{Host: "host", Root: "a b,c"}, "ftp://host/a%20b%2Cc"},
		{"ftp://host/a#b?c", siteURL{Host: "host", Root: "a#b?c"}, "ftp://host/a%23b%3Fc"},
		{"ftp://host/a@b", siteURL{Host: "host", Root: "a@b"}, "ftp://host/a%40b"},
		{"ftp://host:21/a@b", siteURL{Host: "host", Port: 21, Root: "a@b"}, "ftp://host:21/a%40b"},
		{"ftp://host/dir;type=i", siteURL{Host: "host", Root: "dir"}, "ftp://host/dir"},
		{"ftp://host/%C3%A9%FF", siteURL{Host: "host", Root: "é\xff"}, ""},

		{"host:/path", siteURL{}, "error: ftp://host//path"},
		{"host:path", siteURL{}, "error: ftp://[user"},
		{"host/path", siteURL{}, "error: ftp://host/path"},
		{"host", siteURL{}, "error: ftp://host/"},
		{"", siteURL{}, "error: is not an FTP URL"},
		{"/mnt", siteURL{}, "error: is not an FTP URL"},
		{"u:SECRET@host:/path", siteURL{}, "error: is not an FTP URL"},
		{"u:SECRET@host://path", siteURL{}, "error: is not an FTP URL"},
		{"ftp:/host", siteURL{}, "error: is not an FTP URL"},
		{"http://u:SECRET@host/", siteURL{}, "error: unknown scheme http://"},
		{"sftp://host/", siteURL{}, "error: use sshfs"},
		{"ftp://", siteURL{}, "error: no host"},
		{"ftp:///path", siteURL{}, "error: no host"},
		{"ftp://u:SECRET@", siteURL{}, "error: no host"},
		{"ftp://:SECRET@host/", siteURL{}, "error: no user name"},
		{"ftp://u:SEC/RET@host/", siteURL{}, "error: %2F"},
		{"ftp://u:SECRET/", siteURL{}, "error: must be a number"},
		{"ftp://host:0/", siteURL{}, "error: from 1 to 65535"},
		{"ftp://host:65536/", siteURL{}, "error: from 1 to 65535"},
		{"ftp://::1/", siteURL{}, "error: in brackets"},
		{"ftp://[::1/", siteURL{}, "error: no ']'"},
		{"ftp://[10.0.0.1]/", siteURL{}, "error: not an IPv6"},
		{"ftp://[::1]x/", siteURL{}, "error: behind the IPv6"},
		{"ftp://ho st/", siteURL{}, "error: ' '"},
		{"ftp://bücher.example/", siteURL{}, "error: xn--"},
		{"ftp://host/a%0db", siteURL{}, "error: CR, LF or NUL"},
		{"ftp://host/a\nb", siteURL{}, "error: CR, LF or NUL"},
		{"ftp://u%0aPASS:SECRET@host/", siteURL{}, "error: CR, LF or NUL"},
		{"ftp://u:SECRET%0d@host/", siteURL{}, "error: CR, LF or NUL"},
		{"ftp://u:SECRET%zz@host/", siteURL{}, "error: %25"},
		{"ftp://u:SECRET%+1@host/", siteURL{}, "error: %25"},
		{"ftp://u:SECRET%@host/", siteURL{}, "error: %25"},
	} {
		got, err := parseURL(tt.in)
		if want, isErr := strings.CutPrefix(tt.str, "error: "); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error %v, want one with %q", tt.in, err, want)
			} else if strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET") {
				t.Errorf("%q: the error shows the password: %v", tt.in, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v %v, want %+v", tt.in, got, err, tt.want)
			continue
		}
		want := tt.str
		if want == "" {
			want = tt.in
		}
		if got.String() != want {
			t.Errorf("%q is shown as %q, want %q", tt.in, got, want)
		}
		again, err := parseURL(got.String())
		got.Password, got.HasPassword = "", false
		if err != nil || again != got {
			t.Errorf("%q, shown as %q, is read back as %+v %v", tt.in, got, again, err)
		}
	}
}

func TestSecretIsNeverFormatted(t *testing.T) {
	u := siteURL{Host: "h", User: "u", Password: "hunter2"}
	type wrapper struct{ S secret }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{u.Password, u, &u, wrapper{u.Password}, []secret{u.Password}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "hunter") || strings.Contains(s, "68756e746572") {
				t.Errorf("%s shows %s", verb, s)
			}
		}
	}
}
