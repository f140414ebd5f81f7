package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"time"

	"ftpfs/fs"
	"ftpfs/ftpconn"
)

// option is one mount option. The table that optionTable returns is the only list of them: the -o parser, the
// long flags, --help and the README's table (held by a test) follow it.
type option struct {
	name  string
	value string // what the value is called in the help; "" is a switch
	def   string // default, as the help shows it
	group string
	help  string
	set   func(s *settings, value string) error
}

// optionTable lists the options by group, in the order of the help.
func optionTable() []option {
	const (
		login  = "Login"
		data   = "Connections"
		cache  = "Caching"
		upload = "Uploads"
		tree   = "The mounted tree"
		logs   = "Logging"
	)
	return []option{
		{"user", "NAME", "", login, "user name, if the URL has none", func(s *settings, v string) error {
			s.URL.User = v
			return noControl(v)
		}},
		{"password_file", "FILE", "", login, "its first line is the password; refused if others can read it", setString(func(s *settings) *string { return &s.PasswordFile })},
		{"netrc", "FILE", "~/.netrc", login, "where to look up user and password of the host", setString(func(s *settings) *string { return &s.Netrc })},
		{"account", "TEXT", "", login, "sent to servers that ask for an account (ACCT)", func(s *settings, v string) error {
			s.Account = secret(v)
			return noControl(v)
		}},
		{"tls", "off|explicit|implicit", "by the scheme", login, "encryption; what was asked for never falls back to clear text", setTLS},
		{"tls_verify", "on|off", "on", login, "off accepts any certificate: anyone on the way can then read and change everything", setBool(func(s *settings) *bool { return &s.TLSVerify })},
		{"cacert", "FILE", "system's", login, "PEM file with the authorities (or the certificate itself) to trust", setString(func(s *settings) *string { return &s.CACert })},

		{"data", "MODE", "auto", data, "data connections: auto, passive, active, epsv, pasv, eprt or port", func(s *settings, v string) (err error) {
			s.Data, err = ftpconn.ParseDataMode(v)
			return err
		}},
		{"active_ports", "LO-HI", "any", data, "local ports to listen on in active mode", func(s *settings, v string) (err error) {
			s.ActivePorts, err = ftpconn.ParsePortRange(v)
			return err
		}},
		{"active_address", "IP", "own", data, "address to tell the server in active mode (behind NAT: the outer one)", func(s *settings, v string) (err error) {
			if s.ActiveAddress, err = netip.ParseAddr(v); err != nil {
				return errors.New("write an IP address")
			}
			return nil
		}},
		{"pasv_address", "control|server", "control", data, "connect passively to the server's own address, or trust the one in its PASV reply", func(s *settings, v string) error {
			s.TrustPASV = v == "server"
			return oneOf(v, "control", "server")
		}},
		{"max_conns", "N", "8", data, "sessions at most; fewer are used if the server allows fewer", setInt(1, 256, func(s *settings) *int { return &s.MaxConns })},
		{"timeout", "TIME", "30s", data, "how long the server may stay silent", setDuration(time.Second, func(s *settings) *time.Duration { return &s.Timeout })},
		{"retry", "TIME", "1m", data, "how long a server that went away, or a transfer that breaks, is tried again before that is an error", setDuration(0, func(s *settings) *time.Duration { return &s.Retry })},

		{"ttl", "TIME", "30s", cache, "how long listings and attributes are believed; 0 asks the server each time", setDuration(0, func(s *settings) *time.Duration { return &s.TTL })},
		{"cache_entries", "N", "400000", cache, "directory entries to remember at most; 0 remembers none", setInt(0, 1<<30, func(s *settings) *int { return &s.CacheEntries })},
		{"mem_cache", "SIZE", "64MiB", cache, "memory for what was read of files; 0 keeps nothing", setSize(0, func(s *settings) *int64 { return &s.MemCache })},
		{"cache_dir", "DIR", "", cache, "keep what was read of files there, also for the next mounts", setString(func(s *settings) *string { return &s.CacheDir })},
		{"cache_size", "SIZE", "1GiB", cache, "local disk for cache_dir, of all mounts that share it", setSize(16<<20, func(s *settings) *int64 { return &s.CacheSize })},
		{"prefetch", "on|off", "on", cache, "fetch what is likely to be read next", setBool(func(s *settings) *bool { return &s.Prefetch })},

		{"spool_dir", "DIR", "cache directory", upload, "where copies of files being written are kept", setString(func(s *settings) *string { return &s.SpoolDir })},
		{"spool_size", "SIZE", "what is free", upload, "local disk for those copies; 256 MiB or a twentieth of it, whichever is less, stay free in any case", setSize(1<<20, func(s *settings) *int64 { return &s.SpoolSize })},
		{"upload", "inplace|atomic|auto", "inplace", upload, "where files are sent: to themselves, to a temporary name that then replaces them, or auto: the latter where there is something to replace", func(s *settings, v string) (err error) {
			s.Upload, err = fs.ParseUploadMode(v)
			return err
		}},
		{"writeback", "", "", upload, "close() returns when the local disk has what was written, and files are sent in the background", setBool(func(s *settings) *bool { return &s.Writeback })},
		{"upload_check", "size|hash|off", "size", upload, "what is compared before an upload counts as confirmed; hash: where the server can compute one", func(s *settings, v string) error {
			s.CheckUploads, s.HashUploads = v != "off", v == "hash"
			return oneOf(v, "size", "hash", "off")
		}},

		{"ro", "", "", tree, "read only", setBool(func(s *settings) *bool { return &s.ReadOnly })},
		{"allow_other", "", "", tree, "other users may enter (needs user_allow_other in /etc/fuse.conf, unless root)", setBool(func(s *settings) *bool { return &s.AllowOther })},
		{"default_permissions", "", "", tree, "the kernel checks permission bits", setBool(func(s *settings) *bool { return &s.DefaultPermissions })},
		{"uid", "USER", "you", tree, "owner of everything, number or name", setID(lookupUID, func(s *settings) *uint32 { return &s.UID })},
		{"gid", "GROUP", "yours", tree, "group of everything, number or name", setID(lookupGID, func(s *settings) *uint32 { return &s.GID })},
		{"attrs", "local|strict", "local", tree, "modes and times that the server doesn't keep: remembered on this machine, or refused", func(s *settings, v string) error {
			s.StrictAttrs = v == "strict"
			return oneOf(v, "local", "strict")
		}},
		{"umask", "OCTAL", "0", tree, "permission bits to take away", func(s *settings, v string) error {
			n, err := strconv.ParseUint(v, 8, 32)
			if err != nil || n > 0o777 {
				return errors.New("write an octal number, for example 022")
			}
			s.Umask = uint32(n)
			return nil
		}},

		{"log_level", "LEVEL", "info", logs, "error, warn, info or debug (the whole conversation, without passwords)", func(s *settings, v string) error {
			if err := oneOf(v, "error", "warn", "info", "debug"); err != nil {
				return err
			}
			return s.LogLevel.UnmarshalText([]byte(v))
		}},
		{"log_file", "FILE", "", logs, "append the log to FILE; else: stderr with -f, syslog without", setString(func(s *settings) *string { return &s.LogFile })},
	}
}

