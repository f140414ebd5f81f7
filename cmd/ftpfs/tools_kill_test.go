package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// killTest is a change that the program is killed in the middle of.
type killTest struct {
	name   string
	script string                      // makes the change, with TMP/data
	stall  func(p *ftptest.Proxy)      // makes it stop in the middle; nil: the script does, when it says so
	begun  func(d *killed) bool        // it is in the middle
	after  func(d *killed) (ok bool)   // the server's copy is what it may be
	modes  []string                    // of upload=
	kept   func(k *killed) []byte      // whose beginning the next mount keeps on this machine, of f; nil: nothing
	again  func(d *killed, t *toolDir) // what the same script leads to afterwards; nil: f is the data
}

// killed is what a killTest works on.
type killed struct {
	*toolDir
	old, data []byte
	proxy     *ftptest.Proxy
}

// has is what the server has under a name, nil for nothing.
func (k *killed) has(name string) []byte {
	got, _ := os.ReadFile(filepath.Join(k.srv, name))
	return got
}

// own are the names that the program has given to files on the server.
func (k *killed) own() []string {
	names, _ := filepath.Glob(filepath.Join(k.srv, ".ftpfs*"))
	return names
}

// until waits for something that another process does.
func (k *killed) until(what string, ok func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(toolLimit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("waited in vain for %s\n%s", what, k.proxy.Dialog())
		}
	}
}

// whole says that one of these is what the server has under the name f.
func (k *killed) whole(alternatives ...[]byte) bool {
	for _, a := range alternatives {
		if bytes.Equal(k.has("f"), a) {
			return true
		}
	}
	return false
}

// partOf says that the server has the beginning of content, some of it at least.
func (k *killed) partOf(content []byte, some int) bool {
	got := k.has("f")
	return len(got) >= some && bytes.HasPrefix(content, got)
}

