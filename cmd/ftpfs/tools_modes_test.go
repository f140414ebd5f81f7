package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// exercise writes, lists, reads and renames a little, with files of no, few and many bytes.
func exercise(t *testing.T, server *ftptest.Server, m *toolMount) {
	t.Helper()
	d := m.dir(t, "exercise")
	big := noise(7, 1<<20+1)
	if err := os.WriteFile(d.tmp+"/big", big, 0o644); err != nil {
		t.Fatal(err)
	}
	d.want(`cd "$MNT"; cp "$TMP/big" big; : > empty; echo text > small; mkdir -p a/b; echo deep > a/b/c
		cat small a/b/c; wc -c < empty; mv small a/moved; find . -type f | sort; echo more >> a/moved; cat "$SRV/a/moved"`,
		"text\ndeep\n0\n./a/b/c\n./a/moved\n./big\n./empty\ntext\nmore\n")
	d.onServer("big", big)
	d.onServer("empty", nil)
	server.WriteFile("exercise/a/b/other", big)
	r := mountURL(t, server, m.url, m.options...).dir(t, "exercise")
	r.onMount("a/b/other", big)
	r.onMount("big", big)
	r.onMount("empty", nil)
	r.want(`cd "$MNT"; tail -c 3 big | wc -c; rm -r a; ls; ls "$SRV"`, "3\nbig\nempty\nbig\nempty\n")
}

// TestToolsDataModes runs each data mode alone on each server.
func TestToolsDataModes(t *testing.T) {
	verbs := map[string]string{
		"epsv": "EPSV", "pasv": "PASV", "eprt": "EPRT", "port": "PORT", "passive": "EPSV|PASV", "active": "EPRT|PORT", "auto": "EPSV",
	}
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		for _, mode := range []string{"epsv", "pasv", "eprt", "port", "passive", "active", "auto"} {
			t.Run(mode, func(t *testing.T) {
				server := startServer(t, kind, ftptest.Options{})
				proxy := ftptest.NewProxy(t, server.Addr())
				m := mountURL(t, server, server.URLAt(proxy.Addr()), "data="+mode)
				exercise(t, server, m)
				if proxy.Count(verbs[mode]) == 0 || proxy.Count("EPSV|PASV|EPRT|PORT") != proxy.Count(verbs[mode]) {
					t.Errorf("data=%s used %d EPSV, %d PASV, %d EPRT, %d PORT", mode,
						proxy.Count("EPSV"), proxy.Count("PASV"), proxy.Count("EPRT"), proxy.Count("PORT"))
				}
			})
		}
	})
}

// TestToolsForbiddenModes has servers that refuse half of the modes, by their own configuration where they
// can, and a proxy that refuses or breaks them.
func TestToolsForbiddenModes(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		if kind != ftptest.PureFTPd {
			t.Run("server without passive", func(t *testing.T) {
				server := startServer(t, kind, ftptest.Options{NoPassive: true})
				exercise(t, server, mountServer(t, server))
			})
			t.Run("server without active", func(t *testing.T) {
				server := startServer(t, kind, ftptest.Options{NoActive: true})
				exercise(t, server, mountServer(t, server))
			})
		}
		t.Run("wrong PASV address", func(t *testing.T) {
			server := startServer(t, kind, ftptest.Options{PASVAddress: "192.0.2.1"})
			exercise(t, server, mountServer(t, server, "data=pasv"))
		})
		for name, rules := range map[string]func(p *ftptest.Proxy){
			"passive is refused":       func(p *ftptest.Proxy) { p.On("EPSV|PASV").Reply("502 not here") },
			"EPSV is refused":          func(p *ftptest.Proxy) { p.On("EPSV").Reply("500 what?") },
			"passive ports are closed": func(p *ftptest.Proxy) { p.On("EPSV|PASV").RefuseData() },
			"only PORT works": func(p *ftptest.Proxy) {
				p.On("EPSV|PASV").Reply("425 no")
				p.On("EPRT").Reply("522 no")
			},
		} {
			t.Run(name, func(t *testing.T) {
				server := startServer(t, kind, ftptest.Options{})
				proxy := ftptest.NewProxy(t, server.Addr())
				rules(proxy)
				exercise(t, server, mountURL(t, server, server.URLAt(proxy.Addr())))
			})
		}
	})
}

// TestToolsTLS transfers over TLS, with data connections both ways.
func TestToolsTLS(t *testing.T) {
	for _, tt := range []struct {
		kind ftptest.Kind
		tls  ftptest.TLS
	}{
		{ftptest.VSFTPD, ftptest.Explicit}, {ftptest.ProFTPD, ftptest.Explicit}, {ftptest.PureFTPd, ftptest.Explicit},
		{ftptest.Pyftpdlib, ftptest.Explicit}, {ftptest.VSFTPD, ftptest.Implicit}, {ftptest.ProFTPD, ftptest.Implicit},
	} {
		for _, mode := range []string{"passive", "active"} {
			t.Run(fmt.Sprintf("%v %s %s", tt.kind, [...]string{"", "explicit", "implicit"}[tt.tls], mode), func(t *testing.T) {
				t.Parallel()
				server := startServer(t, tt.kind, ftptest.Options{TLS: tt.tls})
				m := mountServer(t, server, "data="+mode)
				exercise(t, server, m)
				d := m.dir(t, "8MiB")
				data := noise(3, 8<<20)
				for i := range 3 {
					name := fmt.Sprint("f", i)
					if err := os.WriteFile(d.mnt+"/"+name, data, 0o644); err != nil {
						t.Fatal(err)
					}
					d.onServer(name, data)
				}
				r := mountServer(t, server, "data="+mode).dir(t, "8MiB")
				for i := range 3 {
					r.onMount(fmt.Sprint("f", i), data)
				}
			})
		}
	}
}

