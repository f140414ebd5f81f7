package fs

import (
	"errors"
	"path"
	"slices"
	"time"

	"ftpfs/ftpconn"
)

type walk struct {
	asked    map[string]time.Time // directories that were listed for somebody
	todo     []string             // to be listed, the next one last
	coming   map[string]struct{}  // being listed ahead
	width    int                  // how many requests at once there were sessions for
	unasked  map[string]struct{}  // listed ahead, and not yet asked for
	walkedAt time.Time            // when a listing was last asked for that continued the walk
}

// aheadDepth is how many directories up a walk is taken up again where the guesses lost it.
const aheadDepth = 16

// listed is told of each directory that is listed for somebody. Who lists a directory and then one in
// it, or the next one beside it, walks the tree: the directories that come next are listed ahead, depth first.
func (a *ahead) listed(dir string, list []ftpconn.Entry) {
	if a.off() {
		return
	}
	rest := a.behind(dir)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for d, at := range a.asked {
		if now.Sub(at) > aheadLife {
			delete(a.asked, d)
		}
	}
	_, walking := a.asked[path.Dir(dir)]
	if len(a.asked) < 16*aheadLists {
		a.asked[dir] = now
	}
	if dir == "/" || !walking {
		return
	}
	a.walkedAt = now
	at := slices.Index(a.todo, dir)
	switch {
	case a.wasForeseenLocked(dir):
	case at >= 0: // next, and not yet begun
		a.todo = slices.Delete(a.todo, at, at+1)
		a.pushLocked(subdirs(dir, list))
	default: // the walk went elsewhere, or begins
		a.todo = a.todo[:0]
		for _, next := range rest {
			a.pushLocked(next)
		}
		a.pushLocked(subdirs(dir, list))
	}
	a.walkOnLocked()
}

// wasForeseenLocked says that dir was or is being listed ahead.
func (a *ahead) wasForeseenLocked(dir string) bool {
	_, done := a.unasked[dir]
	_, coming := a.coming[dir]
	delete(a.unasked, dir)
	if done || coming {
		a.count.ListsUsed++
	}
	return done || coming
}

// behind returns what a depth-first walk comes to after dir: the later siblings of its ancestors and of its own, the
// uppermost first.
func (a *ahead) behind(dir string) (rest [][]string) {
	for range aheadDepth {
		parent := path.Dir(dir)
		siblings, ok := a.known.Known(parent)
		if !ok || dir == "/" {
			break
		}
		var next []string
		after := false
		for _, e := range siblings {
			if after && e.Type == ftpconn.Dir {
				next = append(next, path.Join(parent, e.Name))
			}
			after = after || e.Name == path.Base(dir)
		}
		a.mu.Lock()
		_, walked := a.asked[parent]
		a.mu.Unlock()
		if !walked {
			break
		}
		rest = append(rest, next)
		dir = parent
	}
	slices.Reverse(rest)
	return rest
}

func subdirs(dir string, list []ftpconn.Entry) (dirs []string) {
	for _, e := range list {
		if e.Type == ftpconn.Dir {
			dirs = append(dirs, path.Join(dir, e.Name))
		}
	}
	return dirs
}

// pushLocked puts dirs before all that is to be listed, the first of them first.
func (a *ahead) pushLocked(dirs []string) {
	for i := min(len(dirs), aheadLists) - 1; i >= 0; i-- {
		a.todo = append(a.todo, dirs[i])
	}
	if over := len(a.todo) - 16*aheadLists; over > 0 {
		a.todo = append(a.todo[:0], a.todo[over:]...)
	}
}

// walkOnLocked starts as many listings as the bounds allow.
func (a *ahead) walkOnLocked() {
	for a.t.ctx.Err() == nil && len(a.coming) < a.width && len(a.unasked)+len(a.coming) < aheadLists && len(a.todo) > 0 {
		if time.Since(a.walkedAt) > aheadLife {
			a.todo, a.unasked = nil, make(map[string]struct{})
			return
		}
		dir := a.todo[len(a.todo)-1]
		a.todo = a.todo[:len(a.todo)-1]
		if _, ok := a.asked[dir]; ok {
			continue
		}
		a.coming[dir] = struct{}{}
		a.count.Lists++
		go a.listAhead(dir)
	}
}

func (a *ahead) listAhead(dir string) {
	list, err := a.t.remote.List(a.context(), dir)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.coming, dir)
	switch {
	case errors.Is(err, ftpconn.ErrNoneFree):
		a.todo = append(a.todo, dir)
		a.width = max(len(a.coming), 1)
		return // whoever lists next, or lands next, goes on
	case err == nil:
		a.width = min(a.width+1, aheadFlying)
		if _, ok := a.asked[dir]; !ok {
			a.unasked[dir] = struct{}{}
		}
		a.pushLocked(subdirs(dir, list))
	}
	a.walkOnLocked()
}
