package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"ftpfs/fs"
	"ftpfs/ftpconn"
)

// settings is everything that the serving process needs to know, checked and with defaults in place.
// It travels through a pipe from the process that the user started to the one that
// serves; argv and the environment carry none of its secrets.
type settings struct {
	URL        siteURL
	Source     string // URL as shown to others
	Mountpoint string // absolute, symlinks resolved

	Account      secret
	PasswordFile string
	Netrc        string // "": ~/.netrc

	TLS       ftpconn.TLSMode
	tlsGiven  bool
	TLSVerify bool
	CACert    string

	Data          ftpconn.DataMode
	ActivePorts   ftpconn.PortRange
	ActiveAddress netip.Addr
	TrustPASV     bool
	MaxConns      int
	Timeout       time.Duration
	Retry         time.Duration

	TTL          time.Duration
	CacheEntries int
	SpoolDir     string // "": chosen by defaultSpoolDir
	MemCache     int64  // bytes
	CacheDir     string // "": none
	CacheSize    int64  // bytes
	Prefetch     bool

	SpoolSize    int64 // bytes, 0: what is free
	Upload       fs.UploadMode
	CheckUploads bool // by size
	HashUploads  bool // and by hash
	Writeback    bool

	ReadOnly           bool
	AllowOther         bool
	DefaultPermissions bool
	UID, GID           uint32
	Umask              uint32
	StrictAttrs        bool

	LogLevel slog.Level
	LogFile  string

	Foreground bool
	// Args is how the serving process appears in ps: the options as given, without secrets.
	Args []string
}

// defaults are the settings of a mount without options.
func defaults() settings {
	return settings{
		TLSVerify:    true,
		MaxConns:     8,
		Timeout:      30 * time.Second,
		Retry:        time.Minute,
		TTL:          30 * time.Second,
		CacheEntries: 400_000,
		MemCache:     64 << 20,
		CacheSize:    1 << 30,
		Prefetch:     true,
		CheckUploads: true,
		UID:          uint32(os.Getuid()),
		GID:          uint32(os.Getgid()),
		LogLevel:     slog.LevelInfo,
	}
}

// complete takes the URL in, settles what URL and options say together, and makes file names absolute, because the
// serving process has another working directory.
func (s *settings) complete(rawURL string) error {
	user := s.URL.User // of -o user=
	u, err := parseURL(rawURL)
	if err != nil {
		return err
	}
	if u.User == "" {
		u.User = user
	}
	switch {
	case !s.tlsGiven:
		s.TLS = u.TLS
	case u.TLS != ftpconn.TLSOff && u.TLS != s.TLS:
		return errors.New("the URL's scheme and the option tls contradict each other: ftpes:// is tls=explicit, ftps:// is tls=implicit, and ftp:// goes with any")
	}
	u.TLS = s.TLS // so that the source tells
	s.URL, s.Source = u, u.String()
	if s.CACert != "" && s.TLS == ftpconn.TLSOff {
		return errors.New("cacert is given, but TLS is off: write ftpes:// (or tls=explicit), or ftps://")
	}
	for _, p := range []*string{&s.PasswordFile, &s.Netrc, &s.CACert, &s.SpoolDir, &s.CacheDir, &s.LogFile} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return fmt.Errorf("%s: %w", *p, err)
		}
	}
	return nil
}

// defaultSpoolDir is where local copies of files being written are kept when spool_dir isn't given:
// on a disk rather than in /tmp, which often is memory.
func defaultSpoolDir() string {
	if os.Geteuid() == 0 && os.Getenv("XDG_CACHE_HOME") == "" {
		return "/var/cache/ftpfs"
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "ftpfs")
	}
	return filepath.Join("/var/tmp", fmt.Sprintf("ftpfs-%d", os.Getuid()))
}
