package ftpconn

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// sample is what a parser should make of one listing: NAME.json beside NAME.txt.
type sample struct {
	Family, Format, Encoding, Now string
	Entries                       []sampleEntry
	Ignored                       []struct{ Expect, Text string }
}

// sampleEntry states what is known; an absent key is not compared.
type sampleEntry struct {
	Line       int
	Name       string
	NameHex    string `json:"name_hex"`
	AltName    string `json:"alt_name"`
	Lenient    string `json:"lenient_name"`
	Type       string
	Size       *int64
	MTime      *string `json:"mtime"`
	AltMTime   *string `json:"alt_mtime"`
	Precision  string  `json:"mtime_precision"`
	Mode       *string
	Nlink      *int
	Owner      *string
	Group      *string
	UID, GID   *string
	Target     *string
	Device     []int
	OwnerGroup string `json:"owner_group"`
	Superseded bool
}

// TestListGolden runs the listings in testdata: captures of vsftpd, ProFTPD, Pure-FTPd, pyftpdlib,
// inetutils, netkit, BusyBox and Apache FtpServer, and constructed ones.
func TestListGolden(t *testing.T) {
	if n := runCorpus(t, filepath.Join("testdata", "listings")); n < 690 {
		t.Errorf("%d entries compared, the folder should have 690", n)
	}
}

// TestListCorpus runs a folder of listings outside the repository, with FTPFS_LISTINGS=folder: its
// subfolders ours and published, or itself.
func TestListCorpus(t *testing.T) {
	root := os.Getenv("FTPFS_LISTINGS")
	if root == "" {
		t.Skip("FTPFS_LISTINGS names no folder of listings")
	}
	n := 0
	for _, dir := range []string{root, filepath.Join(root, "ours"), filepath.Join(root, "published")} {
		n += runCorpus(t, dir)
	}
	if n == 0 {
		t.Errorf("no listings in %s", root)
	}
	t.Logf("%d entries compared", n)
}

func runCorpus(t *testing.T, dir string) (compared int) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			compared += runSample(t, file)
		})
	}
	return compared
}

var formats = map[string]listFormat{"list": formatLIST, "mlsd": formatMLSD, "nlst": formatNLST, "stat": formatSTAT}

func runSample(t *testing.T, file string) int {
	var want sample
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	listing, err := os.ReadFile(strings.TrimSuffix(file, "json") + "txt")
	if err != nil {
		t.Fatal(err)
	}
	now, err := time.Parse("2006-01-02T15:04:05", want.Now)
	if err != nil {
		t.Fatal(err)
	}
	got, warnings := readAll(t, formats[want.Format], now, listing)
	spare := 0
	for _, line := range want.Ignored {
		if line.Expect == "any" {
			spare += 1 + strings.Count(line.Text, "\n")
		}
	}
	used := make([]bool, len(got))
	last := -1
	for _, e := range want.Entries {
		if e.Superseded { // an older version of a file
			continue
		}
		at := -1
		for i := range got {
			if !used[i] && e.hasName(got[i].Name, want.Encoding) {
				at = i
				break
			}
		}
		if at < 0 {
			t.Errorf("line %d: no entry %q", e.Line, e.Name)
			continue
		}
		used[at] = true
		if at < last && want.Family != "vms" && want.Family != "mvs-member" {
			t.Errorf("line %d: entry %q out of order", e.Line, e.Name)
		}
		last = at
		for _, diff := range e.compare(got[at], want) {
			t.Errorf("line %d, %q: %s", e.Line, e.Name, diff)
		}
	}
	for i, ok := range used {
		if !ok {
			if spare--; spare < 0 {
				t.Errorf("unexpected entry %+v", got[i])
			}
		}
	}
	if t.Failed() {
		for _, w := range warnings {
			t.Logf("warning: %v", w)
		}
	}
	return len(want.Entries)
}

