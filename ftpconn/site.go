package ftpconn

import (
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"
)

// site is what the sessions of one Client share: its configuration and what was learned of the
// server. It outlives every session.
type site struct {
	cfg Config // defaults filled in
	log *slog.Logger

	silence silence

	mu        sync.Mutex // guards the following
	modes     *modes     // nil until an address of the server is known
	feat      map[string]string
	featText  string // the FEAT reply as it is played back to the library, "" before the first
	features  Features
	base      string // the absolute path on the server that is the Remote's "/"
	probed    bool   // the first session has learned what is to be learned at log-in
	pipeline  bool   // several commands in one packet are answered one by one
	pret      bool   // EPSV and PASV are refused without a PRET
	rest      bool   // REST was accepted once
	list      string // what lists where there is no MLSD: "STAT", "LIST -a" or "LIST", "" not known
	zone      time.Duration
	zoneSet   bool   // zone is known: LIST's times are UTC + zone
	clock     clock  // of MDTM
	setTime   string // the means that worked: key of setTimeForms; "none" if all were refused
	noAppend  bool
	noChmod   bool
	noSpace   bool
	noTLS13   bool
	pyftpd    bool // the server is pyftpdlib: see isPyftpdlib
	noSize    bool // no SIZE
	noCopy    bool
	noSymlink bool

	// Of uploads whose end is hastened (haste.go).
	direct           bool // connections end at the server itself; constant
	sized            bool // a SIZE behind a STOR was right once
	noHaste          bool // SIZE isn't answered, or was wrong
	hastened, harmed int  // uploads whose end was hastened, and those of them that were lost
}

func (s *site) pipelines() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pipeline
}

// queues says that the server reads no command during a transfer and does it afterwards. vsftpd 2 and 3 do; others
// swallow it (Pure-FTPd 1.0.50) or end the transfer for it (pyftpdlib 1.5.7).
func (s *site) queues() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pipeline && strings.Contains(s.features.Banner, "(vsFTPd ")
}

// telnet says that the server takes a byte 0xFF for the beginning of a Telnet command, unless it comes twice. RFC 959 section 5.3
// asks for that; of the servers in use ProFTPD, busybox and the BSD family (inetutils, netkit), which has no
// FEAT, do it. vsftpd, Pure-FTPd and pyftpdlib take two for two.
func (s *site) telnet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.feat) == 0 || s.features.Banner == "Operation successful"
}

// proftpd says that the server is ProFTPD. Its banner can be changed; CSID is offered by it alone, since 1.3.7.
func (s *site) proftpd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, csid := s.feat["CSID"]
	mff := s.feat["MFF"]
	return csid || strings.HasPrefix(mff, "modify;UNIX.group;") || strings.Contains(s.features.Banner, "ProFTPD")
}

func (s *site) featReply() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.featText
}

// setFeat keeps a FEAT reply, in the strict form that the library reads: a leading space, the
// command in upper case.
func (s *site) setFeat(r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	b.WriteString("211-Features\r\n")
	s.feat = map[string]string{}
	for i, line := range r.lines {
		line = strings.TrimSpace(line)
		if i == 0 || i == len(r.lines)-1 || line == "" {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		name = strings.ToUpper(name)
		s.feat[name] = strings.TrimSpace(args)
		if name == "PRET" {
			continue // the library need not know: askPassive
		}
		b.WriteString(strings.TrimRight(" "+name+" "+args, " ") + "\r\n")
	}
	b.WriteString("211 End\r\n")
	s.featText = b.String()
	s.pyftpd = strings.HasPrefix(r.text(), "Features supported:") && strings.HasSuffix(r.text(), "End FEAT.")
}

// isPyftpdlib tells pyftpdlib 1.5.7 by its FEAT reply. It closes a data connection on which something comes before it has read
// STOR, and never replies then (two connections keep no order: a proxy or a lost packet is enough); and it puts U+FFFD for
// what is not UTF-8 in a name.
func (s *site) isPyftpdlib() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pyftpd
}

func (s *site) has(feature string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.feat[feature]
	return ok
}

// abs is the path on the server of a path of the Remote.
func (s *site) abs(p string) string {
	s.mu.Lock()
	base := s.base
	s.mu.Unlock()
	if p == "/" || p == "" {
		return base
	}
	return path.Join(base, p)
}

// locate settles what "/" is: cfg.Root, relative to the login directory unless absolute.
func (s *site) locate(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(s.cfg.Root, "/"):
		s.base = path.Clean(s.cfg.Root)
	default:
		s.base = path.Join("/", login, s.cfg.Root)
	}
}

func (s *site) update(f func(*site)) {
	s.mu.Lock()
	f(s)
	s.mu.Unlock()
}

func (s *site) snapshot() Features {
	s.mu.Lock()
	f := s.features
	facts, mlst := s.feat["MLST"]
	f.MLST = mlst
	f.Modes = !mlst || strings.Contains(strings.ToLower(facts), "unix.mode")
	_, f.UTF8 = s.feat["UTF8"]
	_, f.MDTM = s.feat["MDTM"]
	_, f.AVBL = s.feat["AVBL"]
	f.SetTime = s.setTime
	if f.SetTime == "none" {
		f.SetTime = ""
	}
	f.Append, f.Chmod = !s.noAppend, !s.noChmod
	m := s.modes
	s.mu.Unlock()
	if m != nil {
		f.Mode = m.inForce()
	}
	return f
}
