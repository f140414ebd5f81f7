package fs

import (
	"strings"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

// maxOverrides bounds the memory that a server without chmod or times costs. At the bound all are
// forgotten, and the server's own values show.
const maxOverrides = 200_000

// override is a mode or time that was set through this mount on a server that can't keep it.
type override struct {
	mode    uint32
	hasMode bool
	mtime   time.Time // zero for none
	// The file that mtime was set on: another size, or another time on the server, is another file.
	size   int64
	server time.Time // zero if not known
}

// overrides keeps, for the life of a mount, what chmod() and utimensat() set on a server that has no
// command for it, so that cp -a, tar and rsync find what they set. By path; all methods
// may be called concurrently.
type overrides struct {
	mu sync.Mutex // guards following
	m  map[string]override
}

func (o *overrides) update(p string, change func(*override)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil || len(o.m) >= maxOverrides {
		o.m = make(map[string]override)
	}
	v := o.m[p]
	change(&v)
	if !v.hasMode && v.mtime.IsZero() {
		delete(o.m, p)
		return
	}
	o.m[p] = v
}

func (o *overrides) setMode(p string, mode uint32) {
	o.update(p, func(v *override) { v.mode, v.hasMode = mode&0o7777, true })
}

func (o *overrides) dropMode(p string) {
	o.update(p, func(v *override) { v.hasMode = false })
}

// setTime remembers a time for a file of size bytes. Its time on the server is learned from the next
// entry that has an exact one.
func (o *overrides) setTime(p string, mtime time.Time, size int64) {
	o.update(p, func(v *override) { v.mtime, v.size, v.server = mtime, size, time.Time{} })
}

func (o *overrides) dropTime(p string) {
	o.update(p, func(v *override) { v.mtime = time.Time{} })
}

// drop forgets a file or an empty directory.
func (o *overrides) drop(p string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, p)
}

// rename moves a path, and everything below it if it is a directory.
func (o *overrides) rename(from, to string, dir bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.m) == 0 {
		return
	}
	delete(o.m, to)
	if v, ok := o.m[from]; ok {
		delete(o.m, from)
		o.m[to] = v
	}
	if !dir {
		return
	}
	for k, v := range o.m {
		if rest, ok := strings.CutPrefix(k, from+"/"); ok {
			delete(o.m, k)
			o.m[to+"/"+rest] = v
		}
	}
}

// apply returns e as this mount shows it.
func (o *overrides) apply(p string, e ftpconn.Entry) ftpconn.Entry {
	o.mu.Lock()
	v, ok := o.m[p]
	o.mu.Unlock()
	if !ok {
		return e
	}
	if v.hasMode {
		e.Mode, e.HasMode = uint16(v.mode), true
	}
	if !v.mtime.IsZero() {
		was, now := version{v.size, v.server, time.Second}, versionOf(e)
		if e.Type != ftpconn.Dir && !was.same(now) {
			o.dropTime(p)
			return e
		}
		if v.server.IsZero() && now.exact() {
			o.update(p, func(v *override) { v.server = now.time })
		}
		e.ModTime, e.ModPrecision = v.mtime, time.Nanosecond
	}
	return e
}
