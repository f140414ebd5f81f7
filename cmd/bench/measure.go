package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bench is one run of the program.
type bench struct {
	cfg        config
	dir        string // of everything
	fixture    *fixture
	contenders []*contender
	servers    map[serverKey]*server
	jobs       int
}

// serverKey tells the servers apart: one for each line, and one more for each cap.
type serverKey struct {
	line string
	rate int64
}

// measure runs the workloads, and leaves nothing behind. Interrupted, it returns what it has; its error is
// about the bench itself, or says that ftpfs failed.
func measure(ctx context.Context, cfg config) (rep *report, err error) {
	b := &bench{cfg: cfg, servers: map[serverKey]*server{}}
	if b.dir, err = os.MkdirTemp(cfg.dir, "ftpfs-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { // the server's sessions are another user's
		return nil, err
	}
	if b.fixture, err = newFixture(b.dir, newSizes(cfg.quick)); err != nil {
		return nil, err
	}
	b.contenders = contenders(cfg.ftpfs, cfg.peers)
	rep = newReport(cfg, b.contenders)
	lines, err := b.lines(ctx, rep)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		for _, w := range workloads() {
			if !cfg.only.MatchString(w.name) || (w.wanOnly && l.rtt == 0) {
				continue
			}
			if _, err := exec.LookPath(w.tool); w.tool != "" && err != nil {
				rep.note("%q is left out: %v.", w.name, err)
				continue
			}
			if err := b.row(ctx, rep, l, &w); err != nil {
				return rep, err
			}
		}
	}
	if failed := rep.failures(ftpfsName); len(failed) > 0 {
		return rep, fmt.Errorf("ftpfs failed in: %s", strings.Join(failed, "; "))
	}
	return rep, nil
}

// lines are the ways to a server that can be had.
func (b *bench) lines(ctx context.Context, rep *report) ([]*line, error) {
	var lines []*line
	if b.cfg.line != "loopback" {
		l, err := b.slowLine(ctx)
		switch {
		case err == nil:
			lines = append(lines, l)
		case b.cfg.line == "wan" || ctx.Err() != nil:
			return nil, err
		default:
			rep.note("The slow line is left out: %v.", err)
		}
	}
	if b.cfg.line != "wan" {
		here := func(argv ...string) []string { return argv }
		lines = append(lines, &line{name: "loopback", host: "127.0.0.1", onClient: here, onServer: here})
	}
	return lines, nil
}

func (b *bench) slowLine(ctx context.Context) (*line, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	for _, program := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, err
		}
	}
	client, server, err := newWAN(ctx, b.cfg.rtt)
	if err != nil {
		return nil, err
	}
	return &line{name: b.cfg.rtt.String(), rtt: b.cfg.rtt, host: wanServer, onClient: client.enter, onServer: server.enter}, nil
}

func (b *bench) server(ctx context.Context, l *line, rate int64) (*server, error) {
	key := serverKey{l.name, rate}
	if s := b.servers[key]; s != nil {
		return s, nil
	}
	s, err := l.startServer(ctx, filepath.Join(b.dir, fmt.Sprintf("server-%d", len(b.servers))), b.fixture.root, rate)
	if err == nil {
		b.servers[key] = s
	}
	return s, err
}

// row measures one workload over one line, the contenders in turn, run by run: what else the
// machine does then meets all of them alike.
func (b *bench) row(ctx context.Context, rep *report, l *line, w *workload) error {
	if err := b.fixture.make(w.parts); err != nil {
		return err
	}
	s, err := b.server(ctx, l, w.rate)
	if err != nil {
		return err
	}
	r := rep.row(l, w)
	runs := b.cfg.n
	if runs == 0 {
		runs = 1
		if w.short {
			runs = 3
		}
	}
	for run := range runs {
		for _, c := range b.contenders {
			res := r.result(c)
			if res.skip != "" || res.err != nil {
				continue
			}
			smp, err := b.sample(ctx, l, s, w, c, run == runs-1)
			if ctx.Err() != nil {
				r.drop(c)
				return context.Cause(ctx)
			}
			res.add(smp, err)
			progress(l, w, c, res)
		}
	}
	return nil
}

