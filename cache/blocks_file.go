package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// A file of a block cache directory holds up to 64 blocks that follow each other of one version of a file, a group:
//
//	0     8  magic
//	8     4  CRC-32C of the key and the text
//	12    4  length of the text
//	64 1024  64 slots of 16 bytes: where in its block the known bytes begin, how many they are, their CRC, zero
//	1088     the text: site, NUL, path; for people, and for forgetting a directory
//	4096     the blocks, at their places: a sparse file
//
// Numbers are little endian. The CRC in a slot is that of the key (SHA-256 of site, path, size, time and group),
// the place in the file, the beginning, the length, and the bytes. Bytes are written before their slot, nothing is ever
// synced, and any number of processes may write: whatever of it a crash leaves behind, in whatever order, either has its
// CRC or isn't served.
const (
	groupMagic  = "FTPFSBK1"
	groupBlocks = 64
	groupHeader = 4096
	slotsAt     = 64
	slotSize    = 16
	textAt      = slotsAt + groupBlocks*slotSize
	maxText     = groupHeader - textAt
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged")

// groupID names a group of blocks.
type groupID struct {
	key  [sha256.Size]byte
	name string // in the directory, with the subdirectory: 2 + 18 digits of the path's hash, 20 of the key, so that all groups of a path are found
	text string // site, NUL, path
}

var (
	reShard = regexp.MustCompile(`^[0-9a-f]{2}$`)
	reGroup = regexp.MustCompile(`^[0-9a-f]{18}-[0-9a-f]{20}$`)
)

func newGroupID(site string, v FileVersion, group int64) (groupID, bool) {
	id := groupID{text: site + "\x00" + v.Path}
	id.key = sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d %d %d", site, v.Path, v.Size, v.ModTime, group))
	id.name = fmt.Sprintf("%s-%x", pathPrefix(site, v.Path), id.key[:10])
	return id, len(id.text) <= maxText
}

// pathPrefix is how the names of all groups of a path begin, with the subdirectory.
func pathPrefix(site, path string) string {
	sum := sha256.Sum256([]byte(site + "\x00" + path))
	return fmt.Sprintf("%x/%x", sum[:1], sum[1:10])
}

func (id *groupID) headerSum() uint32 {
	return crc32.Update(crc32.Checksum(id.key[:], castagnoli), castagnoli, []byte(id.text))
}

func (id *groupID) header() []byte {
	h := make([]byte, groupHeader)
	copy(h, groupMagic)
	binary.LittleEndian.PutUint32(h[8:], id.headerSum())
	binary.LittleEndian.PutUint32(h[12:], uint32(len(id.text)))
	copy(h[textAt:], id.text)
	return h
}

// textOf returns the text of a header, "" if it has none.
func textOf(h []byte) string {
	n := int64(binary.LittleEndian.Uint32(h[12:]))
	if string(h[:8]) != groupMagic || textAt+n > int64(len(h)) {
		return ""
	}
	return string(h[textAt : textAt+n])
}

// slot says which bytes of a block are there.
type slot struct {
	lo, n int
	sum   uint32
}

func (id *groupID) sum(place int, lo int, data []byte) uint32 {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[0:], uint32(place))
	binary.LittleEndian.PutUint32(b[4:], uint32(lo))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(data)))
	return crc32.Update(crc32.Update(crc32.Checksum(id.key[:], castagnoli), castagnoli, b[:]), castagnoli, data)
}

// groupFile is an open group with its slots as they were when it was opened.
type groupFile struct {
	id *groupID
	*os.File
	info  os.FileInfo
	head  []byte
	fresh bool // made just now
}

// load reads the header; errDamaged if it isn't this group's.
func (g *groupFile) load() error {
	g.head = make([]byte, textAt+len(g.id.text))
	if _, err := g.ReadAt(g.head, 0); err == io.EOF {
		return errDamaged
	} else if err != nil {
		return err
	}
	if textOf(g.head) != g.id.text || binary.LittleEndian.Uint32(g.head[8:]) != g.id.headerSum() {
		return errDamaged
	}
	return nil
}

