package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Linker is a Remote whose server may make symbolic links.
type Linker interface {
	// Symlink makes link a symbolic link that leads where target does; its text may be another. errors.ErrUnsupported if the
	// server can't make this one.
	Symlink(ctx context.Context, target, link string) error
}

var _ Linker = (*Client)(nil)

// Symlink makes a link with SITE SYMLINK (ProFTPD mod_site_misc 1.3.8, ftpserverlib). These make an absolute link of any path, only
// to what exists, and take spaces for the ends of arguments; so a target is a relative one, and what was made is looked at.
func (cl *Client) Symlink(ctx context.Context, target, link string) error {
	unsupported := fmt.Errorf("symbolic link to %q: %w by the server", target, errors.ErrUnsupported)
	abs, err := cl.path(link)
	if err != nil {
		return err
	}
	if err := checkArgument(target); err != nil {
		return err
	}
	cl.site.mu.Lock()
	no := cl.site.noSymlink
	cl.site.mu.Unlock()
	to := path.Join(path.Dir(abs), target)
	if no || path.IsAbs(target) || strings.ContainsAny(to+abs, " \t\"'\\") || cl.site.within(to) != path.Clean(path.Join(path.Dir(link), target)) {
		return unsupported
	}
	_, err = cl.do(ctx, changes, func(c *Conn) error {
		_, err := c.ask(ctx, "SITE SYMLINK", to+" "+abs)
		return err
	})
	var re *ReplyError
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		cl.site.update(func(s *site) { s.noSymlink = true })
		return unsupported
	case errors.As(err, &re) && errors.Is(cl.explain(ctx, opMkdir, link, "", err), fs.ErrExist):
		return fmt.Errorf("symbolic link %s: %w", link, fs.ErrExist)
	case errors.As(err, &re) && !re.Temporary():
		cl.site.log.Debug("no symbolic link", "path", link, "target", target, "err", err)
		return unsupported
	case err != nil:
		return err
	}
	e, err := cl.look(ctx, link)
	if err == nil && (e.Type != Symlink || e.Target == "") {
		var list []Entry
		list, err = cl.list(ctx, path.Dir(link), nil)
		for _, l := range list {
			if l.Name == path.Base(link) {
				e = l
			}
		}
	}
	if err != nil {
		return err
	}
	if dir := path.Dir(link); e.Type != Symlink || path.IsAbs(e.Target) || path.Join(dir, e.Target) != path.Join(dir, target) {
		cl.site.log.Debug("the server made another link than it was told", "path", link, "target", target, "made", e.Target)
		if e.Type == Symlink {
			if err := cl.Remove(ctx, link); err != nil {
				return err
			}
		}
		return unsupported
	}
	return nil
}

// within returns the path of the Remote that leads to abs on the server, "" if there is none.
func (s *site) within(abs string) string {
	s.mu.Lock()
	base := s.base
	s.mu.Unlock()
	if abs == base {
		return "/"
	}
	rest, ok := strings.CutPrefix(abs, strings.TrimSuffix(base, "/")+"/")
	if !ok {
		return ""
	}
	return "/" + rest
}

// shownTarget makes the target of a link in directory dir, both on the server, relative if it is an absolute one inside the
// tree: on this machine that path is another one.
func (s *site) shownTarget(dir, target string) string {
	if !path.IsAbs(target) {
		return target
	}
	to, from := s.within(path.Clean(target)), s.within(dir)
	if to == "" || from == "" {
		return target
	}
	return relative(from, to)
}

// relative returns the path that leads from directory from to to; both are absolute and clean.
func relative(from, to string) string {
	up := strings.Split(strings.Trim(from, "/"), "/")
	down := strings.Split(strings.Trim(to, "/"), "/")
	if up[0] == "" {
		up = nil
	}
	if down[0] == "" {
		down = nil
	}
	for len(up) > 0 && len(down) > 0 && up[0] == down[0] {
		up, down = up[1:], down[1:]
	}
	p := strings.Repeat("../", len(up)) + strings.Join(down, "/")
	if p == "" {
		return "."
	}
	return strings.TrimSuffix(p, "/")
}
