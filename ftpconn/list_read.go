package ftpconn

import (
	"bytes"
	"errors"
	"io"
)

// readFrom reads a whole listing and calls add for each entry, in the server's order as far as the
// dialect allows, and warn for each line that could not be read or not wholly. It returns r's
// error, if that is not io.EOF; add and warn have been called for what came before it. Memory: a buffer of
// at most two lines of the longest kind.
//
// In a listing with CR-LF ends, a bare LF belongs to a name (vsftpd, ProFTPD, pyftpdlib), unless what
// follows it is the beginning of a line. In a listing with LF ends a name with an LF is cut there (ls).
func (p *listParser) readFrom(r io.Reader, add func(Entry), warn func(error)) error {
	l := lineReader{r: r, max: maxListLine}
	var pending []byte // a line that ended in a bare LF within a CR-LF listing
	joining := false
	line := func(b []byte) {
		e, ok, err := p.parse(b)
		if err != nil && warn != nil {
			warn(err)
		}
		if ok {
			add(e)
		}
	}
	flush := func() {
		if joining {
			line(pending)
			joining = false
		}
	}
	for {
		b, bare, err := l.next()
		if err == errLongLine {
			flush()
			if warn != nil {
				warn(&listLineError{line: clip(b), why: "longer than 64 KiB"})
			}
			continue
		}
		if err != nil {
			flush()
			more, errs := p.close()
			for _, w := range errs {
				if warn != nil {
					warn(w)
				}
			}
			for _, e := range more {
				add(e)
			}
			if err == io.EOF {
				return nil
			}
			return err
		}
		if joining && !p.beginsLine(b) && len(pending)+1+len(b) <= maxListLine {
			pending = append(append(pending, '\n'), b...)
			if !bare {
				flush()
			}
			continue
		}
		flush()
		if bare {
			pending, joining = append(pending[:0], b...), true
			continue
		}
		line(b)
	}
}

// beginsLine says whether b, behind a bare LF, is a line of its own rather than the rest of a name.
func (p *listParser) beginsLine(b []byte) bool {
	switch p.format {
	case formatMLSD:
		facts, _, ok := splitFacts(b)
		return ok && facts != nil
	case formatNLST:
		return false
	}
	var e Entry
	p.fields.split(b)
	if p.fields.n == 0 {
		return false
	}
	if _, _, ok := unixMode(&p.fields, &e); ok || isTotal(&p.fields, p.seen == 0) {
		return true
	}
	var s stamp
	return dosDate(p.fields.at(0), &s) && isClockLike(p.fields.at(1)) || p.statCode != "" && bytes.HasPrefix(b, []byte(p.statCode))
}

var errLongLine = errors.New("line too long")

// lineReader cuts a stream into lines. Whether they end in CR-LF or in LF is the majority's choice, counted
// over what the first read brings and every line after that.
type lineReader struct {
	r    io.Reader
	max  int
	buf  []byte
	a, b int // unread: buf[a:b]
	err  error

	lf, crlf int  // line ends of each kind so far
	ahead    int  // lines not yet returned that are counted
	skipping bool // the rest of a line that was too long
}

// next returns the next line without its end, valid until the call after. bare says that it ended in an
// LF alone where lines end in CR-LF. After the last line it returns the reader's error.
func (l *lineReader) next() (line []byte, bare bool, err error) {
	from := l.a
	for {
		if i := bytes.IndexByte(l.buf[from:l.b], '\n'); i >= 0 {
			if l.undecided(l.buf[l.a:from+i], l.buf[from+i+1:l.b]) {
				l.fill()
				from = l.a
				continue
			}
			line = l.buf[l.a : from+i]
			l.a = from + i + 1
			if l.skipping {
				l.skipping = false
				from = l.a
				continue
			}
			l.count(line)
			return l.trim(line)
		}
		if l.skipping {
			l.a = l.b
		}
		if l.b-l.a > l.max {
			line = l.buf[l.a:l.b]
			l.a, l.skipping = l.b, true
			return line, false, errLongLine
		}
		if l.err != nil {
			line = l.buf[l.a:l.b]
			l.a = l.b
			if len(line) > 0 {
				line, _, _ = l.trim(line)
				return line, false, nil
			}
			return nil, false, l.err
		}
		seen := l.b - l.a
		l.fill()
		from = l.a + seen
	}
}

// undecided says that the first line ends in a bare LF and no second one is there yet to compare.
func (l *lineReader) undecided(first, rest []byte) bool {
	return l.crlf+l.lf == 0 && l.err == nil && len(first)+len(rest) < l.max &&
		!bytes.HasSuffix(first, []byte("\r")) && bytes.IndexByte(rest, '\n') < 0
}

// trim takes off the CR of a CR-LF end.
func (l *lineReader) trim(line []byte) ([]byte, bool, error) {
	if l.crlf < l.lf {
		return line, false, nil
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1], false, nil
	}
	return line, true, nil
}

// count adds the end of line to the sum; the first time, also those of all lines in the buffer.
func (l *lineReader) count(line []byte) {
	if l.ahead > 0 {
		l.ahead--
		return
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		l.crlf++
	} else {
		l.lf++
	}
	if l.crlf+l.lf == 1 {
		rest := l.buf[l.a:l.b]
		l.ahead = bytes.Count(rest, []byte("\n"))
		crlf := bytes.Count(rest, []byte("\r\n"))
		l.crlf += crlf
		l.lf += l.ahead - crlf
	}
}

// fill reads more behind what is unread. The buffer is small for small listings and grows to two lines of
// the longest kind.
func (l *lineReader) fill() {
	switch {
	case l.buf == nil:
		l.buf = make([]byte, 16<<10)
	case l.b == len(l.buf) && l.a == 0:
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	case l.a > 0:
		l.b = copy(l.buf, l.buf[l.a:l.b])
		l.a = 0
	}
	n, err := l.r.Read(l.buf[l.b:])
	l.b += n
	if err != nil {
		l.err = err
	}
}
