package ftpconn

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// List lists a directory.
func (cl *Client) List(ctx context.Context, dir string) ([]Entry, error) {
	l, err := cl.list(ctx, dir, nil)
	return l, cl.explain(ctx, opList, dir, "", err)
}

// ListTo lists a directory and hands the entries on as they come.
func (cl *Client) ListTo(ctx context.Context, dir string, add func([]Entry)) error {
	_, err := cl.list(ctx, dir, add)
	return cl.explain(ctx, opList, dir, "", err)
}

// list returns the entries or, with an add, gives it all of them. What was given can't be taken back: a listing that broke
// behind that isn't begun again.
func (cl *Client) list(ctx context.Context, dir string, add func([]Entry)) ([]Entry, error) {
	if err := checkArgument(dir); err != nil {
		return nil, err
	}
	var entries []Entry
	var broke error
	_, err := cl.do(ctx, anew, func(c *Conn) error {
		l := &lister{c: c, dir: cl.site.abs(dir), out: add, calibrate: func(seen []Entry) { cl.calibrateAside(ctx, dir, seen) }}
		err := c.list(ctx, l)
		if err == nil || errors.Is(err, ErrIncomplete) {
			l.flush()
		}
		if entries = l.entries; l.given && err != nil && ctx.Err() == nil {
			broke, err = err, nil
		}
		return err
	})
	return entries, cmp.Or(broke, err)
}

// calibrateAside finds what LIST's times are ahead of UTC while a listing is running, if there is a session to ask on.
func (cl *Client) calibrateAside(ctx context.Context, dir string, seen []Entry) {
	cl.do(Guess(ctx), anew, func(c *Conn) error {
		c.calibrate(ctx, cl.site.abs(dir), seen)
		return nil
	})
}

func (c *Conn) list(ctx context.Context, l *lister) error {
	if c.site.has("MLST") {
		err := c.collect(ctx, l, "MLSD", formatMLSD)
		if err == nil && lacksTarget(l.entries) {
			seen := &lister{c: c, dir: l.dir}
			if lerr := c.listLs(ctx, seen); lerr == nil {
				l.entries = mergeLinks(l.entries, seen.entries)
			}
		}
		return err
	}
	return c.listLs(ctx, l)
}

// listLs lists with LIST. -a shows hidden files on most servers, is taken for a name by some (FileZilla
// Server: 550, Duet: empty), so it is compared once with the plain form.
func (c *Conn) listLs(ctx context.Context, l *lister) error {
	s := c.site
	s.mu.Lock()
	how := s.list
	s.mu.Unlock()
	var err error
	switch how {
	case "":
		l.entries, err = c.chooseLs(ctx, l.dir)
	case "STAT":
		err = c.collectStat(ctx, l)
	default:
		err = c.collect(ctx, l, how, formatLIST)
	}
	if err == nil || errors.Is(err, ErrIncomplete) {
		c.calibrate(ctx, l.dir, l.entries)
	}
	return err
}

func (c *Conn) chooseLs(ctx context.Context, dir string) ([]Entry, error) {
	all, err := c.collectAll(ctx, dir, "LIST -a")
	var re *ReplyError
	refused := errors.As(err, &re)
	if err != nil && !errors.Is(err, ErrIncomplete) && (!refused || strings.HasPrefix(re.Command, "CWD")) {
		return nil, err
	}
	plain, perr := c.collectAll(ctx, dir, "LIST")
	if perr != nil && !errors.Is(perr, ErrIncomplete) {
		if refused {
			return nil, perr
		}
		return all, err
	}
	if refused || len(all) < len(plain) {
		c.site.update(func(s *site) { s.list = "LIST" })
		return plain, perr
	}
	if len(all) > 0 {
		how := "LIST -a"
		seen := &lister{c: c, dir: dir}
		if serr := c.collectStat(ctx, seen); serr == nil && sameEntries(seen.entries, all) {
			how = "STAT"
		}
		c.site.update(func(s *site) { s.list = how })
	}
	return all, err
}

func sameEntries(a, b []Entry) bool {
	return slices.EqualFunc(a, b, func(x, y Entry) bool {
		return x.Name == y.Name && x.Type == y.Type && x.Size == y.Size && x.ModTime.Equal(y.ModTime) && x.Target == y.Target
	})
}

