package cache

import (
	"maps"
	"slices"
	"strings"
	"time"

	"ftpfs/ftpconn"
)

const (
	// indexFrom is the length up to which a directory is searched from end to end: most
	// directories are small, and a map costs more than their entries.
	indexFrom = 16
	// dirCost is what a directory costs in entries beside those it has.
	dirCost = 2
)

// state is what is known of a name.
type state uint8

const (
	unknown state = iota
	present
	absent
)

// attrs are the parts of an entry that an own change can set alone.
type attrs uint8

const (
	attrMode attrs = 1 << iota
	attrTime
)

// note is what is known of one name beside, or against, its directory's listing.
type note struct {
	at        time.Time // evidence for this name alone; zero: as old as the listing
	seq       uint64    // generation of that evidence, or of the forgetting
	noExact   time.Time // when the server was asked for an exact time and had none
	ownSeq    uint64    // generation of the latest own change of a part of the entry
	own       attrs     // the parts so changed
	absent    bool      // at is when it was found missing
	forgotten bool      // whatever is there must be asked for; the entry is kept for its exact time
}

// listing is what is known of one directory. It has no lock of its own.
type listing struct {
	list  []ftpconn.Entry  // in the server's order; removed ones have no name
	index map[string]int32 // name to its place in list; nil while list is short
	big   *packed          // holds the entries of a huge directory in the place of list and index
	copy  []ftpconn.Entry  // of big, for who wants a slice again and again; nil if there is none or it was changed
	notes map[string]note  // nil while there are none

	dead   int // removed ones in list
	shared int // so many elements of list are in callers' hands
	coarse int // files without an exact time
	holes  int // forgotten notes
	paid   int // what the cache's total has for this one
	prune  int // number of notes at which outdated ones are looked for

	complete  bool      // list has been read to its end
	asked, at time.Time // when that was asked for and when it was there
}

// newListing copies entries into a compact listing: the names of a directory share one string,
// owners and groups are kept once. An entry cut from a reply line would keep the whole reply alive.
// Of entries with one name the first stays.
func newListing(entries []ftpconn.Entry) *listing {
	n := 0
	for i := range entries {
		n += len(entries[i].Name) + len(entries[i].Target) + len(entries[i].Unique)
	}
	var b strings.Builder
	b.Grow(n)
	for i := range entries {
		b.WriteString(entries[i].Name)
		b.WriteString(entries[i].Target)
		b.WriteString(entries[i].Unique)
	}
	text := b.String()
	cut := func(n int) (s string) {
		s, text = text[:n], text[n:]
		return s
	}
	words := make(map[string]string)
	once := func(s string) string {
		w, ok := words[s]
		if !ok {
			w = strings.Clone(s)
			words[w] = w
		}
		return w
	}
	l := &listing{list: make([]ftpconn.Entry, 0, len(entries))}
	if len(entries) > indexFrom {
		l.index = make(map[string]int32, len(entries))
	}
	for i := range entries {
		e := entries[i]
		e.Name, e.Target, e.Unique = cut(len(e.Name)), cut(len(e.Target)), cut(len(e.Unique))
		e.Owner, e.Group, e.Perm = once(e.Owner), once(e.Group), once(e.Perm)
		if e.Name == "" || l.find(e.Name) >= 0 {
			continue
		}
		l.add(e)
	}
	return l
}

// detached copies e's strings, so that it keeps nothing else alive.
func detached(e ftpconn.Entry) ftpconn.Entry {
	for _, s := range []*string{&e.Name, &e.Target, &e.Owner, &e.Group, &e.Perm, &e.Unique} {
		*s = strings.Clone(*s)
	}
	return e
}

func (l *listing) cost() int {
	if l.big != nil {
		return l.big.n/packedCost + len(l.copy) + len(l.notes) + dirCost
	}
	return len(l.list) + len(l.notes) + dirCost
}

// size is the number of places, those of removed entries included.
func (l *listing) size() int {
	if l.big != nil {
		return l.big.n
	}
	return len(l.list)
}

// place returns the entry in a place; a removed one has no name.
func (l *listing) place(i int) ftpconn.Entry {
	if l.big != nil {
		return l.big.at(i)
	}
	return l.list[i]
}

// set changes the entry in a place, and leaves slices that were handed out as they are.
func (l *listing) set(i int, e ftpconn.Entry) {
	was := l.place(i)
	if isCoarse(&was) {
		l.coarse--
	}
	if isCoarse(&e) {
		l.coarse++
	}
	if l.big != nil {
		l.big.set(i, &e)
		l.copy = nil
		return
	}
	l.own(i)
	l.list[i] = e
}

// find returns name's place, -1 if it isn't there.
func (l *listing) find(name string) int {
	if l.big != nil {
		return l.big.find(name)
	}
	if l.index != nil {
		if i, ok := l.index[name]; ok {
			return int(i)
		}
		return -1
	}
	for i := range l.list {
		if l.list[i].Name == name {
			return i
		}
	}
	return -1
}

