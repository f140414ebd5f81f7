package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// stressSet is a way to mount that the tools are to stand together.
type stressSet struct {
	name    string
	options string
	kinds   []ftptest.Kind // that it is tried on without FTPFS_LONG
	broken  bool           // connections end now and then
}

func stressSets() []stressSet {
	return []stressSet{
		{name: "default", kinds: []ftptest.Kind{ftptest.VSFTPD}},
		{name: "one connection", options: "max_conns=1"},
		{name: "two connections", options: "max_conns=2", kinds: []ftptest.Kind{ftptest.ProFTPD}},
		{name: "no ttl", options: "ttl=0", kinds: []ftptest.Kind{ftptest.Pyftpdlib}},
		{name: "short ttl", options: "ttl=1s"},
		{name: "no memory", options: "mem_cache=0,cache_entries=0,prefetch=off"},
		{name: "little memory", options: "cache_entries=20,mem_cache=256k"},
		{name: "disk", options: "cache_dir=CACHE"},
		{name: "writeback", options: "writeback", kinds: []ftptest.Kind{ftptest.PureFTPd}},
		{name: "writeback on one connection", options: "writeback,max_conns=1"},
		{name: "writeback without memory", options: "writeback,cache_entries=0,ttl=0,mem_cache=0"},
		{name: "atomic", options: "upload=atomic"},
		{name: "auto", options: "upload=auto"},
		{name: "hash", options: "upload_check=hash"},
		{name: "active", options: "data=active,allow_other"},
		{name: "permissions", options: "default_permissions"},
		{name: "broken", broken: true},
		{name: "broken writeback", options: "writeback", broken: true},
		{name: "broken atomic", options: "upload=atomic", broken: true},
	}
}

// stressTask is what one process after the other does as long as the stress lasts. N is a directory on the mount for it alone, L one
// elsewhere. Whatever it writes is a finding.
type stressTask struct {
	name   string
	script string
	twice  bool // two do the same at the same time
}

// absent takes out what is no error where others rename and remove.
const absent = ` 2>&1 >/dev/null | grep -v 'No such file or directory' || true`

