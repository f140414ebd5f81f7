package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// tempsDir holds, in a spool directory, a note for each file on a server that is there for the length of an upload only, so
// that the next mount removes what a crash left: p<pid>-<8 hex digits>.<number>, with the name of the Spool that wrote it.
const tempsDir = "temporary"

// Temp is a note of a temporary file on a server.
type Temp struct {
	Path string // on its site
	s    *Spool
	file string
}

// NoteTemp writes down that a file of the site that is so named is about to be made and will not stay. The note isn't
// synced: it outlives this process and not the machine.
func (s *Spool) NoteTemp(site, remote string) (Temp, error) {
	s.mu.Lock()
	s.serial++
	t := Temp{remote, s, path.Join(tempsDir, fmt.Sprintf("%s.%d", s.own.id, s.serial))}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return Temp{}, fmt.Errorf("spool %s: %w", s.dir, os.ErrClosed)
	}
	if err := s.own.root.Mkdir(tempsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Temp{}, fmt.Errorf("spool %s: %w", s.dir, err)
	}
	if err := s.own.root.WriteFile(t.file, []byte(site+"\x00"+remote), 0o600); err != nil {
		return Temp{}, fmt.Errorf("spool %s: %w", s.dir, errors.Join(err, s.own.root.Remove(t.file)))
	}
	return t, nil
}

// Gone takes the note back: the temporary file is no more.
func (t Temp) Gone() error {
	err := t.s.own.root.Remove(t.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// LeftTemps returns the notes of a site by mounts that are no longer alive.
func (s *Spool) LeftTemps(site string) []Temp {
	d, err := s.own.root.Open(tempsDir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var left []Temp
	for _, name := range names {
		id, _, ok := strings.Cut(name, ".")
		if !ok || !reOwnDir.MatchString(id) || id == s.own.id || s.own.alive(id) {
			continue
		}
		file := path.Join(tempsDir, name)
		text, err := s.own.root.ReadFile(file)
		if err != nil {
			continue
		}
		if of, p, ok := strings.Cut(string(text), "\x00"); ok && of == site {
			left = append(left, Temp{p, s, file})
		}
	}
	return left
}

// alive says that the Spool of that id may be in use.
func (o *ownDir) alive(id string) bool {
	lock, err := o.root.OpenFile(id+".lock", os.O_RDWR, 0)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer lock.Close() // unlocks
	return flock(lock, syscall.LOCK_EX|syscall.LOCK_NB) != nil
}
