package main

import "testing"

// buildTools are tests of programs that write large files in pieces and in no order: compilers, databases, and fio.
func buildTools() []toolTest {
	return []toolTest{
		{name: "gcc and make", tools: "gcc make ar", run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"
				for n in 1 2 3; do echo '#include "all.h"
int f'$n'(void) { return STEP * '$n'; }' > f$n.c; done
				echo '#define STEP 10
int f1(void), f2(void), f3(void);' > all.h
				echo '#include <stdio.h>
#include "all.h"
int main(void) { printf("%d\\n", f1() + f2() + f3()); return 0; }' > main.c
				printf 'prog: main.o lib.a\n\tgcc -g -o $@ $^\nlib.a: f1.o f2.o f3.o\n\tar rcs $@ $^\n%%.o: %%.c all.h\n\tgcc -g -O1 -c -o $@ $<\n' > Makefile
				make -s -j4; ./prog; make -q; cmp prog "$SRV/prog"; "$SRV/prog"`, "60\n60\n")
			d.remount()
			d.want(`cd "$MNT"; make -q; ./prog; make -n | wc -l; sleep 1.1; echo '/* more */' >> f2.c; make -n | grep -c f2; make -s; make -q; sleep 1.1 # which is how fine times are, here and above
				sed -i s/10/100/ all.h; make -s -j4; ./prog; make -q; make`, "60\n1\n2\n600\nmake: 'prog' is up to date.\n")
			d.remount()
			d.want(`cd "$MNT"; make -q; rm *.o; cmp prog "$SRV/prog"; ./prog; ls "$SRV"`, "600\nMakefile\nall.h\nf1.c\nf2.c\nf3.c\nlib.a\nmain.c\nprog\n")
		}},
		{name: "fio", tools: "fio cmp", run: func(t *testing.T, d *toolDir) {
			for _, engine := range []string{"psync", "libaio --iodepth=8", "mmap", "psync --numjobs=4 --group_reporting"} {
				job := `cd "$TMP"; run() {
						fio --name=job --directory="$MNT" --filename_format='$jobname.$jobnum' --size=1m --rw=randwrite --bsrange=1k-32k \
							--ioengine=` + engine + ` --fallocate=none --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 \
							--output="$TMP/fio.log" "$@" || { cat "$TMP/fio.log"; exit 1; }
					}
					`
				d.sh(job + `rm -f "$MNT"/job.*; run --end_fsync=1; for f in "$MNT"/job.*; do cmp "$f" "$SRV/${f##*/}"; done`)
				d.remount()
				d.sh(job + `run --verify_only`)
			}
		}},
		{name: "sqlite3 with a WAL", tools: "sqlite3", run: func(t *testing.T, d *toolDir) {
			d.want(`cd "$MNT"; sqlite3 t.db 'pragma journal_mode=wal; create table t (who, n)'
				for who in 1 2 3; do
					for n in 1 2 3 4 5 6; do printf '.timeout 30000\ninsert into t values (%s, %s);\n' $who $n; done | sqlite3 t.db &
				done
				for n in 1 2 3; do printf '.timeout 30000\nselect count(*) > 18 from t;\n' | sqlite3 t.db; done
				wait
				sqlite3 t.db 'select who, count(*), sum(n) from t group by who; pragma integrity_check; pragma wal_checkpoint(truncate)'
				ls "$SRV"; sqlite3 "$SRV/t.db" 'select count(*) from t; pragma integrity_check'`,
				"wal\n0\n0\n0\n1|6|21\n2|6|21\n3|6|21\nok\n0|0|0\nt.db\n18\nok\n")
			d.remount()
			d.want(`cd "$MNT"; sqlite3 t.db "begin; insert into t select 4, n from t; update t set n = n + 1; commit; select count(*) from t; vacuum; pragma integrity_check"
				ls`, "36\nok\nt.db\n")
		}},
	}
}
