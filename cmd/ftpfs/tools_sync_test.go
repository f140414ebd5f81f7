package main

import (
	"fmt"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// oldDirs gives the directories of the tree in TMP/in a time of their own. That of one just made is only the server's to the minute
// (vsftpd).
const oldDirs = `find "$TMP/in" -type d -exec touch -d 2020-03-04T05:06:07 {} +; `

// syncTools are tests of tools that bring a copy up to date, and of how they find it after a remount.
func syncTools() []toolTest {
	all := treeChecks{times: true, modes: true}
	return []toolTest{
		{name: "rsync in place", tools: "rsync", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			sync := `rsync -ai --inplace --no-whole-file --delete "$TMP/in/" "$MNT/tree/"`
			d.sh(oldDirs + sync)
			d.want(sync, "")
			d.remount()
			d.want(sync, "")
			d.sh(`cd "$TMP/in"; printf CHANGED | dd of=deep/big bs=1 seek=350000 conv=notrunc status=none
				truncate -s 50000 src/exact64k; cat README >> src/exact256k; rm run.sh; rm -r "a b"; mkdir "a b"; echo new > "a b/new"`)
			d.sh(oldDirs + sync)
			sameTree(t, d.srv+"/tree", d.tmp+"/in", all)
			d.want(sync, "")
			d.remount()
			d.want(sync, "")
			sameTree(t, d.mnt+"/tree", d.tmp+"/in", all)
		}},
		{name: "rsync --append", tools: "rsync", run: func(t *testing.T, d *toolDir) {
			for i, how := range []string{"--append", "--append-verify"} {
				sync := `rsync -ai ` + how + ` "$TMP/log" "$MNT/"`
				d.sh(`seq 1 60000 > "$TMP/log"; rm -f "$MNT/log"; ` + sync)
				d.want(sync, "")
				d.remount()
				d.want(sync, "")
				for range 2 {
					d.sh(fmt.Sprintf(`seq 1 %d >> "$TMP/log"; %s; cmp "$TMP/log" "$SRV/log"; cmp "$TMP/log" "$MNT/log"`, 2000+i, sync))
					d.want(sync, "")
				}
			}
		}},
		{name: "rsync --delete", tools: "rsync", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			for _, how := range []string{"--delete", "--delete-after", "--delete --delay-updates", "--delete --checksum"} {
				sync := `rsync -ai ` + how + ` "$TMP/in/" "$MNT/tree/"`
				d.sh(oldDirs + sync + `; mkdir -p "$MNT/tree/more/and more"; echo x > "$MNT/tree/more/and more/x"; rm "$MNT/tree/README"; echo changed >> "$MNT/tree/run.sh"`)
				d.remount()
				d.sh(sync)
				sameTree(t, d.srv+"/tree", d.tmp+"/in", all)
				d.want(sync, "")
			}
		}},
		{name: "tar --compare", tools: "tar", run: func(t *testing.T, d *toolDir) {
			makeTree(t, d.tmp+"/in")
			d.sh(`chmod 750 "$TMP/in/deep"; touch -d 2001-02-03T04:05:06.789 "$TMP/in/README" "$TMP/in/deep"
				tar -C "$TMP/in" --format=posix -cf "$MNT/a.tar" .; mkdir "$MNT/x"; tar -C "$MNT/x" -xpf "$MNT/a.tar"`)
			d.want(`tar --compare -f "$MNT/a.tar" -C "$MNT/x"`, "")
			d.remount()
			d.want(`tar --compare -f "$MNT/a.tar" -C "$MNT/x"`, "")
			d.sh(`tar -C "$MNT/x" -cf "$TMP/b.tar" .`)
			d.want(`tar --compare -f "$TMP/b.tar" -C "$TMP/in"`, "")
			sameTree(t, d.srv+"/x", d.tmp+"/in", all)
		}},
		{name: "many files", tools: "diff", run: func(t *testing.T, d *toolDir) {
			files := 400
			if long() || d.server.Kind == ftptest.VSFTPD {
				files = 2000
			}
			d.sh(fmt.Sprintf(`for n in $(seq %d); do mkdir -p "$TMP/in/$((n%%4))"; echo "file $n" > "$TMP/in/$((n%%4))/f$n"; done; mkdir "$MNT/tree"`, files))
			for n := range 4 { // each has its own time limit
				d.sh(fmt.Sprintf(`cp -r "$TMP/in/%d" "$MNT/tree/"`, n))
			}
			d.want(`diff -r "$TMP/in" "$SRV/tree"; find "$MNT/tree" -type f | wc -l`, fmt.Sprintln(files))
			d.remount()
			d.want(`diff -r "$TMP/in" "$MNT/tree"; rm -r "$MNT/tree"/*; ls "$SRV/tree"`, "")
		}},
	}
}
