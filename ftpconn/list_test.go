package ftpconn

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

var listNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// brief is an entry on one line: type name size time mode owner:group ids links target, each when said.
func brief(e Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q", e.Type, e.Name)
	if e.Size >= 0 {
		fmt.Fprintf(&b, " %d", e.Size)
	}
	layout := map[time.Duration]string{0: "-", 24 * time.Hour: "2006-01-02", time.Minute: "2006-01-02T15:04", time.Second: "2006-01-02T15:04:05"}
	b.WriteString(" " + e.ModTime.Format(layout[e.ModPrecision]))
	if e.HasMode {
		fmt.Fprintf(&b, " %04o", e.Mode)
	}
	if e.Owner != "" || e.Group != "" {
		fmt.Fprintf(&b, " %s:%s", e.Owner, e.Group)
	}
	if e.Nlink > 0 {
		fmt.Fprintf(&b, " x%d", e.Nlink)
	}
	if e.Target != "" {
		fmt.Fprintf(&b, " -> %q", e.Target)
	}
	return b.String()
}

// checkLines parses each line of the table in a listing of its own; "" for no entry, "!" in front for a
// warning.
func checkLines(t *testing.T, format listFormat, table [][2]string) {
	t.Helper()
	for _, row := range table {
		entries, warnings := readAll(t, format, listNow, []byte(row[0]+"\r\n"))
		got := ""
		if len(warnings) > 0 {
			got = "!"
		}
		for _, e := range entries {
			got += brief(e)
		}
		if got != row[1] {
			t.Errorf("%q\n got %s\nwant %s", row[0], got, row[1])
		}
	}
}

func TestListUnixColumns(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"-rw-r--r--   1 ann  staff   531 Nov 19 03:26 a b", `file "a b" 531 2026-11-19T03:26 0644 ann:staff x1`},
		{"-rw-r--r--   1 ann          531 Nov 19 03:26 no group", `file "no group" 531 2026-11-19T03:26 0644 ann: x1`},
		{"-rw-r--r--  ann  staff      531 Nov 19 03:26 no links", `file "no links" 531 2026-11-19T03:26 0644 ann:staff`},
		{"-rw-r--r--   1 DOM\\ann lee   DOM\\all users   7 Nov 19 03:26 f", `file "f" 7 2026-11-19T03:26 0644 DOM\ann lee:DOM\all users x1`},
		{"-rw-r--r--   1 ann domain users 7 Nov 19 03:26 f", `file "f" 7 2026-11-19T03:26 0644 ann:domain users x1`},
		{"-rw-r--r--   1 ann verylonggroup7654 Nov 19 03:26 f", `file "f" 7654 2026-11-19T03:26 0644 ann:verylonggroup x1`},
		{"drwxr-xr-x+1234 0 0 4096 Nov 19 03:26 d", `dir "d" 4096 2026-11-19T03:26 0755 0:0 x1234`},
		{"drwxr-xr-x. 2 0 0 4096 Nov 19 03:26 d", `dir "d" 4096 2026-11-19T03:26 0755 0:0 x2`},
		{"drwxr-xr-x@ 2 0 0 4096 Nov 19 03:26 d", `dir "d" 4096 2026-11-19T03:26 0755 0:0 x2`},
		{"-rwsr-Sr-t 1 0 0 1 Nov 19 03:26 bits", `file "bits" 1 2026-11-19T03:26 7745 0:0 x1`},
		{"-rw-r-lr-- 1 0 0 1 Nov 19 03:26 lock", `file "lock" 1 2026-11-19T03:26 2644 0:0 x1`},
		{"  17 4 -rw-r--r-- 1 0 0 1 Nov 19 03:26 inode", `file "inode" 1 2026-11-19T03:26 0644 0:0 x1`},
		{"-rw-r--r-- 1 0 0 9000000000000 Nov 19 03:26 big", `file "big" 9000000000000 2026-11-19T03:26 0644 0:0 x1`},
		{"-rw-r--r-- 1 0 0 -1610612736 Nov 19 03:26 overflow", `file "overflow" 2026-11-19T03:26 0644 0:0 x1`},
		{"-rw-r--r-- 1 0 0 1.5M Nov 19 03:26 human", `file "human" 1572864 2026-11-19T03:26 0644 0:0 x1`},
		{"crw-rw-rw- 1 root tty 5,   1 Nov 19 03:26 tty", `other "tty" 2026-11-19T03:26 0666 root:tty x1`},
		{"crw-rw-rw- 1 root tty 5,1 Nov 19 03:26 tty", `other "tty" 2026-11-19T03:26 0666 root:tty x1`},
		{"srwxrwxrwx 1 0 0 0 Nov 19 03:26 sock", `other "sock" 0 2026-11-19T03:26 0777 0:0 x1`},
		{"prw-rw-rw- 1 0 0 0 Nov 19 03:26 pipe", `other "pipe" 0 2026-11-19T03:26 0666 0:0 x1`},
		{"Drw-rw-rw- 1 0 0 0 Nov 19 03:26 door", `other "door" 0 2026-11-19T03:26 0666 0:0 x1`},
		{"?rw-rw-rw- 1 0 0 0 Nov 19 03:26 odd", `!unknown "odd" 0 2026-11-19T03:26 0666 0:0 x1`},
		{"-rw-r--r--        0       120      120 Nov 19 03:26 mac", `file "mac" 120 2026-11-19T03:26 0644`},
		{"drwxr-x---               folder        4 Nov 19 03:26 mac", `dir "mac" 2026-11-19T03:26 0750`},
		{"d [RWCE-F-S] admin      512    Nov 19 03:26    netware", `dir "netware" 512 2026-11-19T03:26 admin:`},
		{"-[RWCEM--]  1 ann        99 Nov 19 03:26 hellsoft", `file "hellsoft" 99 2026-11-19T03:26 ann: x1`},
		{"0040755 0 12 4096 1000000000  numbers", `dir "numbers" 4096 2001-09-09T01:46:40 0755 0:12`},
	})
}

