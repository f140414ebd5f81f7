package ftpconn

import (
	"bytes"
	"time"
)

// stamp is a date as printed: what is 0 in year is not said.
type stamp struct {
	year, month, day, hour, min, sec, nsec int
	precision                              time.Duration // 0: the server says that it doesn't know the time
	zone                                   *time.Location
}

const dayPrecision = 24 * time.Hour

// validStamp checks the parts against the calendar; a year that isn't said may be a leap year.
func validStamp(s stamp) bool {
	if s.month < 1 || s.month > 12 || s.day < 1 || s.hour > 23 || s.min > 59 || s.sec > 60 {
		return false
	}
	year := s.year
	if year == 0 {
		year = 2000
	}
	return s.day <= 28 || s.day <= time.Date(year, time.Month(s.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// resolve makes an instant of a valid stamp. Without a year it is the latest such date not more than
// 24 h after now: ls prints time instead of year for about the last six months, other servers for a
// year, and a clock ahead of ours must not throw a file back by one.
func (p *listParser) resolve(s stamp) time.Time {
	loc := s.zone
	if loc == nil {
		loc = p.loc
	}
	date := func(year int) time.Time {
		return time.Date(year, time.Month(s.month), s.day, s.hour, s.min, s.sec, s.nsec, loc)
	}
	if s.year != 0 {
		return date(s.year).UTC()
	}
	year := p.now.Year()
	if p.limit.Year() > year && s.month == 1 { // New Year's Eve
		year++
	}
	for range 9 { // 29 February: 8 years at most between leap years
		if t := date(year); !t.After(p.limit) && t.Day() == s.day {
			return t.UTC()
		}
		year--
	}
	return time.Time{}
}

// setTime stores the stamp.
func (p *listParser) setTime(e *Entry, s stamp) {
	if s.precision == 0 {
		return
	}
	if t := p.resolve(s); !t.IsZero() {
		e.ModTime, e.ModPrecision = t, s.precision
	}
}

// dateShape is what the words of a date say of the name behind it.
type dateShape struct {
	last int  // the date's last word
	pad  bool // a year that may be padded on its right (AIX)
	free bool // a date without a time, an empty column may follow
}

// dateAt reads the date of a unix line that begins at word i:
//
//	Nov 20 10:15    Nov 14  2023    Jan 19 11:14:07 2038    ls, C locale, and month words of other languages
//	20 Nov 10:15    14. Nov. 2023                           ls in other locales
//	11月 20 10:15   2005년 1월 6일   8<bytes> 17 08:52         ls in East Asia, any encoding
//	2023-11-14 10:15[:33.000 +0100]   14-11-2023 10:15      ls --time-style
//	11-20 10:15     11-20 2023        11 20 10:15           months as numbers
//	??? ?? ?????                                            unknown (FileZilla Server)
func (p *listParser) dateAt(i int) (s stamp, d dateShape, ok bool) {
	f := &p.fields
	w := f.at(i)
	if len(w) == 0 {
		return s, d, false
	}
	switch {
	case w[0] == '?':
		if string(w) == "???" && string(f.at(i+1)) == "??" && string(f.at(i+2)) == "?????" {
			return s, dateShape{last: i + 2}, true
		}
	case !isDigit(w[0]):
		if s.day, ok = dayWord(f.at(i + 1)); !ok || !p.yearOrClock(&s, &d, i+2) {
			return s, d, false
		}
		s.month = p.monthWord(w)
	default:
		return p.numberDateAt(i)
	}
	return s, d, validStamp(s)
}

// numberDateAt is dateAt for dates that begin with a number.
func (p *listParser) numberDateAt(i int) (s stamp, d dateShape, ok bool) {
	f := &p.fields
	w := f.at(i)
	n := leadingDigits(w)
	tail := w[n:]
	switch {
	case len(tail) > 1 && n < 5 && (tail[0] == '-' || tail[0] == '/' || tail[0] == '.') && isDigit(tail[1]):
		return p.joinedDateAt(i)

	case n <= 2 && len(tail) > 0 && tail[0] >= 0x80: // month, day
		s.month, _ = parseSmall(w[:n])
		if s.day, ok = dayWord(f.at(i + 1)); !ok || !p.yearOrClock(&s, &d, i+2) {
			return s, d, false
		}

	case n == 4 && (len(tail) == 0 || tail[0] >= 0x80): // year, month, day
		month, day := f.at(i+1), f.at(i+2)
		m := leadingDigits(month)
		if m == 0 || len(tail) == 0 && len(month) == m {
			return s, d, false
		}
		if _, year := yearWord(f.at(i + 3)); len(tail) == 0 && (year || clockWord(f.at(i+3), &s)) {
			return s, d, false // it is the size, before month, day and time
		}
		s.year, _ = parseSmall(w[:n])
		s.month, _ = parseSmall(month[:m])
		s.day, ok = dayWord(day)
		s.precision, d.last = dayPrecision, i+2
		return s, d, ok && validStamp(s)

	case n <= 2: // day, month; or two numbers and a time
		next := f.at(i + 1)
		if len(next) == 0 {
			return s, d, false
		}
		if isDigit(next[0]) {
			s.month, _ = parseSmall(w)
			s.day, ok = dayWord(next)
			if !ok || len(tail) > 0 || !p.yearOrClock(&s, &d, i+2) || s.year != 0 {
				return s, d, false
			}
			break
		}
		if s.day, ok = dayWord(w); !ok || !p.yearOrClock(&s, &d, i+2) {
			return s, d, false
		}
		s.month = p.monthWord(next)

	default:
		return s, d, false
	}
	return s, d, validStamp(s)
}

// joinedDateAt reads dates whose numbers are joined by '-', '/' or '.'.
func (p *listParser) joinedDateAt(i int) (s stamp, d dateShape, ok bool) {
	f := &p.fields
	n, count, width := joinedNumbers(f.at(i))
	switch {
	case count == 2 && width[0] <= 2 && width[1] <= 2: // month and day
		s.month, s.day = n[0], n[1]
		if !p.yearOrClock(&s, &d, i+1) {
			return s, d, false
		}
		return s, d, validStamp(s)
	case count == 3 && width[0] == 4:
		s.year, s.month, s.day = n[0], n[1], n[2]
	case count == 3 && width[2] == 4:
		s.day, s.month, s.year = n[0], n[1], n[2]
		if s.month > 12 || f.at(i)[width[0]] == '/' && s.day <= 12 {
			s.day, s.month = s.month, s.day
		}
	default:
		return s, d, false
	}
	d.last = i
	if clock := f.at(i + 1); clockWord(clock, &s) {
		d.last++
		s.zone = zoneWord(f.at(i + 2))
		if s.zone != nil {
			d.last++
		}
	} else {
		s.precision, d.free = dayPrecision, true
	}
	return s, d, validStamp(s)
}

// yearOrClock reads the part of a date that is a time or a year: word i, and for ls -T (with seconds)
// the year behind it.
func (p *listParser) yearOrClock(s *stamp, d *dateShape, i int) bool {
	f := &p.fields
	w := f.at(i)
	if len(w) < 3 || !isDigit(w[0]) {
		return false
	}
	d.last = i
	if year, ok := yearWord(w); ok {
		s.year, s.precision = year, dayPrecision
		d.pad = f.a[i]-f.b[i-1] == 1
		return true
	}
	if !clockWord(w, s) {
		return false
	}
	if s.precision == time.Second {
		if year, ok := yearWord(f.at(i + 1)); ok && len(f.at(i+1)) == 4 {
			s.year = year
			d.last++
		}
	}
	return true
}

// dayWord reads a day of the month: 6, 06, 2., 6일 (whatever the encoding).
func dayWord(w []byte) (int, bool) {
	n := leadingDigits(w)
	if n == 0 || n > 2 || n < len(w) && w[n] != '.' && w[n] != ',' && w[n] < 0x80 {
		return 0, false
	}
	day, ok := parseSmall(w[:n])
	return day, ok && day >= 1 && day <= 31
}

// yearWord reads a year: 2003, 2003年 (whatever the encoding).
func yearWord(w []byte) (int, bool) {
	if len(w) < 4 || leadingDigits(w) != 4 || len(w) > 4 && w[4] < 0x80 && w[4] != '.' {
		return 0, false
	}
	year, ok := parseSmall(w[:4])
	return year, ok && year >= 1600
}

// clockWord reads a time of day: 10:15, 0:0, 10:15:33.64, 03:47PM, 03:47p. It sets precision too; s is
// left as it is if w is no time.
func clockWord(w []byte, s *stamp) bool {
	h := leadingDigits(w)
	if h == 0 || h > 2 || h+1 >= len(w) || w[h] != ':' {
		return false
	}
	c := *s
	c.hour, _ = parseSmall(w[:h])
	w = w[h+1:]
	m := leadingDigits(w)
	if m == 0 || m > 2 {
		return false
	}
	c.min, _ = parseSmall(w[:m])
	c.precision = time.Minute
	w = w[m:]
	if len(w) > 1 && w[0] == ':' {
		n := leadingDigits(w[1:])
		if n == 0 || n > 2 {
			return false
		}
		c.sec, _ = parseSmall(w[1 : 1+n])
		c.precision = time.Second
		w = w[1+n:]
		if len(w) > 1 && (w[0] == '.' || w[0] == ',') {
			n := leadingDigits(w[1:])
			c.nsec = fraction(w[1 : 1+n])
			w = w[1+n:]
		}
	}
	if len(w) > 0 && !meridiem(w, &c) || c.hour > 23 || c.min > 59 || c.sec > 60 {
		return false
	}
	*s = c
	return true
}

// meridiem applies AM or PM, A or P.
func meridiem(w []byte, s *stamp) bool {
	if len(w) > 2 || len(w) == 2 && w[1]|0x20 != 'm' || len(w) == 0 || s.hour > 12 || s.hour == 0 {
		return false
	}
	switch w[0] | 0x20 {
	case 'a':
		s.hour %= 12
	case 'p':
		s.hour = s.hour%12 + 12
	default:
		return false
	}
	return true
}

// zoneWord reads +0100.
func zoneWord(w []byte) *time.Location {
	if len(w) != 5 || w[0] != '+' && w[0] != '-' || !isDigits(w[1:]) {
		return nil
	}
	h, _ := parseSmall(w[1:3])
	m, _ := parseSmall(w[3:5])
	offset := (h*60 + m) * 60
	if w[0] == '-' {
		offset = -offset
	}
	return time.FixedZone("", offset)
}

// fraction reads the digits behind a decimal point, as nanoseconds.
func fraction(digits []byte) int {
	n := 0
	for i := range 9 {
		n *= 10
		if i < len(digits) {
			n += int(digits[i] - '0')
		}
	}
	return n
}

func leadingDigits(w []byte) int {
	n := 0
	for n < len(w) && isDigit(w[n]) {
		n++
	}
	return n
}

// joinedNumbers takes a date like 08-30-12 apart: two or three numbers with one separator of '-', '/'
// or '.', their values and widths; count 0 if w is something else.
func joinedNumbers(w []byte) (n [3]int, count int, width [3]int) {
	at := bytes.IndexAny(w, "-/.")
	if at < 0 || len(w) > 10 {
		return n, 0, width
	}
	sep := w[at]
	for count < 3 {
		d := leadingDigits(w)
		v, ok := parseSmall(w[:d])
		if !ok {
			return n, 0, width
		}
		n[count], width[count] = v, d
		count++
		if d == len(w) {
			return n, count, width
		}
		if w[d] != sep {
			return n, 0, width
		}
		w = w[d+1:]
	}
	return n, 0, width
}

// shortYear widens the years of old systems: 99 and 00 to 69, and 100 and later, which count from 1900.
func shortYear(year, width int) int {
	switch {
	case width >= 4:
		return year
	case width == 3 || year >= 70:
		return 1900 + year
	}
	return 2000 + year
}
