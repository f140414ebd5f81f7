package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

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
	if err != nil && e.u.aborted.Load() == nil && e.u.recheck != nil {
		_, err = e.cl.do(ctx, anew, e.u.recheck)
	}
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