// sample is what one run brought.
type sample struct {
	took time.Duration
	used usage         // of the program behind the mount
	idle time.Duration // of the processor, in idleTime afterwards; measured in the last run
}

const (
	idleAfter = time.Second // to come to rest: replies awaited in the background, sessions given back
	idleTime  = 2 * time.Second
)

// sample does one job. When it returns, the mount is gone, and so are the files.
func (b *bench) sample(ctx context.Context, l *line, s *server, w *workload, c *contender, last bool) (smp sample, err error) {
	b.jobs++
	j := &job{fixture: b.fixture, line: l, srv: s, scratch: filepath.Join(b.dir, fmt.Sprintf("job-%d", b.jobs))}
	if err := os.Mkdir(j.scratch, 0o755); err != nil {
		return smp, err
	}
	if j.up, err = b.fixture.uploadDir(); err != nil {
		return smp, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.scratch), os.RemoveAll(j.onServer(j.up))) }()

	limited, cancel := context.WithTimeoutCause(ctx, b.cfg.limit, errTooLong)
	defer cancel()
	do := w.by(c)
	if c.mount == nil {
		smp.took, err = do(limited, j)
		return smp, err
	}

	// Beside the scratch directory, which is removed: not with a mount in it.
	j.mnt = filepath.Join(b.dir, fmt.Sprintf("mnt-%d", b.jobs))
	if err := os.Mkdir(j.mnt, 0o755); err != nil {
		return smp, err
	}
	options := ""
	if c.name == ftpfsName {
		options = strings.Trim(b.cfg.options+","+w.option, ",")
	}
	m, err := newMount(limited, c, j, options)
	if err != nil {
		return smp, errors.Join(err, os.Remove(j.mnt))
	}
	smp, err = m.do(limited, do, j, c.name == ftpfsName && last)
	if err == nil {
		start := time.Now()
		if err = m.unmount(max(b.cfg.limit-smp.took, 10*time.Second)); w.option != "" {
			smp.took += time.Since(start)
		}
		if c.name != ftpfsName && !mounted(m.point) {
			err = nil // how a peer ends is not what is measured
		}
	}
	m.kill()
	if err == nil && w.check != nil {
		err = w.check(j)
	}
	if left := os.Remove(j.mnt); left != nil && err == nil { // fails for a mount: never remove what is in one
		err = left
	}
	return smp, err
}

// do works on the mount, and takes the mount away if that takes too long: system calls that wait for it
// end then.
func (m *mount) do(ctx context.Context, do work, j *job, idle bool) (smp sample, err error) {
	stop := context.AfterFunc(ctx, m.kill)
	defer stop()
	done := make(chan error, 1)
	go func() {
		var err error
		smp.took, err = do(ctx, j)
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			return sample{}, errors.New("hangs, even without the mount")
		}
	}
	if ctx.Err() != nil {
		return sample{}, context.Cause(ctx)
	}
	if err != nil {
		return smp, fmt.Errorf("%w%s", err, m.proc.tail())
	}
	if idle {
		time.Sleep(idleAfter)
	}
	if smp.used, err = processUsage(m.proc.pid()); err != nil || !idle {
		return smp, err
	}
	time.Sleep(idleTime)
	after, err := processUsage(m.proc.pid())
	smp.idle = after.cpu - smp.used.cpu
	return smp, err
}

// cleanUp ends the servers and removes the directory, unless a mount is left in it.
func (b *bench) cleanUp() error {
	for _, s := range b.servers {
		s.proc.kill()
	}
	mounts, err := filepath.Glob(filepath.Join(b.dir, "mnt-*"))
	if err != nil {
		return err
	}
	for _, point := range mounts {
		if mounted(point) {
			if err := detach(point, true); err != nil {
				return fmt.Errorf("%s is left mounted, and %s in place: %w", point, b.dir, err)
			}
		}
	}
	return os.RemoveAll(b.dir)
}

func progress(l *line, w *workload, c *contender, res *result) {
	fmt.Fprintf(os.Stderr, "%-10s %-60s %-9s %s\n", l.name, w.name, c.name, res.last(l, w))
}
