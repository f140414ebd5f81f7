package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// logTools are tests of files that grow while others look at them.
func logTools() []toolTest {
	return []toolTest{
		{name: "log rotation by copytruncate", tools: "seq cp truncate diff", run: func(t *testing.T, d *toolDir) {
			// The same here and on the local disk, with a writer that appends and with one that goes on where it was.
			script := `for how in '>>' '>'; do
					mkdir "$how"; cd "$how"
					eval "exec 3$how log"
					seq 1 20000 >&3; cp log log.2; truncate -s 0 log
					seq 20001 20010 >&3; cat log > seen; cp log log.1; : > log
					seq 20011 20020 >&3; exec 3>&-
					cd ..
				done`
			d.sh(`mkdir "$TMP/local"; cd "$TMP/local"; ` + script)
			d.sh(`cd "$MNT"; ` + script)
			d.want(`diff -r "$TMP/local" "$SRV"; diff -r "$TMP/local" "$MNT"; cat "$MNT/>>/log.1" "$MNT/>>/log" | tail -n +11 | head -n 1`, "20011\n")
		}},
		{name: "tail -f", tools: "tail", run: func(t *testing.T, d *toolDir) {
			d.sh(`seq 1 1000 > "$MNT/log"`)
			follower := mountServer(t, d.server, "ttl=1s").dir(t, d.name)
			ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
			defer cancel()
			tail := follower.command(ctx, `exec tail -s 0.1 -n +1 -f "$MNT/log" > "$TMP/seen"`)
			if err := tail.Start(); err != nil {
				t.Fatal(err)
			}
			seen := func(last int) {
				t.Helper()
				follower.wantSoon(fmt.Sprintf(`seq 1 %d | cmp "$TMP/seen" - 2>&1 || true`, last), "")
			}
			seen(1000)
			for last := 1100; last <= 1300; last += 100 { // another mount appends
				d.sh(fmt.Sprintf(`seq %d %d >> "$MNT/log"`, last-99, last))
				seen(last)
			}
			for last := 1400; last <= 30_400; last += 29_000 { // the server's own programs do
				d.sh(fmt.Sprintf(`seq $(($(tail -n 1 "$SRV/log") + 1)) %d >> "$SRV/log"`, last))
				seen(last)
			}
			cancel()
			_ = tail.Wait()
		}},
		{name: "eight appending writers", tools: "sort seq", run: func(t *testing.T, d *toolDir) {
			// Half of them open the file for each line.
			d.sh(`for w in 1 2 3 4; do
					( exec 3>> "$MNT/log"; for n in $(seq 40); do echo "writer $w line $n" >&3; done ) &
					( for n in $(seq 40); do echo "opener $w line $n" >> "$MNT/log"; done ) &
				done
				wait
				for w in 1 2 3 4; do for n in $(seq 40); do echo "writer $w line $n"; echo "opener $w line $n"; done; done | sort > "$TMP/want"
				sort "$SRV/log" | diff "$TMP/want" -; sort "$MNT/log" | diff "$TMP/want" -`)
			text, err := os.ReadFile(d.srv + "/log")
			if err != nil {
				t.Fatal(err)
			}
			next := make(map[string]int) // each writer's lines are in order
			for line := range strings.Lines(string(text)) {
				who, number, _ := strings.Cut(line, " line ")
				next[who]++
				if strings.TrimSpace(number) != fmt.Sprint(next[who]) {
					t.Fatalf("%q is line %d of its writer", line, next[who])
				}
			}
		}},
		{name: "appending while others read", tools: "seq", run: func(t *testing.T, d *toolDir) {
			f, err := os.OpenFile(d.mnt+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			other := mountServer(t, d.server, "ttl=1s").dir(t, d.name)
			var want []byte
			for i := range 20 {
				line := fmt.Appendf(nil, "%d %s\n", i, time.Duration(i))
				want = append(want, line...)
				if _, err := f.Write(line); err != nil {
					t.Fatal(err)
				}
				d.onMount("log", want)
				if i%5 == 4 {
					if err := f.Sync(); err != nil {
						t.Fatal(err)
					}
					d.onServer("log", want)
					other.wantSoon(`cat "$MNT/log"`, string(want))
				}
			}
		}},
	}
}