func stressTasks() []stressTask {
	return []stressTask{
		{name: "copy", twice: true, script: `cp -r "$TMP/src" "$N/c"; diff -r "$TMP/src" "$N/c"; mv "$N/c" "$N/d"; diff -r "$TMP/src" "$N/d"
			rm -rf "$L/d"; cp -r "$N/d" "$L/d"; diff -r "$TMP/src" "$L/d"; rm -r "$N/d"; test ! -e "$N/d"; ls -A "$N"`},
		{name: "edit", twice: true, script: `cd "$N"; seq 1 3000 > f; seq 1 3000 > "$L/f"; cmp f "$L/f"; echo more >> f; echo more >> "$L/f"; cmp f "$L/f"
			truncate -s 5000 f "$L/f"; cmp f "$L/f"; sed -i s/1/one/ f; sed -i s/1/one/ "$L/f"; cmp f "$L/f"; echo end >> f; echo end >> "$L/f"
			cp "$TMP/src/f3" g; mv -f g f; cmp f "$TMP/src/f3"; exec 3<f; rm f; cmp - "$TMP/src/f3" <&3; exec 3<&-; ls -A`},
		{name: "patch", script: `cd "$N"; cp "$TMP/big" f; cp "$TMP/big" "$L/f"; for at in 7 1999 40; do
			for f in f "$L/f"; do dd if="$TMP/src/f5" of="$f" bs=1000 seek=$at count=3 conv=notrunc status=none; done; cmp f "$L/f"; done
			dd if=f bs=4096 skip=300 count=20 status=none | cmp -n 81920 - "$L/f" 0 1228800
			truncate -s 700000 f "$L/f"; cmp f "$L/f"; tail -c 70000 "$L/f" | cmp - "$L/f" 0 630000; rm f; ls -A`},
		{name: "directories", script: `cd "$N"; mkdir -p a/b/c e; echo x > a/b/c/x; mv a/b e/b; mv e a/e; cat a/e/b/c/x | grep -v '^x$' || true; mv a/e/b/c/x a/y; rmdir a/e/b/c a/e/b a/e
			mv a z; grep -v '^x$' z/y || true; rm z/y; rmdir z; test ! -e a; test ! -e z; ls -A`},
		{name: "tar", script: `tar cf - -C "$TMP" src | tar xf - -C "$N"; diff -r "$TMP/src" "$N/src"; tar cf - -C "$N" src | tar xf - -C "$L"; diff -r "$TMP/src" "$L/src"; rm -r "$N/src" "$L/src"; ls -A "$N"`},
		{name: "rsync", script: `rsync -a "$TMP/src/" "$N/r/"; rsync -ai "$TMP/src/" "$N/r/"; diff -r "$TMP/src" "$N/r"; rsync -a --delete "$TMP/static/a/" "$N/r/"; diff -r "$TMP/static/a" "$N/r"
			rsync -a "$N/r/" "$L/r/"; diff -r "$TMP/static/a" "$L/r"; rm -r "$N/r" "$L/r"; ls -A "$N"`},
		{name: "read", twice: true, script: `diff -r "$TMP/static" "$MNT/static"; for i in 900 3 511 77; do dd if="$MNT/static/big" bs=1024 skip=$i count=9 status=none | cmp -n 9216 - "$TMP/static/big" 0 $((i * 1024)); done
			find "$MNT/static" -printf '%P %y %s\n' | grep -v ' d ' | sort | cmp - "$TMP/list"; du -s "$MNT/static" >/dev/null; grep -r nowhere "$MNT/static" || true`},
		{name: "walk", script: `ls -lR "$MNT"` + absent + `; find "$MNT" -ignore_readdir_race` + absent + `; du -s "$MNT"` + absent + `; ls -l "$MNT/static" | wc -l | grep -vx 23 || true`},
		{name: "replace", script: `cd "$MNT/shared"; for i in 1 2 3 4 5; do yes "$$" | head -n $((2000 * i)) > "tmp$$"; echo end >> "tmp$$"; mv -f "tmp$$" f; done`},
		{name: "look", twice: true, script: `cd "$MNT/shared"; for i in 1 2 3 4 5; do cat f > "$L/f"; tail -n 1 "$L/f" | grep -vx end || true; sort -u "$L/f" | wc -l | grep -vx 2 || true; if [ "$(tail -n 1 "$L/f")" != end ]; then uniq -c "$L/f"; fi; done`},
		{name: "append", twice: true, script: `for i in 1 2 3 4 5; do echo "$$ $i of five lines that are to stay whole" >> "$MNT/shared/log"; echo x >> "$TMP/lines$(basename "$N")"; done`},
		{name: "move", script: `cd "$MNT/shared"; mv here there; mv there here`},
		{name: "see moved", script: `cd "$MNT/shared"; for d in here there here there; do cat $d/f3 2>"$L/err" | cmp -n 1 - "$TMP/src/f3" 2>&1 | grep -v EOF || true; grep -v 'No such file or directory' "$L/err" || true; done`},
		{name: "come and go", twice: true, script: `cd "$MNT/shared"; for i in 1 2 3 4 5; do echo text > n; rm -f n; mkdir m 2>/dev/null || true; rmdir m 2>/dev/null || true; done`},
	}
}

// TestToolsTogether has many programs work on a mount at once, most on names of their own, so that the result of each is known, some on
// the same ones. The kernel is made to forget what it knows meanwhile. None may report anything, and at the end the server has what was made.
func TestToolsTogether(t *testing.T) {
	need(t, "rsync", "diff", "cmp", "tar")
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		for _, set := range stressSets() {
			t.Run(set.name, func(t *testing.T) {
				if !long() && !strings.Contains(fmt.Sprint(set.kinds), kind.String()) {
					t.Skip("FTPFS_LONG=1 does it")
				}
				stress(t, kind, set)
			})
		}
	})
}

