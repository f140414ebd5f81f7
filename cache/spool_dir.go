package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// A spool directory holds, for each Spool that lives in it:
//
//	p<pid>-<8 hex digits>.lock   locked (flock) as long as the Spool is open; the kernel unlocks it when the process dies
//	p<pid>-<8 hex digits>/       its files, notes beside some (spool_over.go), and its journal (spool_journal.go)
//
// lost+found, which outlives them (spool_kept.go), and spool.lock, locked while one of them enters and clears away what the dead
// left. So a directory whose lock can be had, or has no lock file, is a dead one's. The pid is for people: it may be another
// machine's.
//
// Beside them is what outlives a mount (SiteDir).
const (
	entryLock = "spool.lock"
	siteDir   = "sites"
)

// SiteDir is the part of a spool directory for what is to be found again by the next mount of a site.
func SiteDir(spoolDir string) string { return filepath.Join(spoolDir, siteDir) }

var reOwnDir = regexp.MustCompile(`^p\d+-[0-9a-f]{8}$`)

// ownDir is one Spool's part of a spool directory.
type ownDir struct {
	dir  string
	id   string   // name of the subdirectory
	root *os.Root // the spool directory, as checked: no change of its path leads elsewhere
	lock *os.File // id.lock
}

// openOwnDir checks the spool directory, clears it of the dead and enters it.
func openOwnDir(dir string, log *slog.Logger) (_ *ownDir, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("spool directory %s: %w", dir, err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	o := &ownDir{dir: dir, root: root}
	if err := o.enter(log); err != nil {
		if o.lock != nil {
			o.lock.Close()
		}
		root.Close()
		return nil, err
	}
	return o, nil
}

func (o *ownDir) enter(log *slog.Logger) error {
	if err := o.checkPrivate(); err != nil {
		return err
	}
	entry, err := o.root.OpenFile(entryLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer entry.Close() // unlocks
	if err := flock(entry, syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", entryLock, err)
	}
	o.clearDead(log)

	o.id = fmt.Sprintf("p%d-%08x", os.Getpid(), rand.Uint32())
	o.lock, err = o.root.OpenFile(o.id+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := flock(o.lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("lock %s.lock: %w", o.id, err), o.root.Remove(o.id+".lock"))
	}
	if err := o.root.Mkdir(o.id, 0o700); err != nil {
		return errors.Join(err, o.root.Remove(o.id+".lock"))
	}
	return nil
}

// checkPrivate makes sure that nobody else gets at the files: they are what users wrote to a site that
// may be anything but public.
func (o *ownDir) checkPrivate() error {
	info, err := o.root.Stat(".")
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to uid %d, not to uid %d who mounts; name a directory of your own: %w",
			st.Uid, os.Geteuid(), fs.ErrPermission)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	names, err := o.names()
	if err != nil {
		return err
	}
	if len(names) > 0 && !isSpool(names) {
		return fmt.Errorf("others may enter it (mode %04o) and it holds other files, such as %q; "+
			"name an empty directory, or take their rights away with chmod 700: %w",
			info.Mode().Perm(), names[0], fs.ErrPermission)
	}
	if err := o.root.Chmod(".", 0o700); err != nil {
		return fmt.Errorf("others may enter it (mode %04o): %w", info.Mode().Perm(), err)
	}
	return nil
}

// isSpool says that names, of all that is in a directory, are a spool's and nobody else's.
func isSpool(names []string) bool {
	for _, name := range names {
		if name != entryLock && name != siteDir && name != keptDir && !reOwnDir.MatchString(strings.TrimSuffix(name, ".lock")) {
			return false
		}
	}
	return true
}

func (o *ownDir) names() ([]string, error) {
	d, err := o.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// clearDead removes what dead mounts left. What can't be removed is logged and stays: it takes space, but harms
// nobody. The caller holds the entry lock.
func (o *ownDir) clearDead(log *slog.Logger) {
	names, err := o.names()
	if err != nil {
		log.Warn("can't look for files of dead mounts in the spool directory", "dir", o.dir, "err", err)
		return
	}
	ids := make(map[string]bool)
	for _, name := range names {
		if id := strings.TrimSuffix(name, ".lock"); reOwnDir.MatchString(id) {
			ids[id] = true
		}
	}
	for id := range ids {
		if err := o.clearIfDead(id, log); err != nil {
			log.Warn("can't remove the spool files of a dead mount", "dir", o.dir, "mount", id, "err", err)
		}
	}
}

func (o *ownDir) clearIfDead(id string, log *slog.Logger) error {
	lock, err := o.root.OpenFile(id+".lock", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		defer lock.Close()
		if err := flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
			return nil // alive
		} else if err != nil {
			return err
		}
	}
	waiting, _, err := o.waiting(id)
	if err != nil {
		return fmt.Errorf("its journal: %w", err)
	}
	if err := o.rescue(id, waiting, log); err != nil {
		return err
	}
	if len(waiting) > 0 {
		sites := make(map[string]int)
		for _, p := range waiting {
			sites[p.Site]++
		}
		for site, files := range sites {
			log.Info("files of an earlier mount wait for the next one of the same URL", "site", site, "files", files, "dir", path.Join(o.dir, id))
		}
		return nil
	}
	files, bytes := o.weigh(id)
	if err := o.root.RemoveAll(id); err != nil {
		return err
	}
	if err := o.root.Remove(id + ".lock"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if files > 0 {
		log.Warn("removed spool files of a mount that ended without closing them; what it had not uploaded is lost",
			"dir", o.dir, "mount", id, "files", files, "bytes", bytes)
	}
	return nil
}

// weigh counts the files in the subdirectory id, and their bytes on disk.
func (o *ownDir) weigh(id string) (files int, bytes int64) {
	d, err := o.root.Open(id)
	if err != nil {
		return 0, 0
	}
	defer d.Close()
	infos, _ := d.Readdir(-1)
	for _, info := range infos {
		files++
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512
		}
	}
	return files, bytes
}

// close removes the subdirectory, unless it is to stay for the next mount, then the lock: whoever finds the lock free in between finds
// nothing else.
func (o *ownDir) close(stay bool) error {
	var errRemove error
	if !stay {
		errRemove = o.root.RemoveAll(o.id)
	}
	if errRemove == nil && !stay {
		if err := o.root.Remove(o.id + ".lock"); !errors.Is(err, fs.ErrNotExist) {
			errRemove = err
		}
	}
	if errRemove != nil {
		errRemove = fmt.Errorf("spool directory %s: %w", o.dir, errRemove)
	}
	return errors.Join(errRemove, o.lock.Close(), o.root.Close())
}

// flock calls flock(2) again when a signal interrupts it.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}
