package main

import (
	"os"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// TestToolsChangeALargeFile changes a few bytes of a large file. What the server allows decides how much of it is sent.
func TestToolsChangeALargeFile(t *testing.T) {
	need(t, "sqlite3")
	const size = 8 << 20
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		want := noise(3, size)
		server := startServer(t, kind, ftptest.Options{NoAppend: kind == ftptest.ProFTPD}) // its default
		server.WriteFile("d/f", want)
		d := mountServer(t, server).dir(t, "d")
		d.sh(`cd "$MNT"; for at in 1000000 4000000 7000000; do printf changed | dd of=f bs=1 seek=$at conv=notrunc status=none; done`)
		for _, at := range []int{1e6, 4e6, 7e6} {
			copy(want[at:], "changed")
		}
		d.both("f", want)
		text, err := os.ReadFile(d.m.log)
		if err != nil {
			t.Fatal(err)
		}
		tail := map[ftptest.Kind]string{ftptest.VSFTPD: "kept", ftptest.Pyftpdlib: "kept", ftptest.PureFTPd: "cut", ftptest.ProFTPD: "refused"}[kind]
		if kind != ftptest.VSFTPD && !strings.Contains(string(text), "REST and STOR\" tail="+tail) { // vsftpd is known
			t.Errorf("the server was not found to have %s what follows", tail)
		}
		if whole := strings.Count(string(text), `command="STOR /d/f"`) - strings.Count(string(text), `command="REST`); tail != "refused" && whole > 0 {
			t.Errorf("the whole file was sent %d times", whole)
		}
		// A database of some size, of which a commit changes a few pages, the first one always.
		d.want(`cd "$MNT"
			sqlite3 db "CREATE TABLE t (n INTEGER PRIMARY KEY, x); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 4000) INSERT INTO t SELECT n, randomblob(500) FROM c"
			for i in 1 2 3; do sqlite3 db "UPDATE t SET x = $i WHERE n % 1000 = $i"; done
			for db in db "$SRV/db"; do sqlite3 "$db" "PRAGMA integrity_check; SELECT count(*), sum(x) FROM t WHERE n % 1000 IN (1, 2, 3)"; done`,
			strings.Repeat("ok\n12|24\n", 2))
	})
}
