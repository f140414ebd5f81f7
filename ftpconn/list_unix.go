package ftpconn

import "bytes"

// A unix line is what ls -l prints:
//
//	-rw-r--r--   1 owner    group        1024 Nov 20 10:15 name
//	mode [links] [owner [group]] size date name
//
// Columns in brackets are left out by some servers; owner and group may be several words, or run into
// the column beside them. What holds everywhere is the mode in front, a size before the date,
// and one separator between date and name. So the date is looked for from the left, and everything
// else is found from there.

// unixKind says which way the mode is printed.
type unixKind uint8

const (
	unixModeBits   unixKind = iota // drwxr-xr-x
	unixModeOther                  // -C--E-----ASC (Connect:Enterprise)
	unixModeRights                 // d [RWCEAFMS] (NetWare)
	unixModeHell                   // d[RWCEAFMS] (Hellsoft): with a link count
)

// unixMode recognises a unix line by its mode, stores type and permission bits, and returns the
// kind and the first word behind the mode. Inode and block count before the mode (ls -is) are skipped.
func unixMode(f *fields, e *Entry) (kind unixKind, rest int, ok bool) {
	i := 0
	for i < 2 && i < f.n && isDigit(f.line[f.a[i]]) && f.n > i+6 && isDigits(f.at(i)) {
		i++
	}
	w := f.at(i)
	if len(w) == 0 {
		return 0, 0, false
	}
	if next := f.at(i + 1); len(w) == 1 && len(next) > 2 && next[0] == '[' && next[len(next)-1] == ']' {
		return unixModeRights, i + 2, setType(e, w[0])
	}
	if len(w) > 3 && w[1] == '[' && w[len(w)-1] == ']' {
		return unixModeHell, i + 1, setType(e, w[0])
	}
	if len(w) < 10 {
		return 0, 0, false
	}
	if mode, ok := modeBits(w[1:10]); ok && (isLetter(w[0]) || w[0] == '-' || w[0] == '?') {
		setType(e, w[0])
		e.Mode, e.HasMode = mode, true
		tail := w[10:]
		if len(tail) > 0 && (tail[0] == '+' || tail[0] == '.' || tail[0] == '@' || tail[0] == '*') {
			tail = tail[1:] // ACL, SELinux context, extended attributes
		}
		if n, ok := parseInt(tail); ok {
			e.Nlink = uint16(min(n, 1<<16-1))
		} else if len(tail) > 0 {
			return 0, 0, false
		}
		return unixModeBits, i + 1, true
	}
	if w[0] != '-' && w[0] != 'd' && w[0] != 'l' || f.n < i+4 {
		return 0, 0, false
	}
	for _, c := range w[1:] {
		if c != '-' && !isLetter(c) {
			return 0, 0, false
		}
	}
	return unixModeOther, i + 1, w[9] == '-' && setType(e, w[0])
}

// setType stores the type that ls's first letter stands for.
func setType(e *Entry, c byte) bool {
	switch c {
	case '-', 'f', 'C', 'M': // C: contiguous (Masscomp); M: migrated (Cray)
		e.Type = File
	case 'd':
		e.Type = Dir
	case 'l':
		e.Type = Symlink
	case 'b', 'c', 'p', 's', 'D', 'P', 'n', 'w', 'm': // devices, fifo, socket, Solaris doors and event ports, HP-UX network, whiteout
		e.Type = Other
	default:
		e.Type = Unknown
		return isLetter(c) || c == '?'
	}
	return true
}

// modeBits reads rwxr-xr-x with the letters for set-id and sticky; l and L are Solaris' mandatory
// locking, which is the set-gid bit without execution.
func modeBits(w []byte) (mode uint16, ok bool) {
	for i, c := range w[:9] {
		bit := uint16(1) << (8 - i)
		special := uint16(04000) >> (i / 3)
		switch {
		case c == '-':
		case c == "rwx"[i%3]:
			mode |= bit
		case i%3 == 2 && (i < 8 && c == 's' || i == 8 && c == 't'):
			mode |= bit | special
		case i%3 == 2 && (i < 8 && c == 'S' || i == 8 && c == 'T') || i == 5 && c|0x20 == 'l':
			mode |= special
		default:
			return 0, false
		}
	}
	return mode, true
}

// parseUnix reads the rest of a line whose mode has been read.
func (p *listParser) parseUnix(e *Entry, kind unixKind, first int) error {
	f := &p.fields
	for i := first + 1; i+1 < f.n; i++ {
		s, d, ok := p.dateAt(i)
		if !ok {
			continue
		}
		size := i - 1
		if size > first && isWeekday(f.at(size)) {
			size--
		}
		group, n, ok := sizeColumn(f.at(size), e.Type)
		if !ok {
			continue
		}
		e.Size = n
		p.setTime(e, s)
		p.unixOwners(e, kind, first, size, group)
		return p.unixName(e, unixNameAt(f, d, kind))
	}
	return p.parseUnixRough(e, kind, first)
}

// sizeColumn reads the word before the date. The group may run into it; a device has its numbers
// there ("8,  0", "8,0"), which are no size.
func sizeColumn(w []byte, t Type) (group []byte, size int64, ok bool) {
	if n, ok := parseInt(w); ok {
		return nil, n, true
	}
	if t == Other && isDevice(w) {
		return nil, -1, true
	}
	if n, ok := parseSize(w); ok {
		return nil, n, true
	}
	d := len(w)
	for d > 0 && isDigit(w[d-1]) {
		d--
	}
	if n, ok := parseInt(w[d:]); ok && d > 0 && (isLetter(w[d-1]) || w[d-1] >= 0x80) {
		return w[:d], n, true
	}
	return nil, 0, false
}

