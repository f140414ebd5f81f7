package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// renamedEarly is how many renames didn't wait for an upload.
func (m *toolMount) renamedEarly() int {
	m.t.Helper()
	text, err := os.ReadFile(m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Count(string(text), "renamed before its upload")
}

// TestToolsWritebackRsync has rsync write, which renames each file, and do so again when nothing, and when some, has changed.
func TestToolsWritebackRsync(t *testing.T) {
	need(t, "rsync")
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		_, d := proxied(t, kind, func(s *ftptest.Server) { s.WriteFile("d/x", nil) }, "writeback")
		d.sh(`rm "$MNT/x"; mkdir -p "$TMP/src/deep/er"`)
		for i := range 60 {
			name := fmt.Sprintf("%s/src/%s/f%d", d.tmp, []string{".", "deep", "deep/er"}[i%3], i)
			if err := os.WriteFile(name, noise(i, 10+i*i*20), []os.FileMode{0o644, 0o600}[i%2]); err != nil {
				t.Fatal(err)
			}
		}
		const again = `rsync -a --itemize-changes "$TMP/src/" "$MNT/copy/"`
		d.sh(`find "$TMP/src" -exec touch -d 2021-03-04T05:06:07Z {} +; rsync -a "$TMP/src/" "$MNT/copy/"`)
		if d.m.renamedEarly() == 0 {
			t.Error("all renames have waited for an upload")
		}
		d.want(again, "")
		d.remount()
		d.want(again, "")
		d.want(`diff -r "$TMP/src" "$SRV/copy" && diff -r "$TMP/src" "$MNT/copy" && ls -A "$SRV"`, "copy\n")
		d.sh(`cd "$TMP/src"; for f in f0 deep/f4 deep/er/f11; do echo more >> $f; done; cp f3 deep/f1; touch -d 2022-03-04T05:06:07Z f0 deep/f1; chmod 640 f6`)
		d.sh(`rsync -a --delete "$TMP/src/" "$MNT/copy/"`)
		d.want(again, "")
		d.sh(`cp "$TMP/src/f0" "$MNT/copy/deep/.f4"; mv -f "$MNT/copy/deep/.f4" "$MNT/copy/deep/f4"; mv "$MNT/copy" "$MNT/moved"`) // which waits
		d.want(`cmp "$TMP/src/f0" "$SRV/moved/deep/f4"; mv "$MNT/moved" "$MNT/copy"; rsync -a "$TMP/src/" "$MNT/copy/"`, "")
		d.remount()
		d.want(again, "")
		d.want(`diff -r "$TMP/src" "$SRV/copy" && find "$SRV" -name '.*' | wc -l`, "0\n")
	})
}

// busy fills the queue with uploads that don't end, so that what comes next waits.
func busy(t *testing.T, proxy *ftptest.Proxy, d *toolDir) {
	t.Helper()
	const atOnce = 8 // of max_conns=8 sessions one is kept for other work: the last upload waits for one
	proxy.On("STOR").StallData(1 << 10)
	for i := range atOnce {
		if err := os.WriteFile(fmt.Sprintf("%s/busy%d", d.mnt, i), noise(i, 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d.m.waitFor("the queue to be busy", func() bool { return proxy.Count("STOR") >= atOnce-1 })
}

// TestToolsWritebackKilledAfterRename kills the program behind renames of what waits: the next mount goes on with the new names.
func TestToolsWritebackKilledAfterRename(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		proxy, d := proxied(t, kind, func(s *ftptest.Server) {
			for _, name := range []string{"replaced", "contested", "twice"} {
				s.WriteFile("d/"+name, []byte("old content of "+name+"\n"))
			}
		}, "writeback")
		d.sh(`ls -l "$MNT" > /dev/null`)
		busy(t, proxy, d)
		d.sh(`cd "$MNT"
			echo fresh > fresh.tmp; mv fresh.tmp fresh
			echo a > a; mv a b; mv b c
			echo replaced > r.tmp; chmod 600 r.tmp; touch -d 2020-02-03T04:05:06Z r.tmp; mv -f r.tmp replaced
			echo contested > c.tmp; mv -f c.tmp contested
			echo one > t.tmp; mv -f t.tmp twice; echo two > t.tmp; mv -f t.tmp twice
			echo gone > g.tmp; mv g.tmp gone; rm gone
			echo begun > more.tmp; mv more.tmp more; echo appended >> more`)
		if n := d.m.renamedEarly(); n != 9 {
			t.Errorf("%d renames didn't wait for the server", n)
		}
		d.want(`cd "$SRV"; cat replaced contested twice`, "old content of replaced\nold content of contested\nold content of twice\n")
		d.m.kill()
		if err := os.WriteFile(filepath.Join(d.srv, "contested"), []byte("changed at length by somebody else\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		proxy.ClearRules()
		proxy.Drop()
		d.m.mountAgain("writeback")
		names := "c contested contested.ftpfs-conflict fresh more replaced twice\n"
		const list = `ls -A | grep -v busy | sed 's/conflict-.*/conflict/' | tr '\n' ' ' | sed 's/ $/\n/'`
		d.want(`cd "$MNT"; cat fresh c replaced twice more; stat -c %a replaced; date -u -r replaced +%Y; sync . 2>/dev/null || sync .`, "fresh\na\nreplaced\ntwo\nbegun\nappended\n600\n2020\n")
		d.want(`for where in "$SRV" "$MNT"; do cd "$where"; `+list+`; cat fresh c replaced contested contested.ftpfs-conflict* twice more; done`,
			strings.Repeat(names+"fresh\na\nreplaced\nchanged at length by somebody else\ncontested\ntwo\nbegun\nappended\n", 2))
		d.want(`cd "$SRV"; cat busy* | wc -c`, "800000\n")
		d.m.run("umount", d.m.mnt) // it says that there was a conflict
		d.m.mountAgain("writeback")
		d.want(`cd "$MNT"; `+list, names)
	})
}
