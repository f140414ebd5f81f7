package ftpconn

import (
	"testing"
	"time"
)

func TestListMLSD(t *testing.T) {
	checkLines(t, formatMLSD, [][2]string{
		{"type=file;size=5;modify=20231114221320;UNIX.mode=0644; a b", `file "a b" 5 2023-11-14T22:13:20 0644`},
		{"Type=FILE;SIZE=5;  lead", `file " lead" 5 -`},
		{"type=file;size=5; trail ", `file "trail " 5 -`},
		{"type=file;size=5; a; b=c; d", `file "a; b=c; d" 5 -`},
		{"type=dir;sizd=4096;UNIX.mode=02755;UNIX.uid=7;UNIX.gid=8; d", `dir "d" 4096 - 2755`},
		{"type=dir;UNIX.mode=755; d", `dir "d" - 0755`},
		{"type=dir;UNIX.mode=00; d", `dir "d" - 0000`},
		{"type=dir;UNIX.mode=100755; d", `dir "d" - 0755`},
		{"type=file;UNIX.owner=7;UNIX.ownername=ann lee;UNIX.group=8;UNIX.groupname=domain users; f", `file "f" - ann lee:domain users`},
		{"type=OS.unix=slink:../x/y;size=6; l", `symlink "l" 6 - -> "../x/y"`},
		{"type=OS.unix=symlink;size=6; l", `symlink "l" 6 -`},
		{"type=OS.unix=slink:; l", `symlink "l" -`},
		{"type=OS.unix=chr-13/29; c", `other "c" -`},
		{"type=unknown;size=0; fifo", `other "fifo" 0 -`},
		{"size=0;modify=19700101000000; dangling", `unknown "dangling" 0 1970-01-01T00:00:00`},
		{"type=cdir; .", ""},
		{"type=pdir; /some/where", ""},
		{"type=dir; ..", ""},
		{"  type=file;size=5; a", `file "a" 5 -`},
		{"type=file;size=5 no last semicolon", `file "no last semicolon" 5 -`},
		{" only a name", `unknown "only a name" -`},
		{"type=file; a/b", "!"},
		{"type=file;size=5;", "!"},
		{"type=file; ", "!"},
		{"226 done", "!"},
		{"", ""},
		{"type=file;size=x;modify=19; a", `!file "a" -`},
		{"type=file;UNIX.mode=9; a", `!file "a" -`},
	})
}

func TestListMLSDIds(t *testing.T) {
	for _, line := range []string{
		"perms=RADFW;unique=8g1;UNIX.owner=7;UNIX.group=8; f",
		"perm=radfw;unique=8g1;UNIX.uid=7;UNIX.gid=8; f",
	} {
		p := newListParser(formatMLSD, listNow, nil)
		e, ok, err := p.parseLine([]byte(line))
		if !ok || err != nil || e.UID != 7 || e.GID != 8 || e.Perm != "radfw" || e.Unique != "8g1" {
			t.Errorf("%q: %+v, %v", line, e, err)
		}
	}
}

func TestListMLSDNameWithALineFeed(t *testing.T) {
	entries, _ := readAll(t, formatMLSD, listNow, []byte("type=file; new\nline\r\ntype=file; b\ntype=file; c\r\n"))
	checkBriefs(t, entries, []string{`file "new\nline" -`, `file "b" -`, `file "c" -`})
}

func TestModeFactForms(t *testing.T) {
	for value, want := range map[string]uint16{"0644": 0o644, "755": 0o755, "00": 0, "02755": 0o2755, "0o644": 0o644} {
		e, _, err := parseMLSTReply("type=file;unix.mode=" + value + "; f")
		if err != nil || !e.HasMode || e.Mode != want {
			t.Errorf("%s: %o, %v", value, e.Mode, err)
		}
	}
}

func TestMLSTReply(t *testing.T) {
	for line, want := range map[string][2]string{
		" type=file;size=5; /pub/a b":   {`file "a b" 5 -`, "/pub/a b"},
		"type=file;size=5; a":           {`file "a" 5 -`, "a"}, // Apache FtpServer: no space in front
		"  type=dir; /pub/sub/\r\n":     {`dir "sub" -`, "/pub/sub/"},
		" type=cdir; /pub":              {`dir "pub" -`, "/pub"},
		" type=dir; /":                  {`dir "" -`, "/"},
		" type=OS.unix=slink:b; /pub/a": {`symlink "a" - -> "b"`, "/pub/a"},
	} {
		e, path, err := parseMLSTReply(line)
		if err != nil || brief(e) != want[0] || path != want[1] {
			t.Errorf("%q: %s, %q, %v, want %v", line, brief(e), path, err, want)
		}
	}
	for _, line := range []string{"", " ", "250 End", " type=file;", " type=file; ", " type=file; a\x00b"} {
		if e, path, err := parseMLSTReply(line); err == nil {
			t.Errorf("%q: %+v, %q, want an error", line, e, path)
		}
	}
}

func TestMDTM(t *testing.T) {
	for text, want := range map[string]time.Time{
		"20231114221320":      time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC),
		" 20231114221320\r\n": time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC),
		"20231114221320.5":    time.Date(2023, 11, 14, 22, 13, 20, 5e8, time.UTC),
		"20231114221320.123":  time.Date(2023, 11, 14, 22, 13, 20, 123e6, time.UTC),
		"19691231235959":      time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC),
		"191001114221320":     time.Date(2000, 11, 14, 22, 13, 20, 0, time.UTC), // "19" and 100
	} {
		if got, err := parseMDTM(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "2023", "20231314221320", "20230230000000", "20231114250000", "00000000000000", "2023111422132x", "20231114221320.x", "no such file"} {
		if got, err := parseMDTM(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestFactTimePrecision(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"20231114221320": time.Second, "20231114221320.1": 100 * time.Millisecond, "20231114221320.123": time.Millisecond,
		"20231114221320.987654321012": time.Nanosecond,
	} {
		if _, got, _ := factTime([]byte(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
