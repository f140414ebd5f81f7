package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"ftpfs/cache"
	"ftpfs/fs"
	"ftpfs/ftpconn"
)

// site is a mounted FTP site with all that is below it.
type site struct {
	mounted *fs.Mounted
	spool   *cache.Spool
	left    *cache.Leftovers
	attrs   *cache.Attrs // nil with attrs=strict
	blocks  *cache.Blocks
	client  *ftpconn.Client
	meta    *cache.Meta    // nil without a metadata cache
	remote  ftpconn.Remote // the whole stack
	log     *slog.Logger
}

// mountSite puts the stack together, each layer knowing only the one below:
//
//	sessions and pool → metadata cache → tree (with blocks and spool at its side) → kernel
//
// When it returns without an error, the server has let us in, its root was listed, and the mount answers.
func mountSite(ctx context.Context, s settings, log *slog.Logger) (_ *site, err error) {
	cfg, err := clientConfig(s, log)
	if err != nil {
		return nil, err
	}
	client, err := ftpconn.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := client.Connect(ctx); err != nil {
		client.Close()
		return nil, explainConnect(s, err)
	}
	blocks, err := openBlocks(s, log)
	if err != nil {
		client.Close()
		return nil, err
	}
	remote := cache.ForgetChanges(client, blocks)
	var meta *cache.Meta
	if s.TTL > 0 && s.CacheEntries > 0 {
		meta = cache.NewMeta(remote, cache.MetaConfig{TTL: s.TTL, Entries: s.CacheEntries, Logger: log})
		remote = meta
	}
	dir := s.SpoolDir
	if dir == "" {
		dir = defaultSpoolDir()
	}
	spool, err := cache.OpenSpool(dir, s.SpoolSize, log)
	if err != nil {
		remote.Close()
		blocks.Close()
		return nil, fmt.Errorf("spool_dir: %w", err)
	}
	left, err := cache.OpenLeftovers(cache.SiteDir(dir), contentSite(s.URL), log)
	var attrs *cache.Attrs
	if err == nil && !s.StrictAttrs {
		attrs, err = cache.OpenAttrs(cache.SiteDir(dir), contentSite(s.URL), cache.MaxAttrs, log)
	}
	if err != nil {
		left.Close()
		spool.Close()
		remote.Close()
		blocks.Close()
		return nil, fmt.Errorf("spool_dir: %w", err)
	}
	mounted, err := fs.Mount(s.Mountpoint, remote, spool, fs.Options{
		UID: s.UID, GID: s.GID, Umask: s.Umask,
		ReadOnly:           s.ReadOnly,
		TTL:                s.TTL,
		NoPrefetch:         !s.Prefetch,
		Retry:              s.Retry,
		Upload:             s.Upload,
		HashUploads:        s.HashUploads,
		Blocks:             blocks,
		SpoolDir:           dir,
		Leftovers:          left,
		Attrs:              attrs,
		StrictAttrs:        s.StrictAttrs,
		Writeback:          s.Writeback,
		Site:               contentSite(s.URL),
		Logger:             log,
		Source:             s.Source,
		AllowOther:         s.AllowOther,
		DefaultPermissions: s.DefaultPermissions,
	})
	if err != nil {
		attrs.Close()
		left.Close()
		spool.Close()
		remote.Close()
		blocks.Close()
		return nil, explainMount(s.Mountpoint, err)
	}
	return &site{mounted, spool, left, attrs, blocks, client, meta, remote, log}, nil
}

// openBlocks makes the cache of file contents, nil if there is to be none.
func openBlocks(s settings, log *slog.Logger) (*cache.Blocks, error) {
	if s.MemCache == 0 && s.CacheDir == "" {
		return nil, nil
	}
	b, err := cache.NewBlocks(cache.BlocksConfig{
		Memory: s.MemCache, Dir: s.CacheDir, Disk: s.CacheSize, Site: contentSite(s.URL), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("cache_dir: %w", err)
	}
	return b, nil
}

// contentSite names the tree of files that a URL leads to, however the way there is encrypted.
func contentSite(u siteURL) string {
	port := u.Port
	switch {
	case port == 0 && u.TLS == ftpconn.TLSImplicit:
		port = 990
	case port == 0:
		port = 21
	}
	return fmt.Sprintf("ftp://%s@%s/%s", url.PathEscape(u.User), net.JoinHostPort(strings.ToLower(u.Host), strconv.Itoa(port)), u.Root)
}

// WaitGone returns when the mount is gone, by whoever's hand.
func (m *site) WaitGone() { m.mounted.WaitGone() }

// Wait returns when the mount is gone, by whoever's hand, and what was written is on the server or lost.
func (m *site) Wait() { m.mounted.Wait() }

// Unmount fails for a mount in use, and waits otherwise.
func (m *site) Unmount() error { return m.mounted.Unmount() }

// Close, after Wait, logs out. Its error says that something written is not on the server
// although nobody could be told.
func (m *site) Close() error {
	if err := m.spool.Close(); err != nil {
		m.log.Warn("local copies can't be removed", "err", err)
	}
	if err := m.left.Close(); err != nil {
		m.log.Warn("closing the list of files to remove from the server", "err", err)
	}
	if err := m.attrs.Close(); err != nil {
		m.log.Warn("closing what is remembered of modes and times", "err", err)
	}
	if err := m.blocks.Close(); err != nil {
		m.log.Warn("closing cache_dir", "err", err)
	}
	if err := m.remote.Close(); err != nil {
		m.log.Warn("logging out", "err", err)
	}
	return m.mounted.PendingErr()
}

func clientConfig(s settings, log *slog.Logger) (ftpconn.Config, error) {
	c := ftpconn.Config{
		Host: s.URL.Host, Port: s.URL.Port, User: s.URL.User, Password: string(s.URL.Password),
		Account: string(s.Account), Root: s.URL.Root,
		TLS:           s.TLS,
		Data:          s.Data,
		ActivePorts:   s.ActivePorts,
		ActiveAddress: s.ActiveAddress,
		TrustPASV:     s.TrustPASV,
		MaxConns:      s.MaxConns,
		Timeout:       s.Timeout,
		Retry:         s.Retry,
		CheckUploads:  s.CheckUploads,
		Logger:        log,
	}
	if s.TLS == ftpconn.TLSOff {
		return c, nil
	}
	c.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !s.TLSVerify}
	if !s.TLSVerify {
		log.Warn("tls_verify=off: the server's certificate is not checked; anyone on the way can read and change everything, the password too")
	}
	if s.CACert != "" {
		pem, err := os.ReadFile(s.CACert)
		if err != nil {
			return c, fmt.Errorf("cacert: %w", err)
		}
		c.TLSConfig.RootCAs = x509.NewCertPool()
		if !c.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("cacert %s: there is no PEM certificate in it", s.CACert)
		}
	}
	return c, nil
}
