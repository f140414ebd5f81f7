package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What curl and lftp do for the same ends, as fast as their options allow, without being wrong.

// curlSingles reads the small files over one connection and returns the median of what -w says in the
// given column; the first file, which pays for the log-in, doesn't count.
func curlSingles(ctx context.Context, j *job, column int) (time.Duration, error) {
	argv := []string{"curl", "-sS", "--ftp-method", "nocwd", "-w", "%{time_starttransfer} %{time_total} %{size_download}\n"}
	for i := range singles {
		argv = append(argv, "-o", "/dev/null", j.srv.url(singlePath(i)))
	}
	var out bytes.Buffer
	if _, err := j.client(ctx, &out, argv...); err != nil {
		return 0, err
	}
	var times []time.Duration
	for line := range strings.Lines(out.String()) {
		var seconds [2]float64
		var size int64
		if _, err := fmt.Sscan(line, &seconds[0], &seconds[1], &size); err != nil {
			return 0, fmt.Errorf("what curl says: %q: %w", line, err)
		}
		if size != smallSize {
			return 0, fmt.Errorf("wrong result: %d bytes instead of %d", size, smallSize)
		}
		times = append(times, time.Duration(seconds[column]*float64(time.Second)))
	}
	if len(times) != singles {
		return 0, fmt.Errorf("wrong result: curl read %d files instead of %d", len(times), singles)
	}
	return median(times[1:]), nil
}

func curlFirstByte(ctx context.Context, j *job) (time.Duration, error) { return curlSingles(ctx, j, 0) }
func curlSmall(ctx context.Context, j *job) (time.Duration, error)     { return curlSingles(ctx, j, 1) }

func curlRead(ctx context.Context, j *job) (time.Duration, error) {
	var out bytes.Buffer
	took, err := j.client(ctx, &out, "curl", "-sS", "-w", "%{size_download}", "-o", "/dev/null", j.srv.url("big"))
	if err == nil && out.String() != fmt.Sprint(j.big) {
		err = fmt.Errorf("wrong result: %s bytes instead of %d", out.String(), j.big)
	}
	return took, err
}

func curlPut(ctx context.Context, j *job) (time.Duration, error) {
	took, err := j.client(ctx, nil, "curl", "-sS", "-T", j.local+"/upload", j.srv.url(j.up+"/upload"))
	if err != nil {
		return 0, err
	}
	return took, checkPattern(j.onServer(j.up+"/upload"), j.upload)
}

func curlList(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := j.client(ctx, &lines, "curl", "-sS", j.srv.url("many/"))
	if err != nil {
		return 0, err
	}
	return took, wantLines("entries", lines, j.many)
}

// lftp runs one command of lftp's. Names in it have nothing that would need quoting.
func lftp(ctx context.Context, j *job, out *lineCounter, format string, args ...any) (time.Duration, error) {
	script := "set cmd:fail-exit yes; set ftp:ssl-allow no; set xfer:log no; open " + j.srv.url("") + "; " + fmt.Sprintf(format, args...)
	if out == nil {
		return j.client(ctx, nil, "lftp", "-c", script)
	}
	return j.client(ctx, out, "lftp", "-c", script)
}

// lftpSmall is what each further file takes, in one session: lftp has no clock of its own.
func lftpSmall(ctx context.Context, j *job) (time.Duration, error) {
	one, err := lftp(ctx, j, nil, "cat %s", singlePath(0))
	if err != nil {
		return 0, err
	}
	var names []string
	for i := range singles {
		names = append(names, singlePath(i))
	}
	all, err := lftp(ctx, j, nil, "cat %s", strings.Join(names, " "))
	if err != nil {
		return 0, err
	}
	if all <= one {
		return 0, errors.New("too fast to be told from the log-in")
	}
	return (all - one) / (singles - 1), nil
}

func lftpCat(ctx context.Context, j *job) (time.Duration, error) { return lftp(ctx, j, nil, "cat big") }

// lftpPget reads in eight segments, into a file: there is no other place for them.
func lftpPget(ctx context.Context, j *job) (time.Duration, error) {
	took, err := lftp(ctx, j, nil, "pget -n 8 big -o %s", j.out("big"))
	if err != nil {
		return 0, err
	}
	return took, checkPattern(j.out("big"), j.big)
}

func lftpPut(ctx context.Context, j *job) (time.Duration, error) {
	took, err := lftp(ctx, j, nil, "put %s/upload -o %s/upload", j.local, j.up)
	if err != nil {
		return 0, err
	}
	return took, checkPattern(j.onServer(j.up+"/upload"), j.upload)
}

func lftpMirror(ctx context.Context, j *job) (time.Duration, error) {
	took, err := lftp(ctx, j, nil, "mirror -P8 small %s", j.out("small"))
	if err != nil {
		return 0, err
	}
	return took, j.checkSmall(j.out("small"))
}

func lftpMirrorIn(ctx context.Context, j *job) (time.Duration, error) {
	took, err := lftp(ctx, j, nil, "mirror -R -P8 %s %s/small", j.onServer("small"), j.up)
	if err != nil {
		return 0, err
	}
	return took, checkCopiedIn(j)
}

func lftpFind(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := lftp(ctx, j, &lines, "find tree")
	if err != nil {
		return 0, err
	}
	return took, wantLines("files and directories", lines, j.dirs()+j.treeFiles())
}

func lftpList(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := lftp(ctx, j, &lines, "ls many")
	if err != nil {
		return 0, err
	}
	return took, wantLines("entries", lines, j.many)
}
