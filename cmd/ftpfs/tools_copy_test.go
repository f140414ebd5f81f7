package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// treeTime is the modification time of a file in makeTree, long ago and in another half of the year.
func treeTime(i int) time.Time {
	return time.Date(2019, 2, 3, 4, 5, 6, 0, time.UTC).Add(time.Duration(i) * 1001 * time.Second)
}

// makeTree lays a small tree of all sorts.
func makeTree(t *testing.T, root string) {
	t.Helper()
	files := []struct {
		name string
		size int
		mode os.FileMode
	}{
		{"empty", 0, 0o644},
		{"README", 1500, 0o644},
		{".hidden", 10, 0o644},
		{"run.sh", 200, 0o755},
		{"secret", 64, 0o600},
		{"a b/c d.txt", 4096, 0o644},
		{"a b/größe.bin", 4097, 0o644},
		{"deep/1/2/3/4/5/file", 17, 0o644},
		{"deep/big", 700_001, 0o644},
		{"src/exact64k", 65536, 0o644},
		{"src/exact256k", 262144, 0o644},
		{".git/HEAD", 23, 0o644},
	}
	for i := range 12 {
		files = append(files, struct {
			name string
			size int
			mode os.FileMode
		}{fmt.Sprintf("src/f%02d.c", i), 100 + 37*i, 0o644})
	}
	for i, f := range files {
		p := filepath.Join(root, f.name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, noise(i+1, f.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, f.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, treeTime(i), treeTime(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "nothing here"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// treeChecks say what sameTree compares beside names, types and contents.
type treeChecks struct{ times, modes bool }

// sameTree compares two trees; times of files to the second, modes of files and directories.
func sameTree(t *testing.T, got, want string, check treeChecks) {
	t.Helper()
	list := func(root string) map[string]string {
		m := make(map[string]string)
		err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			s := info.Mode().Type().String()
			if check.modes {
				s = info.Mode().String()
			}
			if e.Type().IsRegular() {
				data, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				s += fmt.Sprintf(" %d bytes, SHA-256 %.12x", len(data), sha256.Sum256(data))
				if check.times {
					s += " of " + info.ModTime().UTC().Format(time.DateTime)
				}
			}
			rel, _ := filepath.Rel(root, p)
			if rel != "." {
				m[rel] = s
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return m
	}
	g, w := list(got), list(want)
	for name, s := range w {
		if g[name] != s {
			t.Errorf("%s/%s is %q, want %q", got, name, g[name], s)
		}
	}
	for name, s := range g {
		if _, ok := w[name]; !ok {
			t.Errorf("%s/%s is %q, and should not be there", got, name, s)
		}
	}
}

// itemised are the lines of rsync -i that say a file was transferred or made.
func itemised(out string) []string {
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, ">") || strings.HasPrefix(line, "<") || strings.HasPrefix(line, "c") || strings.HasPrefix(line, "*") {
			lines = append(lines, line)
		}
	}
	return lines
}

// copyTools are tests of tools that copy.
func copyTools() []toolTest {
	return []toolTest{
		{name: "cp -a", tools: "cp", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`cp -a "$TMP/in" "$MNT/tree"`)
			sameTree(t, d.srv+"/tree", d.tmp+"/in", treeChecks{times: true, modes: true})
			sameTree(t, d.mnt+"/tree", d.tmp+"/in", treeChecks{times: true, modes: true})
			d.sh(`cp -a "$MNT/tree" "$TMP/out"`)
			sameTree(t, d.tmp+"/out", d.tmp+"/in", treeChecks{times: true, modes: true})
			d.sh(`cp -a "$MNT/tree" "$MNT/copy"`)
			sameTree(t, d.srv+"/copy", d.tmp+"/in", treeChecks{times: true, modes: true})
		}},
		{name: "rsync -a", tools: "rsync", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`rsync -a "$TMP/in/" "$MNT/tree/"`)
			sameTree(t, d.srv+"/tree", d.tmp+"/in", treeChecks{times: true, modes: true})
			d.want(`rsync -ai "$TMP/in/" "$MNT/tree/"`, "")
			d.want(`rsync -aic "$TMP/in/" "$MNT/tree/"`, "")
			d.sh(`rsync -a "$MNT/tree/" "$TMP/out/"`)
			d.want(`rsync -ai "$MNT/tree/" "$TMP/out/"`, "")
			sameTree(t, d.tmp+"/out", d.tmp+"/in", treeChecks{times: true, modes: true})

			other := mountServer(t, d.server)
			o := other.dir(t, d.name)
			if again := itemised(o.sh(`rsync -ai "` + d.tmp + `/in/" "$MNT/tree/"`)); len(again) > 0 {
				t.Errorf("after another mount rsync transferred again: %q", again)
			}
			// A change that keeps the size is found by its time.
			text := noise(99, 1500)
			if err := os.WriteFile(d.tmp+"/in/README", text, 0o644); err != nil {
				t.Fatal(err)
			}
			if again := itemised(o.sh(`rsync -ai "` + d.tmp + `/in/" "$MNT/tree/"`)); len(again) != 1 || !strings.Contains(again[0], "README") {
				t.Errorf("after a change of README rsync transferred %q", again)
			}
			o.onServer("tree/README", text)
			o.sh(`rsync -a --inplace --no-whole-file --delete "` + d.tmp + `/in/src/" "$MNT/tree/"`)
			sameTree(t, d.srv+"/tree", d.tmp+"/in/src", treeChecks{times: true, modes: true})
		}},
		{name: "tar", tools: "tar", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`tar -C "$TMP/in" -cf "$MNT/a.tar" .
				mkdir "$TMP/out" "$MNT/x"
				tar -C "$TMP/out" -xpf "$MNT/a.tar"
				tar -C "$MNT/x" -xpf "$MNT/a.tar"
				tar -df "$MNT/a.tar" -C "$MNT/x"
				tar -C "$TMP/in" -czf "$MNT/a.tar.gz" .
				tar -tzf "$MNT/a.tar.gz" >/dev/null`)
			sameTree(t, d.tmp+"/out", d.tmp+"/in", treeChecks{times: true, modes: true})
			sameTree(t, d.srv+"/x", d.tmp+"/in", treeChecks{times: true, modes: true})
			d.sh(`echo more > "$TMP/in/more"
				tar -C "$TMP/in" -rf "$MNT/a.tar" ./more
				tar -xOf "$MNT/a.tar" ./more | grep -qx more
				tar -df "$MNT/a.tar" -C "$TMP/in"`)
		}},
		{name: "install", tools: "install", run: func(t *testing.T, d *toolDir) {
			d.want(`echo '#!/bin/sh
echo ran' > "$TMP/s"
				install -m 640 "$TMP/s" "$MNT/six"
				install -D -m 755 -p "$TMP/s" "$MNT/bin/deep/seven"
				install -d -m 700 "$MNT/private"
				stat -c '%a %F' "$MNT/six" "$SRV/six" "$MNT/bin/deep/seven" "$SRV/bin/deep/seven" "$MNT/private" "$SRV/private"
				"$MNT/bin/deep/seven"
				install -m 600 "$TMP/s" "$MNT/six"
				stat -c %a "$SRV/six"`,
				"640 regular file\n640 regular file\n755 regular file\n755 regular file\n700 directory\n700 directory\nran\n600\n")
		}},
		{name: "sparse files", tools: "cp truncate dd cmp", run: func(t *testing.T, d *toolDir) {
			d.sh(`truncate -s 5000000 "$TMP/sparse"
				printf middle | dd of="$TMP/sparse" bs=1 seek=3000000 conv=notrunc status=none
				cp --sparse=always "$TMP/sparse" "$MNT/a"
				cp --sparse=never "$TMP/sparse" "$MNT/b"
				cp --sparse=always "$MNT/a" "$TMP/back"
				cmp "$TMP/sparse" "$SRV/a"
				cmp "$TMP/sparse" "$SRV/b"
				cmp "$TMP/sparse" "$TMP/back"`)
		}},
		{name: "cp variants", tools: "cp cmp", run: func(t *testing.T, d *toolDir) {
			d.want(`printf one > "$TMP/one"; printf second > "$TMP/two"
				cp "$TMP/one" "$MNT/f"
				cp "$TMP/two" "$MNT/f"; cat "$SRV/f"; echo
				cp -b "$TMP/one" "$MNT/f"; cat "$SRV/f" "$SRV/f~"; echo
				cp -n "$TMP/two" "$MNT/f" || true; cat "$SRV/f"; echo
				cp -f --remove-destination "$TMP/two" "$MNT/f"; cat "$SRV/f"; echo
				cp -u "$TMP/one" "$MNT/new"; cat "$SRV/new"; echo
				cp --preserve=timestamps "$MNT/f" "$MNT/g"; test ! "$MNT/g" -nt "$MNT/f"; cat "$SRV/g"`,
				"second\nonesecond\none\nsecond\none\nsecond")
		}},
		{name: "eight readers and eight writers", run: eightAndEight},
	}
}

