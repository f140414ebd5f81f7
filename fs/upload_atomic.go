package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
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

// reTempName is what the names of temporary files look like: nothing else is ever removed in a sweep.
var reTempName = regexp.MustCompile(`^\.ftpfs-upload-[A-Z2-7]{16}\.tmp$`)

func tempName() string { return ".ftpfs-upload-" + rand.Text()[:16] + ".tmp" }

// cleaning bounds the removal of a temporary file: what stays is removed later.
const cleaning = 5 * time.Second

// errInPlace says that an upload can't be made aside.
var errInPlace = errors.New("the server doesn't take it under another name")

// atomicity is what a tree knows of uploads that go aside.
type atomicity struct {
	sweeps    sync.WaitGroup
	noReplace atomic.Bool // RNTO doesn't replace a file
	replaces  atomic.Bool // RNTO was seen to work
	refused   doubtful    // directories that don't take temporary files

	mu   sync.Mutex // guards following
	left []cache.Temp
}

// goesAside says that a whole upload to p goes by way of a temporary name.
func (u *upload) goesAside(p string) bool {
	f, t := u.f, u.f.t
	f.mu.Lock()
	replaces := !f.created
	worth := t.opt.Upload == Atomic || t.opt.Upload == Auto && replaces && f.server.Size > 0
	f.mu.Unlock()
	return worth && !(replaces && t.atomic.noReplace.Load()) && !t.atomic.refused.has(path.Dir(p))
}

// aside makes an upload to p by way of a temporary name. errInPlace if the server forbids that, which is remembered: for the
// mount where it doesn't rename over files, for a while where a directory takes no other names.
func (u *upload) aside(ctx context.Context, p string) error {
	t := u.f.t
	temp, err := t.spool.NoteTemp(t.opt.Source, path.Join(path.Dir(p), tempName()))
	if err != nil {
		t.log.Warn("an upload is made in place, because a temporary file can't be noted", "path", p, "err", err)
		return errInPlace
	}
	plan, err := u.stream(ctx, temp.Path, true)
	if err == nil {
		if err = u.putInPlace(ctx, temp.Path, p, plan); err == nil {
			if err := temp.Gone(); err != nil {
				t.log.Warn("the note of a temporary file can't be removed", "path", temp.Path, "err", err)
			}
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
func (t *tree) removeTemp(temp cache.Temp) {
	ctx, cancel := context.WithTimeout(context.Background(), cleaning)
	defer cancel()
	err := t.remote.Remove(ctx, temp.Path)
	if err == nil || notThere(err) {
		err = temp.Gone()
	}
	if err != nil {
		t.log.Warn("a temporary file of an upload can't be removed yet", "path", temp.Path, "err", err)
		t.atomic.mu.Lock()
		t.atomic.left = append(t.atomic.left, temp)
		t.atomic.mu.Unlock()
	}
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

// sweepTemps removes the temporary files that mounts of this site left when they crashed.
func (t *tree) sweepTemps() {
	for _, temp := range t.spool.LeftTemps(t.opt.Source) {
		if !reTempName.MatchString(path.Base(temp.Path)) {
			continue
		}
		err := t.remote.Remove(t.ctx, temp.Path)
		switch {
		case err == nil:
			t.log.Info("removed a temporary file that a crash left", "path", temp.Path)
		case !notThere(err):
			t.log.Warn("a temporary file that a crash left can't be removed; the next mount tries again", "path", temp.Path, "err", err)
			continue
		}
		if err := temp.Gone(); err != nil {
			t.log.Warn("the note of a temporary file can't be removed", "path", temp.Path, "err", err)
		}
	}
}
