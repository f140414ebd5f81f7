package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// posixSkips says why a test of go-fuse's suite can't hold on an FTP site.
var posixSkips = map[string]string{
	"FcntlFlockLocksFile": "expects one process to exclude itself; record locks are the kernel's here, and its own, as on a disk",
	"Link":                "FTP has no hard links",
	"LinkUnlinkRename":    "FTP has no hard links",
	"OpenSymlinkRace":     "FTP can't make symlinks",
	"SetattrSymlink":      "FTP can't make symlinks",
	"SymlinkReadlink":     "FTP can't make symlinks",
	"XAttr":               "FTP has no extended attributes",
	"XAttrLarge":          "FTP has no extended attributes",
	"Tmpfile":             "a file without a name can't be uploaded",
}

func TestPosix(t *testing.T) {
	for _, cached := range []bool{true, false} {
		name := map[bool]string{true: "cached", false: "uncached"}[cached]
		for test, run := range posixtest.All {
			t.Run(name+"/"+test, func(t *testing.T) {
				if why := posixSkips[test]; why != "" {
					t.Skip(why)
				}
				run(t, mountSite(t, cached).mnt)
			})
		}
	}
}
