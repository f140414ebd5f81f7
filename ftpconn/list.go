package ftpconn

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// listFormat says which command made a listing.
type listFormat uint8

const (
	formatLIST listFormat = iota // LIST: any dialect, found out line by line
	formatMLSD                   // MLSD: RFC 3659 section 7
	formatNLST                   // NLST: a name a line
	formatSTAT                   // STAT with a path: LIST's lines between the first and last line of a reply
)

func (f listFormat) String() string {
	return [...]string{"LIST", "MLSD", "NLST", "STAT"}[f]
}

// maxListLine bounds a line of a listing, in bytes. PATH_MAX twice and all facts fit with room to spare.
const maxListLine = 64 << 10

// dialect is a family of LIST lines that only one kind of server prints.
type dialect uint8

const (
	dialectNone dialect = iota
	dialectUnix
	dialectDOS
	dialectEPLF
	dialectVMS
	dialectMVS
	dialectOther
)

// listParser makes entries of the lines of one listing. It keeps no lines; what it holds beside
// the words of owners and months are names that wait for their second line and, for VMS, the
// entries themselves, because an older version of a file may be listed before or after a newer.
//
// It is used by one goroutine at a time. It never fails on input: a line that isn't understood
// is an error for that line alone.
type listParser struct {
	format listFormat
	now    time.Time
	loc    *time.Location
	limit  time.Time // dates without a year are not later than this

	fields fields            // of the line in work
	entry  Entry             // the one in work
	names  map[string]string // owners and groups, one string each
	owner  string            // the last owner and group: mostly the next ones too
	group  string
	months map[string]uint8 // month words beyond the English abbreviations

	dialect  dialect // of the last entry
	seen     int     // entries made
	statCode string  // reply code of a STAT reply, from its first line
	pending  string  // a lone word that may be the name of the next line's entry
	words    []string
	vms      vmsFiles
}

// newListParser returns a parser for one listing. now is the server's clock, as far as known: it
// gives dates without a year theirs. loc is the zone of the times in LIST and STAT lines; facts are
// UTC (RFC 3659 section 2.3).
func newListParser(format listFormat, now time.Time, loc *time.Location) *listParser {
	if loc == nil {
		loc = time.UTC
	}
	now = now.In(loc)
	return &listParser{format: format, now: now, loc: loc, limit: now.Add(24 * time.Hour)}
}

// parseLine takes one line without its LF; one CR at its end is no part of it.
//
//	ok, no error: e is complete as far as the line says.
//	ok and error: e has a name, and err says what could not be read. Keep it, warn.
//	not ok, error: the line gives no entry. If it is a message of the server, errors.Is says which
//	  (fs.ErrPermission, fs.ErrNotExist, ...): with no entry at all, that is the answer to the listing.
//	neither: nothing to see (total, ".", "..", blank, header) or an entry that close delivers.
func (p *listParser) parseLine(line []byte) (e Entry, ok bool, err error) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return p.parse(line)
}

// parse is parseLine for a line without any line end.
func (p *listParser) parse(line []byte) (Entry, bool, error) {
	if len(line) > maxListLine {
		return Entry{}, false, &listLineError{line: clip(line), why: "longer than 64 KiB"}
	}
	e := &p.entry
	*e = Entry{Size: -1, UID: -1, GID: -1}
	var err error
	switch p.format {
	case formatMLSD:
		err = p.parseMLSD(e, line)
	case formatNLST:
		err = p.parseNLST(e, line)
	case formatSTAT:
		err = p.parseSTAT(e, line)
	default:
		err = p.parseLIST(e, line)
	}
	switch {
	case err == nil:
		p.seen++
		return *e, true, nil
	case err == errSkip:
		return Entry{}, false, nil
	case e.Name != "":
		p.seen++
		return *e, true, err
	}
	return Entry{}, false, err
}

