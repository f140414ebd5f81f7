package cache

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"
)

// room makes sure that n bytes may be written, and removes others for it. The caller holds writing.
func (d *diskBlocks) room(n int64) bool {
	if d.total.Load()+n > d.limit || d.counted > d.limit/16 {
		d.evict(n)
	}
	free, total, err := d.space()
	reserve := min(reserveBytes, total/reservePart)
	if err != nil {
		d.failed(err)
		return false
	}
	if free-n < reserve {
		d.evictTo(d.total.Load() - (reserve + n - free))
		free, _, err = d.space()
	}
	return err == nil && free-n >= reserve && d.total.Load()+n <= d.limit
}

// evict counts what all processes have in the directory, and if that and n more exceed the limit, removes what was not used
// for longest, to seven eighths of it. The caller holds writing.
func (d *diskBlocks) evict(n int64) {
	files, total := d.count()
	if total+n > d.limit {
		d.remove(files, min(d.limit/8*7, d.limit-n))
	}
}

// evictTo removes down to a total.
func (d *diskBlocks) evictTo(target int64) {
	files, _ := d.count()
	d.remove(files, max(target, 0))
}

// countedFile is a file of the directory.
type countedFile struct {
	name  string
	bytes int64
	used  time.Time
}

// count looks at all files; it removes those that dead processes left half made.
func (d *diskBlocks) count() (files []countedFile, total int64) {
	d.each(func(name string) {
		info, err := d.root.Lstat(name)
		if err != nil {
			return
		}
		if !isGroup(name) {
			if time.Since(info.ModTime()) > newLife {
				d.root.Remove(name)
			}
			return
		}
		f := countedFile{name: name, bytes: info.Size(), used: info.ModTime()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			f.bytes = st.Blocks * 512
		}
		total += f.bytes
		files = append(files, f)
	})
	d.total.Store(total)
	d.counted = 0
	return files, total
}

func isGroup(name string) bool {
	_, base, _ := strings.Cut(name, "/")
	return reGroup.MatchString(base)
}

// remove removes the files that were not used for longest until all together take target bytes. If another process is at it
// nothing is done.
func (d *diskBlocks) remove(files []countedFile, target int64) {
	if err := flock(d.lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return
	}
	defer flock(d.lock, syscall.LOCK_UN)
	slices.SortFunc(files, func(a, b countedFile) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if d.total.Load() <= target {
			return
		}
		if err := d.root.Remove(f.name); err == nil || errors.Is(err, fs.ErrNotExist) {
			d.total.Add(-f.bytes)
		}
	}
}

// each calls f for all files of the cache, by name with the subdirectory.
func (d *diskBlocks) each(f func(name string)) {
	shards, _ := d.names(".")
	for _, shard := range shards {
		if !reShard.MatchString(shard) {
			continue
		}
		names, _ := d.names(shard)
		for _, name := range names {
			if reGroup.MatchString(name) || strings.HasPrefix(name, "new-") {
				f(shard + "/" + name)
			}
		}
	}
}

func (d *diskBlocks) names(dir string) ([]string, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// forget removes all groups of a path, on disk and on their way there.
func (d *diskBlocks) forget(path string) {
	d.unqueue(func(p string) bool { return p == path })
	d.writing.Lock()
	defer d.writing.Unlock()
	prefix := pathPrefix(d.site, path)
	shard, base, _ := strings.Cut(prefix, "/")
	names, _ := d.names(shard)
	for _, name := range names {
		if strings.HasPrefix(name, base+"-") {
			d.root.Remove(shard + "/" + name)
		}
	}
}

func (d *diskBlocks) unqueue(match func(path string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = slices.DeleteFunc(d.queue, func(q diskBlock) bool {
		if match(q.v.Path) {
			d.queued -= int64(len(q.data))
			return true
		}
		return false
	})
}

// forgetTree removes the groups of all paths of this site that match.
func (d *diskBlocks) forgetTree(match func(path string) bool) {
	d.unqueue(match)
	d.writing.Lock()
	defer d.writing.Unlock()
	head := make([]byte, groupHeader)
	d.each(func(name string) {
		f, err := d.root.Open(name)
		if err != nil {
			return
		}
		defer f.Close()
		if _, err := io.ReadFull(f, head); err != nil {
			return
		}
		site, path, ok := strings.Cut(textOf(head), "\x00")
		if ok && site == d.site && match(path) {
			d.root.Remove(name)
		}
	})
}
