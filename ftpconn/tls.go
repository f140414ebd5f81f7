package ftpconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// tlsConfigs gives the configurations of one session: servers tie a data connection to its own
// control connection by the session it resumes, so the cache belongs to one session, and only
// what the control connection was given goes into it (RFC 4217 section 10.2; FileZilla Server gives a
// new ticket with each EPSV). The fixed ServerName keeps the cache's key the same on every port.
func (s *site) tlsConfigs() (control, data *tls.Config) {
	base := &tls.Config{}
	if s.cfg.TLSConfig != nil {
		base = s.cfg.TLSConfig
	}
	control = base.Clone()
	if control.ServerName == "" {
		control.ServerName = s.cfg.Host
	}
	s.mu.Lock()
	if s.noTLS13 {
		control.MaxVersion = tls.VersionTLS12
	}
	s.mu.Unlock()
	cache := tls.NewLRUClientSessionCache(4)
	control.ClientSessionCache = cache
	data = control.Clone()
	data.ClientSessionCache = readOnlyCache{cache}
	return control, data
}

// badTicket says that a session ended over a ticket that crypto/tls refuses: vsftpd 3.0.5 with OpenSSL 3 (Ubuntu 22.04) lets its
// tickets live for decades, RFC 8446 section 4.6.1 for seven days. A ticket of TLS 1.2 has no such bound.
func badTicket(err error) bool {
	return err != nil && strings.Contains(err.Error(), "session ticket with invalid lifetime")
}

// avoidTLS13 has the next sessions use TLS 1.2. It returns false if that isn't allowed.
func (s *site) avoidTLS13() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.TLSConfig != nil && s.cfg.TLSConfig.MinVersion > tls.VersionTLS12 {
		return false
	}
	s.noTLS13 = true
	return true
}

// readOnlyCache keeps a data connection from replacing the control connection's session.
type readOnlyCache struct{ tls.ClientSessionCache }

func (readOnlyCache) Put(string, *tls.ClientSessionState) {}

// tlsTrouble says what a failed handshake means and what the user can do.
func tlsTrouble(host string, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("TLS: the certificate of %s is signed by nobody this machine knows; name its authority with cacert=FILE (tls_verify=off would accept anybody): %w", host, err)
	case errors.As(err, &name):
		return fmt.Errorf("TLS: the certificate is for another name than %s: %w", host, err)
	}
	return fmt.Errorf("TLS with %s: %w", host, err)
}
