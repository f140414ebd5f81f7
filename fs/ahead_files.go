package fs

import (
	"cmp"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ftpfs/ftpconn"
)

type fileGuesses struct {
	files  map[string]*guess                 // by path
	bytes  int64                             // of files
	flying int                               // of files, not yet complete
	lanes  int                               // how many at once there were sessions for
	recent *simplelru.LRU[string, time.Time] // when files were last opened
	scans  map[string]*scan                  // by directory
	sweep  *time.Timer                       // drops what nobody opened
}

// guess is a small file that is being fetched whole, or was, before it is opened.
type guess struct {
	s    *stream
	ver  version
	scan *scan
	at   time.Time
}

// scan follows the opens of files in one directory, in the order of the listing and of the names.
type scan struct {
	dir    string
	list   []ftpconn.Entry // as the server gave it
	orders [2][]int32      // positions in list: 0 in listing order, 1 by name; files alone
	places [2]map[string]int
	last   [2]int // place of the last open, -1 at first
	run    [2]int // opens in a row that went forward
	best   int    // the order that fits
	depth  int    // how far to look ahead
	used   int
	missed int
	quiet  time.Time // no guesses before it
	made   time.Time
	at     time.Time
}

// follow makes list the listing that the scan goes over, from where it is.
func (s *scan) follow(list []ftpconn.Entry, now time.Time) {
	var at [2]string // the names of the last opens
	for o, place := range s.last {
		if place >= 0 {
			at[o] = s.list[s.orders[o][place]].Name
		}
	}
	s.list, s.made = list, now
	s.orders[0] = nil
	for i, e := range list {
		if e.Type == ftpconn.File {
			s.orders[0] = append(s.orders[0], int32(i))
		}
	}
	s.orders[1] = slices.Clone(s.orders[0])
	slices.SortFunc(s.orders[1], func(a, b int32) int { return cmp.Compare(list[a].Name, list[b].Name) })
	for o := range s.orders {
		s.places[o] = make(map[string]int, len(s.orders[o]))
		for place, i := range s.orders[o] {
			s.places[o][list[i].Name] = place
		}
		last, ok := s.places[o][at[o]]
		if s.last[o] = last; !ok {
			s.last[o], s.run[o] = -1, 0
		}
	}
}

// step takes note of an open and says whether it continues a scan: it came shortly behind the last one in either
// order, or is the first file of all.
func (s *scan) step(name string) bool {
	follows := false
	for o := range s.orders {
		place, ok := s.places[o][name]
		if !ok {
			return false
		}
		d := place - s.last[o]
		switch {
		case d == 0: // opened again
			return false
		case d > 0 && d <= 4:
			s.run[o]++
		default:
			s.run[o] = 0
		}
		s.last[o] = place
		follows = follows || s.run[o] > 0
	}
	s.best = 0
	if s.run[1] > s.run[0] {
		s.best = 1
	}
	return follows
}

// begin fetches a small file that was just opened: before read() comes fstat(), which may take a round trip of its
// own.
func (a *ahead) begin(p string, e ftpconn.Entry) {
	if a.off() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetchLocked(p, e, nil)
}

// opened is told of each file that is read, and fetches what is likely to be opened next.
func (a *ahead) opened(p string) {
	if a.off() {
		return
	}
	dir, name := path.Split(p)
	dir = path.Clean(dir)
	list, ok := a.known.Known(dir)
	if !ok || len(list) < 3 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	s := a.scans[dir]
	switch {
	case s == nil:
		s = &scan{dir: dir, depth: 4, last: [2]int{-1, -1}}
		s.follow(list, now)
		a.forgetScansLocked(now)
		a.scans[dir] = s
	case now.Sub(s.made) > time.Second && (len(s.list) != len(list) || &s.list[0] != &list[0]):
		s.follow(list, now)
	}
	s.at = now
	if s.step(name) {
		a.refillLocked(s)
	}
}

func (a *ahead) forgetScansLocked(now time.Time) {
	for dir, s := range a.scans {
		if now.Sub(s.at) > aheadLife || len(a.scans) >= aheadScans {
			delete(a.scans, dir)
		}
	}
}

