package ftpconn

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// Mkdir makes a directory.
func (cl *Client) Mkdir(ctx context.Context, p string) error {
	abs, err := cl.path(p)
	if err != nil {
		return err
	}
	again, err := cl.do(ctx, changes, func(c *Conn) error { return c.lib.failure(c.sc.MakeDir(abs)) })
	err = cl.explain(ctx, opMkdir, p, "", err)
	if again && errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Rmdir removes an empty directory.
func (cl *Client) Rmdir(ctx context.Context, p string) error {
	abs, err := cl.path(p)
	if err != nil {
		return err
	}
	again, err := cl.do(ctx, changes, func(c *Conn) error {
		if c.cwd == abs {
			c.cwd = "" // not to be in what goes away
		}
		return c.lib.failure(c.sc.RemoveDir(abs))
	})
	return gone(again, cl.explain(ctx, opRmdir, p, "", err))
}

// Remove removes what is not a directory.
func (cl *Client) Remove(ctx context.Context, p string) error {
	abs, err := cl.path(p)
	if err != nil {
		return err
	}
	again, err := cl.do(ctx, changes, func(c *Conn) error { return c.lib.failure(c.sc.Delete(abs)) })
	return gone(again, cl.explain(ctx, opRemove, p, "", err))
}

// gone takes "does not exist" for success if an earlier try may have removed it.
func gone(again bool, err error) error {
	if again && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IsPassing says that name is one that a server gives to a file while it renames it over another: Pure-FTPd 1.0.50,
// ".pureftpd-rename." and two numbers. A listing that is made at that moment has it.
func IsPassing(name string) bool { return strings.HasPrefix(name, ".pureftpd-rename.") }

// Rename is RNFR and RNTO in one packet.
func (cl *Client) Rename(ctx context.Context, from, to string) error {
	a, err := cl.path(from)
	if err != nil {
		return err
	}
	b, err := cl.path(to)
	if err != nil {
		return err
	}
	if err := cl.unsettled.wait(ctx, a); err != nil { // the next upload is to b
		return err
	}
	again, err := cl.do(ctx, changes, func(c *Conn) error { return c.lib.failure(c.sc.Rename(a, b)) })
	err = cl.explain(ctx, opRename, from, to, err)
	if again && errors.Is(err, fs.ErrNotExist) {
		if _, e := cl.look(ctx, to); e == nil {
			return nil
		}
	}
	return err
}