// TestToolsOneConnection runs a mixture at once over a single session.
func TestToolsOneConnection(t *testing.T) {
	eachServer(t, func(t *testing.T, kind ftptest.Kind) {
		server := startServer(t, kind, ftptest.Options{MaxClients: 3})
		for i := range 6 {
			server.WriteFile(fmt.Sprintf("in/d%d/f", i), noise(i, 300_000+i))
			server.WriteFile(fmt.Sprintf("in/d%d/text", i), []byte("needle\n"))
		}
		m := mountServer(t, server, "max_conns=1")
		d := m.dir(t, "")
		d.want(`cd "$MNT"; mkdir out
			for i in 0 1 2 3 4 5; do
				cp in/d$i/f out/f$i & cat in/d$i/f | cmp - in/d$i/f & grep -rc needle in/d$i >/dev/null &
				head -c 1000 in/d$i/f > "$TMP/h$i" & ls -lR in >/dev/null & echo $i >> out/log$i & dd if=in/d$i/f of=/dev/null bs=4096 skip=70 status=none &
			done
			wait
			for i in 0 1 2 3 4 5; do cmp out/f$i "$SRV/in/d$i/f"; cat "$SRV/out/log$i"; done
			exec 3< in/d0/f; head -c 10 <&3 >/dev/null; echo while > open; cat open; ls in | wc -l; exec 3<&-
			rm -r out; find . | wc -l`, "0\n1\n2\n3\n4\n5\nwhile\n6\n21\n")
	})
}

// TestToolsTwoMounts changes one file through two mounts at the same time.
func TestToolsTwoMounts(t *testing.T) {
	// Not in parallel: a process that another test starts has copies of open files for a moment, whose end is a close().
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) { twoMounts(t, startServer(t, kind, ftptest.Options{})) })
	}
}

func twoMounts(t *testing.T, server *ftptest.Server) {
	old := noise(1, 500_000)
	server.WriteFile("d/f", old)
	server.WriteFile("d/r", old)
	a, b := mountServer(t, server).dir(t, "d"), mountServer(t, server).dir(t, "d")

	// The later close wins. (Two uploads that run at the same time are mixed by the server: it has one file.)
	open := func(d *toolDir, flags int) *os.File {
		f, err := os.OpenFile(d.mnt+"/f", flags, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	fa, fb := open(a, os.O_RDWR), open(b, os.O_WRONLY|os.O_TRUNC)
	if _, err := fa.WriteAt([]byte("first mount"), 1000); err != nil {
		t.Error(err)
	}
	if _, err := fb.Write(noise(2, 20_000)); err != nil {
		t.Error(err)
	}
	if err := fa.Close(); err != nil {
		t.Logf("the earlier close: %v", err)
	}
	if err := fb.Close(); err != nil {
		t.Errorf("the later close: %v", err)
	}
	b.onServer("f", noise(2, 20_000))

	// A reader gets one version or an error when the file is replaced. (One that is written in place mixes, as on a disk.)
	r, err := os.Open(a.mnt + "/r")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 4096)
	if _, err := r.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	b.sh(`head -c 600000 /dev/zero | tr '\0' z > "$MNT/r.new"; mv "$MNT/r.new" "$MNT/r"`)
	rest := make([]byte, len(old))
	if n, err := r.ReadAt(rest, 0); err == nil && !bytes.Equal(rest[:n], old) {
		t.Errorf("the reader got a mixture: %s", difference(rest[:n], old))
	}

	// Both at once, again and again: nothing crashes, and in the end there is what somebody wrote.
	var wg sync.WaitGroup
	for k, d := range []*toolDir{a, b} {
		wg.Go(func() {
			for i := range 10 {
				text := strings.Repeat(fmt.Sprintf("%d %d\n", k, i), 100*(k+1))
				_ = os.WriteFile(d.mnt+"/both", []byte(text), 0o644)
				_, _ = os.ReadFile(d.mnt + "/both")
				_ = os.Rename(d.mnt+"/both", d.mnt+"/other")
				_ = os.Remove(d.mnt + "/other")
			}
		})
	}
	wg.Wait()
	a.sh(`echo end > "$MNT/both"`)
	a.onServer("both", []byte("end\n"))
	b.sh(`ls "$MNT" >/dev/null; echo later > "$MNT/both"`)
	b.onServer("both", []byte("later\n"))
}