// collectStat lists over the control connection (RFC 959 section 4.1.3: STAT with a path): one round trip and no
// data connection, where vsftpd 3.0.3 needs two for LIST because it lingers.
// STAT of a single name would take one round trip as well, and tells less: vsftpd shows what a directory has in its place,
// also behind a link, and nothing for what is missing.
func (c *Conn) collectStat(ctx context.Context, l *lister) error {
	if !c.site.pipelines() {
		return errors.ErrUnsupported
	}
	lp := c.listLines(formatSTAT)
	dir := l.dir
	var lines []string
	if c.cwd != dir {
		c.cwd = ""
		lines = append(lines, "CWD "+dir)
	}
	lines = append(lines, "STAT .")
	calls := newCalls(lines)
	last := calls[len(calls)-1]
	elsewhere := false // CWD was refused: the lines are of another directory
	if last != calls[0] {
		calls[0].onFinal = func(r reply) { elsewhere = r.class() >= 4 }
	}
	var taking sync.Mutex // held while a line is taken
	over := false         // lines that come now are for nobody: the caller has given up
	defer func() {
		taking.Lock()
		defer taking.Unlock()
		over = true
	}()
	last.onLine = func(line string) {
		taking.Lock()
		defer taking.Unlock()
		if elsewhere || over {
			return
		}
		e, ok, err := lp.parseLine([]byte(line))
		if err != nil {
			l.warn(err)
		}
		if ok {
			l.add(e)
		}
	}
	if err := c.l.send(calls, lines); err != nil {
		return err
	}
	var refused error
	for i, asked := range calls {
		r, err := c.l.wait(ctx, asked, 0)
		if err != nil {
			c.broken.Store(true)
			return err
		}
		if r.class() >= 4 && refused == nil {
			refused = refusalOf(lines[i], r, argOf(lines[i]))
		}
		if asked == last && refused == nil && reTruncated.MatchString(r.text()) {
			refused = ErrIncomplete
		}
	}
	if refused != nil && !errors.Is(refused, ErrIncomplete) {
		return refused
	}
	c.cwd = dir
	more, errs := lp.close()
	for _, e := range errs {
		l.warn(e)
	}
	for _, e := range more {
		l.add(e)
	}
	return l.result(refused, formatSTAT)
}

// collect runs one listing command and parses what it gives.
func (c *Conn) collect(ctx context.Context, l *lister, cmd string, format listFormat) error {
	p := c.listLines(format)
	l.facts = format == formatMLSD
	err := c.listing(ctx, l.dir, cmd, func(r io.Reader) error { return p.readFrom(r, l.add, l.warn) })
	return l.result(err, format)
}

// collectAll is collect with LIST's lines, nothing of which is handed on.
func (c *Conn) collectAll(ctx context.Context, dir, cmd string) ([]Entry, error) {
	l := &lister{c: c, dir: dir}
	err := c.collect(ctx, l, cmd, formatLIST)
	return l.entries, err
}

// listLines is a parser with the server's clock.
func (c *Conn) listLines(format listFormat) *listParser {
	return newListParser(format, time.Now().UTC().Add(c.zone()), time.UTC)
}

func (c *Conn) zone() time.Duration {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	return c.site.zone
}

// inUTC takes off what LIST's times are ahead, as far as that is known.
func (c *Conn) inUTC(entries []Entry) []Entry {
	if zone := c.zone(); zone != 0 {
		shiftListTimes(entries, -zone)
	}
	return entries
}

// calibrate finds once what LIST's times are ahead of UTC, by the MDTM of one file.
func (c *Conn) calibrate(ctx context.Context, dir string, entries []Entry) {
	s := c.site
	s.mu.Lock()
	known := s.zoneSet
	_, mdtm := s.feat["MDTM"]
	s.mu.Unlock()
	if known || !mdtm {
		return
	}
	for _, e := range entries {
		if !tellsZone(&e) {
			continue
		}
		r, err := c.ask(ctx, "MDTM", joinPath(dir, e.Name))
		if err != nil {
			return
		}
		t, err := s.mdtm(r.text())
		if err != nil {
			return
		}
		zone := e.ModTime.Sub(t.Truncate(time.Minute)).Round(15 * time.Minute)
		if zone.Abs() > 26*time.Hour {
			return
		}
		s.update(func(s *site) { s.zone, s.zoneSet = zone, true })
		shiftListTimes(entries, -zone)
		if zone != 0 {
			s.log.Info("the server lists local times", "ahead of UTC", zone)
		}
		return
	}
}

// tellsZone says that an entry's MDTM would tell the zone of the time that LIST shows.
func tellsZone(e *Entry) bool {
	return e.Type == File && e.ModPrecision == time.Minute && checkArgument(e.Name) == nil
}

func joinPath(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

func lacksTarget(entries []Entry) bool {
	for _, e := range entries {
		if e.Type == Symlink && e.Target == "" {
			return true
		}
	}
	return false
}

// mergeLinks takes from an ls-like listing what facts leave out: targets of links, and dangling
// links, which ProFTPD 1.3.8 omits.
func mergeLinks(entries, seen []Entry) []Entry {
	at := make(map[string]int, len(entries))
	for i, e := range entries {
		at[e.Name] = i
	}
	for _, l := range seen {
		if l.Type != Symlink {
			continue
		}
		if i, ok := at[l.Name]; !ok {
			entries = append(entries, l)
		} else if entries[i].Type == Symlink {
			entries[i].Target = l.Target
		}
	}
	return entries
}
