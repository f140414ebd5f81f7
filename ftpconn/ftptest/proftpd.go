package ftptest

import (
	"fmt"
	"os"
	"path/filepath"
)

// passwordHash is crypt(3)'s SHA-512 of password.
const passwordHash = "$6$ftpfstest$bNAfiC62hygMQCEmQAyryXNhFAIOrLn.HaD5YWEEgJa0eE1Twh6Kd4t6jYGSs4181jwFhas/3UpMLGeemM1gO/"

// modulePath gathers ProFTPD's modules, which come in two packages, in one directory: there is one
// ModulePath.
func modulePath(dir string) (string, error) {
	path := filepath.Join(dir, "modules")
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", err
	}
	for _, pkg := range []string{"proftpd-core", "proftpd-mod-crypto"} {
		modules, err := filepath.Glob(filepath.Join(serversDir(), pkg, "usr/lib/proftpd/*.so"))
		if err != nil {
			return "", err
		}
		for _, m := range modules {
			if err := os.Symlink(m, filepath.Join(path, filepath.Base(m))); err != nil {
				return "", err
			}
		}
	}
	return path, nil
}

// configureProFTPD has the user in files of the server's own. mod_site_misc brings SITE UTIME and
// SYMLINK, mod_copy SITE CPFR and CPTO.
func configureProFTPD(s *Server, dir string, p ports) (argv, env []string, err error) {
	modules, err := modulePath(dir)
	if err != nil {
		return nil, nil, err
	}
	accounts := fmt.Sprintf("%s:%s:%d:%d:test:%s:/bin/sh\n", user, passwordHash, nobody, nobody, s.Root)
	if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte(accounts), 0o600); err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "group"), fmt.Appendf(nil, "nogroup:x:%d:%s\n", nobody, user), 0o600); err != nil {
		return nil, nil, err
	}
	onOff := func(b bool) string {
		if b {
			return "on"
		}
		return "off"
	}
	o := s.opt
	var c config
	c.add("ModulePath %s\nLoadModule mod_copy.c\nLoadModule mod_site_misc.c", modules)
	c.addIf(s.TLS != NoTLS, "LoadModule mod_tls.c")
	c.add("ServerName test\nServerType standalone\nUseIPv6 %s", onOff(o.IPv6))
	c.add("DefaultAddress %s\nSocketBindTight on\nPort %d", s.Host, p.control)
	c.add("UseReverseDNS off\nUser nobody\nGroup nogroup")
	c.add("AuthPAM off\nAuthOrder mod_auth_file.c\nAuthUserFile %s\nAuthGroupFile %s", filepath.Join(dir, "passwd"), filepath.Join(dir, "group"))
	c.add("RequireValidShell off\nUseFtpUsers off\nDefaultRoot %s", s.Root)
	c.add("Umask 022 022\nAllowOverwrite on\nAllowRetrieveRestart on\nAllowStoreRestart %s", onOff(!o.NoAppend))
	c.add("TimesGMT %s", onOff(o.LocalTime == ""))
	c.addIf(o.ReadOnly, "<Limit WRITE>\nDenyAll\n</Limit>")
	c.addIf(o.NoPassive, "<Limit PASV EPSV>\nDenyAll\n</Limit>")
	c.addIf(o.NoActive, "<Limit PORT EPRT>\nDenyAll\n</Limit>")
	c.add("PassivePorts %d %d", p.lo, p.hi)
	c.addIf(o.PASVAddress != "", "MasqueradeAddress %s", o.PASVAddress)
	c.addIf(o.MaxClients > 0, "MaxClients %d", o.MaxClients)
	c.add("MaxInstances 200\nTimeoutIdle %d\nTimeoutNoTransfer 600\nDelayEngine off", or(o.IdleTimeout, 600))
	c.add("FSCachePolicy on") // the default before 1.3.8: each session remembers for three seconds what doesn't exist
	c.add("WtmpLog off\nTransferLog none\nSystemLog %s", filepath.Join(dir, "proftpd.log"))
	c.addIf(o.Verbose, "LogFormat commands \"%%P %%r => %%s\"\nExtendedLog %s ALL commands", filepath.Join(dir, "commands.log"))
	c.add("PidFile %s\nScoreboardFile %s\nControlsEngine off", filepath.Join(dir, "proftpd.pid"), filepath.Join(dir, "scoreboard"))
	if s.TLS != NoTLS {
		// No TLSOptions: by default a data connection must resume the control connection's session.
		c.add("TLSEngine on\nTLSRequired on\nTLSVerifyClient off\nTLSLog %s", filepath.Join(dir, "tls.log"))
		c.add("TLSECCertificateFile %s\nTLSECCertificateKeyFile %s", s.CACert, s.keyFile())
		c.addIf(s.TLS == Implicit, "TLSOptions UseImplicitSSL")
	}
	file := filepath.Join(dir, "proftpd.conf")
	return []string{filepath.Join(serversDir(), "proftpd-core/usr/sbin/proftpd"), "-n", "-q", "-c", file}, nil, c.write(file, o.Extra)
}
