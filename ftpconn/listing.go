package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// List lists a directory.
func (cl *Client) List(ctx context.Context, dir string) ([]Entry, error) {
	l, err := cl.list(ctx, dir)
	return l, cl.explain(ctx, opList, dir, "", err)
}

func (cl *Client) list(ctx context.Context, dir string) ([]Entry, error) {
	if err := checkArgument(dir); err != nil {
		return nil, err
	}
	var entries []Entry
	_, err := cl.do(ctx, anew, func(c *Conn) (err error) {
		entries, err = c.list(ctx, cl.site.abs(dir))
		return err
	})
	for i := range entries {
		if e := &entries[i]; e.Type == Symlink {
			e.Target = cl.site.shownTarget(cl.site.abs(dir), e.Target)
		}
	}
	return entries, err
}

func (c *Conn) list(ctx context.Context, dir string) ([]Entry, error) {
	if c.site.has("MLST") {
		entries, err := c.collect(ctx, dir, "MLSD", formatMLSD)
		if err == nil && lacksTarget(entries) {
			if seen, lerr := c.listLs(ctx, dir); lerr == nil {
				entries = mergeLinks(entries, seen)
			}
		}
		return entries, err
	}
	return c.listLs(ctx, dir)
}

// listLs lists with LIST. -a shows hidden files on most servers, is taken for a name by some (FileZilla
// Server: 550, Duet: empty), so it is compared once with the plain form.
func (c *Conn) listLs(ctx context.Context, dir string) ([]Entry, error) {
	s := c.site
	s.mu.Lock()
	how := s.list
	s.mu.Unlock()
	var entries []Entry
	var err error
	switch how {
	case "":
		entries, err = c.chooseLs(ctx, dir)
	case "STAT":
		entries, err = c.collectStat(ctx, dir)
	default:
		entries, err = c.collect(ctx, dir, how, formatLIST)
	}
	if err == nil || errors.Is(err, ErrIncomplete) {
		c.calibrate(ctx, dir, entries)
	}
	return entries, err
}

func (c *Conn) chooseLs(ctx context.Context, dir string) ([]Entry, error) {
	all, err := c.collect(ctx, dir, "LIST -a", formatLIST)
	var re *ReplyError
	refused := errors.As(err, &re)
	if err != nil && !errors.Is(err, ErrIncomplete) && (!refused || strings.HasPrefix(re.Command, "CWD")) {
		return nil, err
	}
	plain, perr := c.collect(ctx, dir, "LIST", formatLIST)
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
		if seen, serr := c.collectStat(ctx, dir); serr == nil && sameEntries(seen, all) {
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
func (c *Conn) collectStat(ctx context.Context, dir string) ([]Entry, error) {
	if !c.site.pipelines() {
		return nil, errors.ErrUnsupported
	}
	lp := c.listLines(formatSTAT)
	l := lister{c: c, dir: dir}
	var lines []string
	if c.cwd != dir {
		c.cwd = ""
		lines = append(lines, "CWD "+dir)
	}
	lines = append(lines, "STAT .")
	calls := newCalls(lines)
	last := calls[len(calls)-1]
	last.onLine = func(line string) {
		e, ok, err := lp.parseLine([]byte(line))
		if err != nil {
			l.warn(err)
		}
		if ok {
			l.add(e)
		}
	}
	if err := c.l.send(calls, lines); err != nil {
		return nil, err
	}
	var refused error
	for i, asked := range calls {
		r, err := c.l.wait(ctx, asked, 0)
		if err != nil {
			c.broken.Store(true)
			return nil, err
		}
		if r.class() >= 4 && refused == nil {
			refused = &ReplyError{Command: lines[i], Code: r.code, Text: r.text(), Kind: classify(r.code, r.text(), argOf(lines[i]))}
		}
		if asked == last && refused == nil && reTruncated.MatchString(r.text()) {
			refused = ErrIncomplete
		}
	}
	if refused != nil && !errors.Is(refused, ErrIncomplete) {
		return nil, refused
	}
	c.cwd = dir
	more, errs := lp.close()
	for _, e := range errs {
		l.warn(e)
	}
	l.entries = append(l.entries, more...)
	return l.result(refused, formatSTAT)
}

// collect runs one listing command and parses what it gives.
func (c *Conn) collect(ctx context.Context, dir, cmd string, format listFormat) ([]Entry, error) {
	p := c.listLines(format)
	l := lister{c: c, dir: dir}
	err := c.listing(ctx, dir, cmd, func(r io.Reader) error { return p.readFrom(r, l.add, l.warn) })
	return l.result(err, format)
}

// lister gathers what a listing gives.
type lister struct {
	c       *Conn
	dir     string
	entries []Entry
	bad     int
	first   error // of the lines that could not be read
}

func (l *lister) add(e Entry) { l.entries = append(l.entries, e) }

// warn logs a line that could not be read wholly, and no more than a few of one listing.
func (l *lister) warn(err error) {
	if l.bad++; l.bad == 1 {
		l.first = err
	}
	if l.bad <= 5 {
		l.c.site.log.Warn("a line of a listing could not be read wholly", "directory", l.dir, "reason", err)
	}
}

// result is the listing once it ended with err. Some servers (inetutils 2.4, netkit) send the reason
// for an empty listing in its place.
func (l *lister) result(err error, format listFormat) ([]Entry, error) {
	if l.bad > 5 {
		l.c.site.log.Warn("more lines of the listing could not be read wholly", "directory", l.dir, "lines", l.bad)
	}
	switch {
	case errors.Is(err, ErrIncomplete):
		err = fmt.Errorf("%w: %s", err, l.dir)
	case err != nil:
		return nil, err
	case len(l.entries) == 0 && (errors.Is(l.first, fs.ErrPermission) || errors.Is(l.first, fs.ErrNotExist)):
		return nil, fmt.Errorf("listing %s: %w", l.dir, l.first)
	}
	if format != formatMLSD {
		l.entries = l.c.inUTC(l.entries)
	}
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
		if e.Type != File || e.ModPrecision != time.Minute || checkArgument(e.Name) != nil {
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
