package ftpconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TLSMode says how a control connection becomes a TLS connection. There is no mode that falls
// back to clear text.
type TLSMode uint8

const (
	TLSOff      TLSMode = iota
	TLSExplicit         // AUTH TLS on the ordinary port (RFC 4217)
	TLSImplicit         // TLS from the first byte, port 990 by custom
)

// DataMode says which way data connections are made.
type DataMode uint8

// DataAuto starts passive and falls back to active by the evidence; DataPassive and DataActive try
// the two commands of their kind; the others allow one command alone.
const (
	DataAuto DataMode = iota
	DataPassive
	DataActive
	DataEPSV
	DataPASV
	DataEPRT
	DataPORT
)

var dataModeNames = [...]string{"auto", "passive", "active", "epsv", "pasv", "eprt", "port"}

func (m DataMode) String() string { return dataModeNames[m] }

// ParseDataMode reads the value of the option data=.
func ParseDataMode(s string) (DataMode, error) {
	for i, n := range dataModeNames {
		if strings.EqualFold(s, n) {
			return DataMode(i), nil
		}
	}
	return 0, fmt.Errorf("data mode %q: choose one of %s", s, strings.Join(dataModeNames[:], ", "))
}

// PortRange is an inclusive range of local TCP ports; zero means any.
type PortRange struct{ Lo, Hi uint16 }

// ParsePortRange reads LO-HI or a single port. Servers refuse ports below 1024.
func ParsePortRange(s string) (PortRange, error) {
	lo, hi, ok := strings.Cut(s, "-")
	if !ok {
		hi = lo
	}
	l, err1 := strconv.ParseUint(strings.TrimSpace(lo), 10, 16)
	h, err2 := strconv.ParseUint(strings.TrimSpace(hi), 10, 16)
	if err1 != nil || err2 != nil || l < 1024 || h < l {
		return PortRange{}, fmt.Errorf("port range %q: write LO-HI with 1024 <= LO <= HI <= 65535", s)
	}
	return PortRange{uint16(l), uint16(h)}, nil
}

// Config says which site a Client speaks to, and how. The zero value of each optional field is
// the default named.
type Config struct {
	Host     string // name or IP literal, without brackets
	Port     int    // 0: 21, or 990 with TLSImplicit
	User     string // "": anonymous
	Password string
	Account  string // sent when the server asks with 332
	Root     string // the directory that becomes "/": relative to the login directory unless it begins with '/'

	TLS       TLSMode
	TLSConfig *tls.Config // base for every session: RootCAs, InsecureSkipVerify, Min/MaxVersion; nil: verified, system roots

	Data          DataMode
	ActivePorts   PortRange
	ActiveAddress netip.Addr // sent in PORT and EPRT; zero: the control connection's local address
	TrustPASV     bool       // follow the address in a PASV reply even if it isn't the server's

	// CheckUploads compares the server's size of a file with what was sent before an upload counts as confirmed.
	CheckUploads bool

	MaxConns int           // sessions at most, 0: 8
	Timeout  time.Duration // for a connection to be made, a reply to come, a data connection to move; 0: 30 s
	Retry    time.Duration // operations wait so long for a server that went away, transfers don't; see outage
	IdleTime time.Duration // an unused session is closed after it, 0: 60 s

	Logger *slog.Logger // nil: discards. At debug level it gets the whole protocol, less the passwords
	// DialContext makes control and passive data connections; nil: net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}