// eightAndEight reads and writes sixteen files of several sizes at once, in pieces.
func eightAndEight(t *testing.T, d *toolDir) {
	const n = 8
	size := func(i int) int { return []int{100, 70_000, 300_000, 2 << 20}[i%4] }
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/r%d", d.mnt, i), noise(i, size(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	readers := mountServer(t, d.server) // without the pages that the writing left
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for range 3 {
				got, err := os.ReadFile(fmt.Sprintf("%s/%s/r%d", readers.mnt, d.name, i))
				if err != nil || !bytes.Equal(got, noise(i, size(i))) {
					t.Errorf("reader %d: %v, %s", i, err, difference(got, noise(i, size(i))))
				}
			}
		})
		for k, mnt := range []string{d.mnt, filepath.Join(readers.mnt, d.name)} {
			wg.Go(func() {
				f, err := os.Create(fmt.Sprintf("%s/w%d.%d", mnt, k, i))
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
				defer f.Close()
				for data := noise(100*k+i, size(i+1)); len(data) > 0; {
					piece := data[:min(len(data), 50_000)]
					if _, err := f.Write(piece); err != nil {
						t.Errorf("writer %d: %v", i, err)
						return
					}
					data = data[len(piece):]
				}
				if err := f.Close(); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
	}
	wg.Wait()
	for i := range n {
		for k := range 2 {
			d.onServer(fmt.Sprintf("w%d.%d", k, i), noise(100*k+i, size(i+1)))
		}
	}
}

// TestToolsLargeFile takes 300 MiB there and back through each server.
func TestToolsLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 300 MiB through four servers")
	}
	need(t, "cp", "sha256sum")
	const size = 300 << 20
	dir := t.TempDir()
	local := filepath.Join(dir, "large")
	sum := sha256.New()
	f, err := os.Create(local)
	if err != nil {
		t.Fatal(err)
	}
	piece := noise(1, 1<<20)
	for i := range size >> 20 { // no piece like another
		binary.LittleEndian.PutUint64(piece, uint64(i))
		if _, err := io.MultiWriter(f, sum).Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sum.Sum(nil))
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			server := startServer(t, kind, ftptest.Options{})
			d := mountServer(t, server).dir(t, "")
			d.sh(`cp "` + local + `" "$MNT/large"; cmp "` + local + `" "$SRV/large"`)
			r := mountServer(t, server).dir(t, "")
			r.want(`sha256sum < "$MNT/large"`, want+"  -\n")
			r.sh(`rm "$MNT/large"`)
		})
	}
}
