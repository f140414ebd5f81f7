package ftpconn

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

func (m StoreMode) restarts() bool { return m == Restart || m == Within }

func (m StoreMode) verb() string {
	if m == Append {
		return "APPE"
	}
	return "STOR"
}

// upload is an Upload: what is written is handed to the library's reader, piece by piece.
type upload struct {
	c       *Conn
	d       *dataConn
	path    string
	back    func(error)
	used    func()
	leaving func() (over func()) // called when the upload is broken off, over when the server has ended it
	pieces  chan piece           // to the library; never closed: the end may come from elsewhere than the writer
	over    chan struct{}        // closed when no more pieces come
	taken   chan taken           // it has sent the piece
	running chan struct{}        // closed when the transfer command was sent
	ended   chan struct{}        // the library is done; the following are set
	err     error
	begun   bool // a 1yz reply came
	sent    int64
	// recheck is what is left to do if the server confirmed, and its session ended before it had told the size: err is of that
	recheck func(*Conn) error

	once sync.Once
	last atomic.Int64
	busy atomic.Bool
	// aborted is why, if the end came from here
	aborted atomic.Pointer[error]
}

// piece is what is sent at once: p, or n bytes of file at off.
type piece struct {
	p      []byte
	file   *os.File
	off, n int64
}

// taken is what became of a piece. err is of the file alone.
type taken struct {
	n   int64
	err error
}

// store starts STOR or APPE.
func (c *Conn) store(ctx context.Context, path string, mode StoreMode, offset int64) (*upload, error) {
	if mode.restarts() && offset > 0 && !c.site.restWorks() {
		if _, err := c.ask(ctx, "REST", "0"); err != nil { // a refusal behind STOR would come too late
			return nil, err
		}
		c.site.update(func(s *site) { s.rest = true })
	}
	d, ahead, err := c.begin(ctx, mode.verb()+" "+path)
	if err != nil {
		return nil, err
	}
	c.ctx, c.lib.main, c.lib.size = context.Background(), nil, nil
	d.hasty = mode == Replace && c.hastens()
	u := &upload{
		c: c, d: d, path: path,
		pieces: make(chan piece), over: make(chan struct{}), taken: make(chan taken), running: make(chan struct{}), ended: make(chan struct{}),
	}
	u.last.Store(time.Now().UnixNano())
	go func() {
		defer close(u.ended)
		var err error
		if mode == Append {
			err = c.sc.Append(path, u)
		} else {
			if !mode.restarts() {
				offset = 0
			}
			err = c.sc.StorFrom(path, u, uint64(offset))
		}
		u.err = c.outcome(d, ahead, c.lib.failure(err))
		u.begun = c.lib.main != nil && c.lib.main.hasBegun(c.l)
		switch {
		case u.err == nil && u.sent > 0:
			if u.err = c.check(path, mode, offset+u.sent, c.lib.size); IsLost(u.err) && !isSilence(u.err) || is421(u.err) {
				u.recheck = func(c *Conn) error { return c.check(path, mode, offset+u.sent, nil) }
			}
		case d.hurried && IsLost(u.err):
			c.site.update(func(s *site) { s.harmed++ })
			c.site.log.Debug("an upload whose end was hastened came to harm", "session", c.id, "reason", u.err)
		}
		if d.hurried {
			c.site.update(func(s *site) { s.hastened++ })
		}
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
	close(u.running)
	for {
		var p piece
		select {
		case p = <-u.pieces:
		case <-u.over:
			return n, nil
		}
		var t taken
		if p.file != nil {
			t.n, t.err = u.d.sendFile(p.file, p.off, p.n)
		} else {
			var m int
			m, t.err = w.Write(p.p)
			t.n = int64(m)
		}
		n += t.n
		u.sent = n
		if t.err != nil && !errors.Is(t.err, ErrSource) {
			return n, t.err
		}
		u.taken <- t
	}
}

func (u *upload) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := u.give(piece{p: p})
	return int(n), err
}

// SendFile implements FileSender.
func (u *upload) SendFile(f *os.File, off, n int64) (int64, error) {
	if n <= 0 {
		return 0, nil
	}
	return u.give(piece{file: f, off: off, n: n})
}

// give hands a piece to the library and waits until it is sent.
func (u *upload) give(p piece) (int64, error) {
	u.busy.Store(true)
	u.used()
	defer func() { u.last.Store(time.Now().UnixNano()); u.busy.Store(false) }()
	select {
	case u.pieces <- p:
	case <-u.ended:
		return 0, u.failed()
	}
	select {
	case t := <-u.taken:
		return t.n, t.err
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
	u.end(func() {})
	return u.verdict()
}

// end ends the data and, once the library is done, gives the session back after behind.
func (u *upload) end(behind func()) {
	u.once.Do(func() {
		close(u.over)
		<-u.ended
		behind()
		u.back(u.err)
	})
}

func (u *upload) verdict() error {
	<-u.ended
	if u.aborted.Load() != nil {
		return u.failed()
	}
	return u.err
}

func (u *upload) Abort() { u.stop(errAborted) }

func (u *upload) Begun() bool {
	select {
	case <-u.ended:
		return u.begun
	default:
		return false
	}
}

func (u *upload) stop(why error) {
	u.once.Do(func() {
		u.aborted.Store(&why)
		over := u.leaving()
		go func() {
			defer over()
			c := u.c
			if run := c.lib.xfer.Load(); run != nil {
				// The 150 must have come before the next reply may end it.
				for i := 0; i < 100 && !run.hasBegun(c.l) && c.alive(); i++ {
					time.Sleep(10 * time.Millisecond)
				}
				c.l.settleAny(run)
			}
			u.d.abort()
			close(u.over)
			t := time.AfterFunc(settleTime, func() { c.broken.Store(true); c.l.fail(errAborted) })
			<-u.ended
			t.Stop()
			u.back(why)
		}()
	})
}

// How long nobody has written to an upload that is given up when another needs its session. The rest of it is sent anew, by some
// servers' leave only the whole: so it is a while, but for a pool that is stalled, which is what one session that both the
// writer and what it waits for need comes to.
const (
	yieldAfter   = 5 * time.Second
	yieldStalled = 200 * time.Millisecond
)

// idle is how long nobody has written.
func (u *upload) idle() time.Duration {
	if u.busy.Load() {
		return 0
	}
	return time.Since(time.Unix(0, u.last.Load()))
}

// wanted gives up an upload that nobody has written to for long. stalled says that nobody has used any session for data for that long, and
// that one is still needed.
func (u *upload) wanted(stalled func(time.Duration) bool) {
	if early := yieldStalled - u.idle(); early > 0 && !u.busy.Load() {
		select {
		case <-time.After(early):
		case <-u.ended:
			return
		}
	}
	if idle := u.idle(); idle > yieldAfter || idle >= yieldStalled && stalled(yieldStalled) {
		u.stop(ErrPreempted)
	}
}

func (c *call) hasBegun(l *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.begun
}
