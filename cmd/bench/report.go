package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is the table, and what has to be said about it.
type report struct {
	cfg        config
	contenders []*contender
	rows       []*row
	notes      []string
	start      time.Time
}

// row is one workload over one line.
type row struct {
	line    *line
	work    *workload
	results map[string]*result
}

// result is what the runs of one contender brought.
type result struct {
	skip  string // why there is none
	err   error  // the first failure; no further runs then
	times []time.Duration
	peak  int64         // bytes, of all runs
	cpu   time.Duration // of the last run
	idle  time.Duration // of the last run
}

func newReport(cfg config, cs []*contender) *report {
	rep := &report{cfg: cfg, contenders: cs, start: time.Now()}
	if cfg.quick {
		rep.note("-quick: everything has a tenth of the size that its name says. No figures to quote.")
	}
	for _, c := range cs {
		if c.program == "" {
			rep.note("%s is not installed.", c.name)
		}
	}
	return rep
}

func (rep *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "bench:", text)
	rep.notes = append(rep.notes, text)
}

func (rep *report) row(l *line, w *workload) *row {
	r := &row{l, w, map[string]*result{}}
	for _, c := range rep.contenders {
		res := &result{}
		switch {
		case c.program == "":
			res.skip = "not installed"
		case w.by(c) == nil:
			res.skip = "–"
		case w.option != "" && !c.offers(w.option):
			res.skip = "not offered"
		}
		r.results[c.name] = res
	}
	rep.rows = append(rep.rows, r)
	return r
}

func (r *row) result(c *contender) *result { return r.results[c.name] }

// drop forgets a result that an interruption cut short.
func (r *row) drop(c *contender) { r.results[c.name] = &result{skip: "interrupted"} }

func (res *result) add(smp sample, err error) {
	if err != nil {
		res.err = err
		return
	}
	res.times = append(res.times, smp.took)
	res.peak = max(res.peak, smp.used.peak)
	res.cpu, res.idle = smp.used.cpu, smp.idle
}

// median is false where there is no valid time.
func (r *row) median(name string) (time.Duration, bool) {
	res := r.results[name]
	if res == nil || res.err != nil || len(res.times) == 0 {
		return 0, false
	}
	return median(res.times), true
}

// last is the run that has just been made.
func (res *result) last(l *line, w *workload) string {
	if res.err != nil {
		return "failed: " + res.err.Error()
	}
	return timeCell(l, w, res.times[len(res.times)-1])
}

// failures names the rows in which a contender brought an error or a wrong result.
func (rep *report) failures(name string) []string {
	var failed []string
	for _, r := range rep.rows {
		if res := r.results[name]; res != nil && res.err != nil {
			failed = append(failed, fmt.Sprintf("%s (%s)", r.work.name, r.line.name))
		}
	}
	return failed
}

