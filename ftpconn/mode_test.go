package ftpconn

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The replies are those of real servers and of documents in the field.
func TestParse227(t *testing.T) {
	for text, want := range map[string]string{
		"Entering Passive Mode (127,0,0,1,171,37).":       "127.0.0.1:43813", // vsftpd, ProFTPD
		"Entering Passive Mode (59,37,124,43,158,251)":    "59.37.124.43:40699",
		"Entering Passive Mode (192,168,0,254,244,51)":    "192.168.0.254:62515",
		"Entering Passive Mode (192,168,0,254,170,218).":  "192.168.0.254:43738",
		"Entering Passive Mode (192,168,150,90,195,149).": "192.168.150.90:50069",
		"Entering passive mode (127,0,0,1,161,66).":       "127.0.0.1:41282", // pyftpdlib
		"PASV ok (127,0,0,1,161,65)":                      "127.0.0.1:41281", // busybox
		"Entering Passive Mode 10,0,0,1,4,1":              "10.0.0.1:1025",
		"=10,0,0,1,4,1":                                   "10.0.0.1:1025",
		"Entering Passive Mode (0,0,0,0,195,80)":          "0.0.0.0:50000",
		"Entering Passive Mode ( 10, 0, 0, 1, 4, 0 )":     "10.0.0.1:1024",
	} {
		if got, err := parse227(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Entering Passive Mode", "(1,2,3,4,5)", "(256,0,0,1,4,1)", "(10,0,0,1,0,0)", "(10,0,0,1,4,256)"} {
		if got, err := parse227(text); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
}

func TestParse229(t *testing.T) {
	for text, want := range map[string]uint16{
		"Entering Extended Passive Mode (|||6446|)": 6446,
		"Entering Extended Passive Mode (!!!6446!)": 6446,
		"ok (---1024-) and more":                    1024,
		"(|1|10.0.0.1|50000|)":                      50000,
	} {
		if got, err := parse229(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "OK", "(", "(|||x|)", "(|||0|)", "(|||65536|)", "|||6446|", "(|6446|)", "(|||6446|"} {
		if got, err := parse229(text); err == nil {
			t.Errorf("%q was taken for port %v", text, got)
		}
	}
}

func TestFormatActive(t *testing.T) {
	for at, want := range map[string][2]string{
		"10.18.53.171:4466":    {"10,18,53,171,17,114", "|1|10.18.53.171|4466|"},
		"192.168.150.80:3762":  {"192,168,150,80,14,178", "|1|192.168.150.80|3762|"},
		"192.168.0.27:11111":   {"192,168,0,27,43,103", "|1|192.168.0.27|11111|"},
		"[::ffff:1.2.3.4]:256": {"1,2,3,4,1,0", "|1|1.2.3.4|256|"},
		"[fe80::1%lo]:1024":    {"", "|2|fe80::1|1024|"},
	} {
		ap := netip.MustParseAddrPort(at)
		if want[0] != "" && formatPORT(ap) != want[0] {
			t.Errorf("PORT of %s: %s", at, formatPORT(ap))
		}
		if formatEPRT(ap) != want[1] {
			t.Errorf("EPRT of %s: %s", at, formatEPRT(ap))
		}
	}
}

func TestPASVHosts(t *testing.T) {
	peer := netip.MustParseAddr("192.0.2.1")
	for said, trusted := range map[string]string{
		"192.0.2.1": "192.0.2.1", "10.0.0.1": "10.0.0.1 192.0.2.1", "0.0.0.0": "192.0.2.1", "224.0.0.1": "192.0.2.1", "198.51.100.9": "198.51.100.9 192.0.2.1",
	} {
		a := netip.MustParseAddr(said)
		if got := pasvHosts(a, peer, false); !slices.Equal(got, []netip.Addr{peer}) {
			t.Errorf("%s, not trusted: %v", said, got)
		}
		var got []string
		for _, h := range pasvHosts(a, peer, true) {
			got = append(got, h.String())
		}
		if strings.Join(got, " ") != trusted {
			t.Errorf("%s, trusted: %v, want %s", said, got, trusted)
		}
	}
}

// TestModes plays evidence to the choice of mode. "x" fails, "r" is refused, "ok" works; a
// number is the session.
func TestModes(t *testing.T) {
	trouble := errors.New("trouble")
	for _, c := range []struct {
		name string
		data DataMode
		v6   bool
		play string
		want string
	}{
		{"the first", DataAuto, false, "", "EPSV"},
		{"no EPSV", DataAuto, false, "r1", "PASV"},
		{"no passive", DataAuto, false, "r1 r1", "EPRT"},
		{"PORT at last", DataAuto, false, "r1 x1 r1", "PORT"},
		{"all fail: from the start", DataAuto, false, "x1 x1 x1 x1", "EPSV"},
		{"IPv6 has two", DataAuto, true, "x1", "EPRT"},
		{"IPv6 active", DataActive, true, "", "EPRT"},
		{"passive alone", DataPassive, false, "x1 x1", "EPSV"},
		{"active alone", DataActive, false, "r1", "PORT"},
		{"one alone", DataPORT, false, "x1", "PORT"},
		{"confirmed stays after a trouble", DataAuto, false, "r1 ok x1", "PASV"},
		{"and after another on the same session", DataAuto, false, "r1 ok x1 x1", "PASV"},
		{"and goes with one on another session", DataAuto, false, "r1 ok x1 x2", "EPRT"},
		{"from the last it starts over", DataAuto, false, "r1 r1 r1 ok x1 x2", "EPSV"},
		{"a success between forgives", DataAuto, false, "ok x1 ok x2", "EPSV"},
		{"a refusal counts at once", DataAuto, false, "ok r1", "PASV"},
	} {
		m, err := newModes(c.data, c.v6)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range strings.Fields(c.play) {
			mode, _ := m.current()
			switch {
			case step == "ok":
				m.worked(mode)
			default:
				m.failed(mode, step[1:], step[0] == 'r', trouble)
			}
		}
		if got, _ := m.current(); got.String() != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestModesSayWhatWasTried(t *testing.T) {
	m, _ := newModes(DataAuto, false)
	var all error
	for _, said := range []string{"502 no", "timed out", "500 never", "425 no way"} {
		mode, _ := m.current()
		all = m.failed(mode, "1", false, errors.New(said))
	}
	if all == nil || !errors.Is(all, ErrDataMode) {
		t.Fatalf("after all modes: %v", all)
	}
	for _, want := range []string{"EPSV: 502 no", "PASV: timed out", "EPRT: 500 never", "PORT: 425 no way", "active_ports"} {
		if !strings.Contains(all.Error(), want) {
			t.Errorf("%q is not in %q", want, all)
		}
	}
	if _, err := newModes(DataPASV, true); err == nil || !strings.Contains(err.Error(), "IPv6") {
		t.Errorf("data=pasv with IPv6: %v", err)
	}
}

// Another session's stale news don't move a mode that was chosen since.
func TestModesIgnoreOldNews(t *testing.T) {
	m, _ := newModes(DataAuto, false)
	m.failed(EPSV, "1", true, errors.New("no"))
	m.failed(EPSV, "2", true, errors.New("no"))
	m.worked(EPSV)
	if mode, confirmed := m.current(); mode != PASV || confirmed {
		t.Errorf("%v, confirmed %v", mode, confirmed)
	}
}
