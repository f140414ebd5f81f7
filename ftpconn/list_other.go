package ftpconn

import (
	"bytes"
	"time"
)

// parseEPLF reads Bernstein's Easily Parsed LIST Format: "+" facts TAB name, times in seconds since 1970.
//
//	+i77.4012,m1187654321,r,s7014,up640<TAB>name
func (p *listParser) parseEPLF(e *Entry) (bool, error) {
	line := p.fields.line
	if line[0] != '+' {
		return false, nil
	}
	facts, name, ok := bytes.Cut(line[1:], []byte("\t"))
	if !ok {
		if facts, name, ok = bytes.Cut(line[1:], []byte(", ")); !ok {
			return false, nil
		}
	}
	for _, fact := range bytes.Split(facts, []byte(",")) {
		if len(fact) == 0 {
			continue
		}
		n, number := parseInt(fact[1:])
		switch fact[0] {
		case '/':
			e.Type = Dir
		case 'r':
			if e.Type == Unknown {
				e.Type = File
			}
		case 's':
			if number {
				e.Size = n
			}
		case 'm':
			if number && n < 1<<37 {
				e.ModTime, e.ModPrecision = time.Unix(n, 0).UTC(), time.Second
			}
		case 'i':
			e.Unique = string(fact[1:])
		case 'u':
			if len(fact) > 2 && fact[1] == 'p' {
				mode, ok := parseOctal(fact[2:])
				e.Mode, e.HasMode = mode, ok
			}
		}
	}
	return true, setName(e, name)
}

func parseOctal(b []byte) (mode uint16, ok bool) {
	for _, c := range b {
		if c < '0' || c > '7' || mode > 07777 {
			return 0, false
		}
		mode = mode<<3 | uint16(c-'0')
	}
	return mode & 07777, len(b) > 0
}

// parseOS400 reads the native format of OS/400; the order of the date's numbers is the job's.
//
//	OPER            53248 08/30/12 07:41:26 *DIR       name/
//	OPER                                    *MEM       FILE.MEMBER
func (p *listParser) parseOS400(e *Entry) (bool, error) {
	f := &p.fields
	i := 1
	for i < f.n && i < 5 && f.at(i)[0] != '*' {
		i++
	}
	kind := f.at(i)
	if f.n < 3 || len(kind) < 4 || kind[0] != '*' || !isUpperWord(kind[1:]) || i != 1 && i != 4 {
		return false, nil
	}
	if i == 4 {
		size, ok := parseInt(f.at(1))
		s, ok2 := p.slashDate(f.at(2))
		if !ok || !ok2 || !clockWord(f.at(3), &s) {
			return false, nil
		}
		e.Size = size
		p.setTime(e, s)
	}
	e.Type = File
	switch string(kind) {
	case "*DIR", "*DDIR", "*FLR", "*LIB":
		e.Type = Dir
	case "*SYMLNK":
		e.Type = Symlink
	}
	p.setOwner(e, f.at(0), nil)
	return true, setName(e, f.from(i+1))
}

// slashDate reads a date of three numbers whose order isn't known: month first, day first, or year first
// where the numbers allow it and the day has come; dots mean day first.
func (p *listParser) slashDate(w []byte) (stamp, bool) {
	n, count, width := joinedNumbers(w)
	if count != 3 {
		return stamp{}, false
	}
	mdy := stamp{month: n[0], day: n[1], year: shortYear(n[2], width[2])}
	dmy := stamp{day: n[0], month: n[1], year: shortYear(n[2], width[2])}
	ymd := stamp{year: shortYear(n[0], width[0]), month: n[1], day: n[2]}
	order := [...]stamp{mdy, dmy, ymd}
	if bytes.IndexByte(w, '.') >= 0 {
		order = [...]stamp{dmy, mdy, ymd}
	}
	var found stamp
	for _, s := range order {
		if !validStamp(s) {
			continue
		}
		s.precision = dayPrecision
		if !p.resolve(s).After(p.limit) {
			return s, true
		}
		if found.precision == 0 {
			found = s
		}
	}
	return found, found.precision != 0
}

