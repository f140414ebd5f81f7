package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holders names the processes that have their working directory, their root, their program or an open file under
// path, by what proc (a proc filesystem) tells about those this user may look at. Nothing under
// path itself is touched.
func holders(proc, path string) []string {
	var found []string
	dirs, _ := os.ReadDir(proc)
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if what := holds(filepath.Join(proc, d.Name()), path); what != "" {
			comm, _ := os.ReadFile(filepath.Join(proc, d.Name(), "comm"))
			found = append(found, fmt.Sprintf("%s (process %d, %s)", strings.TrimSpace(string(comm)), pid, what))
		}
	}
	return found
}

func holds(dir, path string) string {
	under := func(link string) (string, bool) {
		target, err := os.Readlink(filepath.Join(dir, link))
		return target, err == nil && (target == path || strings.HasPrefix(target, path+"/"))
	}
	if _, ok := under("cwd"); ok {
		return "its working directory"
	}
	if _, ok := under("root"); ok {
		return "its root directory"
	}
	if _, ok := under("exe"); ok {
		return "its program"
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		if target, ok := under(filepath.Join("fd", fd.Name())); ok {
			return "has " + target + " open"
		}
	}
	maps, _ := os.ReadFile(filepath.Join(dir, "maps"))
	if strings.Contains(string(maps), " "+path+"/") {
		return "has a file mapped"
	}
	return ""
}
