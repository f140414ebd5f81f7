package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ftpfs/ftpconn"
)

// dirRemote is a Remote over a local directory, with hooks that let a test refuse, break or delay what a
// server does, and a count of the requests.
type dirRemote struct {
	root string
	sent atomic.Int64 // bytes of uploads

	mu    sync.Mutex // guards following
	calls map[string]int
	// before is called ahead of each request with its name and path; an error is the answer.
	before func(op, path string) error
	// hold is called ahead of each upload, and may wait.
	hold func(ctx context.Context) error
	// retrieved and stored wrap what Retrieve and Store return.
	retrieved func(path string, d ftpconn.Download) ftpconn.Download
	stored    func(path string, u ftpconn.Upload) ftpconn.Upload
	noMode    bool // no Chmod
	noTime    bool // no SetModTime
	noAppend  bool // APPE is refused for files that exist
	noReplace bool // RNTO doesn't replace
	tail      tail // what becomes of it behind REST and STOR
	sizeless  bool // entries have no size
	perm      func(path string) string
}

var _ ftpconn.Remote = (*dirRemote)(nil)

func newDirRemote(root string) *dirRemote {
	return &dirRemote{root: root, calls: make(map[string]int)}
}

func (r *dirRemote) ask(op, path string) error {
	r.mu.Lock()
	r.calls[op]++
	before := r.before
	r.mu.Unlock()
	if before != nil {
		return before(op, path)
	}
	return nil
}

// count returns how often an operation was asked for, and all together for "".
func (r *dirRemote) count(op string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if op != "" {
		return r.calls[op]
	}
	n := 0
	for _, c := range r.calls {
		n += c
	}
	return n
}

func (r *dirRemote) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *dirRemote) is(flag *bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *flag
}

func (r *dirRemote) local(p string) string { return filepath.Join(r.root, filepath.FromSlash(p)) }

// refusal is what a server would make of a local error.
func refusal(cmd, p string, err error) error {
	if err == nil {
		return nil
	}
	e := &ftpconn.ReplyError{Command: cmd + " " + p, Code: 550, Text: err.Error()}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = fs.ErrNotExist
	case errors.Is(err, syscall.ENOTEMPTY):
		e.Kind = ftpconn.ErrNotEmpty
	case errors.Is(err, fs.ErrExist):
		e.Kind = fs.ErrExist
	case errors.Is(err, fs.ErrPermission):
		e.Kind = fs.ErrPermission
	case errors.Is(err, syscall.EISDIR):
		e.Kind = ftpconn.ErrIsDir
	case errors.Is(err, syscall.ENOTDIR):
		e.Kind = ftpconn.ErrNotDir
	}
	return e
}

