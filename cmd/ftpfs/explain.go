package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"

	"ftpfs/ftpconn"
)

// wantsTLS recognises refusals of a log-in or transfer in the clear: "530 Non-anonymous sessions must use encryption."
// (vsftpd), "550 SSL/TLS required on the control channel" (ProFTPD), "421 ... cleartext sessions ..." (Pure-FTPd).
var wantsTLS = regexp.MustCompile(`(?i)\b(ssl|tls|encryption|cleartext)\b`)

// explainConnect says what a failed first connection means and what can be done about it.
func explainConnect(s settings, err error) error {
	what, hint := "can't reach "+s.URL.Host, ""
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	var refusal *ftpconn.ReplyError
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("no host named %s is known", s.URL.Host)
	case errors.As(err, &unknownCA):
		what = "the certificate of " + s.URL.Host + " is not from an authority that this machine trusts"
		hint = "save the certificate, or its authority's, and name it with cacert=FILE; tls_verify=off would trust anyone"
	case errors.As(err, &wrongName):
		what = "the certificate of " + s.URL.Host + " is for another name"
		hint = "write the URL with the name in the certificate"
	case errors.As(err, &invalid):
		what = "the certificate of " + s.URL.Host + " is not valid"
	case errors.As(err, &noTLS):
		what = s.URL.Host + " doesn't begin with TLS"
		hint = "implicit TLS (ftps://) has a port of its own, 990 by custom; on the ordinary one it is explicit (ftpes://)"
	case errors.As(err, &refusal) && strings.HasPrefix(refusal.Command, "AUTH"):
		what = s.URL.Host + " refuses explicit TLS"
		hint = "perhaps it has implicit TLS: ftps://. Without any, ftp:// sends the password in the clear"
	case refusal != nil && s.TLS == ftpconn.TLSOff && wantsTLS.MatchString(refusal.Text):
		what = s.URL.Host + " wants TLS"
		hint = "write ftpes:// instead of ftp://"
	case errors.Is(err, ftpconn.ErrLogin):
		what = fmt.Sprintf("%s does not let %s in", s.URL.Host, s.URL.User)
		hint = "check the user name and where the password comes from (--help: Passwords)"
	case errors.Is(err, ftpconn.ErrTooMany):
		what = s.URL.Host + " has no connection left for us"
	case errors.Is(err, ftpconn.ErrPortsInUse):
		what, hint = "logged in, but no data connection can be made", "allow more ports, or end what uses them: ss -tlnp"
	case errors.Is(err, ftpconn.ErrDataMode):
		what = "logged in, but no data connection can be made"
		if s.Data != ftpconn.DataAuto {
			hint = fmt.Sprintf("data=auto would try more than %v", s.Data)
		} else {
			hint = "a firewall seems to be in the way; for active mode, open a range of ports here and name it with active_ports=LO-HI"
		}
	case s.URL.Root != "" && errors.Is(err, fs.ErrNotExist):
		what = fmt.Sprintf("there is no directory %q on %s", s.URL.Root, s.URL.Host)
		if s.URL.Root[0] != '/' {
			hint = "that path begins in the login directory: for one from the server's root write ftp://host//path"
		}
	case s.URL.Root != "" && (errors.Is(err, ftpconn.ErrNotDir) || errors.Is(err, fs.ErrPermission)):
		what = fmt.Sprintf("can't enter the directory %q on %s", s.URL.Root, s.URL.Host)
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "does the FTP server run there, and on this port?"
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT):
		hint = "no answer in time: a firewall, a wrong port, or TLS where none is (or none where some is)?"
	}
	if hint == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w\n(%s)", what, err, hint)
}

// explainMount adds to a failure to mount what can be done about it.
func explainMount(mountpoint string, err error) error {
	switch {
	case strings.Contains(err.Error(), "fusermount exited"): // it has no error of its own kind, nor the reason
		return fmt.Errorf("fusermount3 doesn't mount on %s; it says why above", mountpoint)
	case errors.Is(err, exec.ErrNotFound) && os.Geteuid() == 0:
		return fmt.Errorf("%w\n(root may not mount here: a container needs --device /dev/fuse --cap-add SYS_ADMIN)", err)
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w\n(the kernel has no FUSE: modprobe fuse)", err)
	}
	return err
}
