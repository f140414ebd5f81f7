package ftpconn

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseMLSD reads a line of MLSD: facts, a space, the name as it is (RFC 3659 section 7.2).
func (p *listParser) parseMLSD(e *Entry, line []byte) error {
	if len(line) == 0 {
		return errSkip
	}
	facts, name, ok := splitFacts(line)
	if !ok {
		return badLine(line, "no facts and no name")
	}
	skip, err := p.parseFacts(e, facts)
	if skip {
		return errSkip
	}
	if bytes.IndexByte(name, '/') >= 0 { // section 7.2: names in MLSD are of this directory
		return badLine(line, "a path where a name belongs")
	}
	if err2 := setName(e, name); err2 != nil {
		if err2 == errSkip {
			return errSkip
		}
		return badLine(line, "no name")
	}
	if err != nil {
		return warnLine(line, err.Error())
	}
	return nil
}

// splitFacts parts facts and name. The facts end at the first ';' with a space behind it; their values
// may hold spaces (groupname=domain users). Spaces in front of the facts are taken off; a line that
// begins with a space and has no fact is a name alone. A server that forgets the last ';' is understood
// as long as the value has no space.
func splitFacts(line []byte) (facts, name []byte, ok bool) {
	trimmed := bytes.TrimLeft(line, " ")
	eq := bytes.IndexByte(trimmed, '=')
	isFacts := eq > 0
	if isFacts {
		for _, c := range trimmed[:eq] {
			if !isLetter(c) && !isDigit(c) && c != '.' && c != '-' && c != '_' {
				isFacts = false
				break
			}
		}
	}
	if !isFacts {
		if len(line) > 1 && line[0] == ' ' {
			return nil, line[1:], true
		}
		return nil, nil, false
	}
	for at := 0; ; {
		i := bytes.IndexByte(trimmed[at:], ';')
		if i < 0 {
			break
		}
		at += i + 1
		if at < len(trimmed) && (trimmed[at] == ' ' || trimmed[at] == '\t') {
			return trimmed[:at], trimmed[at+1:], true
		}
	}
	if i := bytes.IndexByte(trimmed, ' '); i > eq {
		return trimmed[:i], trimmed[i+1:], true
	}
	return nil, nil, false
}

// parseFacts stores the facts of RFC 3659 section 7.5 and the usual others. skip is true for the directory
// itself and its parent. An error is a fact whose value makes no sense; the others are stored.
//
//	UNIX.mode, UNIX.owner, UNIX.group (ids: ProFTPD), UNIX.uid, UNIX.gid (Pure-FTPd, pyftpdlib),
//	UNIX.ownername, UNIX.groupname (ProFTPD; they are the login user's, whoever owns the file)
//	sizd: size of a directory (Pure-FTPd); perms: perm (FileZilla Server)
func (p *listParser) parseFacts(e *Entry, facts []byte) (skip bool, err error) {
	var owner, group, ownerName, groupName []byte
	uid, gid := int32(-1), int32(-1)
	for len(facts) > 0 {
		fact := facts
		if i := bytes.IndexByte(facts, ';'); i >= 0 {
			fact, facts = facts[:i], facts[i+1:]
		} else {
			facts = nil
		}
		i := bytes.IndexByte(fact, '=')
		if i < 0 {
			continue
		}
		value := fact[i+1:]
		var buf [24]byte
		switch string(lowerInto(buf[:], bytes.TrimLeft(fact[:i], " "))) {
		case "type":
			skip = e.setTypeFact(value) || skip
		case "size", "sizd":
			n, ok := parseInt(value)
			if !ok {
				err = fmt.Errorf("fact %q is no size", fact)
				continue
			}
			e.Size = n
		case "modify":
			t, precision, ok := factTime(value)
			if !ok {
				err = fmt.Errorf("fact %q is no time", fact)
				continue
			}
			e.ModTime, e.ModPrecision = t, precision
		case "perm", "perms":
			e.Perm = p.intern(lowerInto(buf[:], value))
		case "unique":
			e.Unique = string(value)
		case "unix.mode":
			digits := bytes.TrimPrefix(value, []byte("0o")) // pyftpdlib 1.5.7 under Python 3
			mode, perr := strconv.ParseUint(string(digits), 8, 32)
			if perr != nil {
				err = fmt.Errorf("fact %q is no octal mode", fact)
				continue
			}
			e.Mode, e.HasMode = uint16(mode&07777), true
		case "unix.owner":
			owner = value
		case "unix.group":
			group = value
		case "unix.uid":
			uid = parseID(value)
		case "unix.gid":
			gid = parseID(value)
		case "unix.ownername":
			ownerName = value
		case "unix.groupname":
			groupName = value
		}
	}
	p.setOwner(e, owner, group)
	if uid >= 0 {
		e.UID = uid
	}
	if gid >= 0 {
		e.GID = gid
	}
	if len(ownerName) > 0 {
		e.Owner = p.intern(ownerName)
	}
	if len(groupName) > 0 {
		e.Group = p.intern(groupName)
	}
	return skip, err
}

