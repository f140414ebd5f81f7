package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMarkedFindsABlockInTheWrongPlace(t *testing.T) {
	buf := make([]byte, 3*pageSize)
	fillPages(buf, 7)
	if err := marked(buf, 7); err != nil {
		t.Fatalf("the right blocks: %v", err)
	}
	copy(buf[pageSize:], buf[2*pageSize:])
	if err := marked(buf, 7); err == nil || !strings.Contains(err.Error(), "offset 32768 ") {
		t.Errorf("block 9 in the place of block 8: %v", err)
	}
}

func TestMarkedFindsZeros(t *testing.T) {
	buf := make([]byte, 2*pageSize)
	fillPages(buf, 0)
	clear(buf[pageSize+pageSize/2:])
	if marked(buf, 0) == nil {
		t.Error("half a block of zeros passes")
	}
}

func TestCheckPatternTakesWhatWritePatternWrote(t *testing.T) {
	for _, size := range []int64{0, 1, pageSize, 3<<20 + 12345} {
		name := filepath.Join(t.TempDir(), "x")
		if err := writePattern(name, size); err != nil {
			t.Fatal(err)
		}
		if err := checkPattern(name, size); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestCheckPatternFindsOneWrongByte(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if err := writePattern(name, 2<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 1<<20+5); err != nil {
		t.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b[:], 1<<20+5); err != nil {
		t.Fatal(err)
	}
	if checkPattern(name, 2<<20) == nil {
		t.Error("a wrong byte passes")
	}
}

func TestCheckPatternFindsAMissingEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if err := writePattern(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	if checkPattern(name, 2<<20) == nil {
		t.Error("a file that is too short passes")
	}
}

// smallFixture has a few small files.
func smallFixture(t *testing.T) *fixture {
	t.Helper()
	f, err := newFixture(t.TempDir(), sizes{small: 20, tops: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.make([]string{"small", "tree"}); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCheckSmallTakesACopy(t *testing.T) {
	f := smallFixture(t)
	if err := f.checkSmall(filepath.Join(f.root, "small")); err != nil {
		t.Error(err)
	}
}

func TestCheckSmallFindsAMissingFile(t *testing.T) {
	f := smallFixture(t)
	dir := filepath.Join(f.root, "small")
	if err := os.Remove(filepath.Join(dir, smallName(3))); err != nil {
		t.Fatal(err)
	}
	if f.checkSmall(dir) == nil {
		t.Error("19 of 20 files pass")
	}
}

func TestCheckSmallFindsSwappedContents(t *testing.T) {
	f := smallFixture(t)
	dir := filepath.Join(f.root, "small")
	if err := os.WriteFile(filepath.Join(dir, smallName(3)), smallText(4), 0o644); err != nil {
		t.Fatal(err)
	}
	if f.checkSmall(dir) == nil {
		t.Error("the content of another file passes")
	}
}

func TestGrepAndFindAgreeWithTheFixture(t *testing.T) {
	f := smallFixture(t)
	j := &job{fixture: f, mnt: f.root, scratch: t.TempDir()}
	for name, do := range map[string]work{"grep": grep, "find": find, "cp": copyOut} {
		if _, err := do(t.Context(), j); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToolEndsWithItsTime(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errTooLong)
	defer cancel()
	// The grandchild holds the output open; it has to go too.
	var lines lineCounter
	if _, err := tool(ctx, &lines, nil, "sh", "-c", "sleep 60 & sleep 60"); !errors.Is(err, errTooLong) {
		t.Errorf("%v", err)
	}
}

func TestTransferredNothing(t *testing.T) {
	const stats = "Number of files: 1,001 (reg: 1,000, dir: 1)\nNumber of regular files transferred: %\n"
	if err := transferredNothing(strings.Replace(stats, "%", "0", 1), 1000); err != nil {
		t.Error(err)
	}
	for what, bad := range map[string]string{
		"one file":  strings.Replace(stats, "%", "1", 1),
		"no source": "Number of files: 0\nNumber of regular files transferred: 0\n",
	} {
		if transferredNothing(bad, 1000) == nil {
			t.Errorf("%s passes", what)
		}
	}
}

// tableOf is a report of one row with these times and errors.
func tableOf(w workload, results map[string]*result) (*report, *row) {
	rep := &report{cfg: config{limit: 120 * time.Second}}
	for _, name := range []string{ftpfsName, "curl", "lftp"} {
		rep.contenders = append(rep.contenders, &contender{name: name, program: "/bin/" + name})
	}
	r := &row{&line{name: "20ms", rtt: 20 * time.Millisecond}, &w, results}
	rep.rows = []*row{r}
	return rep, r
}

func took(d ...time.Duration) *result { return &result{times: d} }

func TestRatioIsToTheBestPeer(t *testing.T) {
	_, r := tableOf(workload{}, map[string]*result{ftpfsName: took(3 * time.Second), "curl": took(2 * time.Second), "lftp": took(4 * time.Second)})
	if got := r.ratio(); got != "1.50 ×" {
		t.Errorf("%q", got)
	}
}

func TestRatioIgnoresPeersThatFailed(t *testing.T) {
	_, r := tableOf(workload{}, map[string]*result{ftpfsName: took(3 * time.Second), "curl": {err: errors.New("wrong result")}, "lftp": took(4 * time.Second)})
	if got := r.ratio(); got != "0.75 ×" {
		t.Errorf("%q", got)
	}
}

func TestBarDependsOnCurl(t *testing.T) {
	w := workload{wan: besideCurl("≤ 1.5 × curl + 1 s", 1.5, time.Second)}
	for _, c := range []struct {
		own  time.Duration
		curl *result
		want string
	}{
		{4 * time.Second, took(2 * time.Second), ": reached"},
		{4001 * time.Millisecond, took(2 * time.Second), ": **missed**"},
		{time.Second, &result{skip: "not installed"}, ""},
	} {
		_, r := tableOf(w, map[string]*result{ftpfsName: took(c.own), "curl": c.curl})
		if got := strings.TrimPrefix(r.bar(false), "≤ 1.5 × curl + 1 s"); got != c.want {
			t.Errorf("%v beside %v: %q", c.own, c.curl, got)
		}
	}
}

func TestBarIsMissedByAFailure(t *testing.T) {
	_, r := tableOf(workload{wan: within(time.Second)}, map[string]*result{ftpfsName: {err: errTooLong}})
	if got := r.bar(false); got != "≤ 1 s: **missed**" {
		t.Errorf("%q", got)
	}
}

func TestBarIsNotJudgedForATenthOfTheSize(t *testing.T) {
	_, r := tableOf(workload{wan: within(time.Second)}, map[string]*result{ftpfsName: took(time.Millisecond)})
	if got := r.bar(true); got != "≤ 1 s" {
		t.Errorf("%q", got)
	}
}

func TestTableShowsFailuresAndTimeouts(t *testing.T) {
	rep, _ := tableOf(workload{name: "walk", paced: true}, map[string]*result{
		ftpfsName: took(30*time.Millisecond, 20*time.Millisecond, 90*time.Millisecond),
		"curl":    {err: errTooLong},
		"lftp":    {err: errors.New("wrong result: 3 files")},
	})
	var b strings.Builder
	if err := rep.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| walk | 20ms | vsftpd | 30.0 ms, 1.50 round trips | > 120 s | failed |",
		"* lftp, walk (20ms): wrong result: 3 files\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestShortTime(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "1.50 ms": 1500 * time.Microsecond, "21.3 ms": 21300 * time.Microsecond, "800 ms": 800 * time.Millisecond,
		"1.5 s": 1500 * time.Millisecond, "10 s": 10 * time.Second, "120 s": 2 * time.Minute,
	} {
		if got := shortTime(d); got != want {
			t.Errorf("%v: %q instead of %q", d, got, want)
		}
	}
}

func TestVersionIsTheNumber(t *testing.T) {
	for said, want := range map[string]string{
		"curl 7.88.1 (x86_64-pc-linux-gnu)": "7.88.1", "LFTP | Version 4.9.2 | Copyright": "4.9.2", "rclone v1.60.1-DEV": "1.60.1-DEV", "": "version unknown",
	} {
		if got := version(said); got != want {
			t.Errorf("%q: %q instead of %q", said, got, want)
		}
	}
}
