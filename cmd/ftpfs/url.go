package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"ftpfs/ftpconn"
)

// siteURL is what an FTP URL says. A password that was given empty ("user:@host") is known and
// empty; HasPassword tells it from one that wasn't given.
type siteURL struct {
	Host        string // name or IP literal, without brackets
	Port        int    // 0 if not said
	User        string // "" if not said
	Password    secret
	HasPassword bool
	Root        string // relative to the login directory unless it begins with '/'; "" is the login directory
	TLS         ftpconn.TLSMode
}

// urlForm is what every refusal of a URL shows.
const urlForm = "ftp://[user[:password]@]host[:port][/path]"

var schemes = map[string]ftpconn.TLSMode{
	"ftp":   ftpconn.TLSOff,
	"ftpes": ftpconn.TLSExplicit,
	"ftps":  ftpconn.TLSImplicit,
}

// parseURL reads an FTP URL (RFC 1738 section 3.2, RFC 3986 for IP literals). The path "/x" is
// relative to the login directory, "//x" and "/%2Fx" are absolute. '?' and '#' are ordinary characters,
// as in file names. No error quotes more of the URL than the part that is known to be no secret.
func parseURL(s string) (siteURL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || strings.ContainsAny(scheme, "@/") {
		return siteURL{}, notAURL(s)
	}
	mode, ok := schemes[strings.ToLower(scheme)]
	switch {
	case ok:
	case strings.EqualFold(scheme, "sftp"):
		return siteURL{}, errors.New("sftp:// is the SSH protocol, which ftpfs doesn't speak: use sshfs")
	default:
		return siteURL{}, fmt.Errorf("unknown scheme %s://: write ftp://, ftpes:// (explicit TLS) or ftps:// (implicit TLS)", scheme)
	}
	u := siteURL{TLS: mode}
	authority, rawPath, hasPath := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := u.setUserinfo(authority[:i]); err != nil {
			return siteURL{}, err
		}
		authority = authority[i+1:]
	} else if strings.Contains(rawPath, "@") && strings.Contains(authority, ":") && !validPort(authority) {
		return siteURL{}, errors.New("the URL has a '/' in front of its '@': write a '/' in a user name or password as %2F")
	}
	if err := u.setHostPort(authority); err != nil {
		return siteURL{}, err
	}
	if !hasPath {
		return u, nil
	}
	root, err := unescape("path", trimTypeCode(rawPath))
	if err != nil {
		return siteURL{}, err
	}
	if root != "" {
		root = path.Clean(root)
	}
	if root != "." {
		u.Root = root
	}
	return u, nil
}

// trimTypeCode takes off the suffix ";type=i" of RFC 1738 section 3.2.2: transfers are always binary.
func trimTypeCode(p string) string {
	if n := len(p) - len(";type=i"); n >= 0 && strings.EqualFold(p[n:n+6], ";type=") {
		return p[:n]
	}
	return p
}

func (u *siteURL) setUserinfo(s string) (err error) {
	user, password, has := strings.Cut(s, ":")
	if u.User, err = unescape("user name", user); err != nil {
		return err
	}
	if u.User == "" && has {
		return errors.New("the URL has a password but no user name: write " + urlForm)
	}
	p, err := unescape("password", password)
	u.Password, u.HasPassword = secret(p), has
	return err
}

