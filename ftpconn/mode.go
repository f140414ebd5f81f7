package ftpconn

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Mode is the command that makes a data connection.
type Mode uint8

const (
	EPSV Mode = iota // RFC 2428
	PASV             // RFC 959
	EPRT             // RFC 2428
	PORT             // RFC 959
)

func (m Mode) String() string { return [...]string{"EPSV", "PASV", "EPRT", "PORT"}[m] }

// Passive says that the client connects.
func (m Mode) Passive() bool { return m == EPSV || m == PASV }

// modes is which mode is in force for a site. What works is remembered for all sessions, so that
// the first transfer alone pays for finding it; what fails moves on to the next one allowed.
//
// A mode is confirmed by a transfer that worked. From then on a failure is first taken for a
// trouble of the network: only the second in a row, on another control connection, reconsiders.
type modes struct {
	mu        sync.Mutex // guards the following
	allowed   []Mode
	cur       int
	confirmed bool
	strikes   int    // failures in a row of a confirmed mode
	lastOn    string // the session that had the last strike
	tried     map[Mode]error
}

// newModes gives the modes that d allows with a server at an address of either family: PASV and
// PORT can't carry IPv6 (RFC 2428 section 1).
func newModes(d DataMode, ipv6 bool) (*modes, error) {
	all := map[DataMode][]Mode{
		DataAuto: {EPSV, PASV, EPRT, PORT}, DataPassive: {EPSV, PASV}, DataActive: {EPRT, PORT},
		DataEPSV: {EPSV}, DataPASV: {PASV}, DataEPRT: {EPRT}, DataPORT: {PORT},
	}[d]
	m := &modes{tried: map[Mode]error{}}
	for _, x := range all {
		if !ipv6 || x == EPSV || x == EPRT {
			m.allowed = append(m.allowed, x)
		}
	}
	if len(m.allowed) == 0 {
		return nil, fmt.Errorf("%w: data=%v can't be used with a server at an IPv6 address: use data=auto, epsv or eprt", ErrDataMode, d)
	}
	return m, nil
}

func (m *modes) current() (mode Mode, confirmed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.allowed[m.cur], m.confirmed
}

// inForce is the current mode if it was confirmed.
func (m *modes) inForce() string {
	if mode, ok := m.current(); ok {
		return mode.String()
	}
	return ""
}

func (m *modes) worked(mode Mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.allowed[m.cur] != mode {
		return
	}
	m.confirmed, m.strikes = true, 0
	clear(m.tried)
}

// failed tells that mode made no data connection on the session. refused means that the
// server does not know or allow the command, which no other session will change. It returns nil
// if there is something left to try, else what each mode met with.
func (m *modes) failed(mode Mode, session string, refused bool, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.allowed[m.cur] != mode {
		return nil // another session moved on already
	}
	if m.confirmed && !refused {
		if m.strikes == 0 || m.lastOn == session {
			m.strikes, m.lastOn = 1, session
			return nil
		}
	}
	m.confirmed, m.strikes = false, 0
	m.tried[mode] = err
	if len(m.tried) < len(m.allowed) {
		for {
			m.cur = (m.cur + 1) % len(m.allowed)
			if _, seen := m.tried[m.allowed[m.cur]]; !seen {
				return nil
			}
		}
	}
	// The next caller starts over from the first.
	all := m.explainLocked()
	clear(m.tried)
	m.cur = 0
	return all
}

// explainLocked is one error that says what each mode met with, and what the user can do.
func (m *modes) explainLocked() error {
	var said []string
	errs := []error{ErrDataMode}
	active, passive := false, false
	for _, x := range m.allowed {
		if err := m.tried[x]; err != nil {
			said = append(said, fmt.Sprintf("%v: %v", x, err))
			errs = append(errs, err)
		}
		active, passive = active || !x.Passive(), passive || x.Passive()
	}
	hint := "the log-in works, but neither side can reach the other for data: the server's passive port range must be open in its firewall, or a range of this machine's ports (active_ports=LO-HI) in its own"
	switch {
	case !active:
		hint = "the server's passive ports seem to be closed to this machine: try data=active or data=auto"
	case !passive:
		hint = "the server can't reach this machine (firewall or NAT): try data=passive or data=auto; active_address= and active_ports= help behind a forwarding router"
	}
	return &modeError{said: strings.Join(said, "; ") + " (" + hint + ")", errs: errs}
}

// modeError is several failures with one text.
type modeError struct {
	said string
	errs []error
}

func (e *modeError) Error() string   { return "no data connection could be made: " + e.said }
func (e *modeError) Unwrap() []error { return e.errs }

var errNot229 = errors.New("the reply to EPSV names no port")

// parse229 reads the port of a 229 reply: the character behind "(" delimits, RFC 2428 section 3.
func parse229(text string) (uint16, error) {
	i := strings.IndexByte(text, '(')
	if i < 0 || i+1 >= len(text) {
		return 0, errNot229
	}
	d := text[i+1]
	if d < 33 || d > 126 {
		return 0, errNot229
	}
	rest, _, ok := strings.Cut(text[i+1:], ")")
	f := strings.Split(rest, string(d))
	if !ok || len(f) < 5 {
		return 0, errNot229
	}
	n, err := strconv.ParseUint(f[3], 10, 16)
	if err != nil || n == 0 {
		return 0, errNot229
	}
	return uint16(n), nil
}

var reSixNumbers = regexp.MustCompile(`(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})`)

// parse227 reads address and port of a 227 reply: six numbers anywhere in the text, since its form is not
// settled (RFC 1123 section 4.1.2.6).
func parse227(text string) (netip.AddrPort, error) {
	m := reSixNumbers.FindStringSubmatch(text)
	if m == nil {
		return netip.AddrPort{}, errors.New("the reply to PASV names no address")
	}
	var n [6]byte
	for i := range n {
		v, err := strconv.ParseUint(m[i+1], 10, 8)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("the reply to PASV has a number out of range: %.80q", text)
		}
		n[i] = byte(v)
	}
	port := uint16(n[4])<<8 | uint16(n[5])
	if port == 0 {
		return netip.AddrPort{}, errors.New("the reply to PASV names port 0")
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[:4])), port), nil
}

// formatPORT is the argument of PORT: RFC 959 section 4.1.2.
func formatPORT(a netip.AddrPort) string {
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%d,%d,%d,%d,%d,%d", b[0], b[1], b[2], b[3], a.Port()>>8, a.Port()&255)
}

// formatEPRT is the argument of EPRT: RFC 2428 section 2.
func formatEPRT(a netip.AddrPort) string {
	fam := 1
	if a.Addr().Unmap().Is6() {
		fam = 2
	}
	return fmt.Sprintf("|%d|%s|%d|", fam, a.Addr().Unmap().WithZone(""), a.Port())
}

// pasvHosts is whom to connect to after a 227, in order: by itself only the server's own address, whatever
// the reply says, because a reply that names another is wrong (NAT) or an attack (RFC 2577 section 3).
func pasvHosts(said, peer netip.Addr, trust bool) []netip.Addr {
	if !trust || said == peer || said.IsUnspecified() || said.IsMulticast() {
		return []netip.Addr{peer}
	}
	return []netip.Addr{said, peer}
}
