package ftpconn

import (
	"context"
	"strings"
	"sync"
)

// unsettled are the uploads that were broken off and that the server hasn't ended yet. Until then its session may go on writing
// what it had received, over what another session stores in the same file: ProFTPD 1.3.8 and Pure-FTPd 1.0.50 lock nothing. A
// session that doesn't answer any more is given up for dead after a while (settleTime), and is no longer waited for.
type unsettled struct {
	mu  sync.Mutex // guards following
	set map[*settling]struct{}
}

// settling is an upload to a path of the server.
type settling struct {
	path string
	over chan struct{}
}

// add notes an upload that is being broken off. The answer is to be called when it is over.
func (u *unsettled) add(path string) (over func()) {
	s := &settling{path, make(chan struct{})}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.set == nil {
		u.set = make(map[*settling]struct{})
	}
	u.set[s] = struct{}{}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.set, s)
		close(s.over)
	}
}

// wait returns when no upload to path, or below it, is unsettled. The caller holds no session.
func (u *unsettled) wait(ctx context.Context, path string) error {
	for {
		s := u.find(path)
		if s == nil {
			return nil
		}
		select {
		case <-s.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (u *unsettled) find(path string) *settling {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.set {
		if s.path == path || strings.HasPrefix(s.path, strings.TrimSuffix(path, "/")+"/") {
			return s
		}
	}
	return nil
}
