package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// posixSkips says why a test of go-fuse's suite can't hold on an FTP site. What links there can be (ProFTPD) is tested with ln.
var posixSkips = map[string]string{
	"FcntlFlockLocksFile": "expects one process to exclude itself by record locks, and fails on a local disk, too",
	"Link":                "FTP has no hard links",
	"LinkUnlinkRename":    "FTP has no hard links",
	"OpenSymlinkRace":     "a link out of the site, where SITE SYMLINK can't lead",
	"SetattrSymlink":      "a link to nothing, which SITE SYMLINK doesn't make",
	"SymlinkReadlink":     "a link out of the site, where SITE SYMLINK can't lead",
	"XAttr":               "FTP has no extended attributes",
	"XAttrLarge":          "FTP has no extended attributes",
	"Tmpfile":             "who gets a file without a name wants to link it, and has other ways where open() refuses",
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
