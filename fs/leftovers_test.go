package fs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpfs/cache"
	"ftpfs/ftpconn"
)

// crashing is a server to which the line is cut for good after a number of renames.
func crashing(s *site, renames int) {
	done := 0
	s.remote.set(func() {
		s.remote.before = func(op, p string) error {
			if op == "Rename" {
				done++
			}
			if done > renames {
				return fmt.Errorf("%s %s: %w", op, p, ftpconn.ErrConnLost)
			}
			return nil
		}
	})
}

func TestRenameThatACrashCutIsSettledByTheNextMount(t *testing.T) {
	old := string(pattern(maxReplaced + 1))
	cases := []struct {
		name      string
		noReplace bool
		open      bool
		flags     uint
		renames   int
		a, b      string // what the names have in the end, "" for nothing
	}{
		{"replace, not begun", true, false, 0, 1, "new", old},
		{"replace, the target aside", true, false, 0, 2, "new", old},
		{"replace, the source in place", true, false, 0, 3, "", "new"},
		{"replace of an open file, hidden", false, true, 0, 1, "new", old},
		{"replace of an open file, done", false, true, 0, 2, "", "new"},
		{"exchange, one aside", false, false, unix.RENAME_EXCHANGE, 1, "new", old},
		{"exchange, one in place", false, false, unix.RENAME_EXCHANGE, 2, old, "new"},
		{"exchange, done", false, false, unix.RENAME_EXCHANGE, 3, old, "new"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			lists := t.TempDir()
			dead, err := cache.OpenLeftovers(lists, "site", nil)
			must(t, err)
			s := mountSite(t, true, func(o *Options) { o.Leftovers = dead })
			s.remote.set(func() { s.remote.noReplace = c.noReplace })
			a, b := s.put(t, "a", "new"), s.put(t, "b", old)
			if c.open {
				begin(t, b, os.O_RDONLY)
			}
			crashing(s, c.renames)
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, c.flags) // what it says is not the question
			must(t, dead.Close())

			list, err := cache.OpenLeftovers(lists, "site", nil)
			must(t, err)
			mountRemote(t, t.TempDir(), newDirRemote(s.dir), func(o *Options) { o.Leftovers = list })
			want := 0
			for name, content := range map[string]string{"a": c.a, "b": c.b} {
				if content == "" {
					continue
				}
				want++
				for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					got, err := os.ReadFile(s.remote.local(name))
					if string(got) == content {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s has %d bytes, want %d: %v", name, len(got), len(content), err)
					}
				}
			}
			if names := left(t, s.dir, want); len(names) != want {
				t.Errorf("on the server: %q", names)
			}
		})
	}
}
