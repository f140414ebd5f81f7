package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpfs/fs"
	"ftpfs/ftpconn"
)

func parseList(list string) (settings, error) {
	s := defaults()
	return s, newOptionParser(&s).list(list)
}

func TestOptionValues(t *testing.T) {
	s := defaults()
	err := newOptionParser(&s).list(`data=active,active_ports=50000-50100,active_address=192.0.2.1,pasv_address=server,` +
		`max_conns=3,ttl=5m,timeout=10,ro,allow_other,uid=1000,gid=0,umask=027,default-permissions,log_level=debug,` +
		`log_file=/tmp/a\,b\\c,cache_entries=0,tls=explicit,tls_verify=off,cacert=/c,account=x,user=u,password_file=/p,netrc=/n,spool_dir=/s,` +
		`mem_cache=0,cache_dir=/d,cache_size=20GB,prefetch=off,retry=2m,spool_size=3G,upload_check=hash,upload=auto,attrs=strict,writeback`)
	if err != nil {
		t.Fatal(err)
	}
	s.Args = nil
	want := defaults()
	want.Data = ftpconn.DataActive
	want.ActivePorts = ftpconn.PortRange{Lo: 50000, Hi: 50100}
	want.ActiveAddress = s.ActiveAddress
	want.TrustPASV, want.MaxConns, want.TTL, want.Timeout = true, 3, 5*time.Minute, 10*time.Second
	want.ReadOnly, want.AllowOther, want.DefaultPermissions = true, true, true
	want.UID, want.GID, want.Umask, want.LogLevel, want.LogFile = 1000, 0, 0o27, -4, `/tmp/a,b\c`
	want.CacheEntries, want.TLS, want.tlsGiven, want.TLSVerify, want.CACert = 0, ftpconn.TLSExplicit, true, false, "/c"
	want.Account, want.URL.User, want.PasswordFile, want.Netrc, want.SpoolDir = "x", "u", "/p", "/n", "/s"
	want.StrictAttrs = true
	want.MemCache, want.CacheDir, want.CacheSize, want.Prefetch = 0, "/d", 20e9, false
	want.Retry, want.SpoolSize, want.CheckUploads, want.HashUploads = 2*time.Minute, 3<<30, true, true
	want.Upload, want.Writeback = fs.Auto, true
	if !reflect.DeepEqual(s, want) || s.ActiveAddress.String() != "192.0.2.1" {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1000": 1000, "12b": 12, "500k": 500 << 10, "64MiB": 64 << 20, "1G": 1 << 30, "1.5g": 3 << 29, "2TiB": 2 << 40, "3 MB": 3e6, "1kB": 1000,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "-1", "1x", "1kk", "1MiBs", "1iB", "NaN", "Inf", "1e30", "5000000T", "0x10", "1 2"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
	if _, err := parseList("cache_size=1M"); err == nil || !strings.Contains(err.Error(), "at least 16MiB") {
		t.Errorf("a cache_size that is too small: %v", err)
	}
}

func TestArgsForPSHaveNoSecret(t *testing.T) {
	s, err := parseList("ro,account=SECRET,max_conns=2,x-foo=bar")
	if err != nil || !slices.Equal(s.Args, []string{"--ro", "--max_conns=2"}) {
		t.Errorf("%q %v", s.Args, err)
	}
}

func TestEveryOptionIsExercised(t *testing.T) {
	text, err := os.ReadFile("options_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range optionTable() {
		if !strings.Contains(string(text), o.name) && !strings.Contains(string(text), strings.ReplaceAll(o.name, "_", "-")) {
			t.Errorf("option %s has no test", o.name)
		}
	}
}

func TestSwitchCanBeTurnedOff(t *testing.T) {
	if s, err := parseList("ro,ro=off"); err != nil || s.ReadOnly {
		t.Errorf("%v %v", s.ReadOnly, err)
	}
}

func TestOptionsOfMountAreIgnored(t *testing.T) {
	const list = "rw,noauto,auto,user,users,nouser,owner,group,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=1min," +
		"x-gvfs-show,X-mount.mkdir=0755,comment=some text,dev,nodev,suid,nosuid,exec,noexec,async,sync,atime,noatime,nodiratime," +
		"relatime,strictatime,lazytime,defaults,,nonempty"
	got, err := parseList(list)
	if want := defaults(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestOptionErrorsNameTheOption(t *testing.T) {
	for list, want := range map[string]string{
		"bogus":                    `unknown option "bogus"`,
		"ro,speed=11":              `unknown option "speed"`,
		"remount":                  `unknown option "remount"`,
		"rw=1":                     `unknown option "rw"`,
		"data":                     "option data needs a value",
		"data=":                    "option data has an empty value",
		"data=sideways":            "epsv",
		"active_ports=5":           "option active_ports=5:",
		"active_ports=600-500":     "LO-HI",
		"active_address=localhost": "IP address",
		"pasv_address=both":        "control, server",
		"upload_check=md5":         "size, hash, off",
		"max_conns=0":              "from 1 to",
		"max_conns=many":           "option max_conns=many:",
		"ttl=-1s":                  "30s or 5m",
		"timeout=0":                "at least 1s",
		"timeout=10x":              "30s or 5m",
		"ro=maybe":                 "on or off",
		"uid=nobody-here":          "no such name",
		"uid=4294967295":           "out of range",
		"umask=99":                 "octal",
		"umask=7777":               "octal",
		"log_level=loud":           "error, warn, info, debug",
		"tls=maybe":                "off, explicit, implicit",
		"user=a\nb":                "CR, LF",
	} {
		if _, err := parseList(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", list, err, want)
		}
	}
}

func TestSecretsInOptionErrors(t *testing.T) {
	for _, list := range []string{"account=a\nSECRET", "password=SECRET"} {
		if _, err := parseList(list); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v", err)
		}
	}
}

func TestSloppySkipsUnknownOptions(t *testing.T) {
	s := defaults()
	p := newOptionParser(&s)
	var warned []string
	p.sloppy, p.warn = true, func(text string) { warned = append(warned, text) }
	if err := p.list("bogus=1,ro"); err != nil || !s.ReadOnly || len(warned) != 1 || !strings.Contains(warned[0], "bogus") {
		t.Errorf("ro %v, warned %q, %v", s.ReadOnly, warned, err)
	}
	if err := p.list("max_conns=x"); err == nil {
		t.Error("a wrong value of a known option is an error all the same")
	}
}

func TestURLAndOptionsTogether(t *testing.T) {
	for _, tt := range []struct {
		url, list string
		source    string // or "error: ..."
	}{
		{"ftp://h/x", "", "ftp://h/x"},
		{"ftp://h/", "tls=explicit", "ftpes://h/"},
		{"ftp://h/", "tls=implicit", "ftps://h/"},
		{"ftps://h/", "tls=implicit", "ftps://h/"},
		{"ftps://h/", "tls=explicit", "error: contradict"},
		{"ftpes://h/", "tls=off", "error: contradict"},
		{"ftp://h/", "cacert=/c", "error: TLS is off"},
		{"ftpes://h/", "cacert=/c", "ftpes://h/"},
		{"ftp://h/", "user=me", "ftp://me@h/"},
		{"ftp://you@h/", "user=me", "ftp://you@h/"},
		{"ftp://you:pw@h/", "", "ftp://you@h/"},
	} {
		s, err := parseList(tt.list)
		if err == nil {
			err = s.complete(tt.url)
		}
		if want, isErr := strings.CutPrefix(tt.source, "error: "); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v", tt.url, tt.list, err)
			}
		} else if err != nil || s.Source != tt.source {
			t.Errorf("%s %s: %q %v", tt.url, tt.list, s.Source, err)
		}
	}
}

func TestFileNamesBecomeAbsolute(t *testing.T) {
	s, _ := parseList("log_file=ftpfs.log")
	if err := s.complete("ftp://h/"); err != nil || !strings.HasPrefix(s.LogFile, "/") {
		t.Errorf("%q %v", s.LogFile, err)
	}
}