// slot returns what is known of the block at place; n is 0 if nothing is.
func (g *groupFile) slot(place int) (slot, error) {
	b := g.head[slotsAt+place*slotSize:]
	s := slot{int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:])), binary.LittleEndian.Uint32(b[8:])}
	if s.lo < 0 || s.n < 0 || s.lo+s.n > BlockSize {
		return slot{}, errDamaged
	}
	return s, nil
}

func blockAt(place, lo int) int64 { return groupHeader + int64(place)*BlockSize + int64(lo) }

// read reads and checks the bytes of a slot; buf has s.n bytes.
func (g *groupFile) read(place int, s slot, buf []byte) error {
	if _, err := g.ReadAt(buf, blockAt(place, s.lo)); err == io.EOF {
		return errDamaged
	} else if err != nil {
		return err
	}
	if g.id.sum(place, s.lo, buf) != s.sum {
		return errDamaged
	}
	return nil
}

// write adds a run, joined with what is there if they touch; otherwise the longer one stays.
func (g *groupFile) write(place, lo int, data []byte) (bool, error) {
	s, err := g.slot(place)
	if err != nil {
		return false, err
	}
	r := run{lo: s.lo, data: make([]byte, s.n)}
	if s.n > 0 {
		inside := lo >= s.lo && lo+len(data) <= s.lo+s.n
		apart := lo > s.lo+s.n || lo+len(data) < s.lo
		if inside || apart && len(data) <= s.n {
			return false, nil
		}
		if s.n < BlockSize { // else there is nothing to join
			if err := g.read(place, s, r.data); err != nil {
				return false, err
			}
		}
	} else {
		r.lo = lo
	}
	if !r.merge(lo, data) {
		return false, nil
	}
	if _, err := g.WriteAt(data, blockAt(place, lo)); err != nil {
		return false, err
	}
	b := g.head[slotsAt+place*slotSize:][:slotSize]
	binary.LittleEndian.PutUint32(b, uint32(r.lo))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(r.data)))
	binary.LittleEndian.PutUint32(b[8:], g.id.sum(place, r.lo, r.data))
	_, err = g.WriteAt(b, slotsAt+int64(place)*slotSize)
	return err == nil, err
}

// openGroup opens a group for reading and writing; make says that it is made if it is missing.
func (d *diskBlocks) openGroup(id *groupID, make bool) (*groupFile, error) {
	f, err := d.root.OpenFile(id.name, os.O_RDWR, 0)
	fresh := false
	if errors.Is(err, os.ErrNotExist) && make {
		f, err = d.makeGroup(id)
		fresh = true
	}
	if err != nil {
		return nil, err
	}
	g := &groupFile{id: id, File: f, fresh: fresh}
	if err := g.load(); err != nil {
		f.Close()
		if errors.Is(err, errDamaged) {
			d.damaged(id.name)
		}
		return nil, err
	}
	if g.info, err = f.Stat(); err != nil {
		f.Close()
		return nil, err
	}
	return g, nil
}

// makeGroup makes a group's file with its header, so that nobody ever sees it without; of two processes that make the same
// one, the second takes the first one's.
func (d *diskBlocks) makeGroup(id *groupID) (*os.File, error) {
	shard, _, _ := strings.Cut(id.name, "/")
	if err := d.root.Mkdir(shard, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	tmp := fmt.Sprintf("%s/new-%08x%08x", shard, os.Getpid(), time.Now().UnixNano())
	f, err := d.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer d.root.Remove(tmp)
	if _, err = f.Write(id.header()); err == nil {
		err = d.root.Link(tmp, id.name)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, os.ErrExist) {
		return d.root.OpenFile(id.name, os.O_RDWR, 0)
	}
	return nil, err
}
