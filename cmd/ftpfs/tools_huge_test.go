package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// peakMemory is the most that the program had in memory so far, in KiB.
func (m *toolMount) peakMemory() int {
	m.t.Helper()
	pids := m.processes()
	if len(pids) != 1 {
		m.t.Fatalf("%d processes serve the mount", len(pids))
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pids[0]), "status"))
	if err != nil {
		m.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	n, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// TestToolsHugeFile takes 5 GiB there and back, with a connection that breaks beyond 4 GiB, and appends. The program's memory doesn't
// grow with the file.
func TestToolsHugeFile(t *testing.T) {
	if !long() {
		t.Skip("15 GiB of disk for each server, and minutes: make test-long")
	}
	need(t, "cp", "cmp", "truncate", "dd", "tail")
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			proxy, d := proxied(t, kind, func(s *ftptest.Server) {})
			d.sh(`truncate -s 5G "$TMP/huge"; for at in 0 1023 2047 4095 4096 4607 5119; do
				echo "at $at" | dd of="$TMP/huge" bs=1M seek=$at conv=notrunc status=none; done`)
			d.sh(`head -c 100M /dev/zero > "$MNT/warm"; cat "$MNT/warm" > /dev/null; rm "$MNT/warm"`)
			before := d.m.peakMemory()
			check := func(what string) {
				t.Helper()
				peak := d.m.peakMemory()
				t.Logf("memory: %d MiB after %s, %d MiB before", peak>>10, what, before>>10)
				if peak > before+(100<<10) {
					t.Errorf("%s: memory grew from %d to %d KiB", what, before, peak)
				}
			}
			broken := proxy.On("STOR").Times(1).ResetData(4608 << 20)
			d.sh(`exec 3> "$MNT/huge"; cat "$TMP/huge" >&3; sync "$MNT/huge"; exec 3>&-`)
			if broken.Hits() == 0 || proxy.Count("REST") == 0 {
				t.Errorf("%d connections broke, %d were taken up again", broken.Hits(), proxy.Count("REST"))
			}
			d.sh(`cmp "$TMP/huge" "$SRV/huge"`)
			d.sh(`echo more >> "$MNT/huge"; echo more >> "$TMP/huge"; tail -c 10 "$MNT/huge" | cmp -i 0:$((5*1024*1024*1024+5-10)) - "$TMP/huge"`)
			check("writing")
			d.remount()
			d.sh(`cmp "$TMP/huge" "$MNT/huge"`)
			check("reading")
			d.want(`dd if="$MNT/huge" bs=1M skip=4607 count=1 status=none | head -n 1; stat -c %s "$MNT/huge" "$SRV/huge"; rm "$MNT/huge"; ls "$SRV"`,
				fmt.Sprintf("at 4607\n%d\n%[1]d\n", 5<<30+5))
		})
	}
}
