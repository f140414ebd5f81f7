package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"ftpfs/ftpconn"
)

// Flags of renameat2(2).
const (
	renameNoReplace = 1
	renameExchange  = 2
)

var _ = (fusefs.NodeRenamer)((*node)(nil))

// Rename moves a file or directory, over an existing target if there is one. What is not uploaded yet
// is uploaded first, under the old name. The target is never removed before the source has its name.
func (n *node) Rename(ctx context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	c := call(ctx)
	defer c.end()
	to := newParent.(*node)
	src, errno := n.change(c, "rename", name)
	if errno != 0 {
		return errno
	}
	dst, errno := to.change(c, "rename", newName)
	if errno != 0 {
		return errno
	}
	if flags&^(renameNoReplace|renameExchange) != 0 {
		return syscall.EINVAL
	}
	source, target := nodeOf(n.GetChild(name)), nodeOf(to.GetChild(newName))
	way := place{n.EmbeddedInode(), name, to.EmbeddedInode(), newName}
	n.t.ahead.forget(src)
	n.t.ahead.forget(dst)
	if n.t.renameLater(c, source, target, src, dst, way, flags) {
		n.afterRename(to, src, dst, source, target)
		return 0
	}
	end, err := n.t.beginMove(c, source)
	if err != nil {
		return n.t.errno("rename", src, err)
	}
	var gone *place
	defer func() {
		end(gone)
		if gone != nil {
			n.t.renamed(source)
		}
	}()
	switch {
	case flags&renameExchange != 0:
		var endTarget func(*place)
		if endTarget, err = n.t.beginMove(c, target); err != nil {
			break
		}
		if err = n.t.exchange(c, src, dst); err != nil {
			endTarget(nil)
			break
		}
		endTarget(&place{to.EmbeddedInode(), newName, n.EmbeddedInode(), name})
		defer n.t.renamed(target)
	case flags&renameNoReplace != 0:
		if err = n.t.settle(c, target); err != nil {
			break
		}
		if _, err = n.t.fresh(c, dst, time.Second); err == nil {
			return syscall.EEXIST
		} else if notThere(err) {
			err = n.t.remote.Rename(c, src, dst)
		}
	default:
		if target != source {
			defer target.leave()()
		}
		err = n.t.replace(c, src, dst, source, target, to)
	}
	if err == nil {
		gone = &way
	}
	if err != nil || flags&renameExchange != 0 {
		n.passed(src)
		to.passed(dst)
		n.t.forgetDirs(src, dst, source, target)
	}
	switch {
	case err != nil:
		return n.t.errno("rename", src+" to "+dst, err)
	case flags&renameExchange != 0:
		n.t.hiddenMoved(src, dst)
		n.t.hiddenMoved(dst, src)
		n.t.overrides.Exchange(src, dst, source != nil && source.IsDir() || target != nil && target.IsDir())
	default:
		n.afterRename(to, src, dst, source, target)
	}
	return 0
}

// afterRename has this mount know of a rename of source, which was at src in n, to dst in to, where target was.
func (n *node) afterRename(to *node, src, dst string, source, target *node) {
	n.passed(src)
	to.passed(dst)
	if source != nil {
		n.t.numbers.keep(to.StableAttr().Ino, path.Base(dst), source)
	}
	n.t.forgetDirs(src, dst, source, target)
	n.t.hiddenMoved(src, dst)
	if target != nil && target != source {
		target.vanish(dst)
		n.t.dropHidden(target) // its last close may have come while it was being hidden
	}
	n.t.overrides.Rename(src, dst, source != nil && source.IsDir() || target != nil && target.IsDir())
}

// replace renames src to dst in directory dir, over what is there. Those who have the old file open keep it.
func (t *tree) replace(ctx context.Context, src, dst string, source, target, dir *node) error {
	if target == nil || target.IsDir() {
		t.clearOut(ctx, target, dst)
		return t.renameOver(ctx, src, dst, source)
	}
	f := target.file()
	if f == nil {
		target.goes()
		return t.renameOver(ctx, src, dst, source)
	}
	// An upload that is running would bring the old content back under the new file's name.
	onServer, err := f.part(ctx)
	if err != nil {
		return err
	}
	hidden := false
	if onServer && f.needsServer() && !f.keepCopy(ctx, dst, maxReplaced) {
		err := t.hide(ctx, dir, target, dst, dst)
		if err != nil {
			t.log.Debug("an open file can't be kept under another name; a local copy is made", "path", dst, "err", err)
			f.keepCopy(ctx, dst, maxKeptCopy)
		}
		hidden = err == nil
	}
	if hidden {
		rest, cancel := t.finishing(ctx)
		defer cancel()
		if err = t.remote.Rename(rest, src, dst); err != nil {
			_ = t.unhide(rest, target, dst) // logged there
		} else if p, err := target.path(); err == nil {
			t.note(p) // it has no name to go back to any more
		}
	} else {
		target.goes()
		err = t.renameOver(ctx, src, dst, source)
	}
	if err != nil {
		f.attach()
	}
	return err
}