// parseOS9 reads Microware OS-9: owner, yy/mm/dd, hhmm, attributes, sector, size, name. The time, printed
// without a colon and by the clock of the last write, is left alone.
//
//	3.14 12/08/30 0741 d--wr-wr 1F40 7168 name
func (p *listParser) parseOS9(e *Entry) (bool, error) {
	f := &p.fields
	if f.n < 7 || len(f.at(1)) != 8 || len(f.at(2)) != 4 || !isDigits(f.at(2)) || len(f.at(3)) != 8 {
		return false, nil
	}
	for _, c := range f.at(3) {
		if bytes.IndexByte([]byte("dsewr-"), c) < 0 {
			return false, nil
		}
	}
	n, count, width := joinedNumbers(f.at(1))
	size, ok := parseInt(f.at(5))
	s := stamp{year: shortYear(n[0], width[0]), month: n[1], day: n[2], precision: dayPrecision}
	if count != 3 || !ok || !validStamp(s) {
		return false, nil
	}
	e.Type, e.Size = File, size
	if f.at(3)[0] == 'd' {
		e.Type = Dir
	}
	p.setTime(e, s)
	p.setOwner(e, f.at(0), nil)
	return true, setName(e, f.from(6))
}

// parseNortel reads the wfFtp of Nortel routers: name, size, date, weekday, time.
//
//	name        730112  08/30/12  Thur.   07:41:26
func (p *listParser) parseNortel(e *Entry) (bool, error) {
	f := &p.fields
	if f.n != 5 || len(f.at(3)) < 3 || !isLetter(f.at(3)[0]) {
		return false, nil
	}
	size, ok := parseInt(f.at(1))
	s, ok2 := p.slashDate(f.at(2))
	if !ok || !ok2 || !clockWord(f.at(4), &s) {
		return false, nil
	}
	e.Type, e.Size = File, size
	p.setTime(e, s)
	return true, setName(e, f.at(0))
}

// parseNonStop reads Tandem's Guardian files: name, code, size, date, time, owner, security.
//
//	File         Code             EOF  Last Modification    Owner  RWEP
//	name           800            7014 30-Aug-12 07:41:26  12, 34 "nunu"
func (p *listParser) parseNonStop(e *Entry) (bool, error) {
	f := &p.fields
	if string(f.at(0)) == "File" && string(f.at(1)) == "Code" && string(f.at(2)) == "EOF" {
		return true, errSkip
	}
	if f.n < 7 || f.at(f.n - 1)[0] != '"' || !isDigit(f.at(1)[0]) {
		return false, nil
	}
	size, ok := parseInt(f.at(2))
	w := f.at(3)
	d := leadingDigits(w)
	if !ok || d == 0 || d > 2 || len(w) < d+7 || w[d] != '-' || w[d+4] != '-' {
		return false, nil
	}
	s := stamp{month: englishMonth(w[d+1 : d+4])}
	s.day, _ = parseSmall(w[:d])
	year, ok := parseSmall(w[d+5:])
	s.year = shortYear(year, len(w)-d-5)
	if !ok || !clockWord(f.at(4), &s) || !validStamp(s) {
		return false, nil
	}
	owner := f.line[f.a[5]:f.b[f.n-2]] // group,user
	p.setOwner(e, bytes.ReplaceAll(owner, []byte(" "), nil), nil)
	e.Type, e.Size = File, size
	p.setTime(e, s)
	return true, setName(e, f.at(0))
}

// parseDLS reads the format of ls -dls on old servers: name in the first column, size, a description.
// Names as long as the column have the rest on the next line; see parseSecondLine.
//
//	HISTORY            4102  Changes by release
//	old/                  -
//	a-name-beyond-its-column.txt
//	                  40127
func (p *listParser) parseDLS(e *Entry) (bool, error) {
	f := &p.fields
	if f.n < 2 || f.a[0] != 0 || f.a[1]-f.b[0] < 2 && f.b[1] != dlsColumn || p.dialect != dialectNone && p.dialect != dialectOther {
		return false, nil
	}
	return p.parseDLSFacts(e, f.at(0), 1)
}

const dlsColumn = 23 // where the size ends

// parseDLSFacts reads size and target from word i on, as those of the file called name.
func (p *listParser) parseDLSFacts(e *Entry, name []byte, i int) (bool, error) {
	f := &p.fields
	w := f.at(i)
	if n, ok := parseInt(w); ok {
		e.Size = n
	} else if string(w) != "-" && string(w) != "=" {
		return false, nil
	}
	e.Type = File
	switch {
	case string(f.at(i+1)) == "->" && f.n > i+2:
		e.Type = Symlink
		e.Target = string(f.from(i + 2))
	case name[len(name)-1] == '/':
		e.Type = Dir
	}
	return true, setName(e, name)
}
