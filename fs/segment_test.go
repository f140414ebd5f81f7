package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ftpfs/ftpconn"
)

// onLine runs a test in a bubble with a tree over l.
func onLine(t *testing.T, size int64, rate, total float64, test func(t *testing.T, l *line, tr *tree)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(size, rate, total)
		tr := newTree(l, nil, Options{})
		defer func() {
			tr.cancel()
			time.Sleep(time.Minute) // whoever is still there is a leak, and fails the test
		}()
		test(t, l, tr)
	})
}

// readInOrder reads from a stream up to an offset and compares with content; each is called before each read. It
// returns how far it came and how long that took.
func readInOrder(t *testing.T, s *stream, content []byte, from, to int64, each func(off int64)) (off int64, took time.Duration, err error) {
	t.Helper()
	began := time.Now()
	buf := make([]byte, 128<<10)
	for off = from; off < to; {
		if each != nil {
			each(off)
		}
		var n int
		n, err = s.read(t.Context(), buf[:min(int64(len(buf)), to-off)], off)
		for i := 0; i < n; {
			want := content[(off+int64(i))%int64(len(content)):]
			m := min(len(want), n-i)
			if !bytes.Equal(buf[i:i+m], want[:m]) {
				t.Fatalf("content differs within %d bytes from %d", m, off+int64(i))
			}
			i += m
		}
		off += int64(n)
		if err != nil {
			break
		}
	}
	return off, time.Since(began), err
}

func alone(l *line) time.Duration {
	rate := l.rate
	if rate == 0 || l.total > 0 && l.total < rate {
		rate = l.total
	}
	return time.Duration(float64(l.size) / rate * float64(time.Second))
}

func TestCappedConnectionsAreAddedUp(t *testing.T) {
	onLine(t, 256<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		defer s.close()
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if limit := alone(l) / 4; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
		if most, _, _ := l.counts(); most != l.sessions {
			t.Errorf("%d connections, want %d", most, l.sessions)
		}
	})
}

func TestWhatPaidIsKnownForTheNextFile(t *testing.T) {
	onLine(t, 64<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		var found finding
		var times []time.Duration
		for range 4 {
			s := l.open(tr, &found)
			_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
			must(t, err)
			s.close()
			times = append(times, took)
		}
		if limit := alone(l) * 3 / 10; times[3] > limit || times[3] >= times[0] {
			t.Errorf("the files took %v, want at most %v in the end", times, limit)
		}
	})
}

func TestOneFastConnectionIsLeftAlone(t *testing.T) {
	onLine(t, 256<<20, 500*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		defer s.close()
		_, _, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if _, begun, _ := l.counts(); begun != 1 {
			t.Errorf("%d downloads, want 1", begun)
		}
	})
}

func TestASlowReaderGetsOneConnection(t *testing.T) {
	onLine(t, 32<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		defer s.close()
		_, _, err := readInOrder(t, s, l.content, 0, l.size, func(int64) { time.Sleep(50 * time.Millisecond) })
		must(t, err)
		if _, begun, _ := l.counts(); begun != 1 {
			t.Errorf("%d downloads, want 1", begun)
		}
	})
}

func TestConnectionsThatDoNotPayAreGivenUp(t *testing.T) {
	onLine(t, 256<<20, 0, 50*mega, func(t *testing.T, l *line, tr *tree) {
		var found finding
		s := l.open(tr, &found)
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		s.close()
		most, begun, _ := l.counts()
		if most > 2 || begun > 2 {
			t.Errorf("%d connections at once, %d in all, want 2", most, begun)
		}
		if limit := alone(l) * 103 / 100; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
		s = l.open(tr, &found)
		defer s.close()
		_, _, err = readInOrder(t, s, l.content, 0, 64<<20, nil)
		must(t, err)
		if _, after, _ := l.counts(); after-begun != 1 {
			t.Errorf("%d downloads for the next file, want 1", after-begun)
		}
	})
}

func TestABurstIsNotTakenForTheRateOfOneConnection(t *testing.T) {
	onLine(t, 256<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		l.burst = 40 << 20 // as out of full buffers, behind a pause
		s := l.open(tr, new(finding))
		defer s.close()
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if limit := alone(l) * 2 / 5; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
	})
}

func TestMoreConnectionsThanTheLineBearsAreGivenUp(t *testing.T) {
	onLine(t, 192<<20, 10*mega, 20*mega, func(t *testing.T, l *line, tr *tree) {
		var found finding
		s := l.open(tr, &found)
		defer s.close()
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if n, _, _ := found.get(); n != 2 {
			t.Errorf("%d connections were found to pay, want 2", n)
		}
		if limit := alone(l) * 60 / 100; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
	})
}

func TestFileInWritingIsReadByOneDownload(t *testing.T) {
	onLine(t, 64<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		l.time = time.Now().Add(-10 * time.Second).Truncate(time.Second)
		s := l.open(tr, new(finding))
		defer s.close()
		_, _, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if _, begun, _ := l.counts(); begun != 1 {
			t.Errorf("%d downloads, want 1", begun)
		}
	})
}

func TestSegmentThatBreaksIsFetchedAgain(t *testing.T) {
	onLine(t, 128<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		l.began = func(n int, d ftpconn.Download) ftpconn.Download {
			if n%4 == 0 {
				return &cutDownload{d, 300_001, fmt.Errorf("read: %w", ftpconn.ErrConnLost)}
			}
			return d
		}
		s := l.open(tr, new(finding))
		defer s.close()
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if limit := alone(l) / 2; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
	})
}