func (r *dirRemote) entry(p string, info fs.FileInfo) ftpconn.Entry {
	e := ftpconn.Entry{
		Name: info.Name(), Size: info.Size(), ModTime: info.ModTime().UTC().Truncate(time.Second), ModPrecision: time.Second,
		Mode: uint16(info.Mode().Perm()), HasMode: true, UID: -1, GID: -1, Type: ftpconn.File,
	}
	switch {
	case info.IsDir():
		e.Type = ftpconn.Dir
	case info.Mode()&fs.ModeSymlink != 0:
		e.Type = ftpconn.Symlink
		e.Target, _ = os.Readlink(r.local(p))
	case !info.Mode().IsRegular():
		e.Type = ftpconn.Other
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sizeless && e.Type == ftpconn.File {
		e.Size = -1
	}
	if r.perm != nil {
		e.Perm = r.perm(p)
	}
	return e
}

func (r *dirRemote) List(_ context.Context, dir string) ([]ftpconn.Entry, error) {
	if err := r.ask("List", dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.local(dir))
	if err != nil {
		return nil, refusal("MLSD", dir, err)
	}
	var list []ftpconn.Entry
	for _, d := range entries {
		if info, err := d.Info(); err == nil {
			list = append(list, r.entry(dir+"/"+d.Name(), info))
		}
	}
	return list, nil
}

func (r *dirRemote) Stat(_ context.Context, p string) (ftpconn.Entry, error) {
	if err := r.ask("Stat", p); err != nil {
		return ftpconn.Entry{}, err
	}
	info, err := os.Lstat(r.local(p))
	if err != nil {
		return ftpconn.Entry{}, refusal("MLST", p, err)
	}
	return r.entry(p, info), nil
}

func (r *dirRemote) ModTimes(context.Context, []string) ([]time.Time, error) {
	return nil, errors.ErrUnsupported
}

func (r *dirRemote) Retrieve(ctx context.Context, p string, off int64) (ftpconn.Download, error) {
	if err := r.ask("Retrieve", p); err != nil {
		return nil, err
	}
	f, err := os.Open(r.local(p))
	if err != nil {
		return nil, refusal("RETR", p, err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, err
	}
	r.mu.Lock()
	wrap := r.retrieved
	r.mu.Unlock()
	if wrap != nil {
		return wrap(p, f), nil
	}
	return f, nil
}

// dirUpload writes to the file itself, as a server does.
type dirUpload struct {
	*os.File
	r      *dirRemote
	cut    bool // the file ends behind what is written
	closed bool
}

func (u *dirUpload) Write(p []byte) (int, error) {
	n, err := u.File.Write(p)
	u.r.sent.Add(int64(n))
	return n, err
}

func (u *dirUpload) Close() error {
	u.closed = true
	if at, err := u.Seek(0, io.SeekCurrent); err == nil && u.cut {
		_ = u.Truncate(at)
	}
	return u.File.Close()
}

func (u *dirUpload) Abort() {
	if !u.closed {
		u.Close()
	}
}

func (u *dirUpload) Begun() bool { return true }

func (r *dirRemote) Store(ctx context.Context, p string, mode ftpconn.StoreMode, off int64) (ftpconn.Upload, error) {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		if err := hold(ctx); err != nil {
			return nil, err
		}
	}
	op, flags := "Store", os.O_TRUNC
	switch mode {
	case ftpconn.Append:
		op, flags = "Append", os.O_APPEND
	case ftpconn.Restart, ftpconn.Within:
		op, flags = "Restart", 0
	}
	if err := r.ask(op, p); err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.local(p)); err == nil && mode == ftpconn.Append && r.is(&r.noAppend) {
		return nil, &ftpconn.ReplyError{Command: "APPE " + p, Code: 451, Text: p + ": Append/Restart not permitted, try again"}
	}
	r.mu.Lock()
	what := r.tail
	r.mu.Unlock()
	if op == "Restart" && what == tailNone {
		return nil, &ftpconn.ReplyError{Command: "STOR " + p, Code: 451, Text: p + ": Append/Restart not permitted, try again"}
	}
	f, err := os.OpenFile(r.local(p), os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err != nil {
		return nil, refusal("STOR", p, err)
	}
	if op == "Restart" {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	wrap := r.stored
	r.mu.Unlock()
	u := &dirUpload{File: f, r: r, cut: op == "Restart" && what == tailCut}
	if wrap != nil {
		return wrap(p, u), nil
	}
	return u, nil
}

func (r *dirRemote) Mkdir(_ context.Context, p string) error {
	if err := r.ask("Mkdir", p); err != nil {
		return err
	}
	return refusal("MKD", p, os.Mkdir(r.local(p), 0o755))
}

func (r *dirRemote) Rmdir(_ context.Context, p string) error {
	if err := r.ask("Rmdir", p); err != nil {
		return err
	}
	return refusal("RMD", p, syscall.Rmdir(r.local(p)))
}

func (r *dirRemote) Remove(_ context.Context, p string) error {
	if err := r.ask("Remove", p); err != nil {
		return err
	}
	return refusal("DELE", p, syscall.Unlink(r.local(p)))
}

func (r *dirRemote) Rename(_ context.Context, from, to string) error {
	if err := r.ask("Rename", from); err != nil {
		return err
	}
	if _, err := os.Lstat(r.local(to)); err == nil && r.is(&r.noReplace) {
		return &ftpconn.ReplyError{Command: "RNTO " + to, Code: 553, Text: "Can't rename file."}
	}
	return refusal("RNTO", to, os.Rename(r.local(from), r.local(to)))
}

func (r *dirRemote) Chmod(_ context.Context, p string, mode uint32) error {
	if err := r.ask("Chmod", p); err != nil {
		return err
	}
	if r.is(&r.noMode) {
		return fmt.Errorf("SITE CHMOD: %w", errors.ErrUnsupported)
	}
	return refusal("SITE CHMOD", p, syscall.Chmod(r.local(p), mode))
}

func (r *dirRemote) SetModTime(_ context.Context, p string, t time.Time) error {
	if err := r.ask("SetModTime", p); err != nil {
		return err
	}
	if r.is(&r.noTime) {
		return fmt.Errorf("MFMT: %w", errors.ErrUnsupported)
	}
	return refusal("MFMT", p, os.Chtimes(r.local(p), t, t.Truncate(time.Second)))
}

func (r *dirRemote) Space(context.Context, string) (ftpconn.Space, error) {
	return ftpconn.Space{}, errors.ErrUnsupported
}

func (r *dirRemote) Features() ftpconn.Features { return ftpconn.Features{MLST: true} }

func (r *dirRemote) Close() error { return nil }