// renameOver renames src to dst, over a file or an empty directory.
func (t *tree) renameOver(ctx context.Context, src, dst string, source *node) error {
	err := t.remote.Rename(ctx, src, dst)
	if err == nil || !mayMeanExists(err) {
		return err
	}
	there, statErr := t.fresh(ctx, dst, time.Second)
	if statErr != nil {
		return err // nothing is in the way, or nobody knows
	}
	if there.Type == ftpconn.Dir {
		list, listErr := t.remote.List(ctx, dst)
		switch {
		case source != nil && !source.IsDir():
			return ftpconn.ErrIsDir
		case listErr != nil:
			return err
		case len(list) > 0:
			return ftpconn.ErrNotEmpty
		}
		return t.renameAside(ctx, src, dst, err, t.remote.Rmdir)
	}
	return t.renameAside(ctx, src, dst, err, t.remote.Remove)
}

// mayMeanExists says that a refusal of RNTO may be for the target's existence: Apache FtpServer 553, IIS
// and FileZilla Server 0.9 550, some in words that sound like a lack of rights.
func mayMeanExists(err error) bool {
	var reply *ftpconn.ReplyError
	return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, ftpconn.ErrNotEmpty) ||
		errors.Is(err, ftpconn.ErrIsDir) || errors.As(err, &reply) && reply.Code/100 == 5 && reply.Kind == nil
}

// renameAside replaces dst on a server whose RNTO doesn't: dst steps aside, and comes back if src
// can't take its place. refused is the server's refusal of the direct way, returned if it holds
// for the other way too; remove is for what stepped aside.
func (t *tree) renameAside(ctx context.Context, src, dst string, refused error, remove func(context.Context, string) error) error {
	aside := sideName(dst)
	ctx, cancel := t.finishing(ctx) // an interrupt would leave the target under a name that nobody knows
	defer cancel()
	t.note(aside, dst)
	if err := t.step(ctx, dst, aside); errors.Is(err, errUnknown) {
		return err
	} else if err != nil {
		t.opt.Leftovers.Done(aside)
		return refused
	}
	if err := t.step(ctx, src, dst); err != nil {
		return t.stepBack(ctx, aside, dst, err)
	}
	if err := remove(ctx, aside); err != nil {
		t.log.Warn("the replaced file could not be removed; the next mount tries again", "path", aside, "err", err)
		t.note(aside)
		return nil
	}
	t.opt.Leftovers.Done(aside)
	return nil
}

// exchange swaps two names by three renames, or by four or five if one of them fails.
func (t *tree) exchange(ctx context.Context, a, b string) error {
	aside := sideName(a)
	ctx, cancel := t.finishing(ctx)
	defer cancel()
	t.note(aside, a, b)
	err := t.step(ctx, a, aside)
	if err != nil {
		if !errors.Is(err, errUnknown) {
			t.opt.Leftovers.Done(aside)
		}
		return err
	}
	if err = t.step(ctx, b, a); err == nil {
		if err = t.step(ctx, aside, b); err == nil {
			t.opt.Leftovers.Done(aside)
			return nil
		}
		if back := t.stepBack(ctx, a, b, err); errors.Is(back, errUnknown) {
			return back
		}
	}
	return t.stepBack(ctx, aside, a, err)
}

// errUnknown says that the connection was lost and nobody knows what the server did.
var errUnknown = errors.New("what became of it can't be told")

// step renames a file as a part of a change of several. Where the connection was lost it looks what became of it.
func (t *tree) step(ctx context.Context, from, to string) error {
	err := t.remote.Rename(ctx, from, to)
	if !ftpconn.IsLost(err) {
		return err
	}
	switch _, looked := t.fresh(ctx, from, 0); {
	case notThere(looked):
		return nil
	case looked != nil:
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return err
}

// stepBack gives what stepped aside its name p back, after err, which it returns. If that can't be done the next mount is left to
// do it.
func (t *tree) stepBack(ctx context.Context, aside, p string, err error) error {
	if errors.Is(err, errUnknown) {
		return err
	}
	if back := t.step(ctx, aside, p); back != nil {
		t.log.Error("a file stands under another name: it could not be renamed, nor renamed back; the next mount tries again",
			"path", p, "now", aside, "err", back)
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	t.opt.Leftovers.Done(aside)
	return err
}

// sideName is a name beside p that nobody else uses.
func sideName(p string) string {
	return path.Join(path.Dir(p), ownPrefix+rand.Text()[:12])
}

// finishing gives a context for the rest of a change that may not stop halfway: it isn't interrupted, and
// the Remote's own timeouts bound it.
func (t *tree) finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(ctx))
}