func TestListUnixDates(t *testing.T) {
	for date, want := range map[string]string{
		"Nov 21 11:59":                        "2026-11-21T11:59", // 24 h ahead at most
		"Nov 21 12:01":                        "2025-11-21T12:01",
		"Jan  5  2024":                        "2024-01-05",
		"Feb 29 10:00":                        "2024-02-29T10:00",
		"Nov 19 03:26:07 2019":                "2019-11-19T03:26:07",
		"nov. 19 03:26":                       "2026-11-19T03:26",
		"19 nov 03:26":                        "2026-11-19T03:26",
		"19. Nov. 2019":                       "2019-11-19",
		"19. Okt., 03:26":                     "2026-10-19T03:26",
		"2019-11-05 03:26":                    "2019-11-05T03:26",
		"2019/11/05 03:26:07":                 "2019-11-05T03:26:07",
		"2019-11-05 03:26:07.000000000 +0530": "2019-11-04T21:56:07",
		"05-11-2019 03:26":                    "2019-11-05T03:26",
		"11-05 03:26":                         "2026-11-05T03:26",
		"11-05 2019":                          "2019-11-05",
		"11 5 03:26":                          "2026-11-05T03:26",
		"11月  5 03:26":                        "2026-11-05T03:26",
		"11月 5日 2019年":                        "2019-11-05",
		"2019年 11月 5日":                        "2019-11-05",
		"11\xd4\xc2  5 03:26":                 "2026-11-05T03:26", // GBK
		"11\x8c\x8e 5\x93\xfa 03:26":          "2026-11-05T03:26", // Shift JIS
		"11월  5  2019":                        "2019-11-05",
		"m\xe4r 5 03:26":                      "2026-03-05T03:26", // ISO 8859-1
		"5 \xec\xe0\xff 03:26":                "2026-05-05T03:26", // Windows-1251
		"5 МАЯ 03:26":                         "2026-05-05T03:26",
		"5 wrz 03:26":                         "2026-09-05T03:26",
		"??? ?? ?????":                        "-",
		"Jan 1 0:0":                           "2026-01-01T00:00",
		"Nov 19 03:26PM":                      "2026-11-19T15:26",
	} {
		line := "-rw-r--r-- 1 0 0 2003 " + date + " 12:00 2019 name"
		entries, warnings := readAll(t, formatLIST, listNow, []byte(line))
		if len(entries) != 1 || len(warnings) > 0 || entries[0].Name != "12:00 2019 name" || entries[0].Size != 2003 {
			t.Errorf("%q: %+v, warnings %v", line, entries, warnings)
			continue
		}
		if want := fmt.Sprintf(`file "12:00 2019 name" 2003 %s 0644 0:0 x1`, want); brief(entries[0]) != want {
			t.Errorf("%q: %s, want %s", line, brief(entries[0]), want)
		}
	}
}