func stress(t *testing.T, kind ftptest.Kind, set stressSet) {
	period := 3 * time.Second
	if long() {
		period = 20 * time.Second
	}
	server := startServer(t, kind, ftptest.Options{})
	local := t.TempDir()
	files := map[string][]byte{"static/big": noise(1, 1<<20), "big": noise(2, 2<<20)}
	for i := range 20 {
		files[fmt.Sprintf("static/f%d", i)] = noise(i, i*2500)
		files[fmt.Sprintf("static/a/b%d/f", i%3)] = noise(i, 700)
		files[fmt.Sprintf("src/f%d", i%8)] = noise(40+i, 40+i*i*700)
		files[fmt.Sprintf("src/d%d/e/f%d", i%3, i)] = noise(80+i, i*90)
	}
	for name, data := range files {
		name = filepath.Join(local, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		if strings.HasPrefix(name, "static/") {
			server.WriteFile(name, data)
		}
	}
	server.WriteFile("shared/f", []byte("0\nend\n"))
	server.WriteFile("shared/log", nil)
	server.WriteFile("shared/here/f3", files["src/f3"])
	options := "retry=1m"
	if set.options != "" {
		options += "," + strings.ReplaceAll(set.options, "CACHE", filepath.Join(local, "cache"))
	}
	proxy := ftptest.NewProxy(t, server.Addr())
	addr := server.Addr()
	if set.broken {
		addr = proxy.Addr()
	}
	m := mountURL(t, server, server.URLAt(addr), options)
	d := m.dir(t, "")
	d.tmp = local
	d.sh(`cd "$TMP"; find static -printf '%P %y %s\n' | grep -v ' d ' | sort > list`)

	ctx, cancel := context.WithTimeout(t.Context(), 4*toolLimit)
	defer cancel()
	var ended sync.WaitGroup
	type worker struct {
		stressTask
		name string
	}
	var workers []worker
	for _, task := range stressTasks() {
		for i := range 2 {
			if i == 1 && !task.twice {
				continue
			}
			name := strings.ReplaceAll(fmt.Sprintf("%s%d", task.name, i), " ", "-")
			d.sh(`mkdir "$MNT/` + name + `"; mkdir -p "$TMP/l/` + name + `"`)
			workers = append(workers, worker{task, name})
		}
	}
	end := time.Now().Add(period)
	stop := make(chan struct{})
	var once sync.Once
	over := func() bool {
		select {
		case <-stop:
			return true
		default:
			return time.Now().After(end)
		}
	}
	for _, w := range workers {
		ended.Go(func() {
			rounds := 0
			for ; rounds == 0 || !over(); rounds++ {
				cmd := d.command(ctx, w.script)
				cmd.Env = append(cmd.Env, "N="+d.mnt+"/"+w.name, "L="+local+"/l/"+w.name)
				out, err := cmd.CombinedOutput()
				if err != nil || len(out) > 0 {
					t.Errorf("%s, round %d at %s: %v: %s", w.name, rounds, time.Now().UTC().Format("15:04:05.000"), err, out)
					once.Do(func() { close(stop) })
					return
				}
			}
			t.Logf("%s: %d rounds", w.name, rounds)
		})
	}
	// What the kernel does when memory is short.
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for i := 0; !over(); i++ {
		<-tick.C
		_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // root's alone
		if set.broken && i%3 == 2 {
			proxy.Drop()
		}
	}
	ended.Wait()
	if t.Failed() {
		if dir := os.Getenv("FTPFS_STRESS_LOG"); dir != "" {
			_ = exec.Command("cp", m.log, dir+"/"+strings.ReplaceAll(t.Name(), "/", "_")+".log").Run()
		}
		return
	}
	d.m.t = t
	m.end()
	d.want(`cat "$TMP"/linesappend* | wc -l; wc -l < "$SRV/shared/log"; grep -vc 'of five lines that are to stay whole$' "$SRV/shared/log" || true`,
		strings.Repeat(string(bytes.TrimSpace([]byte(d.sh(`cat "$TMP"/linesappend* | wc -l`))))+"\n", 2)+"0\n")
	d.want(`cd "$SRV"; diff -r "$TMP/static" static; find . -name '.ftpfs*'; ls -A shared; find . -path './*[01]/*' -not -path './static/*'`, "f\nhere\nlog\n")
}