func TestRefusedConnectionsAreDoneWithout(t *testing.T) {
	onLine(t, 128<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		refuse := &refusing{line: l, after: 3}
		tr.remote = refuse
		s := l.open(tr, new(finding))
		defer s.close()
		_, took, err := readInOrder(t, s, l.content, 0, l.size, nil)
		must(t, err)
		if limit := alone(l) * 2 / 3; took > limit {
			t.Errorf("took %v, want at most %v", took, limit)
		}
	})
}

// refusing lets so many downloads run at once, as a server does that counts them.
type refusing struct {
	*line
	after int
}

func (r *refusing) Retrieve(ctx context.Context, p string, off int64) (ftpconn.Download, error) {
	if _, _, running := r.counts(); running >= r.after {
		time.Sleep(opening)
		return nil, &ftpconn.ReplyError{Command: "RETR " + p, Code: 450, Text: "Too many transfers"}
	}
	return r.line.Retrieve(ctx, p, off)
}

func TestShortSegmentIsAnErrorBehindWhatCame(t *testing.T) {
	onLine(t, 128<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		l.began = func(n int, d ftpconn.Download) ftpconn.Download {
			if n == 5 {
				return &cutDownload{d, 300_001, io.EOF}
			}
			return d
		}
		s := l.open(tr, new(finding))
		defer s.close()
		off, _, err := readInOrder(t, s, l.content, 0, l.size, nil)
		if !errors.Is(err, errShort) {
			t.Errorf("read %d bytes, then %v, want %v", off, err, errShort)
		}
		if s.position() != off {
			t.Errorf("broke at %d, and readers came to %d", s.position(), off)
		}
	})
}

func TestReplacedFileIsNotMixed(t *testing.T) {
	onLine(t, 256<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		old := l.content
		other := bytes.ToUpper(append([]byte("replaced"), old...))
		s := l.open(tr, new(finding))
		defer s.close()
		off, _, err := readInOrder(t, s, old, 0, l.size, func(off int64) {
			if off >= 100<<20 {
				l.set(func() { l.content, l.time = other, time.Now().Truncate(time.Second) })
			}
		})
		if !errors.Is(err, ftpconn.ErrStale) {
			t.Errorf("reading on: %v, want ErrStale", err)
		}
		if off < 100<<20 || off == l.size {
			t.Errorf("%d bytes were read, want those that had come of the old version", off)
		}
	})
}

func TestSegmentsWaitForTheirVersion(t *testing.T) {
	onLine(t, 128<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		silent := &unanswered{line: l}
		tr.remote = silent
		s := l.open(tr, new(finding))
		defer s.close()
		off, _, err := readInOrder(t, s, l.content, 0, l.size, nil)
		if err == nil || errors.Is(err, ftpconn.ErrStale) || off == 0 {
			t.Errorf("%d bytes of a file whose time can't be told any more, then %v", off, err)
		}
	})
}

// unanswered tells a file's time once.
type unanswered struct {
	*line
	asked bool
}

func (u *unanswered) ModTimes(ctx context.Context, paths []string) ([]time.Time, error) {
	if u.asked {
		return nil, ftpconn.ErrConnLost
	}
	u.asked = true
	return u.line.ModTimes(ctx, paths)
}

func TestSegmentsMakeRoomForOthers(t *testing.T) {
	onLine(t, 256<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		defer s.close()
		off, _, err := readInOrder(t, s, l.content, 0, 64<<20, nil)
		must(t, err)
		l.set(func() { l.sessions = 2 }) // the others are given to who asked for them
		began := time.Now()
		for most := 7; most > 2; _, _, most = l.counts() {
			off, _, err = readInOrder(t, s, l.content, off, off+1<<20, nil)
			must(t, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("sessions were given back after %v", took)
		}
		_, _, err = readInOrder(t, s, l.content, off, l.size, nil)
		must(t, err)
	})
}

func TestSegmentsAreBounded(t *testing.T) {
	onLine(t, 320<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		defer s.close()
		off, _, err := readInOrder(t, s, l.content, 0, 128<<20, nil)
		must(t, err)
		time.Sleep(10 * time.Second)
		if used := tr.buffers.used.Load(); used > farWindow+2*maxSegment {
			t.Errorf("%d MiB read ahead", used>>20)
		}
		if _, _, running := l.counts(); running > 1 {
			t.Errorf("%d sessions are held for a reader that pauses", running)
		}
		_, _, err = readInOrder(t, s, l.content, off, l.size, nil)
		must(t, err)
		s.close()
		if used := tr.buffers.used.Load(); used != 0 {
			t.Errorf("%d bytes of buffers after close", used)
		}
	})
}

func TestCloseInTheMiddleLeavesNothing(t *testing.T) {
	onLine(t, 256<<20, 10*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, new(finding))
		_, _, err := readInOrder(t, s, l.content, 0, 100<<20, nil)
		must(t, err)
		s.close()
		time.Sleep(2 * time.Second)
		if _, _, running := l.counts(); running != 0 {
			t.Errorf("%d downloads are still running", running)
		}
		if used := tr.buffers.used.Load(); used != 0 {
			t.Errorf("%d bytes of buffers after close", used)
		}
	})
}