// ignored reports whether an -o option is one that mount(8), systemd or fstab pass along for themselves.
func ignored(name string, hasValue bool) bool {
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") {
		return true
	}
	switch name {
	case "comment":
		return true
	case "defaults", "rw", "auto", "noauto", "nofail", "_netdev", "netdev", "nonempty",
		"user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
		"dev", "nodev", "suid", "nosuid", "exec", "noexec", "async", "sync", "dirsync",
		"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
		"lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "silent", "loud":
		return !hasValue
	}
	return false
}

// optionParser applies options to settings, wherever they come from.
type optionParser struct {
	table  map[string]option
	into   *settings
	sloppy bool              // unknown -o options are reported to warn instead of refused (mount -s)
	warn   func(text string) // gets what a sloppy parse skipped
}

func newOptionParser(into *settings) *optionParser {
	p := &optionParser{table: map[string]option{}, into: into, warn: func(string) {}}
	for _, o := range optionTable() {
		p.table[o.name] = o
	}
	return p
}

// list applies "key=value,flag,...". A comma or backslash inside a value is written with a
// backslash in front, as for fusermount3.
func (p *optionParser) list(s string) error {
	for _, item := range splitList(s) {
		name, value, hasValue := strings.Cut(item, "=")
		name = strings.TrimSpace(name)
		if name == "" && !hasValue || ignored(name, hasValue) {
			continue
		}
		if err := p.one(name, value, hasValue); err != nil {
			return err
		}
	}
	return nil
}