func TestListEveryMonthWordIsOneMonth(t *testing.T) {
	for month, words := range []string{"", "Jan janv. ene Янв oca led", "Feb févr. fev фев şub úno", "Mar märz mars мар", "Apr avr. abr апр kwi",
		"May mai maj мая máj", "Jun juin giu июн cze haz", "Jul juil. lug июл", "Aug août ago авг sie ağu", "Sep sept. set сен wrz eyl",
		"Oct okt out ott окт paź eki", "Nov noiem. ноя lis kas marras", "Dec dez dic déc дек gru ara"} {
		for _, w := range strings.Fields(words) {
			p := newListParser(formatLIST, listNow, nil)
			if got := p.monthWord([]byte(w)); got != month {
				t.Errorf("%s is month %d, want %d", w, got, month)
			}
		}
	}
}

func TestListTimesAreInTheZoneOfTheServer(t *testing.T) {
	zone := time.FixedZone("", 8*3600)
	p := newListParser(formatLIST, listNow, zone)
	e, _, _ := p.parseLine([]byte("-rw-r--r-- 1 0 0 1 Nov 20 20:30 a"))
	if want := time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC); !e.ModTime.Equal(want) || e.ModTime.Location() != time.UTC {
		t.Errorf("time is %v, want %v", e.ModTime, want)
	}
}

func TestListNewYearsEve(t *testing.T) {
	p := newListParser(formatLIST, time.Date(2026, 12, 31, 23, 50, 0, 0, time.UTC), nil)
	e, _, _ := p.parseLine([]byte("-rw-r--r-- 1 0 0 1 Jan  1 00:10 a"))
	if e.ModTime.Year() != 2027 {
		t.Errorf("year is %d, want 2027", e.ModTime.Year())
	}
}

func TestListNames(t *testing.T) {
	const l = "-rw-r--r-- 1 0 0 1 "
	for line, want := range map[string]string{
		l + "Nov 20 10:15  lead":         " lead",
		l + "Nov 20 10:15 trail ":        "trail ",
		l + "Nov 20 10:15  ":             " ",
		l + "Nov 14  2023  lead":         " lead",
		l + "Nov 14 2023  year padded":   "year padded", // AIX
		l + "Nov 20 10:15 Jan  1 12:00":  "Jan  1 12:00",
		l + "Nov 20 10:15 a -> b":        "a -> b",
		l + "Nov 20 10:15 sub/a":         "a",
		l + "Nov 20 10:15 ./a":           "a",
		l + "Nov 20 10:15 a\xff\x1b\tb":  "a\xff\x1b\tb",
		l + "2012.08.30        no clock": "no clock",
		l + "Nov 20 10:15 cr\r":          "cr\r",
		l + "Nov 20 10:15 .":             "",
		l + "Nov 20 10:15 ..":            "",
		l + "Nov 20 10:15 ":              "",
		l + "Nov 20 10:15":               "",
		l + "Nov 20 10:15 /":             "",
		l + "Nov 20 10:15 a/..":          "",
		l + "Nov 20 10:15 nul\x00":       "",
	} {
		entries, _ := readAll(t, formatLIST, listNow, []byte(line+"\r\n"))
		got := ""
		if len(entries) > 0 {
			got = entries[0].Name
		}
		if got != want || len(entries) > 1 {
			t.Errorf("%q: name %q, want %q", line, got, want)
		}
	}
}