// write prints everything as Markdown.
func (rep *report) write(w io.Writer) error {
	var b strings.Builder
	rep.conditions(&b)
	rep.times(&b)
	rep.resources(&b)
	for _, n := range rep.notes {
		fmt.Fprintf(&b, "* %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (rep *report) conditions(b *strings.Builder) {
	var uts unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uts) == nil {
		kernel = unix.ByteSliceToString(uts.Release[:])
	}
	fmt.Fprintf(b, "%s, %d processors, Linux %s, %s; ftpfs -o %s; each run at most %v.\n", rep.start.UTC().Format("2006-01-02"),
		runtime.NumCPU(), kernel, runtime.GOARCH, rep.cfg.options, rep.cfg.limit)
	for _, c := range rep.contenders {
		if c.program != "" {
			fmt.Fprintf(b, "%s %s; ", c.name, c.version)
		}
	}
	fmt.Fprintf(b, "vsftpd %s.\n\n", vsftpdVersion())
}

func (rep *report) times(b *strings.Builder) {
	header := []string{"work", "round trip", "server"}
	for _, c := range rep.contenders {
		header = append(header, c.name)
	}
	tableRow(b, append(header, "bar", "to the best peer")...)
	tableRow(b, make([]string, len(header)+2)...)
	for _, r := range rep.rows {
		server := "vsftpd"
		if r.work.rate > 0 {
			server = fmt.Sprintf("vsftpd, %d MB/s each", r.work.rate/1_000_000)
		}
		cells := []string{r.work.name, r.line.name, server}
		for _, c := range rep.contenders {
			cells = append(cells, rep.cell(r, c))
		}
		tableRow(b, append(cells, r.bar(rep.cfg.quick), r.ratio())...)
	}
	b.WriteString("\n")
}

// memoryBar is what ftpfs should stay under, resident bytes.
const memoryBar = 200 << 20

// resources has what the program behind the mount used.
func (rep *report) resources(b *strings.Builder) {
	tableRow(b, "work", "round trip", "memory at most", "processor", "processor when idle, 2 s")
	tableRow(b, make([]string, 5)...)
	for _, r := range rep.rows {
		if _, ok := r.median(ftpfsName); !ok {
			continue
		}
		res := r.results[ftpfsName]
		memory := fmt.Sprintf("%d MiB", res.peak>>20)
		if res.peak > memoryBar {
			memory += fmt.Sprintf(": **more than %d MiB**", memoryBar>>20)
		}
		tableRow(b, r.work.name, r.line.name, memory, shortTime(res.cpu), shortTime(res.idle))
	}
	b.WriteString("\n")
}

// tableRow prints cells, or the line under the header if all are empty.
func tableRow(b *strings.Builder, cells ...string) {
	if strings.Join(cells, "") == "" {
		b.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
		return
	}
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// cell is a contender's time; a failure is explained in the notes.
func (rep *report) cell(r *row, c *contender) string {
	res := r.results[c.name]
	switch {
	case res.skip != "":
		return res.skip
	case errors.Is(res.err, errTooLong):
		return "> " + shortTime(rep.cfg.limit)
	case res.err != nil:
		note := fmt.Sprintf("%s, %s (%s): %v", c.name, r.work.name, r.line.name, res.err)
		rep.notes = append(rep.notes, strings.Join(strings.Fields(note), " "))
		return "failed"
	case len(res.times) == 0:
		return "not run"
	}
	return timeCell(r.line, r.work, median(res.times))
}

// timeCell has the round trips too, where they are the measure.
func timeCell(l *line, w *workload, d time.Duration) string {
	if w.paced && l.rtt > 0 {
		return fmt.Sprintf("%s, %.2f round trips", shortTime(d), float64(d)/float64(l.rtt))
	}
	return shortTime(d)
}

// bar is the bar and whether it was reached; not judged for other sizes than its own.
func (r *row) bar(quick bool) string {
	bar := r.work.loop
	if r.line.rtt > 0 {
		bar = r.work.wan
	}
	if bar.limit == nil {
		return ""
	}
	took, ok := r.median(ftpfsName)
	limit, known := bar.limit(r)
	switch {
	case quick || !known:
		return bar.text
	case ok && took <= limit:
		return bar.text + ": reached"
	case ok || r.results[ftpfsName] != nil && r.results[ftpfsName].err != nil:
		return bar.text + ": **missed**"
	}
	return bar.text
}

// ratio is ftpfs' time divided by the best of the others'.
func (r *row) ratio() string {
	own, ok := r.median(ftpfsName)
	if !ok {
		return ""
	}
	best := time.Duration(0)
	for name := range r.results {
		if d, ok := r.median(name); ok && name != ftpfsName && (best == 0 || d < best) {
			best = d
		}
	}
	if best == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f ×", float64(own)/float64(best))
}

// shortTime is a time with three digits.
func shortTime(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d == 0:
		return "0"
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 10_000:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", ms/1000), "0"), ".") + " s"
	case ms < 100_000:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.1f", ms/1000), "0"), ".") + " s"
	}
	return fmt.Sprintf("%.0f s", ms/1000)
}
