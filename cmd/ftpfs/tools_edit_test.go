package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// editTools are tests of tools that change files.
func editTools() []toolTest {
	foxes := bytes.Repeat([]byte("the quick brown fox\n"), 5000)
	return []toolTest{
		{name: "dd conv=notrunc", tools: "dd", seed: func(s *ftptest.Server, dir string) {
			for _, size := range []int{100, 100_000, 1_000_000} {
				s.WriteFile(fmt.Sprint(dir, "/f", size), noise(size, size))
			}
		}, run: func(t *testing.T, d *toolDir) {
			for _, size := range []int{100, 100_000, 1_000_000} {
				name := fmt.Sprint("f", size)
				data := noise(size, size)
				d.sh(fmt.Sprintf(`printf MIDDLE | dd of="$MNT/%s" bs=1 seek=%d conv=notrunc status=none`, name, size/2))
				copy(data[size/2:], "MIDDLE")
				d.both(name, data)
				d.sh(fmt.Sprintf(`printf BEGIN | dd of="$MNT/%s" conv=notrunc,fsync status=none
					printf END | dd of="$MNT/%[1]s" conv=notrunc oflag=append status=none`, name))
				copy(data, "BEGIN")
				d.both(name, append(data, "END"...))
			}
		}},
		{name: "dd seek beyond the end", tools: "dd", run: func(t *testing.T, d *toolDir) {
			d.sh(`printf start > "$MNT/old"
				printf end | dd of="$MNT/old" bs=1 seek=200000 conv=notrunc status=none
				printf end | dd of="$MNT/new" bs=1 seek=200000 status=none`)
			hole := make([]byte, 200_000)
			d.both("new", append(bytes.Clone(hole), "end"...))
			copy(hole, "start")
			d.both("old", append(hole, "end"...))
		}},
		{name: "truncate", tools: "truncate", seed: seed("f", noise(1, 300_000)), run: func(t *testing.T, d *toolDir) {
			data := noise(1, 300_000)
			d.sh(`truncate -s 1000 "$MNT/f"`)
			d.both("f", data[:1000])
			d.sh(`truncate -s 500000 "$MNT/f"`)
			d.both("f", append(bytes.Clone(data[:1000]), make([]byte, 499_000)...))
			d.sh(`truncate -s -499900 "$MNT/f"`)
			d.both("f", data[:100])
			d.sh(`truncate -s 0 "$MNT/f"; truncate -s 70000 "$MNT/new"`)
			d.both("f", nil)
			d.both("new", make([]byte, 70_000))
			d.sh(`: > "$MNT/new"`)
			d.both("new", nil)
		}},
		{name: "sed -i", tools: "sed", seed: seed("f", foxes), run: func(t *testing.T, d *toolDir) {
			text := string(foxes)
			d.sh(`sed -i s/quick/slow/ "$MNT/f"`)
			d.both("f", []byte(strings.ReplaceAll(text, "quick", "slow")))
			d.sh(`sed -i.bak s/slow/fast/ "$MNT/f"`)
			d.both("f", []byte(strings.ReplaceAll(text, "quick", "fast")))
			d.both("f.bak", []byte(strings.ReplaceAll(text, "quick", "slow")))
			d.want(`ls -A "$MNT"; ls -A "$SRV"`, "f\nf.bak\nf\nf.bak\n")
		}},
		{name: "mv", tools: "mv", run: func(t *testing.T, d *toolDir) {
			d.sh(`cd "$MNT"
				echo old > f; echo new > g; mv f h; mv g f; mv -f f h
				test "$(cat h)" = new; test ! -e f; test ! -e g
				mkdir a b; echo x > a/x; mv a/x b/y; test ! -e a/x; test "$(cat b/y)" = x
				mkdir -p c/d/e; echo deep > c/d/e/f; mv c/d b/moved; test "$(cat b/moved/e/f)" = deep
				echo more > b/moved/e/g
				mkdir empty; mv -T b/moved empty; test "$(cat empty/e/g)" = more
				mv empty "a dir with spaces"; test "$(cat "a dir with spaces/e/f")" = deep
				mv h a; mv -n a/h a/none; test -e a/none`)
			d.want(`cd "$MNT"; find . | sort; cd "$SRV"; find . | sort`, strings.Repeat(".\n./a\n./a dir with spaces\n./a dir with spaces/e\n./a dir with spaces/e/f\n./a dir with spaces/e/g\n./a/none\n./b\n./b/y\n./c\n", 2))
			out, err := d.try(`cd "$MNT"; mkdir full; echo x > full/x; mv -T a full`)
			if err == nil || !strings.Contains(out, "not empty") {
				t.Errorf("mv over a directory with content: %v %s", err, out)
			}
			d.both("full/x", []byte("x\n"))
			d.sh(`mv "$MNT/b" "$TMP/b"; test ! -e "$SRV/b"; mv "$TMP/b" "$MNT/b"; test "$(cat "$SRV/b/y")" = x`)
		}},
		{name: "appending", seed: seed("big", noise(3, 700_000)), run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"
				echo 1 >> new; echo 2 >> new; echo 3 >> new; cat new "$SRV/new"
				echo 4 > new; echo 5 >> new; cat new "$SRV/new"
				{ echo a; echo b; cat new; echo c; } >> log; cat "$SRV/log"`,
				"1\n2\n3\n1\n2\n3\n4\n5\n4\n5\na\nb\n4\n5\nc\n")
			data := noise(3, 700_000)
			d.sh(`echo end >> "$MNT/big"; printf more >> "$MNT/big"`)
			d.both("big", append(data, "end\nmore"...))
			d.sh(`i=0; while [ $i -lt 30 ]; do echo $i >> "$MNT/many"; i=$((i+1)); done
				seq 0 29 | cmp - "$SRV/many"; seq 0 29 | cmp - "$MNT/many"`)
		}},
		{name: "appending from two sides", seed: seed("log", []byte("one\n")), run: func(t *testing.T, d *toolDir) {
			other := mountServer(t, d.server).dir(t, d.name)
			d.sh(`echo two >> "$MNT/log"`)
			other.sh(`echo three >> "$MNT/log"`)
			d.sh(`echo four >> "$MNT/log"`)
			d.onServer("log", []byte("one\ntwo\nthree\nfour\n"))
		}},
		{name: "head and tail", tools: "head tail", run: func(t *testing.T, d *toolDir) {
			d.want(`seq 1 300000 > "$TMP/n"; cp "$TMP/n" "$MNT/n"
				head -n 2 "$MNT/n"; tail -n 2 "$MNT/n"; head -c 5 "$MNT/n"; tail -c 7 "$MNT/n"; tail -n +299999 "$MNT/n"`,
				"1\n2\n299999\n300000\n1\n2\n3300000\n299999\n300000\n")
			r := mountServer(t, d.server).dir(t, d.name) // nothing of it is known there
			r.want(`tail -c 7 "$MNT/n"; head -n 1 "$MNT/n"; tail -n 1 "$MNT/n"; dd if="$MNT/n" bs=7 skip=100000 count=1 status=none; head -n 1 "$MNT/n"`,
				"300000\n1\n300000\n"+string(d.server.ReadFile(d.name + "/n")[700_000:700_007])+"1\n")
		}},
		{name: "sort -o itself", tools: "sort seq", run: func(t *testing.T, d *toolDir) {
			d.sh(`seq 50000 -1 1 > "$MNT/n"; sort -n -o "$MNT/n" "$MNT/n"; seq 1 50000 | cmp - "$SRV/n"; seq 1 50000 | cmp - "$MNT/n"`)
		}},
		{name: "vim", run: func(t *testing.T, d *toolDir) {
			vim := "vim"
			if _, err := exec.LookPath(vim); err != nil {
				need(t, "vi")
				vim = "vi"
			}
			d.sh(`printf 'one\ntwo\n' > "$MNT/f"
				` + vim + ` -es -u NONE -N -c '%s/two/three/' -c 'wq' "$MNT/f"`)
			d.both("f", []byte("one\nthree\n"))
			for i, options := range []string{"backup backupcopy=no", "backup backupcopy=yes", "nowritebackup nobackup", "fsync swapfile"} {
				d.sh(fmt.Sprintf(`%s -es -u NONE -N -c 'set %s' -c 'normal Goline %d' -c 'wq' "$MNT/f"`, vim, options, i))
			}
			d.both("f", []byte("one\nthree\nline 0\nline 1\nline 2\nline 3\n"))
			d.wantSoon(`ls -A "$SRV"`, "f\n")
		}},
		{name: "patch", tools: "patch diff", run: func(t *testing.T, d *toolDir) {
			d.want(`seq 1 1000 > "$MNT/f"; sed s/500/five/ "$MNT/f" > "$TMP/g"
				diff -u "$MNT/f" "$TMP/g" > "$MNT/p" || true
				cd "$MNT"; patch -s f p; grep -c five "$SRV/f"; wc -l < f`, "1\n1000\n")
		}},
		{name: "one file through several handles", run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"; exec 3<> f; printf abc >&3; cat f; printf def >> f; cat f; printf X | dd of=f bs=1 seek=1 conv=notrunc status=none; exec 3>&-; cat f; cat "$SRV/f"`,
				"abcabcdefaXcdefaXcdef")
			// What was deleted can be read on only as far as it is here.
			d.want(`cd "$MNT"; exec 4<> gone; echo text >&4; rm gone; cat gone 2>/dev/null || true; exec 4<&-; test ! -e gone; test ! -e "$SRV/gone"; ls -A`, "f\n")
		}},
		{name: "truncating what is open", seed: seed("f", noise(5, 400_000)), run: func(t *testing.T, d *toolDir) {
			data := noise(5, 400_000)
			f, err := os.OpenFile(d.mnt+"/f", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, 1000)
			if _, err := f.ReadAt(b, 350_000); err != nil || !bytes.Equal(b, data[350_000:351_000]) {
				t.Errorf("%v %s", err, difference(b, data[350_000:351_000]))
			}
			if err := f.Truncate(200_000); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("tail"), 250_000); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			want := append(bytes.Clone(data[:200_000]), make([]byte, 50_000)...)
			d.both("f", append(want, "tail"...))
		}},
	}
}

