package fs

import (
	"errors"
	"path"
	"time"

	"ftpfs/ftpconn"
)

type walk struct {
	asked    map[string]time.Time // directories that were listed for somebody
	todo     []string             // to be listed, the next one last
	listing  int                  // requests under way
	unasked  map[string]struct{}  // listed ahead, and not yet asked for
	walkedAt time.Time            // when a listing was last asked for that continued the walk
}

// listed is told of each directory that is listed for somebody. Who lists a directory and then one in
// it, or the next one beside it, walks the tree: the directories that come next are listed ahead, depth first.
func (a *ahead) listed(dir string, list []ftpconn.Entry) {
	if a.off() {
		return
	}
	parent := path.Dir(dir)
	siblings, _ := a.known.Known(parent)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	foreseen := false
	if _, foreseen = a.unasked[dir]; foreseen {
		delete(a.unasked, dir)
		a.count.ListsUsed++
	}
	for d, at := range a.asked {
		if now.Sub(at) > aheadLife {
			delete(a.asked, d)
		}
	}
	_, walking := a.asked[parent]
	if len(a.asked) < 4*aheadLists {
		a.asked[dir] = now
	}
	if dir == "/" || !walking {
		return
	}
	a.walkedAt = now
	if !foreseen { // the walk went elsewhere, or began
		a.todo = a.todo[:0]
		after := false
		var next []string
		for _, e := range siblings {
			if after && e.Type == ftpconn.Dir {
				next = append(next, path.Join(parent, e.Name))
			}
			after = after || path.Join(parent, e.Name) == dir
		}
		a.pushLocked(next)
		a.pushLocked(subdirs(dir, list))
	}
	a.walkOnLocked()
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
	for a.listing < aheadFlying && len(a.unasked)+a.listing < aheadLists && len(a.todo) > 0 {
		if time.Since(a.walkedAt) > aheadLife {
			a.todo, a.unasked = nil, make(map[string]struct{})
			return
		}
		dir := a.todo[len(a.todo)-1]
		a.todo = a.todo[:len(a.todo)-1]
		if _, ok := a.asked[dir]; ok {
			continue
		}
		a.listing++
		a.count.Lists++
		go a.listAhead(dir)
	}
}

func (a *ahead) listAhead(dir string) {
	list, err := a.t.remote.List(a.context(), dir)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listing--
	switch {
	case errors.Is(err, ftpconn.ErrNoneFree):
		a.todo = append(a.todo, dir) // whoever lists next, or lands next, tries again
		return
	case err != nil:
	default:
		if _, ok := a.asked[dir]; !ok {
			a.unasked[dir] = struct{}{}
		}
		a.pushLocked(subdirs(dir, list))
	}
	a.walkOnLocked()
}
