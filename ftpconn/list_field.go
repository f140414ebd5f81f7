package ftpconn

import "math"

// maxFields is how many words of a line are looked at; a name may go on beyond them.
const maxFields = 24

// fields are the words of a line, as offsets: word i is line[a[i]:b[i]]. Words are parted by spaces
// and tabs.
type fields struct {
	line []byte
	a, b [maxFields]int
	n    int
}

func (f *fields) split(line []byte) {
	f.line, f.n = line, 0
	for i := 0; f.n < maxFields; {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return
		}
		f.a[f.n] = i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		f.b[f.n] = i
		f.n++
	}
}

// at returns word i, nil beyond the last.
func (f *fields) at(i int) []byte {
	if i < 0 || i >= f.n {
		return nil
	}
	return f.line[f.a[i]:f.b[i]]
}

// after returns what follows word i and the one separator behind it.
func (f *fields) after(i int) []byte {
	if f.b[i] >= len(f.line) {
		return nil
	}
	return f.line[f.b[i]+1:]
}

// from returns the line from word i on, nil if there is none.
func (f *fields) from(i int) []byte {
	if i >= f.n {
		return nil
	}
	return f.line[f.a[i]:]
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}

func isUpperWord(b []byte) bool {
	for _, c := range b {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(b) > 0
}

// parseInt reads a decimal number of up to 18 digits, without sign.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseSmall is parseInt for parts of dates: up to four digits.
func parseSmall(b []byte) (int, bool) {
	if len(b) > 4 {
		return 0, false
	}
	n, ok := parseInt(b)
	return int(n), ok
}

// parseID reads a numeric owner; -1 if it is a name.
func parseID(b []byte) int32 {
	if n, ok := parseInt(b); ok && n <= math.MaxInt32 {
		return int32(n)
	}
	return -1
}

// parseSize reads a size column, in bytes: digits, with separators of thousands (IIS), or with a
// unit of 1024 (ls -h). A negative number is the overflow of a 32-bit server: a size, but which is
// not said (-1).
func parseSize(b []byte) (int64, bool) {
	if n, ok := parseInt(b); ok {
		return n, true
	}
	if len(b) < 2 {
		return 0, false
	}
	if b[0] == '-' && isDigits(b[1:]) {
		return -1, true
	}
	if !isDigit(b[0]) {
		return 0, false
	}
	if n, ok := parseThousands(b); ok {
		return n, true
	}
	return parseHumanSize(b)
}

// parseThousands reads 1,234,567 and 1.234.567.
func parseThousands(b []byte) (int64, bool) {
	var n int64
	run, groups := 0, 0
	for i, c := range b {
		switch {
		case isDigit(c) && i < 24 && n < math.MaxInt64/100:
			n = n*10 + int64(c-'0')
			run++
		case (c == ',' || c == '.') && run > 0 && run <= 3 && (groups == 0 || run == 3):
			groups++
			run = 0
		default:
			return 0, false
		}
	}
	return n, groups > 0 && run == 3
}

// parseHumanSize reads 33.5k, 2M, 1.1GiB.
func parseHumanSize(b []byte) (int64, bool) {
	var n, scale float64 = 0, 0
	i := 0
	for ; i < len(b) && (isDigit(b[i]) || (b[i] == '.' || b[i] == ',') && scale == 0); i++ {
		if !isDigit(b[i]) {
			scale = 1
			continue
		}
		n = n*10 + float64(b[i]-'0')
		scale *= 10
	}
	if scale > 1 {
		n /= scale
	}
	unit := b[i:]
	if len(unit) == 0 || len(unit) > 3 {
		return 0, false
	}
	switch unit[0] | 0x20 {
	case 'b':
		return int64(n), len(unit) == 1 && n < 1<<53
	case 'k':
		n *= 1 << 10
	case 'm':
		n *= 1 << 20
	case 'g':
		n *= 1 << 30
	case 't':
		n *= 1 << 40
	case 'p':
		n *= 1 << 50
	default:
		return 0, false
	}
	switch string(unit[1:]) {
	case "", "B", "b", "iB", "i":
		return int64(n), n < 1<<62
	}
	return 0, false
}
