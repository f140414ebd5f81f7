package cache

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// openSpool opens a Spool in a directory of the test, with no other limit than the given one.
func openSpool(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := OpenSpool(dir, limit, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.space = func() (int64, int64, error) { return 1 << 50, 1 << 50, nil }
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func createFile(t *testing.T, s *Spool) *SpoolFile {
	t.Helper()
	f, err := s.Create("test file")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// spoolNames returns what is in a spool directory apart from the entry lock.
func spoolNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != entryLock {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestOpenSpoolMakesPrivateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	openSpool(t, dir, 0)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, error %v; want 0700", info.Mode(), err)
	}
}

func TestOpenSpoolClosesAnEmptyDirectoryToOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	openSpool(t, dir, 0)
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, want 0700", info.Mode())
	}
}

func TestOpenSpoolRefusesADirectoryInCommonUse(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := OpenSpool(dir, 0, nil)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("error %v, want one that refuses and names the way out", err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o777 {
		t.Errorf("mode became %v", info.Mode())
	}
}

func TestOpenSpoolRefusesAnotherUsersDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory of another user")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, err := OpenSpool(dir, 0, nil)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "uid 12345") {
		t.Errorf("error %v, want a refusal that names uid 12345", err)
	}
}

func TestOpenSpoolRefusesAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSpool(name, 0, nil); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v, want ENOTDIR with the name", err)
	}
}

// TestHelperDies is no test of its own: it is the process that TestLeftoversOfTheDeadAreRemoved kills.
func TestHelperDies(t *testing.T) {
	dir := os.Getenv("FTPFS_TEST_SPOOL")
	if dir == "" {
		t.Skip("runs only as the child of TestLeftoversOfTheDeadAreRemoved")
	}
	s, err := OpenSpool(dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("lost")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("never uploaded"), 0); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func TestLeftoversOfTheDeadAreRemoved(t *testing.T) {
	dir := t.TempDir()
	alive := openSpool(t, dir, 0)
	kept := createFile(t, alive)
	if _, err := kept.WriteAt([]byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestHelperDies$")
	child.Env = append(os.Environ(), "FTPFS_TEST_SPOOL="+dir)
	if out, err := child.CombinedOutput(); child.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child should have been killed: %v\n%s", err, out)
	}
	if n := len(spoolNames(t, dir)); n != 4 {
		t.Fatalf("%d names in the directory, want a lock and a subdirectory of each of two", n)
	}

	var logged bytes.Buffer
	s, err := OpenSpool(dir, 0, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	names := spoolNames(t, dir)
	if len(names) != 4 || !strings.Contains(strings.Join(names, " "), alive.own.id) {
		t.Errorf("names %v, want those of the new one and of the living %s", names, alive.own.id)
	}
	if log := logged.String(); !strings.Contains(log, "files=1") || strings.Count(log, "\n") != 1 {
		t.Errorf("the log doesn't tell of the lost file, and of that alone: %s", log)
	}
	got := make([]byte, 4)
	if _, _, err := kept.ReadAt(got, 0); err != nil || string(got) != "kept" {
		t.Errorf("the living one's file reads %q, %v", got, err)
	}
}

func TestOtherFilesInTheDirectoryAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes", "p12", "p12-zzzzzzzz", "x.lock"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := openSpool(t, dir, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names := spoolNames(t, dir); len(names) != 4 {
		t.Errorf("names left: %v, want the four that were there", names)
	}
}

func TestCloseRemovesOwnFilesOnly(t *testing.T) {
	dir := t.TempDir()
	one, two := openSpool(t, dir, 0), openSpool(t, dir, 0)
	createFile(t, one)
	createFile(t, two)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if names := spoolNames(t, dir); len(names) != 2 || names[0] != two.own.id {
		t.Errorf("names %v, want those of %s", names, two.own.id)
	}
	if _, err := one.Create("late"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Create after Close: %v, want ErrClosed", err)
	}
}

func TestNameIsNeverAPath(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, filepath.Join(dir, "spool"), 0)
	if _, err := s.Create("../../escaped"); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, "spool", s.own.id))
	if len(entries) != 1 || entries[0].Name() != "000001" {
		t.Fatalf("entries %v, want 000001 alone", entries)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
}

func TestLimitIsENOSPCAndChangesNothing(t *testing.T) {
	s := openSpool(t, t.TempDir(), 3*allocUnit)
	f := createFile(t, s)
	want := bytes.Repeat([]byte("x"), 2*allocUnit)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	version, usage := f.Version(), s.Usage()
	n, err := f.WriteAt(bytes.Repeat([]byte("y"), 2*allocUnit+1), allocUnit)
	if n != 0 || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "take 8192 of its 12288 bytes") {
		t.Fatalf("write beyond the limit: %d, %v; want 0, ENOSPC", n, err)
	}
	if f.Version() != version || s.Usage() != usage || f.Size() != int64(len(want)) {
		t.Errorf("version %d, usage %d, size %d after the failure; before: %d, %d, %d",
			f.Version(), s.Usage(), f.Size(), version, usage, len(want))
	}
	got := make([]byte, len(want))
	if n, _, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("content is not what it was (%d bytes, %v)", n, err)
	}
}

func TestFullSpoolTakesOverwritesAndFreedSpace(t *testing.T) {
	s := openSpool(t, t.TempDir(), 2*allocUnit)
	f, g := createFile(t, s), createFile(t, s)
	block := make([]byte, allocUnit)
	if _, err := f.WriteAt(append(block, block...), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(block, 100); err != nil {
		t.Errorf("overwriting in a full spool: %v", err)
	}
	if err := f.Truncate(allocUnit); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(block, 0); err != nil {
		t.Errorf("writing after a truncate made room: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(block, allocUnit); err != nil {
		t.Errorf("writing after a close made room: %v", err)
	}
	if s.Usage() != 2*allocUnit {
		t.Errorf("usage %d, want %d", s.Usage(), 2*allocUnit)
	}
}

func TestLocalDiskKeepsItsReserve(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	f := createFile(t, s)
	s.space = func() (int64, int64, error) { return 5*allocUnit + 100, 100 * allocUnit, nil } // reserve: 5 blocks
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write into the reserve: %v, want ENOSPC", err)
	}
	s.space = func() (int64, int64, error) { return 6 * allocUnit, 100 * allocUnit, nil }
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("write down to the reserve: %v", err)
	}
	if s.Usage() != allocUnit {
		t.Errorf("usage %d, want one block", s.Usage())
	}
}

func TestDiskSpaceAgreesWithTheDisk(t *testing.T) {
	free, total, err := diskSpace(t.TempDir())
	if err != nil || total <= 0 || free < 0 || free > total {
		t.Errorf("free %d of %d, %v", free, total, err)
	}
	if _, _, err := diskSpace("/no/such/dir"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("space of a missing directory: %v, want ErrNotExist", err)
	}
}

func TestHolesCostNoDisk(t *testing.T) {
	s := openSpool(t, t.TempDir(), 1<<20)
	f := createFile(t, s)
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), 1<<40); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(s.dir, f.local), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 64<<10 || s.Usage() != allocUnit {
		t.Errorf("1 TiB of hole takes %d bytes of disk, %d of the budget", st.Blocks*512, s.Usage())
	}
	if got := f.DirtyRanges(); len(got) != 1 || got[0] != (Range{0, 1<<40 + 3}) {
		t.Errorf("dirty %v, want all of it", got)
	}
}
