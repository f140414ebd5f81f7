package cache

import (
	"hash/maphash"
	"time"

	"ftpfs/ftpconn"
)

const (
	// packFrom is from how many entries on a listing is packed.
	packFrom = 4096
	// packedCost is how many packed entries take the memory of one that isn't: about 60 bytes and its name each.
	packedCost = 3

	pageRows = 1024
	textPage = 256 << 10 // holds the longest entry: lines are 64 KiB at most
)

// packed is the entries of a huge directory, without a pointer for each: of one million with names of 16 bytes, 60 MB.
// It has no lock of its own. A view of it may be read while the packed it is of is changed.
type packed struct {
	pages [][]row // pageRows each, but for the last
	n     int     // rows, removed ones included
	texts []string
	tail  []byte // the text page being filled, whose number is len(texts)
	kinds []kind

	// Only for changing and finding; a view has none of these.
	numbers map[kind]uint32 // of kinds
	mine    []bool          // pages that no view shares
	seed    maphash.Seed
	slots   []uint32 // hash table of names, linear probing: row plus one, 0 is empty
}

// row is one entry. One without a name was removed.
type row struct {
	size, micros         int64  // micros: ModTime since 1970
	text                 uint32 // page and position of name, target, unique, one behind the other
	kind                 uint32
	name, target, unique uint16 // lengths
}

// kind is what many entries of a directory have in common.
type kind struct {
	owner, group, perm string
	precision          time.Duration
	uid, gid           int32
	mode, nlink        uint16
	hasMode, hasTime   bool
	typ                ftpconn.Type
}

func newPacked() *packed {
	return &packed{numbers: make(map[kind]uint32), seed: maphash.MakeSeed(), slots: make([]uint32, 4*packFrom)}
}

// at returns row i; its name is "" if it was removed.
func (p *packed) at(i int) ftpconn.Entry {
	r := &p.pages[i/pageRows][i%pageRows]
	if r.name == 0 {
		return ftpconn.Entry{}
	}
	k := &p.kinds[r.kind]
	text := p.text(r, int(r.name)+int(r.target)+int(r.unique))
	e := ftpconn.Entry{
		Name: text[:r.name], Target: text[r.name : r.name+r.target], Unique: text[r.name+r.target:],
		Owner: k.owner, Group: k.group, Perm: k.perm, Size: r.size, ModPrecision: k.precision,
		UID: k.uid, GID: k.gid, Mode: k.mode, Nlink: k.nlink, HasMode: k.hasMode, Type: k.typ,
	}
	if k.hasTime {
		e.ModTime = time.UnixMicro(r.micros).UTC()
	}
	return e
}

func (p *packed) text(r *row, n int) string {
	page, from := int(r.text/textPage), int(r.text%textPage)
	if page < len(p.texts) {
		return p.texts[page][from : from+n]
	}
	return string(p.tail[from : from+n])
}

// is compares a row's name.
func (p *packed) is(i int, name string) bool {
	r := &p.pages[i/pageRows][i%pageRows]
	if int(r.name) != len(name) {
		return false
	}
	page, from := int(r.text/textPage), int(r.text%textPage)
	if page < len(p.texts) {
		return p.texts[page][from:from+len(name)] == name
	}
	return string(p.tail[from:from+len(name)]) == name
}

// find returns the row of name, -1 if there is none.
func (p *packed) find(name string) int {
	if name == "" {
		return -1
	}
	for s := int(maphash.String(p.seed, name)); ; s++ {
		at := p.slots[s&(len(p.slots)-1)]
		if at == 0 {
			return -1
		}
		if p.is(int(at-1), name) {
			return int(at - 1)
		}
	}
}

// fits says that an entry can be stored: names that aren't limited by a line's length could come from a Remote
// that isn't FTP.
func fits(e *ftpconn.Entry) bool { return len(e.Name)+len(e.Target)+len(e.Unique) < 1<<16 }

// add appends an entry whose name isn't there.
func (p *packed) add(e *ftpconn.Entry) {
	if p.n%pageRows == 0 {
		p.pages = append(p.pages, make([]row, 0, pageRows))
		p.mine = append(p.mine, true)
	}
	last := len(p.pages) - 1
	p.pages[last] = append(p.pages[last], p.pack(e)) // behind what views see
	p.n++
	if 4*p.n > 3*len(p.slots) {
		p.slots = make([]uint32, 2*len(p.slots))
		for i := range p.n {
			p.enter(i)
		}
		return
	}
	p.enter(p.n - 1)
}

func (p *packed) enter(i int) {
	r := &p.pages[i/pageRows][i%pageRows]
	if r.name == 0 {
		return
	}
	s := int(maphash.String(p.seed, p.text(r, int(r.name))))
	for p.slots[s&(len(p.slots)-1)] != 0 {
		s++
	}
	p.slots[s&(len(p.slots)-1)] = uint32(i + 1)
}

// set replaces row i by an entry of the same name, or removes it for an entry without a name.
func (p *packed) set(i int, e *ftpconn.Entry) {
	page := i / pageRows
	if !p.mine[page] {
		own := make([]row, len(p.pages[page]), pageRows)
		copy(own, p.pages[page])
		p.pages[page], p.mine[page] = own, true
	}
	p.pages[page][i%pageRows] = p.pack(e)
}

// pack stores an entry's text and returns its row.
func (p *packed) pack(e *ftpconn.Entry) row {
	if e.Name == "" {
		return row{}
	}
	k := kind{
		owner: e.Owner, group: e.Group, perm: e.Perm, precision: e.ModPrecision, uid: e.UID, gid: e.GID,
		mode: e.Mode, nlink: e.Nlink, hasMode: e.HasMode, hasTime: !e.ModTime.IsZero(), typ: e.Type,
	}
	number, ok := p.numbers[k]
	if !ok {
		number = uint32(len(p.kinds))
		d := detached(ftpconn.Entry{Owner: k.owner, Group: k.group, Perm: k.perm})
		k.owner, k.group, k.perm = d.Owner, d.Group, d.Perm
		p.kinds = append(p.kinds, k)
		p.numbers[k] = number
	}
	if n := len(e.Name) + len(e.Target) + len(e.Unique); len(p.tail)+n > textPage {
		p.texts = append(p.texts, string(p.tail))
		p.tail = nil
	}
	if p.tail == nil {
		p.tail = make([]byte, 0, textPage)
	}
	r := row{
		size: e.Size, text: uint32(len(p.texts)*textPage + len(p.tail)), kind: number,
		name: uint16(len(e.Name)), target: uint16(len(e.Target)), unique: uint16(len(e.Unique)),
	}
	if k.hasTime {
		r.micros = e.ModTime.UnixMicro()
	}
	p.tail = append(append(append(p.tail, e.Name...), e.Target...), e.Unique...)
	return r
}

// view returns the entries as they are now, for somebody to read while p is changed.
func (p *packed) view() *packed {
	clear(p.mine)
	return &packed{pages: append([][]row(nil), p.pages...), n: p.n, texts: p.texts, tail: p.tail, kinds: p.kinds}
}

// entries unpacks all.
func (p *packed) entries() []ftpconn.Entry {
	list := make([]ftpconn.Entry, 0, p.n)
	for i := range p.n {
		if e := p.at(i); e.Name != "" {
			list = append(list, e)
		}
	}
	return list
}
