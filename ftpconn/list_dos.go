package ftpconn

import (
	"bytes"
	"time"
)

// parseDOS reads what IIS and Windows CE print:
//
//	08-30-12  07:41AM       <DIR>          name
//	2012-08-30  17:41               51,204 name
func (p *listParser) parseDOS(e *Entry) (bool, error) {
	f := &p.fields
	var s stamp
	if f.n < 3 || !dosDate(f.at(0), &s) {
		return false, nil
	}
	if !clockWord(f.at(1), &s) {
		if !isClockLike(f.at(1)) {
			return false, nil
		}
		s = stamp{} // a line of this kind with an impossible time
	}
	i := 2
	if meridiem(f.at(2), &s) {
		i++
	}
	kind := f.at(i)
	var n int64
	switch ok := false; {
	case len(kind) > 2 && kind[0] == '<' && kind[len(kind)-1] == '>':
		e.Type = dosType(kind)
	default:
		if n, ok = parseSize(kind); !ok {
			return false, nil
		}
		e.Type, e.Size = File, n
	}
	name := f.from(i + 1)
	if width := f.b[i] - f.b[i-1]; e.Type == File && width >= 21 {
		name = f.after(i) // IIS: a column of 20 for the size, and one space
	} else if e.Type != File && f.b[i]+10 < len(f.line) && len(bytes.Trim(f.line[f.b[i]:f.b[i]+10], " ")) == 0 {
		name = f.line[f.b[i]+10:] // IIS: ten spaces
	}
	if e.Type != File && string(kind) != "<DIR>" {
		var target string
		if name, target = dosTarget(name); e.Type == Symlink {
			e.Target = target
		}
	}
	if err := setName(e, name); err != nil {
		return true, err
	}
	if !validStamp(s) {
		return true, warnLine(f.line, "a date that can't be read")
	}
	p.setTime(e, s)
	return true, nil
}

func dosType(kind []byte) Type {
	switch string(bytes.ToUpper(kind)) {
	case "<DIR>", "<JUNCTION>", "<SYMLINKD>":
		return Dir // a junction lists as the directory that it points to
	case "<SYMLINK>":
		return Symlink
	}
	return Unknown
}

// dosTarget takes apart "name [C:\target]".
func dosTarget(name []byte) ([]byte, string) {
	if i := bytes.LastIndex(name, []byte(" [")); i > 0 && name[len(name)-1] == ']' {
		return name[:i], string(name[i+2 : len(name)-1])
	}
	return name, ""
}

// dosDate reads MM-DD-YY, MM-DD-YYYY, YYYY-MM-DD, and DD.MM.YYYY; a first number above 12 is a day. False
// if w is no date by its shape; impossible numbers leave a stamp that isn't valid.
func dosDate(w []byte, s *stamp) bool {
	n, count, width := joinedNumbers(w)
	if count != 3 {
		return false
	}
	switch {
	case width[0] == 4:
		s.year, s.month, s.day = n[0], n[1], n[2]
		return width[1] <= 2 && width[2] <= 2
	case width[0] > 2 || width[1] > 2 || width[2] < 2:
		return false
	}
	s.month, s.day, s.year = n[0], n[1], shortYear(n[2], width[2])
	if s.month > 12 || w[width[0]] == '.' && s.day <= 12 {
		s.month, s.day = s.day, s.month
	}
	return true
}

// isClockLike recognises the shape of a time, possible or not.
func isClockLike(w []byte) bool {
	i := bytes.IndexByte(w, ':')
	return i > 0 && i < 3 && isDigits(w[:i]) && i+1 < len(w) && isDigit(w[i+1])
}

