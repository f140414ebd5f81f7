package fs

import (
	"context"
	"io"
	"sync"
	"time"

	"ftpfs/ftpconn"
)

const (
	mega = 1e6
	// opening is how long a line Remote takes from RETR to the first byte.
	opening = 60 * time.Millisecond
)

// line is a Remote with one file behind a line: each download gets what rate allows, all together what total allows, and
// as many run at once as there are sessions. It is for a synctest bubble, where time is exact.
type line struct {
	ftpconn.Remote // nil: anything else is not asked for
	size           int64
	rate, total    float64 // bytes per second, 0: no limit
	burst          int64   // bytes that a download brings at twelve times its rate behind the first paceAfter

	mu       sync.Mutex // guards following
	sessions int
	content  []byte // repeated
	time     time.Time
	free     time.Time // when the line has sent what it was given
	running  int
	most     int // running at once
	begun    int
	// began wraps the n-th download, from 1.
	began func(n int, d ftpconn.Download) ftpconn.Download
}

func newLine(size int64, rate, total float64) *line {
	return &line{size: size, rate: rate, total: total, sessions: 7, content: pattern(1<<20 + 7), time: time.Now().Add(-time.Hour).Truncate(time.Second)}
}

func (l *line) Features() ftpconn.Features { return ftpconn.Features{MDTM: true} }

func (l *line) ModTimes(context.Context, []string) ([]time.Time, error) {
	time.Sleep(opening / 3)
	l.mu.Lock()
	defer l.mu.Unlock()
	return []time.Time{l.time}, nil
}

func (l *line) Retrieve(ctx context.Context, _ string, off int64) (ftpconn.Download, error) {
	for {
		l.mu.Lock()
		if l.running < l.sessions {
			break
		}
		l.mu.Unlock()
		if ftpconn.IsGuess(ctx) {
			return nil, ftpconn.ErrNoneFree
		}
		time.Sleep(time.Millisecond)
	}
	defer l.mu.Unlock()
	l.running++
	l.begun++
	l.most = max(l.most, l.running)
	d := ftpconn.Download(&lineDownload{l: l, off: off, content: l.content, next: time.Now().Add(opening)})
	if l.began != nil {
		d = l.began(l.begun, d)
	}
	return d, nil
}

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *line) counts() (most, begun, running int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most, l.begun, l.running
}

func (l *line) version() version {
	l.mu.Lock()
	defer l.mu.Unlock()
	return version{l.size, l.time, time.Second}
}

// lineDownload reads the version of the file that there was when it began.
type lineDownload struct {
	l       *line
	off     int64
	content []byte
	next    time.Time // when the next byte comes
}

func (d *lineDownload) Read(p []byte) (int, error) {
	l := d.l
	n := int(min(int64(len(p)), l.size-d.off, 64<<10))
	if n <= 0 {
		return 0, io.EOF
	}
	took := func(rate float64) time.Duration {
		if rate == 0 {
			return 0
		}
		return time.Duration(float64(n) / rate * float64(time.Second))
	}
	now := time.Now()
	if d.next.Before(now) { // what the reader was late for
		d.next = now
	}
	rate := l.rate
	if d.off > paceAfter && d.off < paceAfter+l.burst {
		rate *= 12
	}
	d.next = d.next.Add(took(rate))
	l.mu.Lock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(took(l.total))
	if d.next.Before(l.free) {
		d.next = l.free
	}
	l.mu.Unlock()
	time.Sleep(time.Until(d.next))
	for i := 0; i < n; {
		i += copy(p[i:n], d.content[(d.off+int64(i))%int64(len(d.content)):])
	}
	d.off += int64(n)
	return n, nil
}

func (d *lineDownload) Close() error {
	go func() { // the session is free when the server has said its last word
		time.Sleep(opening)
		d.l.set(func() { d.l.running-- })
	}()
	return nil
}

// open begins a stream over the whole file.
func (l *line) open(tr *tree, found *finding) *stream {
	s := openStream(tr.ctx, tr, "/f", 0, l.size, beginning{}, nil)
	s.expect(l.version(), found)
	return s
}
