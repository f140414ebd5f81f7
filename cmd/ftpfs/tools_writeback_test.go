package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// kill ends the serving process as a crash does, and takes the dead mount away.
func (m *toolMount) kill() {
	m.t.Helper()
	for _, pid := range m.processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			m.t.Fatal(err)
		}
	}
	m.waitFor("the program to end", func() bool { return len(m.processes()) == 0 })
	_ = unmount(m.mnt, true)
}

// mountAgain mounts as before, with these options.
func (m *toolMount) mountAgain(options string) {
	m.t.Helper()
	if out, code := m.run("--log_level=debug", "--log_file="+m.log, "-o", options, m.url, m.mnt); code != exitOK {
		m.t.Fatalf("mounting again: exit code %d: %s", code, out)
	}
}

func (m *toolMount) waitFor(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(toolLimit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestToolsWriteback writes with tools on a line that is frozen meanwhile, or whose process is killed, and finds everything on the
// server in the end.
func TestToolsWriteback(t *testing.T) {
	const script = `cd "$MNT"
		cp -a "$TMP/src" copy; tar xf "$TMP/src.tar" ; echo one > log; echo two >> log; echo three >> log
		cp "$TMP/src/f1" edited; printf XX | dd of=edited bs=1 seek=1000 conv=notrunc status=none
		cp "$TMP/src/f2" removed; rm removed; touch -d 2020-02-03T04:05:06Z dated; chmod 600 dated`
	check := func(d *toolDir) {
		d.t.Helper()
		d.want(`for where in "$SRV" "$MNT"; do cd "$where"
			diff -r "$TMP/src" copy; diff -r "$TMP/src" src; cat log; cmp -l edited "$TMP/src/f1" | wc -l; ls -A | tr '\n' ' '
			[ dated -nt copy/f1 ] && echo newer; stat -c %a dated; done`,
			strings.Repeat("one\ntwo\nthree\n2\ncopy dated edited log src 600\n", 2))
		d.want(`rsync -a --itemize-changes "$TMP/src/" "$MNT/copy/"`, "") // times and modes are what cp set
	}
	prepare := func(t *testing.T, kind ftptest.Kind, options string) (*ftptest.Proxy, *toolDir) {
		need(t, "rsync")
		proxy, d := proxied(t, kind, func(s *ftptest.Server) { s.WriteFile("d/.keep", nil) }, options)
		d.sh(`rm "$MNT/.keep"; mkdir "$TMP/src"`)
		for i := range 20 {
			if err := os.WriteFile(fmt.Sprintf("%s/src/f%d", d.tmp, i), noise(i, 3000+i*i*500), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d.sh(`cd "$TMP"; touch -d 2021-03-04T05:06:07Z src/*; touch -d 2021-03-04T05:06:07Z src; tar cf src.tar src`)
		return proxy, d
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		t.Run("unmounted", func(t *testing.T) {
			t.Parallel()
			_, d := prepare(t, kind, "writeback")
			d.sh(script)
			if out, code := d.m.run("umount", d.m.mnt); code != exitOK {
				t.Errorf("umount: exit code %d: %s", code, out)
			}
			d.m.mountAgain("writeback")
			check(d)
		})
		t.Run("killed", func(t *testing.T) {
			t.Parallel()
			proxy, d := prepare(t, kind, "writeback")
			// Directories are made at once; files wait for a line that takes uploads.
			proxy.On("STOR").StallData(1 << 10)
			proxy.On("APPE").StallData(1 << 10)
			d.sh(script)
			d.m.kill()
			proxy.ClearRules()
			proxy.Drop()
			d.m.mountAgain("log_level=debug") // without the option it does what is left all the same
			d.want(`cat "$MNT/log"`, "one\ntwo\nthree\n")
			if out, code := d.m.run("umount", d.m.mnt); code != exitOK {
				t.Errorf("umount: exit code %d: %s", code, out)
			}
			d.m.mountAgain("writeback")
			check(d)
			if text, err := os.ReadFile(d.m.log); err != nil || !strings.Contains(string(text), "are uploaded now") {
				t.Errorf("the log doesn't say so (%v)", err)
			}
		})
	})
}

// TestToolsWorkOnWriteback has programs with ways of their own work on a mount with writeback; sync(1) brings the rest to the server.
func TestToolsWorkOnWriteback(t *testing.T) {
	need(t, "git", "sqlite3", "make", "gcc", "rsync")
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		_, d := proxied(t, kind, func(s *ftptest.Server) { s.WriteFile("d/x", nil) }, "writeback")
		d.want(`cd "$MNT"
			export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
			git init -q repo; cd repo; for i in 1 2 3; do echo $i > f$i; git add .; git commit -qm $i; done; git gc -q; git fsck
			git clone -q . ../clone; cd ..; git -C clone log --format=%s | tr '\n' ' '
			for mode in delete wal; do sqlite3 $mode.db "PRAGMA journal_mode=$mode; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2); UPDATE t SET a = a * 10; SELECT sum(a) FROM t; PRAGMA integrity_check"; done
			printf 'main.o: main.c\n\tgcc -c main.c\nmain: main.o\n\tgcc -o main main.o\n' > Makefile; echo 'int main(void) { return 0; }' > main.c
			make -s main; make main; chmod +x main; sync .; cp main "$TMP/main"; "$TMP/main" && echo runs
			printf '3\n1\n2\n' > sorted; sort -o sorted sorted; sed -i s/2/two/ sorted; tr '\n' ' ' < sorted
			rm -rf repo/.git/hooks clone; mv repo moved; sync .; diff -r . "$SRV" && ls`,
			"3 2 1 delete\n30\nok\nwal\n30\nok\nmake: 'main' is up to date.\nruns\n1 two 3 Makefile\ndelete.db\nmain\nmain.c\nmain.o\nmoved\nsorted\nwal.db\nx\n")
	})
}

// TestToolsUmountWaits has uploads that don't come to an end.
func TestToolsUmountWaits(t *testing.T) {
	proxy, d := proxied(t, ftptest.VSFTPD, func(s *ftptest.Server) { s.WriteFile("d/x", nil) }, "writeback")
	d.sh(`ls "$MNT"`)
	proxy.On("STOR").StallData(64 << 10)
	data := noise(1, 1<<20)
	if err := os.WriteFile(d.mnt+"/f", data, 0o644); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "umount --wait=1s", func() {
		out, code := d.m.run("umount", "--wait=1s", d.m.mnt)
		if code != exitFailure || !strings.Contains(out, "goes on with 1 file") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
	proxy.ClearRules()
	proxy.Drop()
	d.m.waitFor("the program to end", func() bool { return len(d.m.processes()) == 0 })
	d.onServer("f", data)
}

// TestToolsUmountShowsProgress does so at a terminal.
func TestToolsUmountShowsProgress(t *testing.T) {
	proxy, d := proxied(t, ftptest.VSFTPD, func(s *ftptest.Server) { s.WriteFile("d/x", nil) }, "writeback")
	d.sh(`ls "$MNT"`)
	proxy.On("STOR").StallData(64 << 10)
	for _, name := range []string{"f", "g"} {
		if err := os.WriteFile(d.mnt+"/"+name, noise(1, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := d.m.atTerminal("umount", d.m.mnt)
	r.expect("2 files, ")
	r.expect("to upload")
	proxy.ClearRules()
	proxy.Drop()
	r.wantCode(exitOK)
	d.onServer("g", noise(1, 1<<20))
}

// TestToolsLateRefusal has an upload refused after the close, and finds it in the log, at the next open and in umount's exit code; the
// next mount tries again.
func TestToolsLateRefusal(t *testing.T) {
	proxy, d := proxied(t, ftptest.VSFTPD, func(s *ftptest.Server) { s.WriteFile("d/x", nil) }, "writeback")
	d.sh(`ls "$MNT"`)
	proxy.On("STOR").Reply("552 Quota exceeded.")
	if err := os.WriteFile(d.mnt+"/f", []byte("text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.m.waitFor("the refusal", func() bool { return strings.Contains(d.m.logFrom(0), "Quota exceeded") })
	d.m.waitFor("the error at open()", func() bool {
		_, err := os.ReadFile(d.mnt + "/f")
		if err != nil {
			d.wantErrno("open", err, syscall.EDQUOT, syscall.ENOSPC)
		}
		return err != nil
	})
	d.want(`cat "$MNT/f"`, "text\n")
	out, code := d.m.run("umount", d.m.mnt)
	if code != exitFailure || !strings.Contains(out, "/d/f") || !strings.Contains(out, "next mount") {
		t.Errorf("umount: exit code %d: %s", code, out)
	}
	proxy.ClearRules()
	d.m.mountAgain("writeback")
	if out, code := d.m.run("umount", d.m.mnt); code != exitOK {
		t.Errorf("the next umount: exit code %d: %s", code, out)
	}
	d.onServer("f", []byte("text\n"))
}