// parseSizeFirst reads the formats that begin with the size:
//
//	0 DIR  A    06-24-108  22:38  name                 OS/2
//	91407   Mar 17, 2011 08:52 name                    VShell (directories end in '/')
//	512     Jul-09-2007  14:31:46   name <DIR>         VxWorks
func (p *listParser) parseSizeFirst(e *Entry) (bool, error) {
	f := &p.fields
	size, ok := parseInt(f.at(0))
	if !ok || f.n < 4 {
		return false, nil
	}
	if ok, err := p.parseVxWorks(e, size); ok {
		return true, err
	}
	if ok, err := p.parseVShell(e, size); ok {
		return true, err
	}
	i, dir := 1, false
	for ; i < 5 && isUpperWord(f.at(i)); i++ {
		dir = dir || string(f.at(i)) == "DIR"
	}
	var s stamp
	if w := f.at(i); len(w) < 6 || !dosDate(w, &s) || !isClockLike(f.at(i+1)) {
		return false, nil
	}
	clock := clockWord(f.at(i+1), &s)
	e.Type, e.Size = File, size
	if dir {
		e.Type = Dir
	}
	name := f.after(i + 1)
	if len(name) > 1 && name[0] == ' ' {
		name = name[1:] // the column is two spaces away
	}
	if err := setName(e, name); err != nil {
		return true, err
	}
	if !clock || !validStamp(s) {
		return true, warnLine(f.line, "a date that can't be read")
	}
	p.setTime(e, s)
	return true, nil
}

func (p *listParser) parseVxWorks(e *Entry, size int64) (bool, error) {
	f := &p.fields
	w := f.at(1)
	if len(w) != 11 || w[3] != '-' || w[6] != '-' {
		return false, nil
	}
	var s stamp
	s.month = englishMonth(w[:3])
	s.day, _ = parseSmall(w[4:6])
	s.year, _ = parseSmall(w[7:])
	if !clockWord(f.at(2), &s) || !validStamp(s) {
		return false, nil
	}
	name := f.from(3)
	e.Type, e.Size = File, size
	if i := bytes.LastIndex(name, []byte("<DIR>")); i > 0 {
		e.Type = Dir
		name = bytes.TrimRight(name[:i], " ")
	}
	p.setTime(e, s)
	return true, setName(e, name)
}

func (p *listParser) parseVShell(e *Entry, size int64) (bool, error) {
	f := &p.fields
	day, ok := dayWord(f.at(2))
	year, ok2 := yearWord(f.at(3))
	if !ok || !ok2 {
		return false, nil
	}
	s := stamp{year: year, month: p.monthWord(f.at(1)), day: day}
	if !clockWord(f.at(4), &s) || !validStamp(s) {
		return false, nil
	}
	name := f.after(4)
	e.Type, e.Size = File, size
	if len(name) > 0 && name[len(name)-1] == '/' {
		e.Type = Dir
	}
	p.setTime(e, s)
	return true, setName(e, name)
}

// parseUnixNumeric reads the format of servers that print numbers alone: mode, ids, size, and the time in
// seconds since 1970:
//
//	0100640   640  230   70144    1187654321      name
func (p *listParser) parseUnixNumeric(e *Entry) (bool, error) {
	f := &p.fields
	if w := f.at(0); f.n < 6 || len(w) < 5 || len(w) > 7 || !isDigits(w) || leadingDigits(f.at(4)) < 8 {
		return false, nil
	}
	mode := 0
	for _, c := range f.at(0) {
		if c > '7' {
			return false, nil
		}
		mode = mode<<3 | int(c-'0')
	}
	size, ok1 := parseInt(f.at(3))
	seconds, ok2 := parseInt(f.at(4))
	if !ok1 || !ok2 || !isDigits(f.at(1)) || !isDigits(f.at(2)) || seconds > 1<<37 {
		return false, nil
	}
	switch mode >> 12 {
	case 010:
		e.Type = File
	case 004:
		e.Type = Dir
	case 012:
		e.Type = Symlink
	case 001, 002, 006, 014:
		e.Type = Other
	default:
		return false, nil
	}
	e.Mode, e.HasMode, e.Size = uint16(mode&07777), true, size
	p.setOwner(e, f.at(1), f.at(2))
	e.ModTime, e.ModPrecision = time.Unix(seconds, 0).UTC(), time.Second
	return true, setName(e, f.from(5))
}
