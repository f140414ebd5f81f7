package ftpconn

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jlaffaye/ftp"
)

// download is a Download. finish runs once, by whoever comes first.
type download struct {
	c     *Conn
	d     *dataConn
	resp  *ftp.Response
	run   *call
	stamp Stamp
	back  func(error) // gives the session back
	used  func()      // tells the pool of use

	ahead bool // d was made ahead of need
	got   bool // data came; of the goroutine that reads

	once    sync.Once
	verdict error
	stopped atomic.Pointer[error] // why Read ends: closed or preempted
	reading atomic.Bool
	last    atomic.Int64 // unix ns of the end of the last Read
}

// retrieve starts RETR.
func (c *Conn) retrieve(ctx context.Context, path string, offset int64) (*download, error) {
	for {
		d, ahead, err := c.begin(ctx, "RETR "+path)
		if err != nil {
			return nil, err
		}
		tctx, cancel := c.transferContext(ctx, d)
		c.ctx = tctx
		c.lib.first, c.lib.stamp = c.stampCommand(ctx, path), nil
		resp, err := c.sc.RetrFrom(path, uint64(offset))
		c.lib.first = ""
		expired := tctx.Err() != nil
		cancel()
		c.ctx = context.Background()
		if err == nil {
			if offset > 0 {
				c.site.update(func(s *site) { s.rest = true })
			}
			dl := &download{c: c, d: d, resp: resp, run: c.lib.xfer.Load(), stamp: c.stamp(ctx, c.lib.stamp), ahead: ahead}
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
	dl.got = dl.got || n > 0
	dl.last.Store(time.Now().UnixNano())
	dl.reading.Store(false)
	if err == nil {
		return n, nil
	}
	if e := dl.stopped.Load(); e != nil {
		return n, *e
	}
	if err == io.EOF {
		err = nil
	}
	if e := dl.finish(err != nil, err); e != nil {
		return n, e
	}
	if err != nil {
		return n, err
	}
	return n, io.EOF
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
		}
		if dl.verdict == nil || dl.stopped.Load() == nil && !dl.got { // else it says nothing of the mode
			dl.verdict = c.outcome(dl.d, dl.ahead, dl.verdict)
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