// setTypeFact stores the type fact (RFC 3659 section 7.5.1) with the OS-dependent types in use. It
// reports cdir and pdir. A type that says only that it is none of the known ones is Other (Pure-FTPd:
// type=unknown for devices and fifos).
func (e *Entry) setTypeFact(value []byte) (self bool) {
	target := []byte(nil)
	kind := value
	if i := bytes.IndexByte(value, ':'); i >= 0 {
		kind, target = value[:i], value[i+1:]
	}
	var buf [24]byte
	switch string(lowerInto(buf[:], kind)) {
	case "file", "os.unix=file":
		e.Type = File
	case "dir", "os.unix=dir":
		e.Type = Dir
	case "cdir", "pdir":
		return true
	case "os.unix=slink", "os.unix=symlink", "os.unix=link", "os.unix=lnk", "link", "symlink", "slink":
		e.Type = Symlink
		e.Target = string(target)
	case "unknown", "special", "device", "fifo", "pipe", "socket", "os.unix=unknown", "os.unix=blkdev", "os.unix=chrdev",
		"os.unix=blk", "os.unix=chr", "os.unix=device", "os.unix=fifo", "os.unix=pipe", "os.unix=socket", "os.unix=sock":
		e.Type = Other
	default:
		if bytes.HasPrefix(lowerInto(buf[:], kind), []byte("os.unix=chr-")) || bytes.HasPrefix(lowerInto(buf[:], kind), []byte("os.unix=blk-")) {
			e.Type = Other // device numbers
		}
	}
	return false
}

// lowerInto lowers ASCII letters of b in buf, without allocating; what is longer than buf comes back as
// it is and matches nothing.
func lowerInto(buf, b []byte) []byte {
	if len(b) > len(buf) {
		return b
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	return buf[:len(b)]
}

// factTime reads the time-val of RFC 3659 section 2.3: YYYYMMDDHHMMSS with an optional fraction, UTC. Old
// servers print the year 20xx as 19100 and on ("19" and the years since 1900).
func factTime(text []byte) (t time.Time, precision time.Duration, ok bool) {
	n := leadingDigits(text)
	frac := text[n:]
	text = text[:n]
	var s stamp
	switch {
	case n == 14:
		s.year, _ = parseSmall(text[:4])
		text = text[4:]
	case n == 15 && text[0] == '1' && text[1] == '9':
		years, _ := parseSmall(text[2:5])
		s.year = 1900 + years
		text = text[5:]
	default:
		return t, 0, false
	}
	for i, part := range [...]*int{&s.month, &s.day, &s.hour, &s.min, &s.sec} {
		*part, _ = parseSmall(text[2*i : 2*i+2])
	}
	precision = time.Second
	if len(frac) > 1 && frac[0] == '.' && isDigits(frac[1:]) {
		s.nsec = fraction(frac[1:])
		for i := min(len(frac)-1, 9); i > 0; i-- {
			precision /= 10
		}
	} else if len(frac) > 0 && string(frac) != "." && string(frac) != "Z" {
		return t, 0, false
	}
	if s.year == 0 || !validStamp(s) {
		return t, 0, false
	}
	return time.Date(s.year, time.Month(s.month), s.day, s.hour, s.min, s.sec, s.nsec, time.UTC), precision, true
}

// parseMDTM reads the text of a 213 reply to MDTM (RFC 3659 section 3.1), in UTC.
func parseMDTM(text string) (time.Time, error) {
	t, _, ok := factTime([]byte(strings.TrimSpace(text)))
	if !ok {
		return time.Time{}, fmt.Errorf("time %q is not YYYYMMDDHHMMSS", clip([]byte(text)))
	}
	return t, nil
}

// parseMLSTReply reads the middle line of a reply to MLST: the entry, named by the last component, and
// the path as the server prints it. The entry of the root, of "." and of "..", has the name "", the
// only place where one does. The type is Dir for cdir and pdir.
func parseMLSTReply(line string) (Entry, string, error) {
	e := Entry{Size: -1, UID: -1, GID: -1}
	text := []byte(strings.TrimRight(line, "\r\n"))
	if len(text) > maxListLine {
		return Entry{}, "", &listLineError{line: clip(text), why: "longer than 64 KiB"}
	}
	facts, path, ok := splitFacts(text)
	if !ok || len(path) == 0 {
		return Entry{}, "", &listLineError{line: clip(text), why: "no facts and path of MLST"}
	}
	p := listParser{format: formatMLSD}
	self, err := p.parseFacts(&e, facts)
	if self {
		e.Type = Dir
	}
	if nerr := setName(&e, path); nerr != nil && bytes.IndexByte(path, 0) >= 0 {
		return Entry{}, "", nerr
	}
	if err != nil {
		return e, string(path), warnLine(text, err.Error())
	}
	return e, string(path), nil
}
