package main

import (
	"os"
	"strings"
	"testing"
)

func TestParseMountinfo(t *testing.T) {
	mounts, err := parseMountinfo(strings.NewReader(
		`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
60 27 0:53 / /mnt/a\040b\134c rw,nosuid,nodev,relatime shared:1 - fuse.ftpfs ftp://u@h/x rw,user_id=1000,group_id=1000
`))
	if err != nil || len(mounts) != 2 {
		t.Fatal(mounts, err)
	}
	want := mountEntry{Dev: "0:53", Mountpoint: `/mnt/a b\c`, Type: "fuse.ftpfs", Source: "ftp://u@h/x", Options: "rw,user_id=1000,group_id=1000"}
	if mounts[1] != want || mounts[1].owner() != 1000 || mounts[0].owner() != -1 {
		t.Errorf("%+v owner %d, owner %d", mounts[1], mounts[1].owner(), mounts[0].owner())
	}
}

func TestHoldersNamesWhoHasAFileOpen(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := strings.Join(holders("/proc", dir), "\n")
	if !strings.Contains(found, dir+"/file open") {
		t.Errorf("%q", found)
	}
	if found := holders("/proc", dir+"/fil"); len(found) > 0 {
		t.Errorf("a path that only begins the same: %q", found)
	}
}
