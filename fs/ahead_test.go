package fs

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// mountFar mounts an embedded server over a line of 20 ms with a tree of files.
func mountFar(t *testing.T, guesses bool, fill func(*ftptest.Server), change ...func(*ftpconn.Config)) (string, *ftptest.Proxy, *Mounted) {
	t.Helper()
	s := ftptest.NewServer(t, ftptest.Options{})
	fill(s)
	p := ftptest.NewProxy(t, s.Addr())
	at := netip.MustParseAddrPort(p.Addr())
	cfg := ftpconn.Config{Host: at.Addr().String(), Port: int(at.Port()), User: s.User, Password: s.Password, Timeout: 20 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	client, err := ftpconn.New(cfg)
	must(t, err)
	must(t, client.Connect(t.Context()))
	p.SetLatency(20 * time.Millisecond)
	mnt := t.TempDir()
	m := mountRemote(t, mnt, cache.NewMeta(client, cache.MetaConfig{TTL: 30 * time.Second}), func(o *Options) { o.NoPrefetch = !guesses })
	return mnt, p, m
}

const aheadTestFiles = 60

func smallFiles(s *ftptest.Server) {
	for i := range aheadTestFiles {
		s.WriteFile(fmt.Sprintf("dir/f%03d", i), pattern(1000+i))
	}
}

// readAll reads the files in order, as `cat *` does, and returns how long it took.
func readAll(t *testing.T, mnt string) time.Duration {
	t.Helper()
	_, err := os.ReadDir(filepath.Join(mnt, "dir"))
	must(t, err)
	begin := time.Now()
	for i := range aheadTestFiles {
		b, err := os.ReadFile(filepath.Join(mnt, fmt.Sprintf("dir/f%03d", i)))
		must(t, err)
		if !bytes.Equal(b, pattern(1000+i)) {
			t.Fatalf("f%03d is not what it should be", i)
		}
	}
	return time.Since(begin)
}

// A scan over siblings is faster than one round trip each, and each file is fetched once.
func TestScanIsFetchedAhead(t *testing.T) {
	mnt, p, m := mountFar(t, true, smallFiles)
	took := readAll(t, mnt)
	if n := p.Count("RETR"); n != aheadTestFiles {
		t.Errorf("%d files were fetched %d times", aheadTestFiles, n)
	}
	if st := m.t.ahead.stats(); st.FilesUsed < aheadTestFiles/2 {
		t.Errorf("few guesses were of use: %+v", st)
	}
	off, _, m := mountFar(t, false, smallFiles)
	if alone := readAll(t, off); took > alone*8/10 {
		t.Errorf("%v with guesses, %v without", took, alone)
	}
	if st := m.t.ahead.stats(); st.Files != 0 {
		t.Errorf("guesses were made that were switched off: %+v", st)
	}
}

// A listing that is made anew in the middle of a scan changes nothing for the scan.
func TestScanGoesOnInANewListing(t *testing.T) {
	mnt, p, m := mountFar(t, true, smallFiles)
	dir := filepath.Join(mnt, "dir")
	for i := range aheadTestFiles {
		if i%20 == 10 {
			a := m.t.ahead
			a.mu.Lock()
			for _, s := range a.scans {
				s.made = time.Time{} // as if it were some time ago
			}
			a.mu.Unlock()
			m.t.forget("/dir/f000")
			m.t.forget("/dir")
		}
		if i%20 == 10 || i == 0 {
			_, err := os.ReadDir(dir)
			must(t, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("f%03d", i)))
		must(t, err)
		if !bytes.Equal(b, pattern(1000+i)) {
			t.Fatalf("f%03d is not what it should be", i)
		}
	}
	if n := p.Count("MLSD"); n < 4 {
		t.Fatalf("%d listings: the directory was not listed anew", n)
	}
	if n := p.Count("RETR"); n != aheadTestFiles {
		t.Errorf("%d files were fetched %d times", aheadTestFiles, n)
	}
}

// A small file is on its way from open() on, and comes once.
func TestOpenBeginsToFetch(t *testing.T) {
	mnt, p, m := mountFar(t, true, smallFiles)
	f, err := os.Open(filepath.Join(mnt, "dir/f007"))
	must(t, err)
	defer f.Close()
	for end := time.Now().Add(5 * time.Second); p.Count("RETR") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("opening it asked for nothing")
		}
	}
	for range 2 {
		b, err := os.ReadFile(filepath.Join(mnt, "dir/f007"))
		must(t, err)
		if !bytes.Equal(b, pattern(1007)) {
			t.Error("it is not what it should be")
		}
	}
	if n := p.Count("RETR /dir/f007"); n != 1 {
		t.Errorf("it was fetched %d times", n)
	}
	if st := m.t.ahead.stats(); st.Begun != 1 {
		t.Errorf("%+v", st)
	}
}

