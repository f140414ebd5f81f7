package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// link lays a symlink on the server.
func link(s *ftptest.Server, target, name string) {
	s.Mkdir(filepath.Dir("/" + name))
	_ = os.Symlink(target, s.Path(name))
}

// treeTools are tests of tools that walk, show and remove.
func treeTools() []toolTest {
	return []toolTest{
		{name: "grep and find", tools: "grep find", seed: func(s *ftptest.Server, dir string) {
			for i := range 40 {
				s.WriteFile(fmt.Sprintf("%s/d%d/e/f%d.txt", dir, i%7, i), fmt.Appendf(nil, "line\nneedle %d\n", i))
			}
			s.WriteFile(dir+"/big.bin", append(noise(1, 400_000), "\nneedle 99\n"...))
			s.WriteFile(dir+"/.hidden/.f", nil)
			s.Mkdir(dir + "/nothing/at/all")
		}, run: func(t *testing.T, d *toolDir) {
			d.want(`grep -ra needle "$MNT" | wc -l; grep -rl 'needle 3$' "$MNT" | sed "s|$MNT||"
				grep -rc needle "$MNT/d1" | sort | sed "s|$MNT||" | head -n 1`, "41\n/d3/e/f3.txt\n/d1/e/f1.txt:1\n")
			d.want(`cd "$SRV"; find . -printf '%p %y %s\n' | grep -v ' d ' | sort > "$TMP/want"; find . -type d | sort > "$TMP/wantdirs"
				cd "$MNT"; find . -printf '%p %y %s\n' | grep -v ' d ' | sort | diff "$TMP/want" -; find . -type d | sort | diff "$TMP/wantdirs" -
				find . -name '*.txt' -size -2 | wc -l; find . -size +100k; find . -empty | sort`, "40\n./big.bin\n./.hidden/.f\n./nothing/at/all\n")
			d.want(`cd "$MNT"; du -s --apparent-size -B1 big.bin | cut -f1; ls -A | sort | tr '\n' ' '; ls | wc -l`, "400011\n.hidden big.bin d0 d1 d2 d3 d4 d5 d6 nothing 9\n")
		}},
		{name: "rm -rf", tools: "rm", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/tree")
			d.sh(`cp -r "$TMP/tree" "$MNT/tree"; echo x > "$MNT/tree/src/new"; rm -rf "$MNT/tree"; test ! -e "$MNT/tree"; test ! -e "$SRV/tree"; ls -A "$MNT"`)
			d.want(`mkdir "$MNT/d"; echo x > "$MNT/d/x"; rmdir "$MNT/d" 2>&1 || true; rm "$MNT/d/x"; rmdir "$MNT/d"; ls -A "$MNT" "$SRV" | grep -v : || true`,
				"rmdir: failed to remove '"+d.mnt+"/d': Directory not empty\n\n")
		}},
		{name: "modes and times", tools: "chmod touch stat", run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"; echo text > f; mkdir dir
				for m in 600 755 444 640; do chmod $m f; stat -c %a f "$SRV/f"; done
				chmod u+w,go-r f; stat -c %a f
				chmod 700 dir; stat -c %a dir "$SRV/dir"; chmod 755 dir`,
				"600\n600\n755\n755\n444\n444\n640\n640\n600\n700\n700\n")
			d.want(`cd "$MNT"; chmod 644 f
				for at in '2001-02-03 04:05:06' '2024-02-29 23:59:59' '1999-12-31 00:00:00'; do touch -d "$at" f; stat -c %y f "$SRV/f" | cut -c 1-19; done
				echo more >> f; touch -r /etc/passwd f; test "$(stat -c %Y f)" = "$(stat -c %Y /etc/passwd)"
				touch f; test "$(($(date +%s) - $(stat -c %Y "$SRV/f")))" -lt 60
				touch new; test -e "$SRV/new"; touch -d 2020-01-01 dir`,
				"2001-02-03 04:05:06\n2001-02-03 04:05:06\n2024-02-29 23:59:59\n2024-02-29 23:59:59\n1999-12-31 00:00:00\n1999-12-31 00:00:00\n")
			out, err := d.try(`chown 12345 "$MNT/f"`)
			if err == nil || !strings.Contains(out, "not permitted") {
				t.Errorf("chown: %v %s", err, out)
			}
		}},
		{name: "df", tools: "df stat", run: func(t *testing.T, d *toolDir) {
			fields := strings.Fields(d.sh(`df -P "$MNT" | tail -n 1; df -i "$MNT" >/dev/null; stat -f "$MNT" >/dev/null`))
			free, err := strconv.ParseInt(fields[3], 10, 64)
			if err != nil || free < 1<<20 {
				t.Errorf("df says that %s KiB are free", fields[3])
			}
		}},
		{name: "empty files", run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"; : > a; touch b; cp /dev/null c; cat a b c; stat -c '%n %s' a b c; cd "$SRV"; stat -c '%n %s' a b c; cd "$MNT"; cp a "$TMP/a"; cmp a "$TMP/a"; wc -c < c`,
				"a 0\nb 0\nc 0\na 0\nb 0\nc 0\n0\n")
		}},
		{name: "deep paths", tools: "mkdir find", run: func(t *testing.T, d *toolDir) {
			deep := strings.Repeat("/a directory of some length", 30)
			d.want(`mkdir -p "$MNT`+deep+`"; echo deep > "$MNT`+deep+`/f"; cat "$SRV`+deep+`/f"; find "$MNT" -name f | wc -l`, "deep\n1\n")
			r := mountServer(t, d.server).dir(t, d.name)
			r.want(`cat "$MNT`+deep+`/f"; rm -r "$MNT/a directory of some length"; ls "$SRV"`, "deep\n")
		}},
		{name: "links", tools: "readlink ln", seed: func(s *ftptest.Server, dir string) {
			s.WriteFile(dir+"/dir/file", []byte("in dir\n"))
			s.WriteFile(dir+"/file", []byte("text\n"))
			link(s, "file", dir+"/tofile")
			link(s, "dir", dir+"/todir")
			link(s, "dir/file", dir+"/deeper")
			link(s, "missing", dir+"/dangling")
			link(s, "a -> b", dir+"/with -> arrow")
		}, run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"; cat tofile todir/file deeper; ls todir`, "text\nin dir\nin dir\nfile\n")
			if d.server.Kind == ftptest.Pyftpdlib {
				// It shows what links lead to, and nothing where they lead nowhere.
				d.want(`cd "$MNT"; ls -A; test ! -L tofile; test -d todir`, "deeper\ndir\nfile\ntodir\ntofile\n")
			} else {
				names := []string{"deeper", "dangling", "dir", "file", "todir", "tofile", "with -> arrow"}
				list := strings.Join(names, "\n") + "\n"
				d.want(`cd "$MNT"; ls -A | sort`, "dangling\ndeeper\n"+strings.TrimPrefix(list, "deeper\ndangling\n"))
				d.want(`cd "$MNT"; for l in tofile todir deeper dangling "with -> arrow"; do test -L "$l"; readlink "$l"; done; find . -type l | wc -l`,
					"file\ndir\ndir/file\nmissing\na -> b\n5\n")
				if _, err := os.ReadFile(d.mnt + "/dangling"); !os.IsNotExist(err) {
					t.Errorf("a link that leads nowhere: %v", err)
				}
				d.sh(`rm "$MNT/tofile"; test ! -L "$SRV/tofile"; test -e "$SRV/file"; mv "$MNT/deeper" "$MNT/moved"; test -L "$SRV/moved"`)
			}
			if d.server.Kind == ftptest.ProFTPD {
				d.want(`cd "$MNT"; ln -s dir/file made; readlink made; cat made; test -L "$SRV/made"`, "dir/file\nin dir\n")
			} else if out, err := d.try(`ln -s file "$MNT/new"`); err == nil || !strings.Contains(out, "not permitted") {
				t.Errorf("ln -s: %v %s", err, out)
			}
			out, err := d.try(`ln "$MNT/file" "$MNT/new"`)
			if err == nil || !strings.Contains(out, "not permitted") && !strings.Contains(out, "not supported") {
				t.Errorf("ln: %v %s", err, out)
			}
		}},
		{name: "errors", seed: func(s *ftptest.Server, dir string) {
			s.WriteFile(dir+"/f", []byte("text\n"))
			s.WriteFile(dir+"/full/f", nil)
		}, run: func(t *testing.T, d *toolDir) {
			_, err := os.Open(d.mnt + "/missing")
			d.wantErrno("open of what isn't there", err, syscall.ENOENT)
			_, err = os.Open(d.mnt + "/f/x")
			d.wantErrno("a file as directory", err, syscall.ENOTDIR)
			d.wantErrno("mkdir over a file", os.Mkdir(d.mnt+"/f", 0o755), syscall.EEXIST)
			d.wantErrno("mkdir over a directory", os.Mkdir(d.mnt+"/full", 0o755), syscall.EEXIST)
			d.wantErrno("mkdir below nothing", os.Mkdir(d.mnt+"/missing/x", 0o755), syscall.ENOENT)
			d.wantErrno("rmdir of content", syscall.Rmdir(d.mnt+"/full"), syscall.ENOTEMPTY)
			d.wantErrno("rmdir of a file", syscall.Rmdir(d.mnt+"/f"), syscall.ENOTDIR)
			d.wantErrno("unlink of a directory", syscall.Unlink(d.mnt+"/full"), syscall.EISDIR)
			d.wantErrno("unlink of nothing", syscall.Unlink(d.mnt+"/missing"), syscall.ENOENT)
			d.wantErrno("rename of nothing", os.Rename(d.mnt+"/missing", d.mnt+"/x"), syscall.ENOENT)
			d.wantErrno("rename into nothing", os.Rename(d.mnt+"/f", d.mnt+"/missing/f"), syscall.ENOENT)
			d.wantErrno("rename of a file over a directory", syscall.Rename(d.mnt+"/f", d.mnt+"/full"), syscall.EISDIR)
			d.wantErrno("rename of a directory over a file", syscall.Rename(d.mnt+"/full", d.mnt+"/f"), syscall.ENOTDIR)
			d.wantErrno("rename of a directory into itself", os.Rename(d.mnt+"/full", d.mnt+"/full/x"), syscall.EINVAL)
			_, err = os.OpenFile(d.mnt+"/full", os.O_WRONLY, 0)
			d.wantErrno("writing to a directory", err, syscall.EISDIR)
			d.both("f", []byte("text\n"))
		}},
		{name: "what others change", run: func(t *testing.T, d *toolDir) {
			short := mountServer(t, d.server, "ttl=1s").dir(t, d.name)
			d.sh(`echo one > "$MNT/f"`)
			short.want(`cat "$MNT/f"`, "one\n")
			d.sh(`echo two and more > "$MNT/f"; echo new > "$MNT/g"; mkdir "$MNT/dir"`)
			short.wantSoon(`cat "$MNT/f" "$MNT/g"; test -d "$MNT/dir"`, "two and more\nnew\n")
			d.sh(`rm "$MNT/g"; mv "$MNT/dir" "$MNT/other"`)
			short.wantSoon(`ls "$MNT"`, "f\nother\n")
		}},
	}
}

// wantSoon runs a script again until its output is what it should be.
func (d *toolDir) wantSoon(script, want string) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := d.try(script)
		if err == nil && out == want {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%s\nwrites %q (%v), want %q", script, out, err, want)
		}
	}
}
