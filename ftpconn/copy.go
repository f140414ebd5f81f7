package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Copier is a Remote whose server may copy files itself.
type Copier interface {
	// Copy makes, or replaces, the file to with the content of from, of which size (bytes) says how long that may take.
	// errors.ErrUnsupported if the server can't. After any other error it is unknown what to is.
	Copy(ctx context.Context, from, to string, size int64) error
}

var _ Copier = (*Client)(nil)

// slowestCopy is how fast a server's disk is believed to be at least, in bytes a second: it says nothing while it copies.
const slowestCopy = 4 << 20

// Copy copies with SITE CPFR and SITE CPTO (ProFTPD mod_copy), in one packet where the server takes that.
func (cl *Client) Copy(ctx context.Context, from, to string, size int64) error {
	a, err := cl.path(from)
	if err != nil {
		return err
	}
	b, err := cl.path(to)
	if err != nil {
		return err
	}
	cl.site.mu.Lock()
	no := cl.site.noCopy
	cl.site.mu.Unlock()
	if no {
		return fmt.Errorf("copying on the server: %w", errors.ErrUnsupported)
	}
	limit := cl.site.cfg.Timeout + time.Duration(size/slowestCopy)*time.Second
	_, err = cl.do(ctx, changes, func(c *Conn) error { return c.copy(ctx, a, b, limit) })
	if errors.Is(err, errors.ErrUnsupported) {
		cl.site.update(func(s *site) { s.noCopy = true })
	}
	return err
}

func (c *Conn) copy(ctx context.Context, from, to string, limit time.Duration) error {
	cmds := []string{"SITE CPFR " + from, "SITE CPTO " + to}
	calls := newCalls(cmds)
	together := c.site.pipelines()
	if together {
		if err := c.l.send(calls, cmds); err != nil {
			return err
		}
	}
	var refused error
	for i, asked := range calls {
		if refused != nil && !together {
			break
		}
		if !together {
			if err := c.l.send(calls[i:i+1], cmds[i:i+1]); err != nil {
				return err
			}
		}
		r, err := c.l.wait(ctx, asked, limit)
		if err != nil {
			c.broken.Store(true)
			return err
		}
		if r.class() >= 4 && refused == nil {
			refused = refusalOf(cmds[i], r, from)
		}
	}
	return refused
}
