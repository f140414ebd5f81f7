package fs

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"ftpfs/ftpconn"
)

// lent takes a loan of a stream and checks it against content.
func lent(t *testing.T, s *stream, content []byte, n int, off int64) *loan {
	t.Helper()
	l := new(loan)
	if m, err := s.lend(t.Context(), l, n, off); err != nil || m != n || l.Size() != n {
		t.Fatalf("%d bytes at %d: %d, %v", n, off, m, err)
	}
	checkLoan(t, l, content, off)
	return l
}

func checkLoan(t *testing.T, l *loan, content []byte, off int64) {
	t.Helper()
	got, _ := l.Bytes(make([]byte, l.n))
	for i := range got {
		if want := content[(off+int64(i))%int64(len(content))]; got[i] != want {
			t.Fatalf("byte %d is %d, want %d", off+int64(i), got[i], want)
		}
	}
}

// What is lent stays what it is while the download goes on, and its memory is given back afterwards.
func TestLoanOutlivesWhatIsReadOn(t *testing.T) {
	onLine(t, 64<<20, 100*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, nil)
		const at, n = 3*chunkSize - 100, 2*chunkSize + 300
		held := lent(t, s, l.content, n, at)
		_, _, err := readInOrder(t, s, l.content, at+n, 40<<20, nil)
		must(t, err)
		checkLoan(t, held, l.content, at)
		s.close()
		checkLoan(t, held, l.content, at)
		time.Sleep(time.Minute)
		if used := tr.buffers.used.Load(); used != 4*chunkSize {
			t.Errorf("%d bytes of buffers for a loan in 4 chunks", used)
		}
		held.Done()
		held.Done()
		if used := tr.buffers.used.Load(); used != 0 {
			t.Errorf("%d bytes of buffers are left", used)
		}
	})
}

// Chunks that were lent are used again by the same download.
func TestLoansAreUsedAgain(t *testing.T) {
	onLine(t, 64<<20, 100*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, nil)
		defer s.close()
		most := int64(0)
		for off := int64(0); off < l.size; off += 1 << 20 {
			lent(t, s, l.content, 1<<20, off).Done()
			most = max(most, tr.buffers.used.Load())
		}
		if most > 16<<20 {
			t.Errorf("%d bytes of buffers", most)
		}
	})
}

// A read that a broken download can't serve wholly gets what has come, and then the rest from the next one.
func TestLoanOfABrokenDownload(t *testing.T) {
	onLine(t, 2<<20, 100*mega, 0, func(t *testing.T, l *line, tr *tree) {
		l.began = func(n int, d ftpconn.Download) ftpconn.Download {
			if n == 1 {
				return &cutDownload{d, 300_000, ftpconn.ErrConnLost}
			}
			return d
		}
		s := l.open(tr, nil)
		defer s.close()
		owed, dest := new(loan), make([]byte, 1<<20)
		n, err := s.bring(t.Context(), dest, 0, owed)
		if n != 300_000 || !errors.Is(err, ftpconn.ErrConnLost) || owed.n != 0 {
			t.Errorf("%d bytes, %d lent, %v", n, owed.n, err)
		}
		if !bytes.Equal(dest[:n], l.content[:n]) {
			t.Error("they are not what they should be")
		}
	})
}

// A read that comes behind later ones of the same readahead finds its bytes in the download: they are kept until somebody
// has had them.
func TestLateReadsFindTheirBytes(t *testing.T) {
	onLine(t, 64<<20, 100*mega, 0, func(t *testing.T, l *line, tr *tree) {
		s := l.open(tr, nil)
		defer s.close()
		const n = 512 << 10
		for _, off := range []int64{0, 2 * n, 3 * n, n} {
			if !s.accepts(off) {
				t.Fatalf("the read at %d needs another download", off)
			}
			lent(t, s, l.content, n, off).Done()
			time.Sleep(time.Second)
		}
		_, _, err := readInOrder(t, s, l.content, 4*n, 40<<20, nil)
		must(t, err)
		if s.accepts(8 * n) {
			t.Error("what was read long ago is kept")
		}
	})
}