// one applies a single option. Errors name the option and, unless it's a secret, its value.
func (p *optionParser) one(name, value string, hasValue bool) error {
	o, ok := p.table[canonical(name)]
	switch {
	case !ok && p.sloppy:
		p.warn("unknown option " + name + " skipped")
		return nil
	case !ok && name == "password":
		return errors.New("option password would be seen by everyone on this machine: use password_file=FILE, netrc=FILE or $FTPFS_PASSWORD")
	case !ok:
		return fmt.Errorf("unknown option %q: ftpfs --help lists them", name)
	case o.value != "" && !hasValue:
		return fmt.Errorf("option %s needs a value: %s=%s", o.name, o.name, o.value)
	case o.value != "" && value == "":
		return fmt.Errorf("option %s has an empty value: write %s=%s", o.name, o.name, o.value)
	case !hasValue:
		value = "on"
	}
	if err := o.set(p.into, value); err != nil {
		if o.name == "account" {
			return fmt.Errorf("option account: %w", err)
		}
		return fmt.Errorf("option %s=%s: %w", o.name, value, err)
	}
	switch {
	case o.name == "account":
	case hasValue:
		p.into.Args = append(p.into.Args, "--"+o.name+"="+value)
	default:
		p.into.Args = append(p.into.Args, "--"+o.name)
	}
	return nil
}

// canonical lets max-conns be written for max_conns.
func canonical(name string) string {
	if name == "_netdev" {
		return name
	}
	return strings.ReplaceAll(name, "-", "_")
}

func splitList(s string) []string {
	var items []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == ',' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == ',':
			items = append(items, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(items, b.String())
}

func setString(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error {
		*field(s) = v
		return nil
	}
}

func setBool(field func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) error {
		switch strings.ToLower(v) {
		case "on", "yes", "true", "1":
			*field(s) = true
		case "off", "no", "false", "0":
			*field(s) = false
		default:
			return errors.New("write on or off")
		}
		return nil
	}
}

func setInt(lo, hi int, field func(*settings) *int) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("write a number from %d to %d", lo, hi)
		}
		*field(s) = n
		return nil
	}
}

// setDuration reads Go's form (30s, 2m) or plain seconds.
func setDuration(lo time.Duration, field func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		d, err := parseTime(v)
		if err != nil || d < lo || d > 10*365*24*time.Hour {
			if lo > 0 {
				return fmt.Errorf("write a time like 30s or 5m (at least %v)", lo)
			}
			return errors.New("write a time like 30s or 5m, or 0")
		}
		*field(s) = d
		return nil
	}
}

func parseTime(v string) (time.Duration, error) {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(v)
}

// setSize reads bytes, or a number with a unit: k, M, G and T are powers of 1024, as KiB, MiB, GiB and TiB are; kB, MB, GB
// and TB are powers of 1000.
func setSize(lo int64, field func(*settings) *int64) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := parseSize(v)
		if err != nil || n < lo {
			return fmt.Errorf("write a size like 64MiB or 2G (at least %s)", formatSize(lo))
		}
		*field(s) = n
		return nil
	}
}

func parseSize(v string) (int64, error) {
	number := strings.TrimRight(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToLower(strings.TrimSpace(v[len(number):]))
	base := 1024.0
	if len(unit) == 2 && unit[1] == 'b' {
		base = 1000
	}
	power := strings.Index("bkmgt", strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i"))
	if unit == "" || unit == "b" {
		power = 0
	}
	f, err := strconv.ParseFloat(number, 64)
	size := f * math.Pow(base, float64(max(power, 0)))
	if err != nil || power < 0 || len(unit) > 3 || size < 0 || size > 1<<60 || math.IsNaN(size) || strings.HasPrefix(unit, "i") {
		return 0, errors.New("not a size")
	}
	return int64(size), nil
}

// formatSize writes a whole number of a unit.
func formatSize(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n > 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + units[i]
}

func setID(lookup func(name string) (string, error), field func(*settings) *uint32) func(*settings, string) error {
	return func(s *settings, v string) error {
		id := v
		if _, err := strconv.ParseUint(v, 10, 32); err != nil {
			if id, err = lookup(v); err != nil {
				return errors.New("no such name here: write a number or a name that this machine knows")
			}
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil || n == 1<<32-1 { // (uid_t)-1 means none
			return errors.New("out of range")
		}
		*field(s) = uint32(n)
		return nil
	}
}

func lookupUID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func lookupGID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

func setTLS(s *settings, v string) error {
	modes := map[string]ftpconn.TLSMode{"off": ftpconn.TLSOff, "explicit": ftpconn.TLSExplicit, "implicit": ftpconn.TLSImplicit}
	s.TLS, s.tlsGiven = modes[v], true
	return oneOf(v, "off", "explicit", "implicit")
}

func oneOf(v string, choices ...string) error {
	for _, c := range choices {
		if v == c {
			return nil
		}
	}
	return fmt.Errorf("choose one of %s", strings.Join(choices, ", "))
}

func noControl(v string) error {
	if strings.ContainsAny(v, "\r\n\x00") {
		return errors.New("CR, LF and NUL can't be sent by FTP")
	}
	return nil
}
