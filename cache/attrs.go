package cache

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Attr is what was set on an entry and its server doesn't keep.
type Attr struct {
	Mode    uint32 // permission bits 07777, valid if HasMode
	HasMode bool
	// ServerMode is what the server shows while Mode holds, valid if HasServerMode: another one was set by somebody else.
	ServerMode    uint32
	HasServerMode bool

	ModTime time.Time // zero for none
	// The file that ModTime was set on, as the server shows it: its size in bytes (-1: any), time (zero: not known) and
	// what that is rounded to.
	Size       int64
	ServerTime time.Time
	Precision  time.Duration
}

func (a Attr) empty() bool { return !a.HasMode && a.ModTime.IsZero() }

// MaxAttrs is how many entries a mount remembers attributes of: some 50 MB.
const MaxAttrs = 200_000

// Attrs remembers attributes by path, in memory and, where asked, on the local disk across mounts. It is bounded in
// number: the least recently used are forgotten, and the server's own values show. All methods may be called
// concurrently.
//
// On disk it is a log, to which each change is appended as a line under a lock (flock), so that mounts of one site may
// share it; before it appends, each reads what the others did. A crash can cost the last changes, not the others; the log
// is synced when it is closed. Trouble with the disk is logged, and what is in memory stays right.
type Attrs struct {
	log   *slog.Logger
	count atomic.Int64 // of the set

	mu   sync.Mutex // guards following; held while a line is written
	set  *simplelru.LRU[string, Attr]
	disk *attrLog // nil: none
}

// NewAttrs remembers at most limit entries (at least one), in memory.
func NewAttrs(limit int) *Attrs {
	set, _ := simplelru.NewLRU[string, Attr](max(limit, 1), nil) // the error is for sizes below 1
	return &Attrs{set: set, log: slog.New(slog.DiscardHandler)}
}

// OpenAttrs is NewAttrs with a log in dir, which is made with mode 0700 if missing, for what is set on site.
func OpenAttrs(dir, site string, limit int, log *slog.Logger) (*Attrs, error) {
	a := NewAttrs(limit)
	if log != nil {
		a.log = log
	}
	disk, err := openAttrLog(dir, site)
	if err != nil {
		return nil, fmt.Errorf("attributes that the server doesn't keep: %w", err)
	}
	a.disk = disk
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changeLocked(attrLine{})
	return a, nil
}

// Get returns what is remembered of a path.
func (a *Attrs) Get(p string) (Attr, bool) {
	if a.count.Load() == 0 {
		return Attr{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set.Get(p)
}

// Update changes what is remembered of a path; change gets the zero Attr if that is nothing, and leaves one
// without mode and time to forget it.
func (a *Attrs) Update(p string, change func(*Attr)) {
	var first Attr
	if change(&first); a.count.Load() == 0 && first.empty() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	was, had := a.set.Peek(p)
	now := was
	change(&now)
	switch {
	case now == was:
	case !now.empty():
		a.changeLocked(attrLine{op: opSet, path: p, attr: now})
	case had:
		a.changeLocked(attrLine{op: opDrop, path: p})
	}
}

// Drop forgets a file, or an empty directory.
func (a *Attrs) Drop(p string) {
	if a.count.Load() == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set.Contains(p) {
		a.changeLocked(attrLine{op: opDrop, path: p})
	}
}

// Rename moves a path, and what is below it if it is a directory, to another, of which what was remembered is forgotten.
func (a *Attrs) Rename(from, to string, dir bool) {
	a.relocate(attrLine{op: opMove, path: from, to: to}, dir)
}

// Exchange swaps two paths, and what is below them if one of them is a directory.
func (a *Attrs) Exchange(x, y string, dir bool) {
	a.relocate(attrLine{op: opSwap, path: x, to: y}, dir)
}

func (a *Attrs) relocate(l attrLine, dir bool) {
	if a.count.Load() == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if dir || a.set.Contains(l.path) || a.set.Contains(l.to) {
		l.dir = dir
		a.changeLocked(l)
	}
}

// changeLocked applies a change, after those that others wrote, and writes it down. The zero attrLine is none.
func (a *Attrs) changeLocked(l attrLine) {
	var err error
	if a.disk != nil {
		err = a.disk.begin(a.applyLocked)
	}
	a.applyLocked(l)
	if a.disk != nil && err == nil {
		err = a.disk.end(l, a.linesLocked)
	}
	if err != nil {
		a.log.Warn("attributes that the server doesn't keep will be forgotten with this mount", "err", err)
		a.disk.close()
		a.disk = nil
	}
}

func (a *Attrs) applyLocked(l attrLine) {
	switch l.op {
	case opSet:
		a.set.Add(l.path, l.attr)
	case opDrop:
		a.set.Remove(l.path)
	case opMove, opSwap:
		moved := make(map[string]Attr)
		keys := []string{l.path, l.to}
		if l.dir {
			keys = slices.DeleteFunc(a.set.Keys(), func(k string) bool { return !within(k, l.path) && !within(k, l.to) })
		}
		for _, k := range keys {
			v, ok := a.set.Peek(k)
			if !ok {
				continue
			}
			a.set.Remove(k)
			switch rest, ok := strings.CutPrefix(k, l.path); {
			case ok && within(k, l.path):
				moved[l.to+rest] = v
			case l.op == opSwap:
				moved[l.path+strings.TrimPrefix(k, l.to)] = v
			}
		}
		for k, v := range moved {
			a.set.Add(k, v)
		}
	}
	a.count.Store(int64(a.set.Len()))
}

// within says that p is dir, or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// linesLocked returns lines that say all that is in the set, the least recently used first.
func (a *Attrs) linesLocked() []string {
	keys := a.set.Keys()
	lines := make([]string, 0, len(keys))
	for _, k := range keys {
		v, _ := a.set.Peek(k)
		lines = append(lines, attrLine{op: opSet, path: k, attr: v}.String())
	}
	return lines
}

// Close syncs the log and closes it; what is in memory stays. Close of nil does nothing.
func (a *Attrs) Close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.disk == nil {
		return nil
	}
	err := a.disk.file.Sync()
	err = cmp.Or(err, a.disk.close())
	a.disk = nil
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
