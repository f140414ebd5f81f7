package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// mdtmBatch is how many MDTM commands go in one packet: some 8 KiB of them, well inside the
// buffers of both ends, so that neither waits for the other.
const mdtmBatch = 100

// Stat asks for one entry with MLST.
func (cl *Client) Stat(ctx context.Context, p string) (Entry, error) {
	e, err := cl.stat(ctx, p)
	return e, cl.explain(ctx, opStat, p, "", err)
}

func (cl *Client) stat(ctx context.Context, p string) (e Entry, err error) {
	abs, err := cl.path(p)
	if err != nil {
		return e, err
	}
	_, err = cl.do(ctx, anew, func(c *Conn) (err error) {
		if !c.site.has("MLST") { // known only once there is a session
			return errors.ErrUnsupported
		}
		e, err = c.stat(ctx, abs)
		return err
	})
	e.Target = cl.site.shownTarget(path.Dir(abs), e.Target)
	return e, err
}

func (c *Conn) stat(ctx context.Context, abs string) (Entry, error) {
	cmds := []string{"MLST " + abs}
	if c.followsLinks() && c.site.pipelines() {
		cmds = append(cmds, "SIZE "+abs)
	}
	rs, err := c.askAll(ctx, cmds)
	if err != nil {
		return Entry{}, err
	}
	r := rs[0]
	if r.class() != 2 {
		return Entry{}, refusalOf(cmds[0], r, abs)
	}
	for _, line := range r.lines[min(1, len(r.lines)-1):] {
		if strings.TrimSpace(line) == "" || !strings.Contains(line, "=") {
			continue
		}
		e, printed, err := parseMLSTReply(line)
		if err != nil && printed == "" {
			return Entry{}, fmt.Errorf("the reply to %s can't be read: %w", cmds[0], err)
		}
		if err != nil {
			c.site.log.Warn("an entry could not be read wholly", "path", abs, "reason", err)
		}
		e.Name = abs[strings.LastIndexByte(abs, '/')+1:]
		if e.Type == Symlink && e.Target == "" || len(rs) > 1 && linkInDisguise(e, rs[1]) {
			return Entry{}, errors.ErrUnsupported // LIST tells where it leads
		}
		return e, nil
	}
	return Entry{}, errors.ErrUnsupported // pyftpdlib 1.5.7 leaves out a dangling link's facts
}

// followsLinks says that MLST describes a link by its target's type and its own size (ProFTPD 1.3.8),
// which would make a file of the wrong size of it.
func (c *Conn) followsLinks() bool {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	return strings.Contains(strings.ToLower(c.site.feat["MLST"]), "unix.ownername")
}

func linkInDisguise(e Entry, size reply) bool {
	if e.Type == Dir {
		return e.Size >= 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(size.text()), 10, 64)
	return e.Type == File && size.code == 213 && err == nil && n != e.Size
}

// askAll sends commands in one packet, or one by one where the server wants that, and gives
// their replies, refusals too.
func (c *Conn) askAll(ctx context.Context, cmds []string) ([]reply, error) {
	rs := make([]reply, len(cmds))
	if !c.site.pipelines() {
		for i, cmd := range cmds {
			r, err := c.raw(ctx, cmd)
			if err != nil {
				return nil, err
			}
			rs[i] = r
		}
		return rs, nil
	}
	calls := newCalls(cmds)
	if err := c.l.send(calls, cmds); err != nil {
		return nil, err
	}
	for i, asked := range calls {
		r, err := c.l.wait(ctx, asked, 0)
		if err != nil {
			c.broken.Store(true)
			return nil, err
		}
		rs[i] = r
	}
	return rs, nil
}

// ModTimes asks for exact times.
func (cl *Client) ModTimes(ctx context.Context, paths []string) ([]time.Time, error) {
	times := make([]time.Time, len(paths))
	for start := 0; start < len(paths); start += mdtmBatch {
		part := paths[start:min(start+mdtmBatch, len(paths))]
		var cmds []string
		var at []int
		for i, p := range part {
			if checkArgument(p) == nil {
				cmds, at = append(cmds, "MDTM "+cl.site.abs(p)), append(at, start+i)
			}
		}
		_, err := cl.do(ctx, anew, func(c *Conn) error {
			if !c.site.has("MDTM") {
				return errors.ErrUnsupported
			}
			rs, err := c.askAll(ctx, cmds)
			for i, r := range rs {
				if t, e := c.site.mdtm(r.text()); r.code == 213 && e == nil {
					times[at[i]] = t
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return times, nil
}
