package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jlaffaye/ftp"
)

// ErrPreempted ends a Download that nobody read while its session was needed elsewhere. The
// caller opens another at its offset.
var ErrPreempted = fmt.Errorf("%w: the idle transfer made room for another", ErrConnLost)

// ErrIncomplete says that the server cut a listing short: the entries are right, and there are more.
var ErrIncomplete = errors.New("the server cut the listing short")

var reTruncated = regexp.MustCompile(`(?i)truncated`)

// optimistic says that an upload's data may go before the server's 150: not over TLS, where the
// handshake must not begin before it.
func (c *Conn) optimistic() bool {
	_, confirmed := c.site.modes.current()
	return confirmed && c.dataTLS == nil && c.site.pipelines()
}

// begin readies the library for a transfer.
func (c *Conn) begin(ctx context.Context) (d *dataConn, ahead bool, err error) {
	c.ctx = ctx
	if d = c.takeArmed(ctx); d != nil {
		ahead = true
	} else if d, err = c.makeData(ctx); err != nil {
		return nil, false, err
	}
	c.lib.data, c.spent = d, true
	return d, ahead, nil
}

// outcome tells the modes how a transfer command fared on d, and makes a failed data connection's
// error one that is tried again.
func (c *Conn) outcome(d *dataConn, ahead bool, err error) error {
	var re *ReplyError
	switch {
	case err == nil:
		c.site.modes.worked(d.mode)
		return nil
	case errors.As(err, &re) && (re.Code == 425 || re.Code == 426) && ahead:
		return fmt.Errorf("%w: a data connection made ahead was gone: %w", ErrConnLost, err)
	case errors.As(err, &re) && re.Code == 425, errors.Is(err, ErrDataMode):
		c.broken.Store(true)
		if all := c.site.modes.failed(d.mode, c.id, false, err); all != nil {
			return all
		}
		return fmt.Errorf("%w: %w", ErrConnLost, err)
	case !d.mode.Passive() && IsLost(err) && c.ctx.Err() == nil:
		// The server tries to connect, in vain and in silence (up to 134 s measured).
		if _, confirmed := c.site.modes.current(); !confirmed {
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
	d, ahead, err := c.begin(ctx)
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

// download is a Download. finish runs once, by whoever comes first.
type download struct {
	c    *Conn
	d    *dataConn
	resp *ftp.Response
	run  *call
	back func(error) // gives the session back
	used func()      // tells the pool of use

	once    sync.Once
	verdict error
	stopped atomic.Pointer[error] // why Read ends: closed or preempted
	reading atomic.Bool
	last    atomic.Int64 // unix ns of the end of the last Read
}

// retrieve starts RETR.
func (c *Conn) retrieve(ctx context.Context, path string, offset int64) (*download, error) {
	for {
		d, ahead, err := c.begin(ctx)
		if err != nil {
			return nil, err
		}
		tctx, cancel := c.transferContext(ctx, d)
		c.ctx = tctx
		resp, err := c.sc.RetrFrom(path, uint64(offset))
		expired := tctx.Err() != nil
		cancel()
		c.ctx = context.Background()
		if err == nil {
			if offset > 0 {
				c.site.update(func(s *site) { s.rest = true })
			}
			dl := &download{c: c, d: d, resp: resp, run: c.lib.xfer.Load()}
			dl.last.Store(time.Now().UnixNano())
			return dl, nil
		}
		d.Close()
		err = c.lib.failure(err)
		if expired {
			c.broken.Store(true)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			err = fmt.Errorf("%w: %w", ErrDataMode, errNoConnection)
		}
		if err = c.outcome(d, ahead, err); ahead && IsLost(err) && c.alive() && ctx.Err() == nil {
			continue // once: the next one is made on the spot
		}
		return nil, err
	}
}

func (dl *download) Read(p []byte) (int, error) {
	if e := dl.stopped.Load(); e != nil {
		return 0, *e
	}
	dl.reading.Store(true)
	dl.used()
	n, err := dl.resp.Read(p)
	dl.last.Store(time.Now().UnixNano())
	dl.reading.Store(false)
	if err == nil {
		return n, nil
	}
	if e := dl.stopped.Load(); e != nil {
		return n, *e
	}
	if err == io.EOF {
		if e := dl.finish(false, nil); e != nil {
			return n, e
		}
		return n, io.EOF
	}
	dl.finish(true, err)
	return n, err
}

// finish ends the transfer: in peace at its end, else by resetting the data connection.
func (dl *download) finish(abort bool, cause error) error {
	dl.once.Do(func() {
		c := dl.c
		if abort {
			c.breakOff(dl.d, dl.run)
			dl.verdict = cause
			c.lib.xfer.Store(nil)
		} else {
			dl.verdict = c.lib.failure(dl.resp.Close())
			if dl.verdict == nil {
				c.site.modes.worked(dl.d.mode)
			}
		}
		dl.back(dl.verdict)
	})
	return dl.verdict
}

func (dl *download) Close() error {
	dl.stop(fmt.Errorf("download: %w", io.ErrClosedPipe))
	return nil
}

func (dl *download) stop(why error) {
	if !dl.stopped.CompareAndSwap(nil, &why) {
		return
	}
	go func() {
		ended := dl.d.ended()
		if !ended {
			dl.d.abort() // wakes a Read
		}
		dl.finish(!ended, why)
	}()
}

// wanted is called when another waits for a session: a download that is read stays.
func (dl *download) wanted() {
	if !dl.reading.Load() && time.Since(time.Unix(0, dl.last.Load())) > 200*time.Millisecond {
		dl.stop(ErrPreempted)
	}
}

// upload is an Upload: what is written is handed to the library's reader, piece by piece.
type upload struct {
	c     *Conn
	d     *dataConn
	back  func(error)
	used  func()
	bytes chan []byte   // to the library
	taken chan struct{} // it has sent the piece
	ended chan struct{} // the library is done; err is set
	err   error

	once sync.Once
	last atomic.Int64
	busy atomic.Bool
	// aborted is why, if the end came from here
	aborted atomic.Pointer[error]
}

// store starts STOR or APPE.
func (c *Conn) store(ctx context.Context, path string, mode StoreMode, offset int64) (*upload, error) {
	if mode == Restart && offset > 0 && !c.site.restWorks() {
		if _, err := c.ask(ctx, "REST", "0"); err != nil { // a refusal behind STOR would come too late
			return nil, err
		}
		c.site.update(func(s *site) { s.rest = true })
	}
	d, ahead, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	c.ctx = context.Background()
	u := &upload{c: c, d: d, bytes: make(chan []byte), taken: make(chan struct{}), ended: make(chan struct{})}
	u.last.Store(time.Now().UnixNano())
	go func() {
		defer close(u.ended)
		var err error
		if mode == Append {
			err = c.sc.Append(path, u)
		} else {
			err = c.sc.StorFrom(path, u, uint64(offset))
		}
		u.err = c.outcome(d, ahead, c.lib.failure(err))
	}()
	return u, nil
}

func (s *site) restWorks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rest
}

// Read is not used: the library's io.Copy prefers WriteTo.
func (u *upload) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// WriteTo is called by the library with the data connection.
func (u *upload) WriteTo(w io.Writer) (n int64, err error) {
	for p := range u.bytes {
		m, err := w.Write(p)
		n += int64(m)
		if err != nil {
			return n, err
		}
		u.taken <- struct{}{}
	}
	return n, nil
}

func (u *upload) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	u.busy.Store(true)
	u.used()
	defer func() { u.last.Store(time.Now().UnixNano()); u.busy.Store(false) }()
	select {
	case u.bytes <- p:
	case <-u.ended:
		return 0, u.failed()
	}
	select {
	case <-u.taken:
		return len(p), nil
	case <-u.ended:
		return 0, u.failed()
	}
}

func (u *upload) failed() error {
	if e := u.aborted.Load(); e != nil {
		return *e
	}
	if u.err == nil {
		return io.ErrClosedPipe
	}
	return u.err
}

func (u *upload) Close() error {
	if u.aborted.Load() != nil {
		return u.failed()
	}
	u.once.Do(func() {
		close(u.bytes)
		<-u.ended
		u.back(u.err)
	})
	<-u.ended
	if u.aborted.Load() != nil {
		return u.failed()
	}
	return u.err
}

func (u *upload) Abort() { u.stop(errAborted) }

func (u *upload) stop(why error) {
	u.once.Do(func() {
		u.aborted.Store(&why)
		go func() {
			c := u.c
			if run := c.lib.xfer.Load(); run != nil {
				// The 150 must have come before the next reply may end it.
				for i := 0; i < 100 && !run.hasBegun(c.l) && c.alive(); i++ {
					time.Sleep(10 * time.Millisecond)
				}
				c.l.settleAny(run)
			}
			u.d.abort()
			close(u.bytes)
			t := time.AfterFunc(settleTime, func() { c.broken.Store(true); c.l.fail(errAborted) })
			<-u.ended
			t.Stop()
			u.back(why)
		}()
	})
}

// wanted gives up an upload that nobody has written to for long.
func (u *upload) wanted() {
	if !u.busy.Load() && time.Since(time.Unix(0, u.last.Load())) > 5*time.Second {
		u.stop(ErrPreempted)
	}
}

func (c *call) hasBegun(l *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.begun
}

// ended says that the other side has closed and nothing is left to read.
func (d *dataConn) ended() bool {
	d.mu.Lock()
	raw, t, err := d.raw, d.tls, d.err
	d.mu.Unlock()
	return raw != nil && t == nil && err == nil && socketEnded(raw)
}

func socketEnded(c net.Conn) bool {
	n, err := peek(c)
	return n == 0 && err == nil
}