func TestListLinkTargetIsAsLongAsTheSize(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"lrwxrwxrwx 1 0 0 1 Nov 20 10:15 a -> b -> c", `symlink "a -> b" 1 2026-11-20T10:15 0777 0:0 x1 -> "c"`},
		{"lrwxrwxrwx 1 0 0 6 Nov 20 10:15 a -> b -> c", `symlink "a" 6 2026-11-20T10:15 0777 0:0 x1 -> "b -> c"`},
		{"lrwxrwxrwx 1 0 0 0 Nov 20 10:15 a -> ../x/", `symlink "a" 0 2026-11-20T10:15 0777 0:0 x1 -> "../x/"`},
		{"lrwxrwxrwx 1 0 0 5 Nov 20 10:15 a", `symlink "a" 5 2026-11-20T10:15 0777 0:0 x1`},
	})
}

func TestListKeepsEntriesItCannotDate(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"-rw-r--r--   1 ann  staff  531 Qqq 19 03:26  a b", `!file " a b" 531 - 0644 ann:staff x1`},
		{"drwxr-xr-x   2 ann         531 19 Qqq 2003 a b", `!dir "a b" 531 - 0755 ann: x2`},
		{"-rw-r--r--   1 ann  staff  531 Feb 30 03:26 a b", `!file "a b" 531 - 0644 ann:staff x1`},
		{"-rw-r--r--   1 ann  staff  531 once upon midnight a b", `!file "a b" 531 - 0644`},
		{"-rw-r--r-- nothing else", "!"},
	})
}

func TestListDOS(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"08-30-12  07:41PM       <DIR>          My Docs", `dir "My Docs" 2012-08-30T19:41`},
		{"08-30-12  12:05AM                  613 a.txt", `file "a.txt" 613 2012-08-30T00:05`},
		{"08-30-2012  12:05PM             12345678  lead", `file " lead" 12345678 2012-08-30T12:05`},
		{"2012-08-30  13:05              5,613 a.txt", `file "a.txt" 5613 2012-08-30T13:05`},
		{"08-30-12  22:38       <DIR>          Flash", `dir "Flash" 2012-08-30T22:38`},
		{"08-30-12  07:41PM       <JUNCTION>     link [D:\\x]", `dir "link" 2012-08-30T19:41`},
		{"08-30-12  07:41PM       <SYMLINK>      link [D:\\x]", `symlink "link" 2012-08-30T19:41 -> "D:\\x"`},
		{"23-02-09  05:32PM                  458 day first", `file "day first" 458 2009-02-23T17:32`},
		{"23-32-09  05:32PM                  458 no date", `!file "no date" 458 -`},
		{"08-30-12  07:41PM       <DIR>          ..", ""},
	})
}

func TestListSizeFirst(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"  40962      A    06-24-108  22:38  an os2 file", `file "an os2 file" 40962 2008-06-24T22:38`},
		{"      0 DIR       06-24-97   22:38  os2", `dir "os2" 0 1997-06-24T22:38`},
		{"91407   Mar 17, 2011 08:52 vshell file", `file "vshell file" 91407 2011-03-17T08:52`},
		{"0  Jul 09, 2007 14:31 vshell dir/", `dir "vshell dir" 0 2007-07-09T14:31`},
		{"512     Jul-09-2007  14:31:46   vxworks dir <DIR>", `dir "vxworks dir" 512 2007-07-09T14:31:46`},
	})
}

func TestListEPLF(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"+i1.2,m1187654321,r,s7014,up640,\ta file", `file "a file" 7014 2007-08-20T23:58:41 0640`},
		{"+m1187654321,/,\t dir", `dir " dir" 2007-08-20T23:58:41`},
	})
}

