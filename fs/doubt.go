package fs

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

// A close() whose verdict nobody looks at loses data: shells ignore it for their redirections. So where a
// refusal is likely, open() asks the server at once, by an upload of nothing: one round trip more,
// in doubtful directories alone.

// doubtFor is how long a refusal makes a directory doubtful.
const doubtFor = time.Minute

// maxDoubtful bounds how many directories are remembered.
const maxDoubtful = 1000

// doubtful is the set of directories in which the server refused to make or write a file.
type doubtful struct {
	mu sync.Mutex // guards following
	m  map[string]time.Time
}

func (d *doubtful) set(dir string, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil || len(d.m) >= maxDoubtful {
		d.m = make(map[string]time.Time)
	}
	if since.IsZero() {
		delete(d.m, dir)
		return
	}
	d.m[dir] = since
}

func (d *doubtful) has(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, ok := d.m[dir]
	return ok && time.Since(since) < doubtFor
}

// doubts says that the server may well refuse to take a file in directory n, at path dir.
func (n *node) doubts(dir string) bool {
	if n.t.doubtful.has(dir) {
		return true
	}
	n.mu.Lock()
	e := n.last
	n.mu.Unlock()
	switch {
	case e.Type != ftpconn.Dir:
		return false
	case e.Perm != "":
		return !strings.Contains(e.Perm, "c") // RFC 3659 section 7.5.5: files may be created
	}
	return e.HasMode && e.Mode&0o222 == 0
}

// doubt remembers what a refused upload of p says of its directory.
func (t *tree) doubt(p string, err error) {
	var reply *ftpconn.ReplyError
	if errors.Is(err, fs.ErrPermission) || errors.As(err, &reply) && reply.Kind == nil && (reply.Code == 550 || reply.Code == 553) {
		t.doubtful.set(path.Dir(p), time.Now())
	}
}

// surelyReadOnly says that the server's own words rule writing out: a perm fact without "w" and "a"
// (RFC 3659 section 7.5.5), or no write bit for anybody.
func surelyReadOnly(e ftpconn.Entry) bool {
	if e.Perm != "" {
		return !strings.ContainsAny(e.Perm, "wa")
	}
	return e.HasMode && e.Mode&0o222 == 0
}
