package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// UploadMode says where an upload goes. Appends are always made in place.
type UploadMode uint8

const (
	// InPlace sends to the file itself: it stays the same file on the server, with its owner, mode and links, and no
	// round trip is added. Who looks at it there meanwhile, or after an upload that failed, sees a part.
	InPlace UploadMode = iota
	// Atomic sends to a temporary name beside the file, checks, and renames: others see the old content or the new one.
	// It costs one round trip, a second one for the mode of a file that is replaced, room for both, and what a server keeps of
	// the old file besides its name and mode. A link that the server shows as a file becomes a file.
	Atomic
	// Auto is Atomic for what replaces a file that isn't empty, and InPlace for new ones.
	Auto
)

var uploadModes = [...]string{"inplace", "atomic", "auto"}

func (m UploadMode) String() string { return uploadModes[m] }

// ParseUploadMode reads the value of the option upload=.
func ParseUploadMode(s string) (UploadMode, error) {
	for i, name := range uploadModes {
		if s == name {
			return UploadMode(i), nil
		}
	}
	return 0, fmt.Errorf("choose one of %s", strings.Join(uploadModes[:], ", "))
}

// tempPrefix begins the name of a temporary file.
const tempPrefix = ownPrefix + "upload-"

func tempName() string { return tempPrefix + rand.Text()[:16] + ".tmp" }

// cleaning bounds the removal of a temporary file: what stays is removed later.
const cleaning = 5 * time.Second

// errInPlace says that an upload can't be made aside.
var errInPlace = errors.New("the server doesn't take it under another name")

// atomicity is what a tree knows of uploads that go aside.
type atomicity struct {
	noReplace atomic.Bool // RNTO doesn't replace a file
	replaces  atomic.Bool // RNTO was seen to work
	refused   doubtful    // directories that don't take temporary files

	mu   sync.Mutex // guards following
	left []string   // temporary files that could not be removed yet
}

// goesAside says that a whole upload to p goes by way of a temporary name.
func (u *upload) goesAside(p string) bool {
	f, t := u.f, u.f.t
	f.mu.Lock()
	replaces := !f.created
	worth := t.opt.Upload == Atomic || t.opt.Upload == Auto && replaces && f.server.Size > 0 || f.replaces
	f.mu.Unlock()
	return worth && !(replaces && t.atomic.noReplace.Load()) && !t.atomic.refused.has(path.Dir(p))
}

// aside makes an upload to p by way of a temporary name. errInPlace if the server forbids that, which is remembered: for the
// mount where it doesn't rename over files, for a while where a directory takes no other names.
func (u *upload) aside(ctx context.Context, p string) error {
	t := u.f.t
	temp := path.Join(path.Dir(p), tempName())
	if err := t.opt.Leftovers.Add(temp); err != nil {
		t.log.Warn("an upload is made in place, because a temporary file can't be noted", "path", p, "err", err)
		return errInPlace
	}
	plan, err := u.stream(ctx, temp, true)
	if err == nil {
		if err = u.putInPlace(ctx, temp, p, plan); err == nil {
			t.opt.Leftovers.Done(temp)
			u.confirmed(plan)
			t.clearTemps()
			return nil
		}
		u.copy.MarkBroken(0)
	} else if refusesName(err) {
		t.atomic.refused.set(path.Dir(p), time.Now())
		t.log.Info("the directory takes no temporary files: uploads are made in place", "path", p, "err", err)
		err = errInPlace
	}
	t.removeTemp(temp)
	return err
}

// refusesName says that a refusal may be for the name, or because the file is a new one.
func refusesName(err error) bool {
	var reply *ftpconn.ReplyError
	return errors.As(err, &reply) && !broken(err) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, ftpconn.ErrBadName) ||
		reply.Kind == nil && reply.Code/100 == 5)
}

// putInPlace gives a temporary file its mode and the name p.
func (u *upload) putInPlace(ctx context.Context, temp, p string, plan cache.Plan) error {
	f, t := u.f, u.f.t
	f.mu.Lock()
	old, created, hasMode := f.server, f.created, f.hasMode
	f.mu.Unlock()
	if !created && old.HasMode && !hasMode {
		if err := t.remote.Chmod(ctx, temp, uint32(old.Mode)); err != nil {
			t.log.Debug("the mode of a replaced file can't be kept", "path", p, "err", err)
		}
	}
	u.started.Store(true)
	lost := false
	for {
		err := t.remote.Rename(ctx, temp, p)
		switch {
		case err == nil:
			return u.replaced(ctx, temp, p)
		case lost && notThere(err): // it may have been done before the answer was lost
			if e, err := t.fresh(ctx, p, 0); err == nil && e.Size == plan.Size {
				return nil
			}
			return err
		case !broken(err):
			return u.cantReplace(p, created, err)
		}
		if err := u.breathe(ctx, p, err); err != nil {
			return err
		}
		lost = true
	}
}

// replaced looks once whether a rename that was confirmed was made: swiftp (Android) says 250 to RNTO over a file and does
// nothing.
func (u *upload) replaced(ctx context.Context, temp, p string) error {
	t := u.f.t
	if t.atomic.replaces.Load() {
		return nil
	}
	switch _, err := t.fresh(ctx, temp, 0); {
	case err == nil:
		return u.cantReplace(p, false, errors.New("the server confirmed a rename and did nothing"))
	case notThere(err):
		t.atomic.replaces.Store(true)
	}
	return nil
}

// cantReplace remembers that a rename was refused.
func (u *upload) cantReplace(p string, created bool, err error) error {
	t := u.f.t
	if created {
		t.atomic.refused.set(path.Dir(p), time.Now())
	} else {
		t.atomic.noReplace.Store(true)
	}
	t.log.Info("the server doesn't rename a temporary file to its place: uploads are made in place", "path", p, "err", err)
	return errInPlace
}

// removeTemp removes a temporary file, or puts it off.
func (t *tree) removeTemp(temp string) {
	ctx, cancel := context.WithTimeout(context.Background(), cleaning)
	defer cancel()
	if err := t.remote.Remove(ctx, temp); err != nil && !notThere(err) {
		t.log.Warn("a temporary file of an upload can't be removed yet", "path", temp, "err", err)
		t.atomic.mu.Lock()
		t.atomic.left = append(t.atomic.left, temp)
		t.atomic.mu.Unlock()
		return
	}
	t.opt.Leftovers.Done(temp)
}

// clearTemps tries again what removeTemp put off.
func (t *tree) clearTemps() {
	t.atomic.mu.Lock()
	left := t.atomic.left
	t.atomic.left = nil
	t.atomic.mu.Unlock()
	for _, temp := range left {
		t.removeTemp(temp)
	}
}
