package ftpconn

import (
	"bytes"
	"strings"
	"time"
)

// VMS servers (MultiNet, UCX, TCPware, CMU) print DIRECTORY's columns behind the name, in several orders,
// and on the next line where the name is long:
//
//	Directory DUA0:[PUBLIC.TOOLS]
//	BUILD.COM;4                 6  30-AUG-2012 07:41 [GROUP,OWNER] (RWED,RWD,R,)
//	A-RATHER-LONG-NAME.TXT;17
//	                          9/12  30-AUG-2012 07:41:26  [STAFF,ANN]      (RWED,RWD,R,)
//	Total of 5 blocks in 2 files.

// vmsFiles holds the entries of a VMS listing: of several versions of a file the newest counts,
// which is what a name without a version means to the server.
type vmsFiles struct {
	files   []Entry
	version []int64
	byName  map[string]int
}

func (v *vmsFiles) add(e Entry, version int64) {
	i, ok := v.byName[e.Name]
	switch {
	case ok && version < v.version[i]:
	case ok:
		v.files[i], v.version[i] = e, version
	default:
		if v.byName == nil {
			v.byName = make(map[string]int)
		}
		v.byName[e.Name] = len(v.files)
		v.files = append(v.files, e)
		v.version = append(v.version, version)
	}
}

func (v *vmsFiles) take() []Entry {
	files := v.files
	*v = vmsFiles{}
	return files
}

// parseVMS takes a line that begins with a file name, or a heading.
func (p *listParser) parseVMS(e *Entry) (bool, error) {
	f := &p.fields
	first := f.at(0)
	if bytes.EqualFold(first, []byte("directory")) && bytes.IndexByte(f.line, '[') > 0 {
		return true, errSkip
	}
	_, version, ok := vmsVersion(first)
	if f.n == 1 {
		if ok {
			p.pending = string(first)
			return true, errSkip
		}
		return false, nil
	}
	if ok && version == 0 && bytes.HasPrefix(first, []byte("*.*")) && bytes.Contains(f.line, []byte("-FNF")) {
		return true, errSkip // an empty directory: *.*;0 and RMS status FNF
	}
	if matched, err := p.parseVMSFacts(e, first, 1); matched {
		return true, err
	}
	if rest := f.from(1); ok && (rest[0] == '%' || rest[0] == '<' || isLetter(rest[0])) {
		// A file that the server may not look at; it can't be read either.
		return true, badLine(f.line, "an error message of the server")
	}
	return false, nil
}

// vmsVersion takes the version off NAME.TYPE;5.
func vmsVersion(name []byte) (base []byte, version int64, ok bool) {
	i := bytes.LastIndexByte(name, ';')
	if i <= 0 {
		return name, 0, false
	}
	version, ok = parseInt(name[i+1:])
	return name[:i], version, ok
}

// parseVMSFacts reads the columns from word i on, in whatever order they are, as those of the file called
// name. It matches when there is a date and nothing that is no such column.
func (p *listParser) parseVMSFacts(e *Entry, name []byte, i int) (bool, error) {
	f := &p.fields
	var s stamp
	for ; i < f.n; i++ {
		w := f.at(i)
		switch {
		case w[0] == '[':
			rest := f.line[f.a[i]+1:]
			end := bytes.IndexAny(rest, "](") // the bracket may be cut off by a narrow column
			if end < 0 {
				end = len(rest)
			}
			p.setVMSOwner(e, bytes.TrimRight(rest[:end], " "))
			i = f.upTo(i, f.a[i]+1+end)
		case w[0] == '(':
			rest := f.line[f.a[i]+1:]
			end := bytes.IndexByte(rest, ')')
			if end < 0 {
				return false, nil
			}
			e.Mode, e.HasMode = vmsMode(rest[:end])
			i = f.upTo(i, f.a[i]+1+end)
		case s.month == 0 && p.vmsDate(w, &s):
			if clockWord(f.at(i+1), &s) {
				i++
			}
			if s.precision == time.Second {
				s.nsec = 0 // hundredths, which other columns of VMS leave out
			}
		case isDigit(w[0]):
			blocks, _, _ := bytes.Cut(w, []byte("/")) // used/allocated
			n, ok := parseInt(blocks)
			if !ok || n > 1<<50 {
				return false, nil
			}
			if e.Size < 0 {
				e.Size = n * 512
			}
		case s.month != 0 && e.Owner == "" && isLetter(w[0]):
			p.setOwner(e, w, nil)
		default:
			return false, nil
		}
	}
	if s.month == 0 || !validStamp(s) {
		return false, nil
	}
	p.setTime(e, s)
	return true, p.addVMS(e, name)
}

// upTo returns the word, from i on, within which or behind which the byte at offset lies.
func (f *fields) upTo(i, offset int) int {
	for i+1 < f.n && f.a[i+1] <= offset && (offset >= len(f.line) || f.line[offset] != '(' || f.a[i+1] < offset) {
		i++
	}
	return i
}

// vmsDate reads 30-AUG-2012.
func (p *listParser) vmsDate(w []byte, s *stamp) bool {
	d := leadingDigits(w)
	if d == 0 || d > 2 || len(w) < d+7 || w[d] != '-' {
		return false
	}
	word := w[d+1:]
	dash := bytes.IndexByte(word, '-')
	if dash < 3 || len(word) != dash+5 {
		return false
	}
	year, ok := yearWord(word[dash+1:])
	month := p.monthWord(word[:dash])
	if !ok || month == 0 {
		return false
	}
	s.day, _ = parseSmall(w[:d])
	s.month, s.year, s.precision = month, year, dayPrecision
	return true
}

// setVMSOwner reads GROUP,OWNER or OWNER.
func (p *listParser) setVMSOwner(e *Entry, w []byte) {
	if group, owner, ok := bytes.Cut(w, []byte(",")); ok {
		p.setOwner(e, bytes.TrimLeft(owner, " "), group)
	} else {
		p.setOwner(e, w, nil)
	}
}

// vmsMode makes permission bits of (system,owner,group,world) with R, W, E and D; the system's are left out.
func vmsMode(w []byte) (mode uint16, ok bool) {
	parts := strings.Split(string(w), ",")
	if len(parts) != 4 {
		return 0, false
	}
	for _, part := range parts[1:] {
		mode <<= 3
		if strings.Contains(part, "R") {
			mode |= 4
		}
		if strings.Contains(part, "W") {
			mode |= 2
		}
		if strings.Contains(part, "E") {
			mode |= 1
		}
	}
	return mode, true
}

// addVMS names the entry and keeps it until close. A device and directory in front ([A.DIR]NAME) and
// the version go; NAME.DIR is the directory NAME. A VMS name has a dot, if only a last one: a name
// without is another system's, and its semicolon stays.
func (p *listParser) addVMS(e *Entry, name []byte) error {
	whole := name
	inDir := false
	if i := bytes.LastIndexByte(name, ']'); i >= 0 && bytes.IndexByte(name[:i], '[') >= 0 {
		name, inDir = name[i+1:], true
	}
	base, version, ok := vmsVersion(name)
	if ok && (inDir || bytes.IndexByte(base, '.') >= 0) {
		name = base
	}
	e.Type = File
	if n := len(name) - 4; n > 0 && strings.EqualFold(string(name[n:]), ".dir") {
		e.Type = Dir
		name = name[:n]
	}
	if err := setName(e, name); err != nil {
		if err == errSkip {
			return err
		}
		return badLine(whole, "no name")
	}
	p.vms.add(*e, version)
	e.Name = ""
	return errSkip
}