// close ends the listing and returns what was held back until its end. Each error is of the same kind
// as parseLine's; an entry with a warning is in more, its warning in errs.
func (p *listParser) close() (more []Entry, errs []error) {
	p.flushPending()
	for _, w := range p.words {
		e := Entry{Size: -1, UID: -1, GID: -1}
		switch {
		case p.dialect == dialectMVS: // members without statistics
			e.Type = File
		case p.seen > 0 || len(p.vms.files) > 0: // other dialects never print a lone name
			errs = append(errs, &listLineError{line: w, why: errNoDialect})
			continue
		default:
			errs = append(errs, &listLineError{line: w, why: "a name and nothing else"})
		}
		if err := setName(&e, []byte(w)); err == nil {
			more = append(more, e)
		}
	}
	p.words = nil
	more = append(more, p.vms.take()...)
	p.seen += len(more)
	return more, errs
}

// errSkip is parse's word for a line that gives no entry and no warning.
var errSkip = errors.New("nothing to see")

const errNoDialect = "not a line of any known listing format"

// listLineError is a line that could not be read, wholly or in part.
type listLineError struct {
	line  string // at most 200 bytes of it
	why   string
	noise bool // gives no entry: it may be a message
}

func (e *listLineError) Error() string {
	why := e.why
	if e.Unwrap() != nil {
		why = "an error message of the server"
	}
	return fmt.Sprintf("listing line %q: %s", e.line, why)
}

// Unwrap makes errors.Is work on what a message says: servers that run ls put its error texts among
// the data (inetutils, netkit, wu-ftpd). Nil for an entry's line and for text that says nothing known.
func (e *listLineError) Unwrap() error {
	if !e.noise {
		return nil
	}
	return classify(550, e.line, "")
}

// badLine is the error for a line that is no entry.
func badLine(line []byte, why string) error {
	return &listLineError{line: clip(line), why: why, noise: true}
}

// warnLine is the error for a line whose entry is kept.
func warnLine(line []byte, why string) error {
	return &listLineError{line: clip(line), why: why}
}

func clip(line []byte) string {
	if len(line) > 200 {
		return string(line[:200]) + "..."
	}
	return string(line)
}

// setName gives e its name: the bytes as they are. A path is cut to its last component, since LIST
// and NLST of a path print it as it was given (ProFTPD, Pure-FTPd, inetutils). "." and ".." are
// errSkip; what can't be a name is an error.
func setName(e *Entry, name []byte) error {
	if bytes.IndexByte(name, '/') >= 0 {
		path := name
		for len(name) > 1 && name[len(name)-1] == '/' {
			name = name[:len(name)-1]
		}
		name = name[bytes.LastIndexByte(name, '/')+1:]
		if len(name) == 0 {
			return badLine(path, "no name")
		}
	}
	switch {
	case len(name) == 0:
		return badLine(name, "no name")
	case name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.'):
		return errSkip
	case bytes.IndexByte(name, 0) >= 0:
		return badLine(name, "a NUL in the name")
	}
	e.Name = string(name)
	return nil
}

func (p *listParser) parseNLST(e *Entry, line []byte) error {
	if len(line) == 0 {
		return errSkip
	}
	return setName(e, line)
}

// parseSTAT takes the lines of the reply, with or without its first and last, as RFC 959 section
// 4.2 builds it. The first line's code ends it: 211, 212, 213, or 221 (FileZilla Server).
func (p *listParser) parseSTAT(e *Entry, line []byte) error {
	if len(line) >= 4 && isDigits(line[:3]) && (line[3] == '-' || line[3] == ' ') {
		switch {
		case p.statCode == "":
			p.statCode = string(line[:3])
			return errSkip
		case line[3] == ' ' && (p.statCode == string(line[:3]) || p.statCode == statBody):
			return errSkip
		case p.statCode == string(line[:3]):
			line = line[4:]
		}
	} else if p.statCode == "" {
		p.statCode = statBody
	}
	if len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	return p.parseLIST(e, line)
}

// statBody stands for the code of a reply whose first line the caller has kept for itself.
const statBody = "?"