// Guesses that find no session leave the scan where it is.
func TestScanWithFewSessions(t *testing.T) {
	mnt, p, m := mountFar(t, true, smallFiles, func(c *ftpconn.Config) { c.MaxConns = 3 })
	readAll(t, mnt)
	if n := p.Count("RETR"); n != aheadTestFiles {
		t.Errorf("%d files were fetched %d times", aheadTestFiles, n)
	}
	if st := m.t.ahead.stats(); st.Files+st.Begun > aheadTestFiles {
		t.Errorf("more was asked for than there is: %+v", st)
	}
}

// Reads that jump about have nothing fetched for them but what they ask for, after a few misses.
func TestJumpsAreNotFetchedAhead(t *testing.T) {
	mnt, p, _ := mountFar(t, true, smallFiles)
	_, err := os.ReadDir(filepath.Join(mnt, "dir"))
	must(t, err)
	for i := range 20 {
		_, err := os.ReadFile(filepath.Join(mnt, fmt.Sprintf("dir/f%03d", (i*37+11)%aheadTestFiles)))
		must(t, err)
	}
	if n := p.Count("RETR"); n > 50 { // the server lists in no order: a jump may look like a step
		t.Errorf("20 files here and there were fetched with %d transfers", n)
	}
}

// What another client changes between the guess and the open is not served from the guess.
func TestGuessOfAnOldVersion(t *testing.T) {
	var server *ftptest.Server
	mnt, _, m := mountFar(t, true, func(s *ftptest.Server) { server = s; smallFiles(s) })
	_, err := os.ReadDir(filepath.Join(mnt, "dir"))
	must(t, err)
	for i := range 10 {
		_, err := os.ReadFile(filepath.Join(mnt, fmt.Sprintf("dir/f%03d", i)))
		must(t, err)
	}
	server.WriteFile("dir/f012", []byte("another version"))
	m.t.forget("/dir/f012")
	b, err := os.ReadFile(filepath.Join(mnt, "dir/f012"))
	must(t, err)
	if string(b) != "another version" {
		t.Errorf("%d bytes of the old version", len(b))
	}
}

// A walk over directories is faster than a round trip each, and each is listed once.
func TestWalkIsListedAhead(t *testing.T) {
	tree := func(s *ftptest.Server) {
		for i := range 6 {
			for j := range 8 {
				s.WriteFile(fmt.Sprintf("tree/d%d/e%d/f", i, j), nil)
			}
		}
	}
	walk := func(mnt string) time.Duration {
		begin, n := time.Now(), 0
		must(t, filepath.WalkDir(filepath.Join(mnt, "tree"), func(_ string, _ os.DirEntry, err error) error {
			n++
			return err
		}))
		if n != 1+6+2*48 {
			t.Errorf("%d entries", n)
		}
		return time.Since(begin)
	}
	mnt, p, _ := mountFar(t, true, tree)
	took := walk(mnt)
	if n := p.Count("MLSD"); n > 1+1+6+48+4 {
		t.Errorf("%d listings of 56 directories", n)
	}
	off, _, _ := mountFar(t, false, tree)
	if alone := walk(off); took > alone*8/10 {
		t.Errorf("%v with guesses, %v without", took, alone)
	}
}

// A server that is gone is not asked again and again.
func TestGuessesThatFailEndThere(t *testing.T) {
	mnt, p, m := mountFar(t, true, smallFiles)
	_, err := os.ReadDir(filepath.Join(mnt, "dir"))
	must(t, err)
	p.On("RETR").Reply("550 no")
	for i := range 3 {
		if _, err := os.ReadFile(filepath.Join(mnt, fmt.Sprintf("dir/f%03d", i))); err == nil {
			t.Error("a refused file was read")
		}
	}
	time.Sleep(300 * time.Millisecond)
	if st := m.t.ahead.stats(); st.Files > 3*aheadTestFiles {
		t.Errorf("%d guesses behind three opens", st.Files)
	}
}