func (l *listing) entry(name string) (ftpconn.Entry, bool) {
	if i := l.find(name); i >= 0 {
		return l.place(i), true
	}
	return ftpconn.Entry{}, false
}

// add appends an entry whose name isn't there. It never disturbs a slice that was handed out.
func (l *listing) add(e ftpconn.Entry) {
	if isCoarse(&e) {
		l.coarse++
	}
	if l.big != nil {
		l.big.add(&e)
		l.copy = nil
		return
	}
	l.list = append(l.list, e)
	switch {
	case l.index != nil:
		l.index[e.Name] = int32(len(l.list) - 1)
	case len(l.list) > indexFrom:
		l.reindex()
	}
}

// put adds e or replaces the entry of that name in its place.
func (l *listing) put(e ftpconn.Entry) {
	i := l.find(e.Name)
	if i < 0 {
		l.add(e)
		return
	}
	l.set(i, e)
}

// remove takes name out. Its place stays empty until there are many, so that removing all files
// of a directory one by one isn't quadratic.
func (l *listing) remove(name string) {
	i := l.find(name)
	if i < 0 {
		return
	}
	l.set(i, ftpconn.Entry{})
	delete(l.index, name)
	l.dead++
	if l.dead > indexFrom && l.dead > l.size()/2 {
		l.compact()
	}
}

// own makes list[i] writable.
func (l *listing) own(i int) {
	if i < l.shared {
		l.list = slices.Clone(l.list)
		l.shared = 0
	}
}

func (l *listing) compact() {
	if l.big != nil {
		big := newPacked()
		for i := range l.big.n {
			if e := l.big.at(i); e.Name != "" {
				big.add(&e)
			}
		}
		l.big, l.dead = big, 0
		return
	}
	list := make([]ftpconn.Entry, 0, len(l.list)-l.dead)
	for i := range l.list {
		if l.list[i].Name != "" {
			list = append(list, l.list[i])
		}
	}
	l.list, l.dead, l.shared = list, 0, 0
	l.reindex()
}

func (l *listing) reindex() {
	l.index = nil
	if len(l.list)-l.dead <= indexFrom {
		return
	}
	l.index = make(map[string]int32, len(l.list))
	for i := range l.list {
		if l.list[i].Name != "" {
			l.index[l.list[i].Name] = int32(i)
		}
	}
}

// snapshot returns the entries for a caller to keep.
func (l *listing) snapshot() []ftpconn.Entry {
	if l.big != nil {
		if l.copy == nil && l.big.n <= knownMax {
			l.copy = l.big.entries()
		} else if l.copy == nil {
			return l.big.entries()
		}
		return l.copy
	}
	if l.dead > 0 {
		l.compact()
	}
	l.shared = len(l.list)
	return slices.Clip(l.list)
}

// setNote replaces the note on name.
func (l *listing) setNote(name string, n note) {
	l.dropNote(name)
	if l.notes == nil {
		l.notes = make(map[string]note)
	}
	if n.forgotten {
		l.holes++
	}
	l.notes[strings.Clone(name)] = n
}

func (l *listing) dropNote(name string) {
	if l.notes[name].forgotten {
		l.holes--
	}
	delete(l.notes, name)
}

// pruneNotes drops negative answers that are too old to be used.
func (l *listing) pruneNotes(now time.Time, negTTL time.Duration) {
	if len(l.notes) < max(l.prune, 256) {
		return
	}
	maps.DeleteFunc(l.notes, func(_ string, n note) bool {
		return n.absent && !n.forgotten && now.Sub(n.at) >= negTTL
	})
	l.prune = 2 * len(l.notes)
}

// expire makes everything unknown; the entries stay to recognise their exact times by.
func (l *listing) expire() {
	l.complete = false
	l.notes, l.holes, l.prune = nil, 0, 0
}

// fresh says that the listing as a whole is evidence.
func (l *listing) fresh(now time.Time, ttl time.Duration) bool {
	return l.complete && now.Sub(l.at) < ttl
}

// answers says that the listing can be given as an answer to List.
func (l *listing) answers(now time.Time, ttl time.Duration) bool {
	return l.holes == 0 && l.fresh(now, ttl)
}

// lookup says what is known of name, and when that was asked for.
func (l *listing) lookup(name string, now time.Time, ttl, negTTL time.Duration) (ftpconn.Entry, time.Time, state) {
	n := l.notes[name]
	if n.forgotten {
		return ftpconn.Entry{}, time.Time{}, unknown
	}
	e, ok := l.entry(name)
	if !n.at.IsZero() {
		switch {
		case n.absent && now.Sub(n.at) < negTTL:
			return ftpconn.Entry{}, n.at, absent
		case !n.absent && ok && now.Sub(n.at) < ttl:
			return e, n.at, present
		}
	}
	switch {
	case !l.fresh(now, ttl):
		return ftpconn.Entry{}, time.Time{}, unknown
	case ok:
		return e, l.asked, present
	}
	return ftpconn.Entry{}, l.asked, absent
}
