package fs

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ftpfs/ftpconn"
)

// Bounds of what is fetched before it is asked for.
const (
	aheadFiles  = 64        // files fetched or being fetched, and not yet opened
	aheadBytes  = 16 << 20  // bytes of these
	aheadFile   = smallFile // larger ones are not guessed
	aheadLists  = 256       // listings fetched, and not yet asked for
	aheadFlying = 16        // requests at once; sessions are the tighter bound
	aheadLife   = 10 * time.Second
	aheadScans  = 16   // directories in which a scan is followed
	aheadRecent = 1024 // files that were opened are not fetched ahead again for a while
)

// lister is a Remote that can say what it remembers without asking.
type lister interface {
	Known(dir string) ([]ftpconn.Entry, bool)
}

// ahead is what the tree does before it is asked: the next files of a scan over siblings, the next
// directories of a walk. All of it is a guess, made on sessions that are free (ftpconn.Guess), bounded in
// number and bytes, and given up where the guesses miss. Nothing of it is believed longer than
// what is asked for is.
//
// Its mutex is a leaf: never held over network I/O or while another lock is taken.
type ahead struct {
	t     *tree  // constant
	known lister // constant; nil: nothing is fetched ahead

	mu sync.Mutex // guards following
	fileGuesses
	walk

	count AheadStats
}

// AheadStats counts guesses since the mount began.
type AheadStats struct {
	Files, FilesUsed, FilesMissed uint64 // fetched or failed, then opened, and dropped unopened
	Begun                         uint64 // small files fetched from open() on
	Lists, ListsUsed              uint64
}

func newAhead(t *tree) *ahead {
	a := &ahead{t: t}
	if !t.opt.NoPrefetch && t.opt.TTL > 0 {
		a.known, _ = t.remote.(lister)
	}
	a.files = make(map[string]*guess)
	a.scans = make(map[string]*scan)
	a.asked = make(map[string]time.Time)
	a.unasked = make(map[string]struct{})
	a.coming = make(map[string]struct{})
	a.width, a.lanes = aheadFlying, aheadFlying
	a.recent, _ = simplelru.NewLRU[string, time.Time](aheadRecent, nil) // fails for sizes below one alone
	return a
}

func (a *ahead) off() bool { return a.known == nil }

func (a *ahead) context() context.Context { return ftpconn.Guess(a.t.ctx) }

func (a *ahead) stats() AheadStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}
