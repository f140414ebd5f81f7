package cache

import (
	"context"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

// Dir is a listing for somebody who goes through it place by place. It shows the entries in the server's order, as they were when it
// was opened. Its methods belong to one goroutine at a time.
type Dir struct {
	list []ftpconn.Entry
	big  *packed // in the place of list
	live *stream // in the place of both, while the listing arrives

	m *Meta
	f *flight // of live
}

// stream is a huge listing while it arrives.
type stream struct {
	mu    sync.Mutex // guards following
	p     *packed    // the flight's, and a view of it once ended
	more  chan struct{}
	ended bool
	err   error
}

// Open lists dir for somebody who reads entry by entry. It returns when the listing is there or, if that is a huge one, when its
// beginning is. The Dir is to be closed.
func (m *Meta) Open(ctx context.Context, dir string) (*Dir, error) {
	m.mu.Lock()
	if l, ok := m.dirs.Get(dir); ok && m.ttl > 0 && l.answers(m.now(), m.ttl) {
		m.stats.Hits++
		defer m.mu.Unlock()
		if l.big != nil {
			return &Dir{big: l.big.view()}, nil
		}
		list := l.snapshot()
		m.settleLocked(dir, l)
		return &Dir{list: list}, nil
	}
	m.stats.Misses++
	f, err := m.awaitListLocked(ctx, dir, "", time.Time{}, true)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return &Dir{list: f.list, big: f.big}, f.err
	default:
		return &Dir{live: f.live, m: m, f: f}, nil
	}
}

// Open is r's Open if r is a Meta. Another Remote is asked each time.
func Open(ctx context.Context, r ftpconn.Remote, dir string) (*Dir, error) {
	m, ok := r.(*Meta)
	if !ok {
		m = NewMeta(r, MetaConfig{})
	}
	return m.Open(ctx, dir)
}

// At returns the entry in place i. ok is false behind the last one; a listing that broke has its error there, and isn't complete. An
// entry without a name is one that was removed. While the listing arrives At waits for place i, or for the end of ctx.
func (d *Dir) At(ctx context.Context, i int) (e ftpconn.Entry, ok bool, err error) {
	switch {
	case i < 0:
		return e, false, nil
	case d.live != nil:
		return d.live.at(ctx, i)
	case d.big != nil && i < d.big.n:
		return d.big.at(i), true, nil
	case i < len(d.list):
		return d.list[i], true, nil
	}
	return e, false, nil
}

// Len is the number of places that are there by now, and whether that is all.
func (d *Dir) Len() (n int, all bool) {
	switch {
	case d.live != nil:
		d.live.mu.Lock()
		defer d.live.mu.Unlock()
		return d.live.p.n, d.live.ended
	case d.big != nil:
		return d.big.n, true
	}
	return len(d.list), true
}

// Small returns the entries as a slice that must not be changed, unless the listing is a huge one.
func (d *Dir) Small() ([]ftpconn.Entry, bool) { return d.list, d.big == nil && d.live == nil }

// Close says that nobody reads on. A listing that is still arriving, and that nobody else waits for, is broken off.
func (d *Dir) Close() {
	if d.f == nil {
		return
	}
	f := d.f
	d.f = nil
	select {
	case <-f.done:
	default:
		d.m.leave(f)
	}
}

// arrivedLocked finds path in a huge listing that is arriving, if nothing was changed since that was asked for.
func (m *Meta) arrivedLocked(path string, maxAge time.Duration) (e ftpconn.Entry, ok bool) {
	dir, name := split(path)
	f := m.flights[flightKey{flightList, dir}]
	if f == nil || f.start != m.seq || m.now().Sub(f.began) > maxAge {
		return e, false
	}
	select {
	case <-f.streams:
		return f.live.find(name)
	default:
		return e, false
	}
}

func (s *stream) find(name string) (e ftpconn.Entry, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // and a view can't be searched
		return e, false
	}
	i := s.p.find(name)
	if i < 0 {
		return e, false
	}
	return s.p.at(i), true
}

func (s *stream) at(ctx context.Context, i int) (ftpconn.Entry, bool, error) {
	for {
		s.mu.Lock()
		if i < s.p.n {
			defer s.mu.Unlock()
			return s.p.at(i), true, nil
		}
		more, ended, err := s.more, s.ended, s.err
		s.mu.Unlock()
		if ended {
			return ftpconn.Entry{}, false, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ftpconn.Entry{}, false, ctx.Err()
		}
	}
}

// end freezes what readers see, because the packed goes on as the cache's.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p, s.ended, s.err = s.p.view(), true, err
	close(s.more)
}

// gathering takes a listing piece by piece: as a slice while it is small, packed from then on.
type gathering struct {
	f     *flight
	list  []ftpconn.Entry
	big   *packed
	count int // files without an exact time, in big
}

func (g *gathering) add(piece []ftpconn.Entry) {
	if g.big == nil && len(g.list)+len(piece) <= packFrom {
		g.list = append(g.list, piece...)
		return
	}
	if g.big == nil {
		g.big = newPacked()
		for i := range g.list {
			g.put(&g.list[i])
		}
		g.list = nil
		g.f.live.p = g.big // nobody looks before streams is closed
		defer close(g.f.streams)
	}
	s := g.f.live
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range piece {
		g.put(&piece[i])
	}
	close(s.more)
	s.more = make(chan struct{})
}

// put keeps the first entry of a name.
func (g *gathering) put(e *ftpconn.Entry) {
	if e.Name == "" || !fits(e) || g.big.find(e.Name) >= 0 {
		return
	}
	g.big.add(e)
	if isCoarse(e) {
		g.count++
	}
}

// listing is what was gathered, for the cache to keep.
func (g *gathering) listing() *listing {
	if g.big != nil {
		return &listing{big: g.big, coarse: g.count}
	}
	return newListing(g.list)
}

// ask lists dir.
func (g *gathering) ask(ctx context.Context, next ftpconn.Remote, dir string) error {
	err := ftpconn.ListTo(ctx, next, dir, g.add)
	if g.big != nil {
		g.f.live.end(err)
	}
	return err
}
