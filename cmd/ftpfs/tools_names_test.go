package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// oddNames are file names that shells, servers or listings treat specially.
func oddNames() []string {
	return []string{
		" space in front", "space behind ", "  two  inside  ", "grüße 漢字 🎈", "e\u0301 decomposed", "latin1 \xe9\xff", "\xff\xfe",
		`"quoted"`, "'single'", "back`tick", "#hash", "100%", "%20", "[brackets]", "star*", "question?", "{a,b}", `back\slash`,
		"-dash", "-la", "--help", "a -> b", "x -> y -> z", "semi;colon", "pipe|", "dollar$HOME", "~", "~user", "&amp", "a=b;c=d; e",
		".hidden", "...", "..dots", "colon:", "comma,", "plus+", "@at", "!bang", "(paren)", "<angle>", "^", "total 12", "drwxr-xr-x 1 a",
		strings.Repeat("n", 255), strings.Repeat("ü", 127) + "x",
	}
}

// refusedName says that a server can't have a name, by SERVERS' own rules: it refuses it, or makes another of it.
func refusedName(kind ftptest.Kind, name string) bool {
	switch kind {
	case ftptest.PureFTPd: // "_" or 553 Prohibited file name
		return strings.HasSuffix(name, " ") || strings.Contains(name, `\`)
	case ftptest.Pyftpdlib: // decodes UTF-8
		return strings.Contains(name, "\xff")
	}
	return false
}

// nameTools are tests of names.
func nameTools() []toolTest {
	return []toolTest{
		{name: "names", run: func(t *testing.T, d *toolDir) {
			var there, wrong []string
			for _, name := range oddNames() {
				p := d.mnt + "/" + name
				err := os.WriteFile(p, []byte(name), 0o644)
				if refusedName(d.server.Kind, name) {
					switch _, there := os.Lstat(d.srv + "/" + name); {
					case err != nil && (errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOENT)):
						t.Errorf("%q is refused with %v", name, err)
					case err == nil && there != nil:
						wrong = append(wrong, name)
					}
					if err != nil || len(wrong) > 0 {
						continue
					}
				} else if err != nil {
					t.Errorf("writing: %v", err)
					continue
				}
				d.both(name, []byte(name))
				there = append(there, name)
			}
			if len(wrong) > 0 {
				t.Fatalf("%q were reported as written, and the server has them under other names", wrong)
			}
			slices.Sort(there)
			list(t, d.srv, there)
			list(t, d.mnt, there)

			r := mountServer(t, d.server).dir(t, d.name)
			list(t, r.mnt, there)
			for _, name := range there {
				r.onMount(name, []byte(name))
				if info, err := os.Stat(r.mnt + "/" + name); err != nil || info.Size() != int64(len(name)) {
					t.Errorf("stat: %v", err)
				}
				if len(name) > 250 {
					continue
				}
				if err := os.Rename(r.mnt+"/"+name, r.mnt+"/"+name+".x"); err != nil {
					t.Errorf("%v", err)
				} else if err := os.Rename(r.mnt+"/"+name+".x", r.mnt+"/"+name); err != nil {
					t.Errorf("%v", err)
				}
			}
			list(t, d.srv, there)
			for _, name := range there {
				if err := os.Remove(r.mnt + "/" + name); err != nil {
					t.Errorf("%v", err)
				}
			}
			list(t, d.srv, nil)
			list(t, r.mnt, nil)
		}},
		{name: "names of directories", run: func(t *testing.T, d *toolDir) {
			made := make(map[string]bool)
			for i, name := range oddNames() {
				if refusedName(d.server.Kind, name) {
					continue
				}
				dir := d.mnt + "/" + name
				if err := os.Mkdir(dir, 0o755); err != nil {
					if d.server.Kind == ftptest.ProFTPD && strings.Contains(name, "*") && errors.Is(err, syscall.EINVAL) {
						continue // 550 Invalid directory name
					}
					t.Error(err)
					continue
				}
				made[name] = true
				text := fmt.Sprint("text ", i)
				if err := os.WriteFile(dir+"/"+"f", []byte(text), 0o644); err != nil {
					t.Error(err)
				}
				d.both(name+"/f", []byte(text))
			}
			r := mountServer(t, d.server).dir(t, d.name)
			for i, name := range oddNames() {
				if !made[name] {
					continue
				}
				r.onMount(name+"/f", fmt.Append(nil, "text ", i))
				list(t, r.mnt+"/"+name, []string{"f"})
				if err := os.RemoveAll(r.mnt + "/" + name); err != nil {
					t.Error(err)
				}
			}
			list(t, d.srv, nil)
		}},
		{name: "names that can not be", run: func(t *testing.T, d *toolDir) {
			for _, name := range []string{"line\nbreak", "carriage\rreturn", "x\r\nDELE f"} {
				d.wantErrno(fmt.Sprintf("writing %q", name), os.WriteFile(d.mnt+"/"+name, nil, 0o644), syscall.EINVAL)
				d.wantErrno(fmt.Sprintf("mkdir %q", name), os.Mkdir(d.mnt+"/"+name, 0o755), syscall.EINVAL)
			}
			long := strings.Repeat("n", 256)
			d.wantErrno("a name of 256 bytes", os.WriteFile(d.mnt+"/"+long, nil, 0o644), syscall.ENAMETOOLONG)
			list(t, d.srv, nil)
		}},
	}
}

// list fails the test if a directory has other names than these.
func list(t *testing.T, dir string, want []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
		return
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%q is in %s and should not be there", name, dir)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%q is missing in %s", name, dir)
		}
	}
}