// refillLocked starts as many guesses as the bounds allow.
func (a *ahead) refillLocked(s *scan) {
	now := time.Now()
	if a.t.ctx.Err() != nil || now.Before(s.quiet) || s.run[s.best] == 0 { // too many misses, or the last open was elsewhere
		return
	}
	order := s.orders[s.best]
	for i, place := 0, s.last[s.best]+1; i < s.depth && place < len(order); i, place = i+1, place+1 {
		e := s.list[order[place]]
		if !a.fetchLocked(path.Join(s.dir, e.Name), e, s) {
			return
		}
	}
}

// fetchLocked starts to fetch a small file, for s or, without it, for an open, unless that was done already. It returns
// false where the bounds end it.
func (a *ahead) fetchLocked(p string, e ftpconn.Entry, s *scan) bool {
	if e.Size <= 0 || e.Size > aheadFile || a.files[p] != nil {
		return true
	}
	now := time.Now()
	if s != nil {
		if at, ok := a.recent.Peek(p); ok && now.Sub(at) < aheadLife { // by another who reads here
			return true
		}
		if a.flying >= a.lanes {
			return false
		}
	}
	if len(a.files) >= aheadFiles || a.bytes+e.Size > aheadBytes {
		return false
	}
	g := &guess{ver: versionOf(e), scan: s, at: now}
	g.s = openStream(a.context(), a.t, p, 0, e.Size, beginning{}, func(err error) { a.landed(p, g, err) })
	a.files[p] = g
	a.bytes += e.Size
	if s == nil {
		a.count.Begun++
	} else {
		a.flying++
		a.count.Files++
	}
	if a.sweep == nil {
		a.sweep = time.AfterFunc(aheadLife, a.sweepOld)
	}
	return true
}

// landed is told that a guess is complete, or why it won't be.
func (a *ahead) landed(p string, g *guess, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g.scan != nil {
		a.flying--
	}
	if err != nil && a.files[p] == g {
		a.dropLocked(p, g)
	}
	switch {
	case errors.Is(err, ftpconn.ErrNoneFree):
		a.lanes = max(a.flying, 1)
		if g.scan != nil {
			a.count.Files--
		} else {
			a.count.Begun--
		}
		return
	case err != nil && !errors.Is(err, errClosed): // closed: opened, read and closed before the server's last word
		return // the next open, or the next guess that lands, tries again: never at once, the server may be gone
	}
	a.lanes = min(a.lanes+1, aheadFlying)
	s := g.scan
	if s == nil {
		s = a.scans[path.Dir(p)]
	}
	if s != nil {
		a.refillLocked(s)
	}
}

func (a *ahead) dropLocked(p string, g *guess) {
	delete(a.files, p)
	a.bytes -= g.ver.size
}

// take gives the download of a file that was fetched ahead, if it is of the wanted version. If there is none the caller
// fetches the file.
func (a *ahead) take(p string, ver version) *stream {
	if a.off() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent.Add(p, time.Now())
	g := a.files[p]
	if g == nil {
		return nil
	}
	a.dropLocked(p, g)
	if g.ver.size != ver.size || !g.ver.same(ver) {
		go g.s.close()
		a.missLocked(g)
		return nil
	}
	if g.scan != nil {
		a.count.FilesUsed++
		g.scan.used++
		g.scan.depth = min(2*g.scan.depth, aheadFiles)
	}
	return g.s
}

// forget drops what was fetched of a path, which is being changed.
func (a *ahead) forget(p string) {
	if a.off() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.files[p]; g != nil {
		a.dropLocked(p, g)
		go g.s.close()
	}
}

// missLocked counts a guess that nobody used. Where most miss, there are none for a while.
func (a *ahead) missLocked(g *guess) {
	if g.scan == nil {
		return
	}
	a.count.FilesMissed++
	if g.scan.missed++; g.scan.missed > 8+g.scan.used {
		g.scan.depth, g.scan.quiet = 4, time.Now().Add(time.Minute)
		g.scan.missed, g.scan.used = 0, 0
	}
}

// sweepOld drops what nobody opened in time.
func (a *ahead) sweepOld() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for p, g := range a.files {
		if now.Sub(g.at) >= aheadLife {
			a.dropLocked(p, g)
			a.missLocked(g)
			go g.s.close()
		}
	}
	a.forgetScansLocked(now)
	a.sweep = nil
	if len(a.files) > 0 {
		a.sweep = time.AfterFunc(aheadLife, a.sweepOld)
	}
}
