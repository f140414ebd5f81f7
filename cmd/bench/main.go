// Command bench measures ftpfs beside the other ways to a server's files: curl, lftp, rclone's mount and
// curlftpfs, as far as they are installed. BENCHMARKS.md says how, and what each column means.
//
//	go run ./cmd/bench                     everything; as root, or the slow line is left out
//	go run ./cmd/bench -quick -only cp     a tenth of the size, workloads with "cp" in their name
//
// Everything it makes lives in one temporary directory and in network namespaces without a name, which
// end with the process; mounts, processes and files are taken away on every way out, Ctrl-C included.
//
// Exit codes: 0 measured, 1 something of ftpfs failed or gave a wrong result, 2 the command line can't be
// understood. A missed bar is no failure: it is marked in the table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// config is the command line.
type config struct {
	rtt     time.Duration
	quick   bool
	only    *regexp.Regexp
	line    string // "wan", "loopback" or "both"
	peers   bool
	n       int // runs of each workload; 0: the workload's own number
	limit   time.Duration
	output  string
	dir     string
	ftpfs   string // path of the program, "none": only the peers
	options string // for ftpfs -o
}

func main() {
	// Children that must not outlive this process have it from PR_SET_PDEATHSIG, which the kernel ties to
	// the thread that started them: the main thread, which ends last.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	cfg, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rep, err := measure(ctx, cfg)
	if rep != nil {
		if err := publish(rep, cfg.output); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "bench: interrupted; the table has what was measured until then")
		return 1
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (config, error) {
	var cfg config
	var only string
	fl := flag.NewFlagSet("bench", flag.ContinueOnError)
	fl.DurationVar(&cfg.rtt, "rtt", 20*time.Millisecond, "round-trip `time` of the slow line")
	fl.BoolVar(&cfg.quick, "quick", false, "a tenth of the size: a smoke test, no figures to quote")
	fl.StringVar(&only, "only", "", "only workloads whose name matches this `regexp`")
	fl.StringVar(&cfg.line, "line", "both", "`wan`, loopback or both")
	fl.BoolVar(&cfg.peers, "peers", true, "measure the peers too")
	fl.IntVar(&cfg.n, "n", 0, "runs of each workload, whose median counts (default 1 for long ones, 3 for short)")
	fl.DurationVar(&cfg.limit, "limit", 120*time.Second, "`time` after which a run is given up")
	fl.StringVar(&cfg.output, "o", "", "write the table to this `file` too")
	fl.StringVar(&cfg.dir, "dir", os.TempDir(), "`directory` for the data, 4 GiB of room")
	fl.StringVar(&cfg.ftpfs, "ftpfs", "bin/ftpfs", "the `program` to measure; none: only the peers")
	fl.StringVar(&cfg.options, "ftpfs-options", "max_conns=8", "mount `options` of ftpfs")
	if err := fl.Parse(args); err != nil {
		return cfg, err
	}
	if fl.NArg() > 0 {
		return cfg, fmt.Errorf("%q: there are options only, no arguments", fl.Arg(0))
	}
	if cfg.line != "both" && cfg.line != "wan" && cfg.line != "loopback" {
		return cfg, fmt.Errorf("-line %s: wan, loopback or both", cfg.line)
	}
	if cfg.rtt < 0 || cfg.n < 0 || cfg.limit <= 0 {
		return cfg, errors.New("-rtt, -n and -limit can't be negative")
	}
	var err error
	if cfg.only, err = regexp.Compile(only); err != nil {
		return cfg, fmt.Errorf("-only: %w", err)
	}
	if cfg.ftpfs == "none" {
		return cfg, nil
	}
	if cfg.ftpfs, err = filepath.Abs(cfg.ftpfs); err != nil {
		return cfg, err
	}
	if _, err := os.Stat(cfg.ftpfs); err != nil {
		return cfg, fmt.Errorf("%w: run \"make build\" first, or name the program with -ftpfs", err)
	}
	return cfg, nil
}

func publish(rep *report, file string) error {
	if file == "" {
		return rep.write(os.Stdout)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := rep.write(io.MultiWriter(os.Stdout, f)); err != nil {
		return err
	}
	return f.Close()
}
