package fs

import (
	"context"
	"maps"
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
	// restsFor is how long a file that was just closed waits in any case: what often comes next, its times and its final name, then
	// goes along with its upload.
	restsFor = 200 * time.Millisecond
	// refusedPause is how long a file that the server refused waits for the next attempt: somebody may have made room.
	refusedPause = 2 * time.Minute
)

// writeback is the queue of a mount. Its zero value is one that is empty. mu is a leaf.
type writeback struct {
	mu       sync.Mutex         // guards following
	queue    []*file            // in the order of their first close
	waits    map[*file]*wait    // all that is in queue, running or resting
	running  int                // of them
	timer    *time.Timer        // for the first of queue that isn't due yet, nil if none is set
	pause    time.Duration      // before the next attempt, while the server is lost
	asleep   bool               // for that time
	draining bool               // the mount is gone: each file has one more attempt
	done     chan struct{}      // closed when something ended; nil if nobody waits
	left     []leftFile         // while draining: what stays for the next mount
	dirs     map[*node]*dirTime // times to be set behind uploads
	files    int64              // that came in and went out since the queue was empty last
	bytes    int64              // of them
}

// wait is where a file stands. It may be running and queued: then it goes once more.
type wait struct {
	queued  bool
	due     time.Time // when it may go, if queued
	running bool
	resting *time.Timer // the server refused it: until it is queued again
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

// add puts a file at the end of the queue, if it isn't in it, to go at once.
func (w *writeback) add(f *file) { w.addAt(f, time.Time{}) }

// addClosed is add for a file that was just closed.
func (w *writeback) addClosed(f *file) { w.addAt(f, time.Now().Add(restsFor)) }

func (w *writeback) addAt(f *file, due time.Time) {
	size := int64(0)
	if copy := f.localCopy(); copy != nil {
		size = copy.Size()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.waits[f]
	switch {
	case at == nil:
		if w.waits == nil {
			w.waits = make(map[*file]*wait)
		}
		at = &wait{}
		w.waits[f] = at
		w.files++
		w.bytes += size
	case at.queued:
		return
	case at.resting != nil:
		at.resting.Stop()
		at.resting = nil
	}
	at.queued, at.due = true, due
	w.queue = append(w.queue, f)
}

// start has the queue worked on, as far as it may.
func (w *writeback) start(t *tree) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.startLocked(t)
}

func (w *writeback) startLocked(t *tree) {
	var soon time.Duration // until the next is due
	for i := 0; i < len(w.queue) && w.running < uploadsAtOnce; {
		if w.asleep || w.pause > 0 && w.running > 0 {
			return // the server was lost: one asks whether it is back
		}
		f := w.queue[i]
		at := w.waits[f]
		early := time.Until(at.due)
		if early > 0 && !w.draining && (soon == 0 || early < soon) {
			soon = early
		}
		if at.running || early > 0 && !w.draining { // running: again, after this time
			i++
			continue
		}
		w.queue = slices.Delete(w.queue, i, i+1)
		at.queued, at.running = false, true
		w.running++
		go w.work(t, f)
	}
	if soon > 0 && w.timer == nil {
		w.timer = time.AfterFunc(soon, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.timer = nil
			w.startLocked(t)
		})
	}
}

// work uploads one file of the queue.
func (w *writeback) work(t *tree, f *file) {
	err := f.deliver(t.ctx)
	w.mu.Lock()
	at := w.waits[f]
	at.running = false
	w.running--
	again := at.queued
	switch {
	case err == nil:
		w.pause = 0
	case w.draining:
		if !again {
			w.left = append(w.left, leftFile{f, err})
		}
		if unreached(err) {
			for _, other := range w.queue {
				w.left = append(w.left, leftFile{other, err})
				at := w.waits[other]
				if at.queued = false; !at.running {
					delete(w.waits, other)
				}
			}
			w.queue, again = nil, false
		}
	case unreached(err):
		if !again {
			w.queue = append([]*file{f}, w.queue...)
			at.queued, at.due = true, time.Time{}
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
		at.resting = time.AfterFunc(refusedPause, func() {
			w.add(f)
			w.start(t)
		})
	}
	if !at.queued && at.resting == nil {
		delete(w.waits, f)
	}
	if len(w.waits) == 0 {
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
	return len(w.waits) >= maxBehind
}

// room waits, after ENOSPC of the local disk, for an upload of the queue to end, which frees some. False if there is none to wait for.
func (w *writeback) room(ctx context.Context, t *tree) bool {
	w.mu.Lock()
	if w.running == 0 { // what was just closed doesn't rest then
		for _, f := range w.queue {
			w.waits[f].due = time.Time{}
		}
		w.startLocked(t)
	}
	if w.running == 0 {
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
	for f, at := range w.waits {
		if at.resting == nil || !at.resting.Stop() { // else it is being added
			continue
		}
		at.resting, at.queued = nil, true
		w.queue = append(w.queue, f)
	}
	for {
		w.startLocked(t)
		if len(w.waits) == 0 {
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
	waiting := slices.Collect(maps.Keys(w.waits))
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
