package main

import (
	"context"
	"io"
	"path/filepath"
	"time"
)

// line is the way between client and server.
type line struct {
	name               string
	rtt                time.Duration // 0: loopback
	host               string        // the server's address
	onClient, onServer func(argv ...string) []string
}

// job is one run of a workload by one contender: fresh mount, empty directories.
type job struct {
	*fixture
	line    *line
	srv     *server
	mnt     string // where the server is mounted; for those who mount
	scratch string // empty local directory
	up      string // empty directory on the server, relative to its root
}

func (j *job) in(name string) string       { return filepath.Join(j.mnt, name) }
func (j *job) onServer(name string) string { return filepath.Join(j.root, name) }
func (j *job) out(name string) string      { return filepath.Join(j.scratch, name) }

// client runs a peer's command on the client's side of the line.
func (j *job) client(ctx context.Context, out io.Writer, argv ...string) (time.Duration, error) {
	return tool(ctx, out, []string{"HOME=" + j.scratch}, j.line.onClient(argv...)...)
}

// work does a job and says how long it took; what only prepares or checks is not in that time.
type work func(ctx context.Context, j *job) (time.Duration, error)

// workload is a line of the table.
type workload struct {
	name  string
	parts []string // of the fixture
	short bool     // three runs instead of one
	paced bool     // said in round trips too
	tool  string   // not everybody has it
	rate  int64    // the server caps each connection, bytes/s

	tree       work // on a mount, whoever's
	curl, lftp work // nil: can't do it, or not in a way that would compare

	// With an option it is for ftpfs alone, unmounting is part of the work, and check looks at what came of it.
	option string
	check  func(j *job) error

	wan, loop bar
	wanOnly   bool
}

// bar is what ftpfs should reach.
type bar struct {
	text string
	// limit is the time at most; false if what it depends on was not measured.
	limit func(r *row) (time.Duration, bool)
}

func within(d time.Duration) bar {
	return bar{"≤ " + shortTime(d), func(*row) (time.Duration, bool) { return d, true }}
}

// besideCurl is a multiple of curl's time, and something on top.
func besideCurl(text string, factor float64, plus time.Duration) bar {
	return bar{text, func(r *row) (time.Duration, bool) {
		curl, ok := r.median("curl")
		return time.Duration(float64(curl)*factor) + plus, ok
	}}
}

func roundTrips(text string, n float64) bar {
	return bar{text, func(r *row) (time.Duration, bool) { return time.Duration(n * float64(r.line.rtt)), r.line.rtt > 0 }}
}

const cappedRate = 10_000_000

func workloads() []workload {
	small, single, big, upload := []string{"small"}, []string{"single"}, []string{"big"}, []string{"upload"}
	return []workload{
		{name: "first byte of a small file, warm", parts: single, short: true, paced: true, tree: firstByte, curl: curlFirstByte},
		{name: "one small file opened and read, warm", parts: single, short: true, paced: true, tree: readSmall, curl: curlSmall, lftp: lftpSmall,
			wan: roundTrips("≤ 1.3 round trips", 1.3)},
		{name: "read 1 GiB in order", parts: big, tree: readBig, curl: curlRead, lftp: lftpCat,
			wan: besideCurl("≤ 1.03 × curl", 1.03, 0), loop: besideCurl("≤ 0.75 × curl", 0.75, 0)},
		{name: "read 1 GiB in order, 10 MB/s for each connection", parts: big, rate: cappedRate, wanOnly: true, tree: readBig, curl: curlRead, lftp: lftpPget,
			wan: besideCurl("≤ 0.2 × curl", 0.2, 0)},
		{name: "write 512 MiB in order", parts: upload, tree: writeBig, curl: curlPut, lftp: lftpPut,
			wan: besideCurl("≤ 1.05 × curl", 1.05, 0), loop: besideCurl("≤ 1.6 × curl", 1.6, 0)},
		{name: "cp -r of 1,000 × 4 KiB out", parts: small, tree: copyOut, lftp: lftpMirror,
			wan: within(10 * time.Second), loop: within(800 * time.Millisecond)},
		{name: "cp -r of 1,000 × 4 KiB in", parts: small, tree: copyIn, lftp: lftpMirrorIn,
			wan: within(25 * time.Second), loop: within(1500 * time.Millisecond)},
		{name: "cp -r of 1,000 × 4 KiB in, writeback, and unmount", parts: small, option: "writeback", check: checkCopiedIn, wanOnly: true, tree: copyInLater,
			wan: within(10 * time.Second)},
		{name: "rsync -a of 1,000 × 4 KiB in, writeback, and unmount", parts: small, tool: "rsync", option: "writeback", check: checkCopiedIn, wanOnly: true,
			tree: rsyncInLater, wan: within(10 * time.Second)},
		{name: "grep -r over 1,000 × 4 KiB", parts: small, tree: grep, wan: within(10 * time.Second)},
		{name: "find over 521 directories, 10,000 files", parts: []string{"tree"}, tree: find, lftp: lftpFind, wan: within(4 * time.Second)},
		{name: "ls -l of 100,000 entries", parts: []string{"many"}, tree: list, curl: curlList, lftp: lftpList,
			wan: besideCurl("≤ 1.5 × curl + 1 s", 1.5, time.Second)},
		{name: "100 random 4 KiB reads in 1 GiB", parts: big, tree: readRandom, wan: within(3 * time.Second)},
		{name: "change 4 KiB in the middle of 1 GiB", parts: big, tree: changeBig},
		{name: "rsync -a of 1,000 unchanged files", parts: small, tool: "rsync", short: true, wanOnly: true, tree: rsyncUnchanged, wan: within(1500 * time.Millisecond)},
		{name: "create, write, close, rename, set times of one small file", short: true, paced: true, tree: replaceSmall,
			wan: roundTrips("≤ 3 round trips", 3)},
	}
}

// by is what a contender does for the workload, nil if nothing.
func (w *workload) by(c *contender) work {
	switch {
	case w.option != "" && c.name != ftpfsName:
		return nil
	case c.mount != nil:
		return w.tree
	case c.name == "curl":
		return w.curl
	case c.name == "lftp":
		return w.lftp
	}
	return nil
}
