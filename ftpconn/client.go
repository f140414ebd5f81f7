package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
	"unicode/utf8"
)

// Client is a Remote over a pool of sessions. Safe for concurrent use.
type Client struct {
	site      *site
	pool      *pool[*Conn]
	outage    outage
	traffic   traffic
	unsettled unsettled
}

var (
	_ Remote   = (*Client)(nil)
	_ Streamer = (*Client)(nil)
)

// New checks cfg and makes a Client; nothing is sent before Connect or the first call.
func New(cfg Config) (*Client, error) {
	if cfg.Host == "" {
		return nil, errors.New("no host named")
	}
	if cfg.Port == 0 {
		cfg.Port = 21
		if cfg.TLS == TLSImplicit {
			cfg.Port = 990
		}
	}
	if cfg.User == "" {
		cfg.User = "anonymous"
		if cfg.Password == "" {
			cfg.Password = "anonymous@"
		}
	}
	for what, s := range map[string]string{"user": cfg.User, "password": cfg.Password, "account": cfg.Account, "path": cfg.Root} {
		if err := checkArgument("X " + s); err != nil {
			return nil, fmt.Errorf("%w: the %s contains a line end or NUL", ErrBadName, what)
		}
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 8
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.IdleTime <= 0 {
		cfg.IdleTime = 60 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	direct := cfg.DialContext == nil
	if direct {
		d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 5}}
		cfg.DialContext = d.DialContext
	}
	s := &site{cfg: cfg, log: cfg.Logger, direct: direct}
	c := &Client{site: s}
	c.pool = newPool(poolConfig[*Conn]{
		max: cfg.MaxConns, idleTime: cfg.IdleTime, keepEvery: cfg.IdleTime / 2, log: cfg.Logger, dial: c.dial,
	})
	return c, nil
}

func (cl *Client) dial(ctx context.Context) (*Conn, error) {
	c, err := cl.site.dial(ctx)
	if errors.Is(err, errEarlyEnd) && cl.pool.stats().Up > 0 {
		err = fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	if err == nil {
		cl.outage.over()
		c.spent = true
		c.armAhead()
	}
	return c, err
}

// Connect logs in and lists the root, so that what can't work fails here, with a reason: a
// wrong password, a missing directory, or data connections that don't come about. Meanwhile a second session is
// opened for what comes next.
func (cl *Client) Connect(ctx context.Context) error {
	lease, err := cl.pool.get(ctx, classMeta)
	if err != nil {
		return err
	}
	cl.giveBack(lease, nil)
	cl.pool.grow()
	_, err = cl.List(ctx, "/")
	if errors.Is(err, ErrIncomplete) {
		return nil
	}
	return err
}

// Features is what was learned so far.
func (cl *Client) Features() Features { return cl.site.snapshot() }

// Stats is the state of the pool.
func (cl *Client) Stats() PoolStats { return cl.pool.stats() }

// PoolStats is a view of the sessions at one moment.
type PoolStats = poolStats

// Close ends all sessions.
func (cl *Client) Close() error {
	for _, c := range cl.pool.inUse() {
		c.l.fail(errPoolClosed)
	}
	cl.pool.close()
	return nil
}

// repeat says what to do when the connection is lost in the middle of an operation.
type repeat uint8

const (
	anew    repeat = iota // the operation can be repeated without harm
	changes               // it may have happened: the caller judges the second answer
)

// do borrows a session and runs f, once more on another session if the first was lost and, for
// reads, once more if the server said that a repetition may help. again tells f's caller that
// an earlier try may have done the work.
func (cl *Client) do(ctx context.Context, how repeat, f func(c *Conn) error) (again bool, err error) {
	for try := 0; ; try++ {
		lease, err := cl.session(ctx)
		if err != nil {
			return again, err
		}
		c := lease.s
		c.ctx = ctx
		err = f(c)
		if ctx.Err() != nil && err != nil {
			c.broken.Store(true) // a reply may be still to come
		}
		cl.giveBack(lease, err)
		if err == nil || ctx.Err() != nil || try >= cl.tries() {
			return again, err
		}
		var re *ReplyError
		switch {
		case IsLost(err) && !errors.Is(err, errReplyTimeout):
			again = again || how == changes
			cl.site.log.Debug("once more after a lost connection", "reason", err)
		case errors.As(err, &re) && re.Temporary() && re.Kind == nil && how == anew && try == 0:
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return again, ctx.Err()
			}
		default:
			return again, err
		}
	}
}

// tries is how often an operation is repeated on another session after one was lost: a server that ends all sessions at
// once leaves a pool of dead ones, and one of them after the other may be tried before a new one is made.
func (cl *Client) tries() int { return cl.site.cfg.MaxConns + 2 }

// giveBack is the one way back for a session: the next data connection is asked for on the way.
func (cl *Client) giveBack(l *lease[*Conn], err error) {
	c := l.s
	c.ctx = context.Background()
	if isSilence(err) {
		cl.site.silence.met(cl.site.cfg.Timeout)
	}
	c.armAhead()
	if c.alive() && !errors.Is(err, ErrTooMany) {
		err = nil // the session is in step, whatever became of the transfer
	}
	l.put(err)
}

func (cl *Client) path(p string) (string, error) {
	if err := checkArgument(p); err != nil {
		return "", err
	}
	if cl.site.has("ESTA") && (strings.HasSuffix(p, " ") || strings.Contains(p, " /")) {
		// Pure-FTPd 1.0.50, which alone lists ESTA, stores "a " as "a_" and calls that a success.
		return "", fmt.Errorf("%w: this server takes no space at the end of a name: %q", ErrBadName, p)
	}
	if cl.site.isPyftpdlib() && !utf8.ValidString(p) {
		// It would make another name of it, and call that a success.
		return "", fmt.Errorf("%w: this server takes names in UTF-8 only: %q", ErrBadName, p)
	}
	return cl.site.abs(p), nil
}