func (u *siteURL) setHostPort(s string) error {
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return errors.New("the IPv6 address in the URL has no ']': write ftp://[::1]/")
		}
		host = strings.Replace(s[1:end], "%25", "%", 1) // the zone's separator, RFC 6874
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return fmt.Errorf("[%s] is not an IPv6 address: write ftp://[::1]/", host)
		}
		port, hasPort = strings.CutPrefix(s[end+1:], ":")
		if !hasPort && port != "" {
			return fmt.Errorf("%q behind the IPv6 address: write ftp://[%s]:port/path", port, host)
		}
	} else {
		host, port, hasPort = strings.Cut(s, ":")
		if strings.Contains(port, ":") {
			if addr, err := netip.ParseAddr(s); err == nil {
				return fmt.Errorf("write the IPv6 address in brackets: ftp://[%s]/", addr)
			}
		}
		if err := checkHost(host); err != nil {
			return err
		}
	}
	if hasPort && port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			// What stands here may be a password whose '@' is missing.
			return fmt.Errorf("the port behind %q must be a number from 1 to 65535 (a user name needs an '@' behind it: %s)", host, urlForm)
		}
		u.Port = int(n)
	}
	u.Host = host
	return nil
}

func validPort(authority string) bool {
	_, port, _ := strings.Cut(authority, ":")
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

func checkHost(host string) error {
	if host == "" {
		return errors.New("the URL has no host: write " + urlForm)
	}
	for _, r := range host {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		case r > 0x7f:
			return fmt.Errorf("host %q: write an international name in its ASCII form (xn--...)", host)
		default:
			return fmt.Errorf("host %q has a %q in it: write %s", host, r, urlForm)
		}
	}
	return nil
}

// unescape decodes %XX. what names the part in errors, which never show its text.
func unescape(what, s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", badPercent(what)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", badPercent(what)
			}
			c, i = byte(n), i+2
		}
		if c == '\r' || c == '\n' || c == 0 {
			return "", fmt.Errorf("the %s in the URL has a CR, LF or NUL in it, which FTP can't send", what)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func badPercent(what string) error {
	return fmt.Errorf("the %s in the URL has a '%%' that isn't followed by two hexadecimal digits: write a plain '%%' as %%25", what)
}

// notAURL explains what should have been written instead of the forms that scp, rsync and other
// mounts accept.
func notAURL(s string) error {
	if strings.ContainsAny(s, "@ \t\r\n") { // may hold a password
		return errors.New("the first argument is not an FTP URL: write " + urlForm)
	}
	host, p, colon := strings.Cut(s, ":")
	if !colon {
		host, p, _ = strings.Cut(s, "/")
	}
	if host == "" || checkHost(host) != nil {
		return fmt.Errorf("%q is not an FTP URL: write %s", s, urlForm)
	}
	if colon && !strings.HasPrefix(p, "/") && p != "" {
		return fmt.Errorf("%q is not an FTP URL: write %s", s, urlForm)
	}
	if abs := strings.TrimPrefix(p, "/"); colon && abs != "" {
		return fmt.Errorf("%q is not an FTP URL: write ftp://%s//%s for the absolute path, ftp://%s/%s for one in the login directory", s, host, abs, host, abs)
	}
	return fmt.Errorf("%q is not an FTP URL: write ftp://%s/%s", s, host, p)
}

// String is the URL without its password: for /proc/mounts, argv, messages. parseURL reads it
// back as the same site.
func (u siteURL) String() string {
	var b strings.Builder
	for name, mode := range schemes {
		if mode == u.TLS {
			b.WriteString(name + "://")
		}
	}
	if u.User != "" {
		b.WriteString(escape(u.User, "") + "@")
	}
	if strings.Contains(u.Host, ":") {
		b.WriteString("[" + strings.Replace(u.Host, "%", "%25", 1) + "]")
	} else {
		b.WriteString(u.Host)
	}
	if u.Port != 0 {
		b.WriteString(":" + strconv.Itoa(u.Port))
	}
	b.WriteString("/" + escape(u.Root, "/"))
	return b.String()
}

// escape writes all but the unreserved characters of RFC 3986 section 2.3, and those in also,
// as %XX. (A comma in a source would have to be escaped once more for fusermount3.)
func escape(s, also string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			strings.IndexByte("-._~", c) >= 0, strings.IndexByte(also, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// secret is a string that no formatting shows; encoding/gob does write it, for the pipe to the
// serving process.
type secret string

// Format writes stars, whatever the verb.
func (secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