// parseLIST finds the dialect by the shape of the line. Dialects of other lines of the same listing
// count only where a shape alone would not do.
func (p *listParser) parseLIST(e *Entry, line []byte) error {
	p.fields.split(line)
	f := &p.fields
	if f.n == 0 {
		return errSkip
	}
	if p.pending != "" {
		if d, err := p.parseSecondLine(e); d != dialectNone {
			p.dialect = d
			return err
		}
		p.flushPending()
	}
	if mode, rest, ok := unixMode(f, e); ok {
		p.dialect = dialectUnix
		return p.parseUnix(e, mode, rest)
	}
	if isTotal(f, p.seen == 0) {
		return errSkip
	}
	for _, try := range [...]struct {
		dialect dialect
		parse   func(*listParser, *Entry) (bool, error)
	}{
		{dialectEPLF, (*listParser).parseEPLF},
		{dialectDOS, (*listParser).parseDOS},
		{dialectOther, (*listParser).parseSizeFirst},
		{dialectOther, (*listParser).parseUnixNumeric},
		{dialectOther, (*listParser).parseOS400},
		{dialectOther, (*listParser).parseOS9},
		{dialectOther, (*listParser).parseNortel},
		{dialectOther, (*listParser).parseNonStop},
		{dialectOther, (*listParser).parseCMS},
		{dialectMVS, (*listParser).parseMVS},
		{dialectVMS, (*listParser).parseVMS},
		{dialectOther, (*listParser).parseDLS},
	} {
		if ok, err := try.parse(p, e); ok {
			if err == nil || e.Name != "" || try.dialect == dialectVMS || try.dialect == dialectMVS {
				p.dialect = try.dialect
			}
			return err
		}
	}
	if f.n == 1 && p.dialect != dialectUnix && p.dialect != dialectDOS && p.dialect != dialectEPLF {
		return p.parseWord(e)
	}
	return badLine(line, errNoDialect)
}

// parseWord takes a line of one word: a name whose facts follow on the next line (VMS, dls),
// or a member of a partitioned dataset without statistics (MVS).
func (p *listParser) parseWord(e *Entry) error {
	if p.dialect == dialectMVS {
		e.Type = File
		return setName(e, p.fields.at(0))
	}
	p.pending = string(p.fields.at(0))
	return errSkip
}

// parseSecondLine tries the line as the second one of the entry whose name is pending.
func (p *listParser) parseSecondLine(e *Entry) (dialect, error) {
	name := []byte(p.pending)
	if ok, err := p.parseVMSFacts(e, name, 0); ok {
		p.pending = ""
		return dialectVMS, err
	}
	if p.fields.a[0] > 0 {
		if ok, err := p.parseDLSFacts(e, name, 0); ok {
			p.pending = ""
			return dialectOther, err
		}
	}
	return dialectNone, nil
}

func (p *listParser) flushPending() {
	if p.pending != "" {
		p.words = append(p.words, p.pending)
		p.pending = ""
	}
}

// isTotal recognises the sum that ls, VMS and others print: "total 12", in English "Total of 5
// blocks in 2 files", in any other language one word and one number after one space, in front
// of all entries.
func isTotal(f *fields, front bool) bool {
	first := f.at(0)
	if bytes.EqualFold(first, []byte("total")) {
		return f.n == 1 || f.n == 2 || isDigits(f.at(1)) || bytes.EqualFold(f.at(1), []byte("of"))
	}
	if front && f.n == 2 && f.a[1]-f.b[0] == 1 && !isDigit(first[0]) {
		_, ok := parseSize(f.at(1))
		return ok
	}
	return f.n > 3 && strings.EqualFold(string(first), "grand") && bytes.EqualFold(f.at(1), []byte("total"))
}

// intern returns b as a string, the same one for the same bytes. The table is bounded: a server
// that invents owners gets a string for each.
func (p *listParser) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := p.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if p.names == nil {
		p.names = make(map[string]string)
	}
	if len(p.names) < 4096 {
		p.names[s] = s
	}
	return s
}

// setOwner stores owner and group as printed, and as ids where they are numbers.
func (p *listParser) setOwner(e *Entry, owner, group []byte) {
	if string(owner) != p.owner {
		p.owner = p.intern(owner)
	}
	if string(group) != p.group {
		p.group = p.intern(group)
	}
	e.Owner, e.Group = p.owner, p.group
	e.UID, e.GID = parseID(owner), parseID(group)
}

// shiftListTimes moves the times that were read from LIST and STAT lines, once the offset of their
// clock is known. Times of facts and MDTM, exact to the second and in UTC, stay.
func shiftListTimes(entries []Entry, by time.Duration) {
	for i := range entries {
		if entries[i].ModPrecision > time.Second {
			entries[i].ModTime = entries[i].ModTime.Add(by)
		}
	}
}
