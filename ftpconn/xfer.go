package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// ErrPreempted ends a Download that nobody read while its session was needed elsewhere. The
// caller opens another at its offset.
var ErrPreempted = fmt.Errorf("%w: the idle transfer made room for another", ErrConnLost)

// ErrIncomplete says that the server cut a listing short: the entries are right, and there are more.
var ErrIncomplete = errors.New("the server cut the listing short")

var reTruncated = regexp.MustCompile(`(?i)truncated`)

// optimistic says that an upload's data may go before the server's 150: not over TLS, where the
// handshake must not begin before it, nor to a server that takes that for an end.
func (c *Conn) optimistic() bool {
	_, confirmed := c.site.modes.current()
	return confirmed && c.dataTLS == nil && c.site.pipelines() && !c.site.isPyftpdlib()
}

// begin readies the library for the transfer command cmd.
func (c *Conn) begin(ctx context.Context, cmd string) (d *dataConn, ahead bool, err error) {
	c.ctx = ctx
	if d = c.takeArmed(ctx); d != nil {
		ahead = true
	} else if d, err = c.makeData(ctx, cmd); err != nil {
		return nil, false, err
	}
	c.lib.data, c.spent = d, true
	return d, ahead, nil
}

// outcome tells the modes how a transfer command fared on d, and makes a failed data connection's
// error one that is tried again.
func (c *Conn) outcome(d *dataConn, ahead bool, err error) error {
	var re *ReplyError
	_, confirmed := c.site.modes.current()
	switch {
	case err == nil:
		c.site.modes.worked(d.mode)
		return nil
	case errors.As(err, &re) && (re.Code == 425 || re.Code == 426) && ahead:
		c.dropArmed()
		c.spent = false // so that the next one is made on the spot, and tells of the mode
		return fmt.Errorf("%w: a data connection made ahead was gone: %w", ErrConnLost, err)
	case errors.As(err, &re) && (re.Code == 425 || re.Code == 426 && !confirmed), errors.Is(err, ErrDataMode):
		c.broken.Store(true)
		if all := c.site.modes.failed(d.mode, c.id, false, err); all != nil {
			return all
		}
		return fmt.Errorf("%w: %w", ErrConnLost, err)
	case !d.mode.Passive() && IsLost(err) && c.ctx.Err() == nil:
		// The server tries to connect, in vain and in silence (up to 134 s measured).
		if !confirmed {
			if all := c.site.modes.failed(d.mode, c.id, false, err); all != nil {
				return all
			}
		}
	}
	return err
}

// transferContext keeps the wait for a first transfer in an untried active mode short.
func (c *Conn) transferContext(ctx context.Context, d *dataConn) (context.Context, context.CancelFunc) {
	if _, confirmed := c.site.modes.current(); confirmed || d.mode.Passive() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, firstTry, errNoConnection)
}

var errNoConnection = errors.New("the server did not connect")

// listing runs a listing command in dir and has read take the data to its end.
func (c *Conn) listing(ctx context.Context, dir, cmd string, read func(io.Reader) error) (err error) {
	verb, _, _ := strings.Cut(cmd, " ")
	d, ahead, err := c.begin(ctx, verb)
	if err != nil {
		return err
	}
	tctx, cancel := c.transferContext(ctx, d)
	defer cancel()
	c.ctx = tctx
	if c.cwd != dir {
		c.cwd = ""
		if err := c.sc.ChangeDir(dir); err != nil {
			d.Close()
			return c.lib.failure(err)
		}
	}
	c.lib.instead = cmd
	resp, err := c.sc.Retr("listing")
	c.lib.instead = ""
	if err != nil {
		d.Close()
		err = c.lib.failure(err)
		if tctx.Err() != nil {
			c.broken.Store(true)
			if ctx.Err() == nil {
				err = fmt.Errorf("%w: %w within %v", ErrDataMode, errNoConnection, firstTry)
			}
		}
		return c.outcome(d, ahead, err)
	}
	running := c.lib.xfer.Load()
	stop := context.AfterFunc(ctx, func() { d.abort() })
	err = read(resp)
	if err != nil {
		stop()
		if running != nil {
			c.breakOff(d, running)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.outcome(d, ahead, c.lib.failure(err))
	}
	c.ctx = ctx
	err = c.lib.failure(resp.Close())
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	if err = c.outcome(d, ahead, err); err != nil {
		return err
	}
	c.cwd = dir
	if reTruncated.MatchString(c.lastText) {
		return ErrIncomplete
	}
	return nil
}
