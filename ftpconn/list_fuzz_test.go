package ftpconn

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzListParser feeds any bytes to every format: no panic, no name that leaves the directory, no more
// entries than there are lines, values within their documented ranges.
func FuzzListParser(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "listings", "*.txt"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text[:min(len(text), 2048)])
	}
	for _, line := range []string{
		"A.TXT;1   1/3     2-AUG-2006  13:05  [G,O]  (RWE,RWE,RE,)\nB.TXT;2\n 1 2-AUG-2006 13:05", "+i1,m1,r,s2\tx",
		"08-30-12  07:41AM       <DIR>          x", "0 DIR A 06-24-108 22:38 x", "A B A1 V 1 1 1 8/30/96 7:41:26",
		"V 3390 2012/08/30 1 2 FB 8 8 PS D.S", "M 01.07 2011/02/14 2012/08/30 07:41 1 1 0 A", "O 1 08/30/12 07:41:26 *DIR x/",
		"213-x\r\n -rw-r--r-- 1 0 0 1 Nov 20 10:15 a\r\n213 y\r\n", "type=file;size=1;modify=19; a", "0040755 0 12 4096 1000000000 x",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, listing []byte) {
		for format := formatLIST; format <= formatSTAT; format++ {
			entries, _ := readAll(t, format, listNow, listing)
			if most := bytes.Count(listing, []byte("\n")) + 1; len(entries) > most {
				t.Errorf("%v: %d entries of %d lines", format, len(entries), most)
			}
			for _, e := range entries {
				checkRanges(t, e)
			}
		}
		if e, _, err := parseMLSTReply(string(listing)); err == nil {
			if strings.ContainsAny(e.Name, "/\x00") || e.Name == "." || e.Name == ".." {
				t.Errorf("MLST: bad name %q", e.Name)
			}
			checkRanges(t, e)
		}
	})
}

func checkRanges(t *testing.T, e Entry) {
	_ = e.Type.String() // panics beyond the known ones
	if e.Size < -1 || e.UID < -1 || e.GID < -1 || e.Mode > 07777 || !e.HasMode && e.Mode != 0 {
		t.Errorf("out of range: %+v", e)
	}
	if e.ModTime.IsZero() != (e.ModPrecision == 0) || e.ModTime.Location() != time.UTC && !e.ModTime.IsZero() {
		t.Errorf("time %v with precision %v", e.ModTime, e.ModPrecision)
	}
}

func benchmarkList(b *testing.B, format listFormat, line string) {
	var text bytes.Buffer
	const lines = 100_000
	for i := range lines {
		fmt.Fprintf(&text, line+"\r\n", i*37, i)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		p := newListParser(format, listNow, time.UTC)
		if err := p.readFrom(bytes.NewReader(text.Bytes()), func(Entry) { n++ }, nil); err != nil || n != lines {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}

func BenchmarkListUnix(b *testing.B) {
	benchmarkList(b, formatLIST, "-rw-r--r--    1 12001    12001    %10d Nov 20 10:15 file-%07d.dat")
}

func BenchmarkListUnixWithNames(b *testing.B) {
	benchmarkList(b, formatLIST, "-rw-r--r--   1 u_proftpd ftptest %10d Nov 14  2023 file-%07d.dat")
}

func BenchmarkListDOS(b *testing.B) {
	benchmarkList(b, formatLIST, "08-30-12  07:41AM %20d file-%07d.dat")
}

func BenchmarkListMLSD(b *testing.B) {
	benchmarkList(b, formatMLSD, "modify=20261120101600;perm=adfrw;size=%d;type=file;UNIX.group=12001;UNIX.groupname=ftptest;UNIX.mode=0644;UNIX.owner=12001;UNIX.ownername=u_proftpd; file-%07d.dat")
}
