package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sizes are how much there is of everything.
type sizes struct {
	small     int   // files of smallSize bytes in one directory
	tops      int   // directories in "tree", each with treeSubs more
	many      int   // entries of one directory
	big       int64 // bytes of the file to read
	upload    int64 // bytes of the file to write
	randReads int
}

// What a fixture is made of.
const (
	smallSize  = 4 << 10
	treeSubs   = 25 // directories in each of the tree's
	treeFiles  = 20 // files in each of those
	singles    = 12 // directories with one small file each
	needleIn   = 10 // every so many small files have the word needle
	needle     = "lighthouse"
	pageSize   = 4 << 10
	serverUser = 65534 // owner of all the files, whom the server's sessions run as; where root starts it
)

func newSizes(quick bool) sizes {
	if quick {
		return sizes{small: 100, tops: 2, many: 10_000, big: 100 << 20, upload: 50 << 20, randReads: 10}
	}
	return sizes{small: 1000, tops: 20, many: 100_000, big: 1 << 30, upload: 512 << 20, randReads: 100}
}

func (s sizes) dirs() int      { return 1 + s.tops*(1+treeSubs) }
func (s sizes) treeFiles() int { return s.tops * treeSubs * treeFiles }

// fixture is the server's data, made part by part as workloads ask for it:
//
//	small   files of text, 4 KiB each
//	single  directories with one such file each
//	tree    directories and files, to walk
//	many    empty files, to list
//	big     one large file
//	up      where uploads go, a new directory for each
//
// and, outside of the server, "upload": what is uploaded.
type fixture struct {
	sizes
	root  string // what the server shows as its root
	local string // for the client
	mtime time.Time
	have  map[string]bool
	runs  int
}

func newFixture(dir string, s sizes) (*fixture, error) {
	f := &fixture{sizes: s, root: filepath.Join(dir, "root"), local: filepath.Join(dir, "local"), have: map[string]bool{},
		// A whole minute, half a year not yet ago: ls-like listings, which have no seconds, tell it exactly.
		mtime: time.Now().Add(-24 * time.Hour).Truncate(time.Minute)}
	for _, d := range []string{f.root, f.local, filepath.Join(f.root, "up")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// make makes the parts that aren't there.
func (f *fixture) make(parts []string) error {
	for _, part := range parts {
		if f.have[part] {
			continue
		}
		if err := f.makePart(part); err != nil {
			return fmt.Errorf("making the data of %q: %w", part, err)
		}
		f.have[part] = true
	}
	return nil
}

func (f *fixture) makePart(part string) error {
	dir := filepath.Join(f.root, part)
	switch part {
	case "big":
		if err := writePattern(dir, f.big); err != nil {
			return err
		}
		return os.Chtimes(dir, f.mtime, f.mtime) // a file of this minute may be in writing still, and isn't read in segments
	case "upload":
		return writePattern(filepath.Join(f.local, part), f.upload)
	case "small":
		for i := range f.small {
			if err := f.write(filepath.Join(dir, smallName(i)), smallText(i)); err != nil {
				return err
			}
		}
	case "single":
		for i := range singles {
			if err := f.write(filepath.Join(f.root, singlePath(i)), smallText(i)); err != nil {
				return err
			}
		}
	case "tree":
		for i := range f.treeFiles() {
			sub := i / treeFiles
			name := fmt.Sprintf("part-%02d/section-%02d/page-%02d.txt", sub/treeSubs, sub%treeSubs, i%treeFiles)
			if err := f.write(filepath.Join(dir, name), []byte(name)); err != nil {
				return err
			}
		}
	case "many":
		for i := range f.many {
			if err := f.write(filepath.Join(dir, fmt.Sprintf("entry-%06d.dat", i)), nil); err != nil {
				return err
			}
		}
	default:
		return errors.New("there is no such part")
	}
	return nil
}

func (f *fixture) write(name string, data []byte) error {
	err := os.WriteFile(name, data, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
	}
	if err != nil {
		return err
	}
	return os.Chtimes(name, f.mtime, f.mtime)
}

// uploadDir makes a directory for one run's uploads; its name is relative to the root.
func (f *fixture) uploadDir() (string, error) {
	f.runs++
	name := fmt.Sprintf("up/%d", f.runs)
	if err := os.Mkdir(filepath.Join(f.root, name), 0o777); err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		return name, nil
	}
	return name, os.Chown(filepath.Join(f.root, name), serverUser, serverUser)
}

func smallName(i int) string  { return fmt.Sprintf("note-%04d.txt", i) }
func singlePath(i int) string { return fmt.Sprintf("single/%02d/note.txt", i) }

// smallText is the content of a small file: lines that differ from file to file.
func smallText(i int) []byte {
	var b bytes.Buffer
	if i%needleIn == 0 {
		b.WriteString("the " + needle + "\n")
	}
	for n := uint64(0); b.Len() < smallSize; n++ {
		fmt.Fprintf(&b, "%d %016x\n", i, mix(uint64(i)<<32|n))
	}
	return b.Bytes()[:smallSize]
}

// checkSmall says whether dir has the small files and nothing else.
func (f *fixture) checkSmall(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("wrong result: %w", err)
	}
	if len(entries) != f.small {
		return fmt.Errorf("wrong result: %d files instead of %d", len(entries), f.small)
	}
	for i := range f.small {
		data, err := os.ReadFile(filepath.Join(dir, smallName(i)))
		if err != nil {
			return fmt.Errorf("wrong result: %w", err)
		}
		if !bytes.Equal(data, smallText(i)) {
			return fmt.Errorf("wrong result: the content of %s is not what it was", smallName(i))
		}
	}
	return nil
}

