package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
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

// Retrieve starts a download.
func (cl *Client) Retrieve(ctx context.Context, p string, offset int64) (Download, error) {
	if _, err := cl.path(p); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		lease, err := cl.pool.get(ctx, classFor(ctx, classData))
		if err != nil {
			return nil, err
		}
		dl, err := lease.s.retrieve(ctx, cl.site.abs(p), offset)
		if err == nil {
			dl.back, dl.used = func(err error) { cl.giveBack(lease, err) }, lease.touch
			lease.onWanted(dl.wanted)
			cl.traffic.downloads.Add(1)
			return countedDownload{dl, &cl.traffic}, nil
		}
		cl.giveBack(lease, err)
		if ctx.Err() == nil && try < cl.tries() && IsLost(err) && !errors.Is(err, errReplyTimeout) {
			continue
		}
		if errors.Is(err, ErrRemoteEOF) {
			return emptyDownload{}, nil
		}
		return nil, cl.explain(ctx, opRead, p, "", err)
	}
}

// emptyDownload is what lies beyond the end of a file.
type emptyDownload struct{}

func (emptyDownload) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyDownload) Close() error             { return nil }

// Store starts an upload, once the server has ended one to the same file that was broken off.
func (cl *Client) Store(ctx context.Context, p string, mode StoreMode, offset int64) (Upload, error) {
	abs, err := cl.path(p)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		if err := cl.unsettled.wait(ctx, abs); err != nil {
			return nil, err
		}
		lease, err := cl.pool.get(ctx, classFor(ctx, classData))
		if err != nil {
			return nil, err
		}
		u, err := lease.s.store(ctx, abs, mode, offset)
		if err == nil {
			u.leaving = func() func() { return cl.unsettled.add(abs) }
			u.back, u.used = func(err error) { cl.traffic.ended(err); cl.giveBack(lease, err) }, lease.touch
			lease.onWanted(func() { u.wanted(cl.pool.stalled) })
			return &explainedUpload{cl: cl, path: p, mode: mode, u: u}, nil
		}
		cl.giveBack(lease, err)
		if ctx.Err() == nil && try < cl.tries() && IsLost(err) && !errors.Is(err, errReplyTimeout) {
			continue
		}
		if mode == Append && ofPRET(err) && errors.Is(err, errors.ErrUnsupported) {
			cl.site.update(func(s *site) { s.noAppend = true })
		}
		return nil, cl.explain(ctx, opStore, p, "", err)
	}
}

// explainedUpload looks into refusals that say too little, once the session is free again.
type explainedUpload struct {
	cl   *Client
	path string
	mode StoreMode
	u    *upload
	done bool
	err  error
}

func (e *explainedUpload) Write(b []byte) (int, error) {
	n, err := e.u.Write(b)
	e.cl.traffic.sent.Add(int64(n))
	if err != nil {
		e.Close()
		return n, e.err
	}
	return n, nil
}

// SendFile implements FileSender.
func (e *explainedUpload) SendFile(f *os.File, off, n int64) (int64, error) {
	n, err := e.u.SendFile(f, off, n)
	e.cl.traffic.sent.Add(n)
	if err != nil && !errors.Is(err, ErrSource) {
		e.Close()
		return n, e.err
	}
	return n, err
}

func (e *explainedUpload) Close() error {
	if e.err != nil {
		return e.err
	}
	return e.explain(e.u.Close())
}

func (e *explainedUpload) CloseWith(a Attrs) (Attrs, error) {
	if e.err != nil {
		return Attrs{}, e.err
	}
	set, err := e.u.CloseWith(a)
	return set, e.explain(err)
}

func (e *explainedUpload) explain(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), e.cl.site.cfg.Timeout)
	defer cancel()
	if err == nil && !e.done {
		e.done = true
		e.cl.readClock(ctx, e.cl.site.abs(e.path))
	}
	if err != nil {
		e.err = e.cl.explain(ctx, opStore, e.path, "", err)
		var re *ReplyError
		if e.mode == Append && errors.As(err, &re) && (errors.Is(err, errors.ErrUnsupported) || re.Code == 451 && !errors.Is(err, ErrNoSpace)) {
			e.cl.site.update(func(s *site) { s.noAppend = true }) // ProFTPD's default: 451 Append/Restart not permitted
			e.err = fmt.Errorf("%w: %w", errors.ErrUnsupported, e.err)
		}
	}
	return e.err
}

func (e *explainedUpload) Abort() { e.u.Abort() }

func (e *explainedUpload) Begun() bool { return e.u.Begun() }

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