// programTools are tests of programs that keep their own data in files.
func programTools() []toolTest {
	return []toolTest{
		{name: "git", tools: "git", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`rm -r "$TMP/in/.git"; cp -r "$TMP/in" "$MNT/repo"; cd "$MNT/repo"
				git init -q -b main
				git add .
				git commit -q -m first
				git fsck --strict --no-progress
				echo changed >> README
				git commit -q -a -m second
				git checkout -q -b side HEAD~1
				git rm -q run.sh
				git mv README READ.ME
				git commit -q -m third
				git checkout -q main
				git gc -q
				git fsck --strict --no-progress`)
			d.want(`cd "$MNT/repo"; git log --format=%s; git status --porcelain; git stash list; git clone -q . "$TMP/clone"; git -C "$TMP/clone" log --format=%s origin/side`,
				"second\nfirst\nthird\nfirst\n")
			r := mountServer(t, d.server).dir(t, d.name)
			r.want(`cd "$MNT/repo"; git fsck --strict --no-progress; git log --format=%s side; git status --porcelain`, "third\nfirst\n")
		}},
		{name: "git clone", tools: "git", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`rm -r "$TMP/in/.git"; cd "$TMP/in"; git init -q -b main; git add .; git commit -q -m first
				git clone -q --no-hardlinks "$TMP/in" "$MNT/clone"
				git clone -q --bare "$TMP/in" "$MNT/bare.git"
				cd "$MNT/clone"; git fsck --strict --no-progress; echo x > x; git add x; git commit -q -m second
				git push -q "$MNT/bare.git" main
				git -C "$MNT/bare.git" fsck --strict --no-progress`)
			d.want(`git -C "$MNT/bare.git" log --format=%s; git -C "$MNT/clone" status --porcelain`, "second\nfirst\n")
		}},
		{name: "sqlite3", tools: "sqlite3", run: func(t *testing.T, d *toolDir) {
			d.want(`db="$MNT/t.db"
				sqlite3 "$db" 'pragma journal_mode=delete' >/dev/null
				sqlite3 "$db" 'create table t (id integer primary key, x text)'
				sqlite3 "$db" "begin; insert into t (x) select 'row ' || value from (with recursive c(value) as (select 1 union all select value + 1 from c where value < 2000) select value from c); commit"
				sqlite3 "$db" "insert into t (x) values ('last')"
				sqlite3 "$db" "update t set x = 'changed' where id % 100 = 0"
				sqlite3 "$db" "begin; delete from t; rollback"
				sqlite3 "$db" "delete from t where id = 7"
				sqlite3 "$db" 'select count(*), max(id) from t; select count(*) from t where x = "changed"; pragma integrity_check'
				sqlite3 "$SRV/t.db" 'select count(*), max(id) from t; pragma integrity_check'
				sqlite3 "$db" 'vacuum; pragma integrity_check'`,
				"2000|2001\n20\nok\n2000|2001\nok\nok\n")
			d.wantSoon(`ls -A "$SRV"`, "t.db\n") // journals that were open when they were removed go behind their last close
			for _, mode := range []string{"truncate", "persist"} {
				d.want(fmt.Sprintf(`sqlite3 "$MNT/%s.db" 'pragma journal_mode=%[1]s; create table t (x); insert into t values (1); insert into t values (2)'
					sqlite3 "$MNT/%[1]s.db" 'select sum(x) from t; pragma integrity_check'`, mode), mode+"\n3\nok\n")
			}
		}},
		{name: "zip", tools: "zip unzip", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`cd "$TMP/in"; zip -qr "$MNT/a.zip" .; cd "$MNT"; unzip -tq a.zip; mkdir x; unzip -q -d x a.zip`)
			sameTree(t, d.srv+"/x", d.tmp+"/in", treeChecks{modes: true})
		}},
		{name: "python", tools: "/usr/bin/python3", run: func(t *testing.T, d *toolDir) {
			d.sh(`cat > "$TMP/p.py" <<'END'
import mmap, os, sys, tempfile
os.chdir(sys.argv[1])
with open("m", "wb") as f:
    f.write(b"x" * 100000)
with open("m", "r+b") as f:
    with mmap.mmap(f.fileno(), 0) as m:
        m[5000:5006] = b"MAPPED"
        m.flush()
        assert m[4999:5007] == b"xMAPPEDx"
    os.fsync(f.fileno())
with open("m", "rb") as f:
    f.seek(5000)
    assert f.read(6) == b"MAPPED"
with tempfile.NamedTemporaryFile(dir=".") as f:
    f.write(b"temporary"); f.flush(); f.seek(0)
    assert f.read() == b"temporary"
fd = os.open("excl", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.close(fd)
try:
    os.open("excl", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert False
except FileExistsError:
    pass
with open("w", "w+") as f:
    f.write("hello"); f.seek(1); f.write("E"); f.seek(0)
    assert f.read() == "hEllo"
    f.truncate(3)
os.replace("w", "v")
assert open("v").read() == "hEl"
assert sorted(os.listdir(".")) == ["excl", "m", "v"], os.listdir(".")
END
				/usr/bin/python3 "$TMP/p.py" "$MNT"; test "$(cat "$SRV/v")" = hEl; grep -c MAPPED "$SRV/m"`)
		}},
	}
}