// differs is where two contents part.
func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func killTests() []killTest {
	const begins = 256 << 10 // of what is stalled
	stalled := func(verb string) func(p *ftptest.Proxy) {
		return func(p *ftptest.Proxy) { p.On(verb).StallData(begins) }
	}
	changed := func(k *killed) []byte {
		b := bytes.Clone(k.old)
		copy(b[1000:], "CHANGED")
		return b
	}
	patched := func(k *killed) []byte {
		b := bytes.Clone(k.old)
		copy(b[300_000:], k.data[:600_000])
		return b
	}
	// middle is how much of the change in the middle the server has.
	middle := func(k *killed) (n int) {
		got := k.has("f")
		if len(got) < 300_000 {
			return 0
		}
		return differs(got[300_000:], k.data[:600_000])
	}
	inPlace, aside, both := []string{"inplace"}, []string{"atomic"}, []string{"inplace", "atomic"}
	onServer := func(k *killed) bool { return len(k.has("f")) > begins/2 && len(k.has("f")) < len(k.old) }
	hasTemp := func(k *killed) bool {
		names := k.own()
		if len(names) != 1 {
			return false
		}
		i, err := os.Stat(names[0])
		return err == nil && i.Size() > begins/2
	}
	return []killTest{
		{name: "new file", script: `cp "$TMP/data" "$MNT/g"`, modes: inPlace, stall: stalled("STOR"),
			begun: func(k *killed) bool { return len(k.has("g")) > begins/2 },
			after: func(k *killed) bool { return k.whole(k.old) && bytes.HasPrefix(k.data, k.has("g")) },
			again: func(k *killed, d *toolDir) { d.both("g", k.data) }},
		{name: "new file aside", script: `cp "$TMP/data" "$MNT/g"`, modes: aside, stall: stalled("STOR"), begun: hasTemp,
			after: func(k *killed) bool { return k.whole(k.old) && k.has("g") == nil },
			again: func(k *killed, d *toolDir) { d.both("g", k.data) }},
		{name: "overwriting", script: `cp "$TMP/data" "$MNT/f"`, modes: inPlace, stall: stalled("STOR"), begun: onServer,
			kept:  func(k *killed) []byte { return k.data },
			after: func(k *killed) bool { return k.partOf(k.data, begins/2) }},
		{name: "overwriting aside", script: `cp "$TMP/data" "$MNT/f"`, modes: aside, stall: stalled("STOR"), begun: hasTemp,
			after: func(k *killed) bool { return k.whole(k.old) }},
		{name: "changing the middle", script: `dd if="$TMP/data" of="$MNT/f" bs=600000 count=1 seek=300000 oflag=seek_bytes conv=notrunc status=none`,
			modes: inPlace, stall: stalled("STOR"),
			begun: func(k *killed) bool { // Pure-FTPd writes to a file of its own
				own, _ := filepath.Glob(k.srv + "/.pureftpd-upload*")
				return middle(k) > begins/2 || len(own) > 0
			},
			after: func(k *killed) bool { // the rest is what it was, or cut off
				if k.whole(k.old) {
					return true
				}
				got, at := k.has("f"), 300_000+middle(k)
				return (middle(k) > begins/2 || len(got) == at) && bytes.Equal(got[:300_000], k.old[:300_000]) && (len(got) <= at || bytes.Equal(got[at:], k.old[at:]))
			},
			again: func(k *killed, d *toolDir) { // of a part, or behind it
				if got := k.has("f"); !bytes.HasPrefix(patched(k), got) {
					k.t.Errorf("changed again: %s", difference(got, patched(k)))
				}
			}},
		{name: "changing the middle aside", script: `printf CHANGED | dd of="$MNT/f" bs=1 seek=1000 conv=notrunc status=none`, modes: aside,
			stall: stalled("STOR"), begun: hasTemp,
			after: func(k *killed) bool { return k.whole(k.old) },
			again: func(k *killed, d *toolDir) { d.both("f", changed(k)) }},
		{name: "truncating", script: `truncate -s 1000 "$MNT/f"; truncate -s 1000000 "$MNT/f"`, modes: both,
			stall: func(p *ftptest.Proxy) { p.On("STOR|APPE").Skip(1).StallData(begins) },
			begun: func(k *killed) bool { return k.proxy.Count("STOR|APPE") == 2 },
			after: func(k *killed) bool {
				cut := k.old[:1000]
				return k.whole(cut) || k.partOf(append(bytes.Clone(cut), make([]byte, 999_000)...), 0)
			},
			again: func(k *killed, d *toolDir) {
				d.both("f", append(bytes.Clone(k.has("f")[:1000]), make([]byte, 999_000)...))
			}},
		{name: "appending", script: `cat "$TMP/data" >> "$MNT/f"`, modes: both, stall: stalled("APPE"),
			begun: func(k *killed) bool { return len(k.has("f")) > len(k.old)+begins/2 },
			after: func(k *killed) bool { return k.partOf(append(bytes.Clone(k.old), k.data...), len(k.old)+begins/2) },
			again: func(k *killed, d *toolDir) {
				if got := k.has("f"); !bytes.HasPrefix(got, k.old) || !bytes.HasSuffix(got, k.data) {
					k.t.Errorf("appended again: %s", difference(got, k.old))
				}
			}},
		{name: "appending behind an fsync", script: `head -c 300000 "$TMP/data" > "$TMP/head"; tail -c +300001 "$TMP/data" > "$TMP/tail"
				exec 3>> "$MNT/f"; cat "$TMP/head" >&3; sync "$MNT/f"; cat "$TMP/tail" >&3; sync "$MNT/f"; exec 3>&-`, modes: both,
			stall: func(p *ftptest.Proxy) { p.On("APPE").Skip(1).StallData(begins) },
			begun: func(k *killed) bool { return len(k.has("f")) > len(k.old)+300_000 },
			after: func(k *killed) bool { return k.partOf(append(bytes.Clone(k.old), k.data...), len(k.old)+300_000) },
			again: func(k *killed, d *toolDir) {
				if got := k.has("f"); !bytes.HasPrefix(got, k.old) || !bytes.HasSuffix(got, k.data) {
					k.t.Errorf("appended again: %s", difference(got, k.old))
				}
			}},
		{name: "rename over it", script: `mv -f "$MNT/other" "$MNT/f"; false`, modes: inPlace,
			stall: func(p *ftptest.Proxy) { p.On("RNTO").DropReply() },
			begun: func(k *killed) bool { return k.has("other") == nil }, // on the server; nobody is told
			after: func(k *killed) bool { return k.whole([]byte("other")) },
			again: func(k *killed, d *toolDir) { d.both("f", []byte("other")) }},
		{name: "removed and open", script: `exec 3< "$MNT/f"; head -c 10 <&3 >/dev/null; rm "$MNT/f"; sleep 60`, modes: inPlace,
			begun: func(k *killed) bool { return k.has("f") == nil && len(k.own()) == 1 },
			after: func(k *killed) bool { return k.has("f") == nil }},
		{name: "one file after the other", script: `for n in 1 2 3 4 5 6 7 8 9; do cp "$TMP/data" "$MNT/f$n"; echo "f$n" >> "$TMP/done"; done`, modes: both,
			stall: func(p *ftptest.Proxy) { p.On("STOR").Skip(5).StallData(begins) },
			begun: func(k *killed) bool { return k.proxy.Count("STOR") == 6 },
			after: func(k *killed) bool {
				done, err := os.ReadFile(k.tmp + "/done")
				for name := range strings.Lines(string(done)) {
					if !bytes.Equal(k.has(strings.TrimSpace(name)), k.data) {
						k.t.Errorf("%s was confirmed, and is not there", name)
					}
				}
				return err == nil && strings.Count(string(done), "\n") >= 4
			},
			again: func(k *killed, d *toolDir) { d.both("f9", k.data) }},
	}
}