// isDevice recognises major,minor, and both in one hexadecimal number (macOS).
func isDevice(w []byte) bool {
	if len(w) > 2 && w[0] == '0' && w[1] == 'x' {
		return true
	}
	comma := bytes.IndexByte(w, ',')
	return comma > 0 && isDigits(w[:comma]) && isDigits(w[comma+1:])
}

func isWeekday(w []byte) bool {
	if len(w) != 3 {
		return false
	}
	switch string(w) {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}

// unixOwners reads the words between mode and size. glued is a group that ran into the size.
func (p *listParser) unixOwners(e *Entry, kind unixKind, first, size int, glued []byte) {
	f := &p.fields
	last := size - 1
	if e.Type == Other && last >= first {
		if w := f.at(last); len(w) > 1 && w[len(w)-1] == ',' && isDigits(w[:len(w)-1]) {
			last-- // device "8,  0"
			e.Size = -1
		}
	}
	if kind == unixModeBits && macColumns(f, first, last, e.Size) {
		if e.Type == Dir {
			e.Size = -1 // the number of things in the folder
		}
		return
	}
	if first <= last && kind != unixModeRights {
		if n, ok := parseInt(f.at(first)); ok && (e.Nlink == 0 || first+1 < last) {
			e.Nlink = uint16(min(n, 1<<16-1))
			first++
		}
	}
	switch words := last - first + 1; {
	case glued != nil && words > 0:
		p.setOwner(e, f.line[f.a[first]:f.b[last]], glued)
	case glued != nil:
		p.setOwner(e, glued, nil)
	case words == 1:
		p.setOwner(e, f.at(first), nil)
	case words == 2:
		p.setOwner(e, f.at(first), f.at(last))
	case words > 2:
		// Several words: columns are padded to more than one space apart where they can be told at all.
		split := first
		for i := first; i < last; i++ {
			if f.a[i+1]-f.b[i] > 1 {
				split = i
				break
			}
		}
		p.setOwner(e, f.line[f.a[first]:f.b[split]], f.line[f.a[split+1]:f.b[last]])
	}
}

// macColumns recognises the columns of NetPresenz, Rumpus and other servers of old Macs: resource
// fork, data fork, and their sum; or the word "folder".
func macColumns(f *fields, first, last int, size int64) bool {
	if first == last {
		return string(f.at(first)) == "folder"
	}
	if last != first+1 || size <= 0 {
		return false
	}
	resource, ok1 := parseInt(f.at(first))
	data, ok2 := parseInt(f.at(last))
	return ok1 && ok2 && resource+data == size
}

// unixNameAt returns the name behind the date. There is one separator, so that further spaces belong
// to the name, but for three columns: AIX pads the year to five on its right, NetWare pads the
// time, and a date without a time may have an empty column behind it.
func unixNameAt(f *fields, d dateShape, kind unixKind) []byte {
	switch {
	case d.free, kind == unixModeRights:
		return f.from(d.last + 1)
	}
	name := f.after(d.last)
	if d.pad && len(name) > 1 && name[0] == ' ' {
		name = name[1:]
	}
	return name
}

// unixName stores the name and, for a link, its target.
func (p *listParser) unixName(e *Entry, name []byte) error {
	if e.Type == Symlink {
		name, e.Target = splitLink(name, e.Size)
	}
	if err := setName(e, name); err != nil {
		if err == errSkip {
			return err
		}
		return badLine(p.fields.line, "no name")
	}
	if e.Type == Unknown {
		return warnLine(p.fields.line, "an unknown type of file")
	}
	return nil
}

// splitLink parts "name -> target". Both may contain the arrow: the size of a link is the length
// of its target in bytes, and that tells; otherwise the first arrow is it.
func splitLink(text []byte, size int64) (name []byte, target string) {
	arrow := []byte(" -> ")
	if i := len(text) - int(min(size, int64(len(text)))) - len(arrow); size > 0 && i > 0 && bytes.HasPrefix(text[i:], arrow) {
		return text[:i], string(text[i+len(arrow):])
	}
	if i := bytes.Index(text, arrow); i > 0 {
		return text[:i], string(text[i+len(arrow):])
	}
	return text, ""
}

// parseUnixRough keeps the name of a line whose date can't be read: behind three words of which one or
// two look like the numbers of a date, else in ls's ninth column.
func (p *listParser) parseUnixRough(e *Entry, kind unixKind, first int) error {
	f := &p.fields
	why := "a date that can't be read"
	for i := first + 1; i+3 < f.n; i++ {
		_, day1 := dayWord(f.at(i))
		_, day2 := dayWord(f.at(i + 1))
		var s stamp
		_, year := yearWord(f.at(i + 2))
		group, n, ok := sizeColumn(f.at(i-1), e.Type)
		if ok && (day1 || day2) && (year || clockWord(f.at(i+2), &s)) {
			e.Size = n
			p.unixOwners(e, kind, first, i-1, group)
			return p.rough(e, f.after(i+2), why)
		}
	}
	if kind == unixModeBits && f.n > first+7 {
		if n, ok := parseInt(f.at(first + 3)); ok {
			e.Size = n
		}
		return p.rough(e, f.after(first+6), why)
	}
	return badLine(f.line, why)
}

func (p *listParser) rough(e *Entry, name []byte, why string) error {
	if err := p.unixName(e, name); err != nil && e.Name == "" {
		return err
	}
	return warnLine(p.fields.line, why)
}