// mix is SplitMix64's output function: different for each x, and without a pattern.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fillPages fills buf with what large files have from page number first on: each page is different, and
// begins with its mark.
func fillPages(buf []byte, first int64) {
	for page := first; len(buf) > 0; page++ {
		n := min(pageSize, len(buf))
		mark := mix(uint64(page))
		for i := 0; i+8 <= n; i += 8 {
			binary.LittleEndian.PutUint64(buf[i:], mark+uint64(i)*0x9e3779b97f4a7c15)
		}
		buf = buf[n:]
	}
}

// marked says whether each page in buf, from page number first on, begins and ends as it should. It costs
// next to nothing, so that it can be done while the time is taken.
func marked(buf []byte, first int64) error {
	for page := first; len(buf) > 0; page++ {
		n := min(pageSize, len(buf)) &^ 7
		mark := mix(uint64(page))
		if n > 0 && (binary.LittleEndian.Uint64(buf) != mark || binary.LittleEndian.Uint64(buf[n-8:]) != mark+uint64(n-8)*0x9e3779b97f4a7c15) {
			return fmt.Errorf("wrong result: the bytes at offset %d are not those that belong there", page*pageSize)
		}
		buf = buf[min(pageSize, len(buf)):]
	}
	return nil
}

func writePattern(name string, size int64) error {
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	defer w.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buf)) {
		fillPages(buf, at/pageSize)
		if _, err := w.Write(buf[:min(int64(len(buf)), size-at)]); err != nil {
			return err
		}
	}
	return w.Close()
}

// checkPattern compares a file with what writePattern writes, byte by byte.
func checkPattern(name string, size int64) error {
	r, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("wrong result: %w", err)
	}
	defer r.Close()
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	at := int64(0)
	for {
		n, err := io.ReadFull(r, got)
		fillPages(want, at/pageSize)
		if !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("wrong result: %s differs between bytes %d and %d", filepath.Base(name), at, at+int64(n))
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if at != size {
		return fmt.Errorf("wrong result: %s has %d bytes instead of %d", filepath.Base(name), at, size)
	}
	return nil
}

// wantLines is nil if got is what was expected.
func wantLines(what string, got lineCounter, want int) error {
	if int(got) != want {
		return fmt.Errorf("wrong result: %d %s instead of %d", got, what, want)
	}
	return nil
}

// transferredNothing reads what "rsync --stats" printed.
func transferredNothing(stats string, files int) error {
	for _, want := range []string{
		"Number of regular files transferred: 0\n",
		fmt.Sprintf("reg: %s", thousands(files)),
	} {
		if !strings.Contains(stats, want) {
			return fmt.Errorf("wrong result: rsync doesn't say %q but %q", strings.TrimSpace(want), stats)
		}
	}
	return nil
}

// thousands is n as rsync prints it: 1,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