// TestToolsKilled kills the program in the middle of each kind of change. What was confirmed is on the server, what wasn't is
// there in a way that is known, the writer is told of no success, and the next mount leaves no names of its own.
func TestToolsKilled(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		if !long() && kind != ftptest.VSFTPD && kind != ftptest.PureFTPd {
			t.Skip("the others in a long test")
		}
		for _, test := range killTests() {
			for _, mode := range test.modes {
				t.Run(test.name+" "+mode, func(t *testing.T) { test.run(t, kind, mode) })
			}
		}
	})
}

// checkKept looks for what was to replace f, and for what the log says of it.
func (test killTest) checkKept(k *killed) {
	k.t.Helper()
	kept, _ := filepath.Glob(filepath.Join(k.m.home, "ftpfs", "lost+found", "*"))
	switch {
	case test.kept == nil:
		if len(kept) > 0 {
			k.t.Errorf("kept: %q", kept)
		}
		return
	case len(kept) != 1:
		k.t.Errorf("kept: %q, want one file", kept)
		return
	}
	content, err := os.ReadFile(kept[0])
	if err != nil || len(content) < 100_000 || !bytes.HasPrefix(test.kept(k), content) {
		k.t.Errorf("what is kept: %v, %s", err, difference(content, test.kept(k)))
	}
	text, err := os.ReadFile(k.m.log)
	if err != nil || !strings.Contains(string(text), "path=/d/f kept="+kept[0]) {
		k.t.Errorf("the log doesn't say that %s is kept (%v)", kept[0], err)
	}
}

func (test killTest) run(t *testing.T, kind ftptest.Kind, mode string) {
	k := &killed{old: noise(7, 1_500_000), data: noise(8, 2_000_000)}
	k.proxy, k.toolDir = proxied(t, kind, func(s *ftptest.Server) {
		s.WriteFile("d/f", k.old)
		s.WriteFile("d/other", []byte("other"))
	}, "upload="+mode)
	k.sh(`echo closed > "$MNT/closed"; exec 3> "$MNT/synced"; echo synced >&3; sync "$MNT/synced"`)
	if err := os.WriteFile(k.tmp+"/data", k.data, 0o644); err != nil {
		t.Fatal(err)
	}
	k.proxy.ResetRecord()
	if test.stall != nil {
		test.stall(k.proxy)
	}
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	writer := k.command(ctx, test.script)
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	k.until("the change to begin", func() bool { return test.begun(k) })
	for _, pid := range k.m.processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if test.stall == nil {
		_ = syscall.Kill(-writer.Process.Pid, syscall.SIGKILL)
	}
	if err := writer.Wait(); err == nil {
		t.Error("the writer was told of success")
	}
	k.until("the program to end", func() bool { return len(k.m.processes()) == 0 })
	k.proxy.ClearRules()
	k.m.begin()
	k.until("the names to be gone: "+fmt.Sprint(k.own()), func() bool { return len(k.own()) == 0 })
	if !test.after(k) {
		t.Errorf("f on the server: %s", difference(k.has("f"), k.old))
	}
	if test.name != "changing the middle" { // where it depends on the server's ways
		test.checkKept(k)
	}
	k.onServer("closed", []byte("closed\n"))
	k.onServer("synced", []byte("synced\n"))
	k.sh(`diff -r "$SRV" "$MNT"`)
	switch {
	case test.stall == nil:
		return
	case strings.Contains(test.script, "false"):
	default:
		k.sh(test.script)
	}
	if test.again == nil {
		k.both("f", k.data)
	} else {
		test.again(k, k.toolDir)
	}
}
