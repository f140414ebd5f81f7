package fs

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// uploadsAtOnce is how many files of the queue are on their way at a time; the Remote's pool bounds sessions.
	uploadsAtOnce = 8

	firstLatePause   = time.Second      // before the queue goes on after its server was lost, doubling up to
	longestLatePause = 30 * time.Second // this
	// maxBehind is how many files may wait, at some 5 kB of memory each, before a close() waits for its own upload.
	maxBehind = 20_000
	// refusedPause is how long a file that the server refused waits for the next attempt: somebody may have made room.
	refusedPause = 2 * time.Minute
)

// writeback is the queue of a mount. Its zero value is one that is empty. mu is a leaf.
type writeback struct {
	mu       sync.Mutex         // guards following
	queue    []*file            // in the order of their first close
	queued   map[*file]struct{} // in queue
	running  map[*file]struct{}
	resting  map[*file]*time.Timer // refused by the server
	pause    time.Duration         // before the next attempt, while the server is lost
	asleep   bool                  // for that time
	draining bool                  // the mount is gone: each file has one more attempt
	done     chan struct{}         // closed when something ended; nil if nobody waits
	left     []leftFile            // while draining: what stays for the next mount
	dirs     map[*node]*dirTime    // times to be set behind uploads
	files    int64                 // that came in and went out since the queue was empty last
	bytes    int64                 // of them
}

// leftFile is a file that is left to the next mount, and why.
type leftFile struct {
	f   *file
	err error
}

// Backlog is what waits for its upload, and what went of it since nothing waited.
type Backlog struct {
	Files, Bytes         int64 // to go
	DoneFiles, DoneBytes int64
}

// add puts a file at the end of the queue, if it isn't in it.
func (w *writeback) add(f *file) {
	size := int64(0)
	if copy := f.localCopy(); copy != nil {
		size = copy.Size()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.queued[f]; ok {
		return
	}
	if w.queued == nil {
		w.queued, w.running, w.resting = make(map[*file]struct{}), make(map[*file]struct{}), make(map[*file]*time.Timer)
	}
	if t, ok := w.resting[f]; ok {
		t.Stop()
		delete(w.resting, f)
	} else if _, ok := w.running[f]; !ok {
		w.files++
		w.bytes += size
	}
	w.queued[f] = struct{}{}
	w.queue = append(w.queue, f)
}

// start has the queue worked on, as far as it may.
func (w *writeback) start(t *tree) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.startLocked(t)
}

func (w *writeback) startLocked(t *tree) {
	for i := 0; i < len(w.queue) && len(w.running) < uploadsAtOnce; {
		if w.asleep || w.pause > 0 && len(w.running) > 0 {
			return // the server was lost: one asks whether it is back
		}
		f := w.queue[i]
		if _, ok := w.running[f]; ok { // again, after this time
			i++
			continue
		}
		w.queue = slices.Delete(w.queue, i, i+1)
		delete(w.queued, f)
		w.running[f] = struct{}{}
		go w.work(t, f)
	}
}

// work uploads one file of the queue.
func (w *writeback) work(t *tree, f *file) {
	err := f.deliver(t.ctx)
	w.mu.Lock()
	delete(w.running, f)
	_, again := w.queued[f]
	switch {
	case err == nil:
		w.pause = 0
	case w.draining:
		if !again {
			w.left = append(w.left, leftFile{f, err})
		}
		if unreached(err) {
			for _, other := range w.queue {
				delete(w.queued, other)
				w.left = append(w.left, leftFile{other, err})
			}
			w.queue = nil
		}
	case unreached(err):
		if !again {
			w.queue = append([]*file{f}, w.queue...)
			w.queued[f] = struct{}{}
		}
		if !w.asleep {
			w.pause = min(max(2*w.pause, firstLatePause), longestLatePause)
			w.asleep = true
			time.AfterFunc(w.pause, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.asleep = false
				w.startLocked(t)
			})
		}
	case again:
		w.pause = 0 // it answers
	default:
		w.pause = 0
		w.resting[f] = time.AfterFunc(refusedPause, func() {
			w.add(f)
			w.start(t)
		})
	}
	if len(w.queue)+len(w.running)+len(w.resting) == 0 {
		w.files, w.bytes = 0, 0
	}
	if w.done != nil {
		close(w.done)
		w.done = nil
	}
	w.startLocked(t)
	w.mu.Unlock()
}

// crowded says that no more files should wait.
func (w *writeback) crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)+len(w.resting) >= maxBehind
}

// room waits, after ENOSPC of the local disk, for an upload of the queue to end, which frees some. False if there is none to wait for.
func (w *writeback) room(ctx context.Context) bool {
	w.mu.Lock()
	if len(w.running) == 0 {
		w.mu.Unlock()
		return false
	}
	done := w.doneLocked()
	w.mu.Unlock()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *writeback) doneLocked() <-chan struct{} {
	if w.done == nil {
		w.done = make(chan struct{})
	}
	return w.done
}

// drain uploads what waits, each file with one more attempt, and returns what has to be left to the next mount.
func (w *writeback) drain(t *tree) []leftFile {
	w.mu.Lock()
	w.draining, w.asleep, w.pause = true, false, 0
	for f, timer := range w.resting {
		if !timer.Stop() {
			continue // it is being added
		}
		delete(w.resting, f)
		w.queued[f] = struct{}{}
		w.queue = append(w.queue, f)
	}
	for {
		w.startLocked(t)
		if len(w.queue)+len(w.running)+len(w.resting) == 0 {
			defer w.mu.Unlock()
			return w.left
		}
		done := w.doneLocked()
		w.mu.Unlock()
		<-done
		w.mu.Lock()
	}
}

// backlog says what waits.
func (w *writeback) backlog() Backlog {
	w.mu.Lock()
	waiting := make([]*file, 0, len(w.queue)+len(w.running)+len(w.resting))
	seen := make(map[*file]bool, len(w.running))
	for f := range w.running {
		seen[f] = true
		waiting = append(waiting, f)
	}
	for _, f := range w.queue {
		if !seen[f] {
			waiting = append(waiting, f)
		}
	}
	for f := range w.resting {
		waiting = append(waiting, f)
	}
	b := Backlog{DoneFiles: w.files, DoneBytes: w.bytes}
	w.mu.Unlock()
	for _, f := range waiting {
		f.mu.Lock()
		copy, job := f.copy, f.job
		f.mu.Unlock()
		b.Files++
		if copy != nil {
			b.Bytes += copy.Size()
		}
		if job != nil {
			b.Bytes -= min(job.sent.Load(), b.Bytes)
		}
	}
	b.DoneFiles, b.DoneBytes = max(b.DoneFiles-b.Files, 0), max(b.DoneBytes-b.Bytes, 0)
	return b
}