func TestListVMS(t *testing.T) {
	entries, warnings := readAll(t, formatLIST, listNow, []byte(`
Directory SYS$DISK:[PUB]

BUILD.COM;2               3/6   9-JUL-2007 14:31 [STAFF,ANN] (RWED,RWED,RE,R)
BUILD.COM;10              1/3   10-JUL-2007 14:31:46.55 [STAFF,ANN] (RWED,RWED,RE,)
BUILD.COM;9               2/3   10-JUL-2007 14:30 [STAFF,ANN] (RWED,RWED,RE,)
SUB.DIR;1                   1   9-JUL-2007 [ANN] (RWE,RWE,RE,RE)
A_NAME_THAT_IS_TOO_LONG_FOR_ITS_COLUMN.TXT;1
                         12/15  30-AUG-2012 07:41:26  [STAFF,ANN]    (RWED,RWED,RE,)
[PUB.X]OLD.TXT;1 1/2 8-JUN-1992 06:17
ORDER.TXT;1   [ANN]    1/3     3-AUG-2009  11:04  (RWE,RWE,RE,)
SECRET.TXT;1              %RMS-E-PRV

Total of 20 blocks in 8 files.
`))
	want := []string{
		`file "BUILD.COM" 512 2007-07-10T14:31:46 0750 ANN:STAFF`,
		`dir "SUB" 512 2007-07-09 0755 ANN:`,
		`file "A_NAME_THAT_IS_TOO_LONG_FOR_ITS_COLUMN.TXT" 6144 2012-08-30T07:41:26 0750 ANN:STAFF`,
		`file "OLD.TXT" 512 1992-06-08T06:17`,
		`file "ORDER.TXT" 512 2009-08-03T11:04 0750 ANN:`,
	}
	checkBriefs(t, entries, want)
	if len(warnings) != 1 {
		t.Errorf("warnings %v, want one for SECRET.TXT", warnings)
	}
}

func checkBriefs(t *testing.T, entries []Entry, want []string) {
	t.Helper()
	var got []string
	for _, e := range entries {
		got = append(got, brief(e))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestListIBM(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"NOTES    LIST      A1 V      80     33     2       8/30/96   7:41:26", `file "NOTES.LIST" 1996-08-30T07:41:26`},
		{"PROJECTS           A1 DIR    -      -      -       8/30/102  7:41:26", `dir "PROJECTS" 2002-08-30T07:41:26`},
		{"NOTES    TRACE   F        80       10        1 2012-08-30 07:41:26 ANN", `file "NOTES.TRACE" 800 2012-08-30T07:41:26 ANN:`},
		{"ANN             53248 02/23/20 07:41:26 *DIR       docs/", `dir "docs" 53248 2020-02-23T07:41:26 ANN:`},
		{"ANN             53248 23/02/20 07:41:26 *STMF      a b", `file "a b" 53248 2020-02-23T07:41:26 ANN:`},
		{"ANN             53248 20/02/27 07:41:26 *STMF      a b", `file "a b" 53248 2020-02-27T07:41:26 ANN:`},
		{"ANN                                     *MEM       LIB.FILE/A.MBR", `file "A.MBR" - ANN:`},
		{"DISK07 3390   2012/08/30  2   14  FB     120 24000  PS  ANN.DATA", `file "ANN.DATA" 2012-08-30`},
		{"DISK07 3390   **NONE**  140120 FB 120 24000 PO-E 'ANN.LIB'", `dir "ANN.LIB" -`},
		{"Migrated                                                ANN.OLD", `file "ANN.OLD" -`},
		{"Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname", ""},
		{"MEMBER1   01.07 2011/02/14 2012/08/30 07:41   412   390    0 ANN", `file "MEMBER1" 2012-08-30T07:41`},
		{"MODULE1   003A70 00021C  00 RN RU             31    31", `file "MODULE1" -`},
		{"MODULE2   003A70 00021C  MODULE1      00 RN   31    31", `file "MODULE2" -`},
		{"ANN       JOB00417  OUTPUT    5 Spool Files", `file "JOB00417" -`},
	})
}

func TestListMembersWithoutStatistics(t *testing.T) {
	entries, _ := readAll(t, formatLIST, listNow, []byte(" Name     VV.MM   Created\r\nAAA\r\nBBB       01.07 2011/02/14 2012/08/30 07:41   1 1 0 ANN\r\nCCC\r\n"))
	checkBriefs(t, entries, []string{`file "AAA" -`, `file "BBB" 2012-08-30T07:41`, `file "CCC" -`})
}

