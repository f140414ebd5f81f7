package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fsType is the type of our mounts in /proc/mounts.
const fsType = "fuse.ftpfs"

// mountEntry is one line of /proc/self/mountinfo (proc(5)).
type mountEntry struct {
	Dev        string // "major:minor"
	Mountpoint string
	Type       string
	Source     string
	Options    string // of the superblock; user_id= for FUSE
}

// owner is the user who mounted a FUSE filesystem, -1 if not said.
func (m mountEntry) owner() int {
	for _, o := range strings.Split(m.Options, ",") {
		if v, ok := strings.CutPrefix(o, "user_id="); ok {
			if n, err := strconv.Atoi(v); err == nil {
				return n
			}
		}
	}
	return -1
}

// findMount returns the topmost mount on the absolute path, which isn't touched: it may be the
// root of a dead or hanging mount.
func findMount(path string) (mountEntry, bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mountEntry{}, false, err
	}
	defer f.Close()
	mounts, err := parseMountinfo(f)
	if err != nil {
		return mountEntry{}, false, err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Mountpoint == path {
			return mounts[i], true, nil
		}
	}
	return mountEntry{}, false, nil
}

func parseMountinfo(r io.Reader) ([]mountEntry, error) {
	var mounts []mountEntry
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, rr := strings.Split(left, " "), strings.Split(right, " ")
		if !ok || len(l) < 6 || len(rr) < 3 {
			return nil, fmt.Errorf("/proc/self/mountinfo: unknown line %q", sc.Text())
		}
		mounts = append(mounts, mountEntry{Dev: l[2], Mountpoint: unescapeMount(l[4]), Type: rr[0], Source: unescapeMount(rr[1]), Options: rr[2]})
	}
	return mounts, sc.Err()
}

// unescapeMount decodes the \ooo that the kernel writes for space, tab, newline, '#' and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// resolvePath makes a path absolute and resolves symlinks, without touching its last element
// where that is a mount.
func resolvePath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if _, ok, err := findMount(abs); ok || err != nil {
		return abs, err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		real := filepath.Join(dir, filepath.Base(abs))
		if _, ok, _ := findMount(real); ok {
			return real, nil
		}
	}
	return filepath.EvalSymlinks(abs)
}
