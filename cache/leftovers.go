package cache

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Leftovers is a list, on the local disk, of the files that a mount has under names of its own on a server for a while, and means
// to remove itself. A mount that ends without doing so leaves its list behind, and the next one of the same site
// takes it over. All methods may be called concurrently; those of a nil *Leftovers do nothing.
//
// A list is a file named by a hash of the site, the pid (for people) and chance, locked (flock) as long as its owner lives. Its
// lines are "+" or "-" and quoted paths. Nothing is synced: what a power cut takes stays on the server.
type Leftovers struct {
	dir  string // constant
	name string // constant
	log  *slog.Logger

	mu   sync.Mutex // guards following
	file *os.File   // nil once closed
	set  map[string]Leftover
	old  []Leftover // taken over from the dead
}

// Leftover is a file, or directory, under a name of a mount's own.
type Leftover struct {
	Path string
	// Homes are where it belongs, as long as nothing is there: the name that it gave to another one that may not have come, or two
	// of which one is free at each step of an exchange. Without a free one it is of no more use, unless there are two.
	Homes []string
}

// leftLock is locked while a list is made or taken over.
const leftLock = "left.lock"

// OpenLeftovers begins a list for site in dir (made with mode 0700 if missing), and takes over those of mounts of that site
// that are no longer alive.
func OpenLeftovers(dir, site string, log *slog.Logger) (_ *Leftovers, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("list of files to remove from the server: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entry, err := os.OpenFile(filepath.Join(dir, leftLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer entry.Close() // unlocks
	if err := flock(entry, syscall.LOCK_EX); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(site))
	prefix := fmt.Sprintf("left-%x-", sum[:8])
	l := &Leftovers{
		dir: dir, log: log, set: make(map[string]Leftover),
		name: fmt.Sprintf("%sp%d-%08x", prefix, os.Getpid(), rand.Uint32()),
	}
	l.file, err = os.OpenFile(filepath.Join(dir, l.name), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(l.file, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		l.file.Close()
		return nil, errors.Join(err, os.Remove(l.file.Name()))
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		log.Warn("can't look for lists of files that dead mounts left on the server", "dir", dir, "err", err)
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), prefix) || f.Name() == l.name {
			continue
		}
		if err := l.takeOver(filepath.Join(dir, f.Name())); err != nil {
			log.Warn("can't take over the list of files that a dead mount left on the server", "list", f.Name(), "err", err)
		}
	}
	return l, nil
}

// takeOver moves what is on a dead mount's list to l.
func (l *Leftovers) takeOver(list string) error {
	f, err := os.Open(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil // alive
	} else if err != nil {
		return err
	}
	left := make(map[string]Leftover)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		paths := unquoteAll(lines.Text())
		switch { // a line that a crash cut is not whole
		case len(paths) == 0 || !strings.HasPrefix(paths[0], "/"):
		case lines.Text()[0] == '+':
			left[paths[0]] = Leftover{paths[0], paths[1:]}
		case lines.Text()[0] == '-':
			delete(left, paths[0])
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, one := range left {
		if err := l.Add(one.Path, one.Homes...); err != nil {
			return err
		}
		l.old = append(l.old, one)
	}
	return os.Remove(list)
}

// unquoteAll returns the quoted strings in a line behind its first character, nil if it has anything else, or no dot at its
// end.
func unquoteAll(line string) (list []string) {
	line, whole := strings.CutSuffix(line, ".")
	if !whole || line == "" {
		return nil
	}
	for line = line[1:]; line != ""; {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil
		}
		list, line = append(list, text), line[len(quoted):]
	}
	return list
}

// Old returns what was taken over from dead mounts, which is on the list now.
func (l *Leftovers) Old() []Leftover {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.old
}

// Add puts a path on the list, or changes its homes: before the server has the file there.
func (l *Leftovers) Add(p string, homes ...string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("list of files to remove from the server: %w", os.ErrClosed)
	}
	line := "+" + strconv.Quote(p)
	for _, h := range homes {
		line += strconv.Quote(h)
	}
	if _, err := l.file.WriteString(line + ".\n"); err != nil {
		return fmt.Errorf("list of files to remove from the server: %w", err)
	}
	l.set[p] = Leftover{p, homes}
	return nil
}

// Done takes a path off the list: after the server has removed the file.
func (l *Leftovers) Done(p string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.set[p]; !ok || l.file == nil {
		return
	}
	delete(l.set, p)
	var err error
	if len(l.set) == 0 {
		err = l.file.Truncate(0)
	} else {
		_, err = l.file.WriteString("-" + strconv.Quote(p) + ".\n")
	}
	if err != nil { // at worst a file that isn't there is removed once more
		l.log.Warn("list of files to remove from the server", "err", err)
	}
}

// Close ends the list. What is still on it is left to the next mount.
func (l *Leftovers) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if len(l.set) == 0 {
		err = os.Remove(l.file.Name())
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}