func TestListOtherSystems(t *testing.T) {
	checkLines(t, formatLIST, [][2]string{
		{"3.14 12/08/30 0741 d--wr-wr 1F40 716 os9 dir", `dir "os9 dir" 716 2012-08-30 3.14:`},
		{"router.cfg       730112  08/30/12  Thur.   07:41:26", `file "router.cfg" 730112 2012-08-30T07:41:26`},
		{"guardian        800            7014 30-Aug-12 07:41:26  12, 34 \"nunu\"", `file "guardian" 7014 2012-08-30T07:41:26 12,34:`},
		{"HISTORY            4102  Changes", `file "HISTORY" 4102 -`},
		{"old/                  =  Attic", `dir "old" -`},
		{"latest               12  -> ../rel/12 a", `symlink "latest" 12 - -> "../rel/12 a"`},
		{"a-name-longer-than-its-column\r\n                  40127", `file "a-name-longer-than-its-column" 40127 -`},
	})
}

func TestListIgnores(t *testing.T) {
	for _, line := range []string{"", " ", "total 12", "Total 4 files", "insgesamt 12", "总用量 8", "итого 4K", "total -12", "*.*;0  %SYSTEM-W-FNF"} {
		entries, warnings := readAll(t, formatLIST, listNow, []byte(line+"\r\n"))
		if len(entries)+len(warnings) > 0 {
			t.Errorf("%q: %v, %v", line, entries, warnings)
		}
	}
}

func TestListRefusalInTheDataIsAnError(t *testing.T) {
	for line, kind := range map[string]error{
		"ftpd: private: Permission denied":            fs.ErrPermission,
		"/bin/ls: nothere: No such file or directory": fs.ErrNotExist,
	} {
		entries, warnings := readAll(t, formatLIST, listNow, []byte(line+"\r\n"))
		if len(entries) != 0 || len(warnings) != 1 || !errors.Is(warnings[0], kind) {
			t.Errorf("%q: %v, %v, want %v", line, entries, warnings, kind)
		}
	}
}

func TestListOfNamesAlone(t *testing.T) {
	entries, warnings := readAll(t, formatLIST, listNow, []byte("alpha\r\nbeta\r\n"))
	checkBriefs(t, entries, []string{`unknown "alpha" -`, `unknown "beta" -`})
	if len(warnings) != 2 {
		t.Errorf("warnings %v, want one for each name", warnings)
	}
}

func TestListSTAT(t *testing.T) {
	const body = " drwxr-xr-x 2 0 0 4096 Nov 20 10:15 .\r\n drwxr-xr-x 2 0 0 4096 Nov 20 10:15 sub\r\n-rw-r--r-- 1 0 0 5 Nov 20 10:15 213 name\r\n"
	want := []string{`dir "sub" 4096 2026-11-20T10:15 0755 0:0 x2`, `file "213 name" 5 2026-11-20T10:15 0644 0:0 x1`}
	for _, reply := range []string{
		"213-Status of /x:\r\n" + body + "213 End\r\n", body, body + "213 End\r\n",
		strings.NewReplacer("\r\n ", "\r\n213- ", "\r\n-", "\r\n213--").Replace("213-Status:\r\n"+body) + "213 End\r\n",
	} {
		entries, warnings := readAll(t, formatSTAT, listNow, []byte(reply))
		checkBriefs(t, entries, want)
		if len(warnings) > 0 {
			t.Errorf("warnings %v", warnings)
		}
	}
}

func TestListNLST(t *testing.T) {
	entries, _ := readAll(t, formatNLST, listNow, []byte("  two\r\n.\r\n..\r\n./a\r\nsub/b\r\ntrail \r\nnew\nline\r\n"))
	checkBriefs(t, entries, []string{`unknown "  two" -`, `unknown "a" -`, `unknown "b" -`, `unknown "trail " -`, `unknown "new\nline" -`})
}

func TestListShiftMovesListTimesOnly(t *testing.T) {
	at := listNow
	entries := []Entry{{ModTime: at, ModPrecision: time.Minute}, {ModTime: at, ModPrecision: time.Second}, {}, {ModTime: at, ModPrecision: 24 * time.Hour}}
	shiftListTimes(entries, -8*time.Hour)
	for i, want := range []time.Time{at.Add(-8 * time.Hour), at, {}, at.Add(-8 * time.Hour)} {
		if !entries[i].ModTime.Equal(want) {
			t.Errorf("entry %d is at %v, want %v", i, entries[i].ModTime, want)
		}
	}
}