// readAll parses a listing and fails the test for a bad name.
func readAll(t testing.TB, format listFormat, now time.Time, listing []byte) (entries []Entry, warnings []error) {
	p := newListParser(format, now, time.UTC)
	err := p.readFrom(bytes.NewReader(listing), func(e Entry) {
		if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
			t.Errorf("bad name %q", e.Name)
		}
		entries = append(entries, e)
	}, func(err error) { warnings = append(warnings, err) })
	if err != nil {
		t.Errorf("readFrom: %v", err)
	}
	return entries, warnings
}

func (e sampleEntry) hasName(name, enc string) bool {
	if e.NameHex != "" {
		raw, err := hex.DecodeString(e.NameHex)
		return err == nil && name == string(raw)
	}
	return name == e.Name || e.AltName != "" && name == e.AltName ||
		e.Lenient != "" && (name == e.Name[strings.LastIndexByte(e.Name, '/')+1:] || name == strings.SplitN(e.Name, "\n", 2)[0])
}

func (e sampleEntry) compare(got Entry, s sample) (diffs []string) {
	differ := func(what string, got, want any) {
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			diffs = append(diffs, fmt.Sprintf("%s is %s, want %s", what, g, w))
		}
	}
	typ := map[Type]string{File: "file", Dir: "dir", Symlink: "link", Other: "other", Unknown: "unknown"}[got.Type]
	differ("type", typ, e.Type)
	if e.Size != nil && e.Type != "dir" && !strings.HasPrefix(s.Family, "mvs") {
		differ("size", got.Size, *e.Size)
	}
	if e.MTime != nil {
		m := got.ModTime.Format("2006-01-02T15:04:05.999999999")
		if e.AltMTime == nil || !sameTime(m, *e.AltMTime) {
			if !sameTime(m, *e.MTime) {
				differ("time", m, *e.MTime)
			}
		}
		precision, ok := map[string]time.Duration{
			"day": 24 * time.Hour, "minute": time.Minute, "second": time.Second, "millisecond": time.Millisecond,
		}[e.Precision]
		if ok {
			differ("precision", got.ModPrecision, precision)
		}
	}
	if e.Mode != nil {
		want, _ := strconv.ParseUint(*e.Mode, 8, 16)
		differ("mode", fmt.Sprintf("%04o %v", got.Mode, got.HasMode), fmt.Sprintf("%04o true", want))
	}
	if e.Nlink != nil {
		differ("links", got.Nlink, *e.Nlink)
	}
	if !strings.HasPrefix(s.Family, "mac-") { // what others take for an owner is the size of a fork
		if e.Owner != nil {
			differ("owner", got.Owner, *e.Owner)
		}
		if e.Group != nil {
			differ("group", got.Group, *e.Group)
		}
		if e.OwnerGroup != "" && e.Owner == nil && got.HasMode && !strings.Contains(e.OwnerGroup, ",") {
			differ("owner and group", strings.TrimSpace(got.Owner+" "+got.Group), e.OwnerGroup)
		}
	}
	if e.UID != nil {
		differ("uid", got.UID, *e.UID)
	}
	if e.GID != nil {
		differ("gid", got.GID, *e.GID)
	}
	if e.Target != nil {
		differ("target", got.Target, encode(*e.Target, s.Encoding))
	}
	return diffs
}

// sameTime compares times of which want may leave out the zeros at its end.
func sameTime(got, want string) bool {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, want); err == nil {
			return got == t.Format("2006-01-02T15:04:05.999999999")
		}
	}
	return false
}

func encode(text, name string) string {
	enc, ok := map[string]encoding.Encoding{
		"gbk": simplifiedchinese.GBK, "shift_jis": japanese.ShiftJIS, "latin-1": charmap.ISO8859_1,
	}[name]
	if !ok {
		return text
	}
	raw, err := enc.NewEncoder().String(text)
	if err != nil {
		return text
	}
	return raw
}
