package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"ftpfs/fs"
)

// progressEvery is how often those who wait for the end of a mount are told how far it is.
const progressEvery = 200 * time.Millisecond

// showBacklog tells, once the mount is gone, what is still to be uploaded: those who wait, and the terminal of a mount in the
// foreground. It ends with the uploads.
func showBacklog(m *site, alive *lifeline, foreground bool) {
	m.WaitGone()
	alive.release()
	bar := &progressBar{}
	if foreground {
		bar = newProgressBar(os.Stderr)
	}
	defer bar.end()
	ended := make(chan struct{})
	go func() {
		m.Wait()
		close(ended)
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		if b := m.mounted.Backlog(); b.Files > 0 {
			alive.progress(b)
			bar.show(b)
		}
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

// progressBar draws on one line of a terminal; one without a terminal only prints.
type progressBar struct {
	w        io.Writer
	terminal bool
	width    int

	mu    sync.Mutex // guards following
	began time.Time
	first fs.Backlog
	drawn bool
}

func newProgressBar(to *os.File) *progressBar {
	b := &progressBar{w: to, terminal: term.IsTerminal(int(to.Fd()))}
	if width, _, err := term.GetSize(int(to.Fd())); err == nil {
		b.width = width
	}
	return b
}

// show draws what is left.
func (b *progressBar) show(left fs.Backlog) {
	if !b.terminal {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		b.began, b.first = time.Now(), left
	}
	fmt.Fprintf(b.w, "\r\x1b[K%s", barText(left, b.first, time.Since(b.began), b.width))
	b.drawn = true
}

// print writes a line above the bar.
func (b *progressBar) print(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn { // which says as much
		return
	}
	fmt.Fprintln(b.w, text)
}

// end takes the bar away.
func (b *progressBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = false
	}
}

// barText is the bar for what is left, of what was left first, some time later.
func barText(left, first fs.Backlog, passed time.Duration, width int) string {
	total, done := left.Bytes+left.DoneBytes, left.DoneBytes
	part := 0.0
	if total > 0 {
		part = float64(done) / float64(total)
	} else if n := left.Files + left.DoneFiles; n > 0 {
		part = float64(left.DoneFiles) / float64(n)
	}
	text := fmt.Sprintf(" %3.0f%%  %s to upload", 100*part, countFiles(left.Files, left.Bytes))
	if gone := first.Bytes - left.Bytes; gone > 0 && passed > time.Second {
		rest := time.Duration(float64(passed) * float64(left.Bytes) / float64(gone))
		text += fmt.Sprintf(", %v left", rest.Round(time.Second))
	}
	const most, least = 40, 10
	cells := min(most, width-len(text)-3)
	if cells < least {
		return text[1:]
	}
	full := int(part * float64(cells))
	return "[" + strings.Repeat("#", full) + strings.Repeat(" ", cells-full) + "]" + text
}

// countFiles is a number of files, and their bytes, for people.
func countFiles(files, bytes int64) string {
	size := fmt.Sprintf("%d bytes", bytes)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n := float64(bytes) / float64(int64(1)<<(10*(i+1))); n >= 1 {
			size = fmt.Sprintf("%.1f %s", n, unit)
		}
	}
	if files == 1 {
		return "1 file, " + size
	}
	return fmt.Sprintf("%d files, %s", files, size)
}
