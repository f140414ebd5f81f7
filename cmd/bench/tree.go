package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// What is done on a mount. A call that hangs ends when the mount is taken away under it.

// settle is how long a mount is left alone to come to rest, between one small operation and the next.
const settle = 200 * time.Millisecond

// warm lists the directories of the small files and reads two of them, so that sessions are there.
func warm(j *job) error {
	for i := range singles {
		if _, err := os.ReadDir(filepath.Dir(j.in(singlePath(i)))); err != nil {
			return err
		}
	}
	for i := range 2 {
		if err := checkSingle(j, i); err != nil {
			return err
		}
	}
	time.Sleep(settle)
	return nil
}

func checkSingle(j *job, i int) error {
	data, err := os.ReadFile(j.in(singlePath(i)))
	if err == nil && !bytes.Equal(data, smallText(i)) {
		err = fmt.Errorf("wrong result: the content of %s is not what it was", singlePath(i))
	}
	return err
}

// firstByte is the median time from open to the first byte of files that were listed, but never read.
func firstByte(_ context.Context, j *job) (time.Duration, error) {
	if err := warm(j); err != nil {
		return 0, err
	}
	var times []time.Duration
	for i := 2; i < singles; i++ {
		time.Sleep(settle)
		start := time.Now()
		f, err := os.Open(j.in(singlePath(i)))
		if err != nil {
			return 0, err
		}
		var b [1]byte
		_, err = f.Read(b[:])
		times = append(times, time.Since(start))
		f.Close()
		if err != nil {
			return 0, err
		}
		if b[0] != smallText(i)[0] {
			return 0, errors.New("wrong result: the first byte is another")
		}
	}
	return median(times), nil
}

// readSmall is the median time from open to close.
func readSmall(_ context.Context, j *job) (time.Duration, error) {
	if err := warm(j); err != nil {
		return 0, err
	}
	var times []time.Duration
	for i := 2; i < singles; i++ {
		time.Sleep(settle)
		start := time.Now()
		err := checkSingle(j, i)
		times = append(times, time.Since(start))
		if err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

func readBig(_ context.Context, j *job) (time.Duration, error) {
	buf := make([]byte, 1<<20)
	start := time.Now()
	f, err := os.Open(j.in("big"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	at := int64(0)
	for {
		n, err := io.ReadFull(f, buf)
		if err := marked(buf[:n], at/pageSize); err != nil {
			return 0, err
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	if at != j.big {
		return 0, fmt.Errorf("wrong result: %d bytes instead of %d", at, j.big)
	}
	return took, nil
}

func readRandom(_ context.Context, j *job) (time.Duration, error) {
	buf := make([]byte, pageSize)
	start := time.Now()
	f, err := os.Open(j.in("big"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for i := range j.randReads {
		page := int64(mix(uint64(i)) % uint64(j.big/pageSize))
		if _, err := f.ReadAt(buf, page*pageSize); err != nil {
			return 0, err
		}
		if err := marked(buf, page); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// changeBig writes a page in the middle of the file: what is there already, so that the file stays what it is.
func changeBig(_ context.Context, j *job) (time.Duration, error) {
	page := j.big / 2 / pageSize
	at := func() ([]byte, error) {
		buf := make([]byte, pageSize)
		there, err := os.Open(j.onServer("big"))
		if err != nil {
			return nil, err
		}
		defer there.Close()
		if _, err := there.ReadAt(buf, page*pageSize); err != nil {
			return nil, err
		}
		return buf, marked(buf, page)
	}
	buf, err := at()
	if err = errors.Join(err, os.Chmod(j.onServer("big"), 0o666)); err != nil {
		return 0, err
	}
	start := time.Now()
	f, err := os.OpenFile(j.in("big"), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteAt(buf, page*pageSize)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if st, err := os.Stat(j.onServer("big")); err != nil || st.Size() != j.big {
		return 0, fmt.Errorf("wrong result: the server's file has another size (%v)", err)
	}
	_, err = at()
	return took, err
}

func writeBig(ctx context.Context, j *job) (time.Duration, error) {
	took, err := tool(ctx, nil, nil, "cp", filepath.Join(j.local, "upload"), j.in(j.up))
	if err != nil {
		return 0, err
	}
	return took, checkPattern(j.onServer(j.up+"/upload"), j.upload)
}

func copyOut(ctx context.Context, j *job) (time.Duration, error) {
	took, err := tool(ctx, nil, nil, "cp", "-r", j.in("small"), j.scratch)
	if err != nil {
		return 0, err
	}
	return took, j.checkSmall(j.out("small"))
}

// copyIn finds everything on the server as soon as cp has ended: each close waits for the verdict.
func copyIn(ctx context.Context, j *job) (time.Duration, error) {
	took, err := copyInLater(ctx, j)
	if err != nil {
		return 0, err
	}
	return took, checkCopiedIn(j)
}

// copyInLater leaves that to checkCopiedIn, after the unmount.
func copyInLater(ctx context.Context, j *job) (time.Duration, error) {
	return tool(ctx, nil, nil, "cp", "-r", j.onServer("small"), j.in(j.up))
}

// rsyncInLater does so too. Owners can't be kept by FTP.
func rsyncInLater(ctx context.Context, j *job) (time.Duration, error) {
	return tool(ctx, nil, nil, "rsync", "-a", "--no-owner", "--no-group", j.onServer("small"), j.in(j.up))
}

func checkCopiedIn(j *job) error { return j.checkSmall(j.onServer(j.up + "/small")) }

func grep(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := tool(ctx, &lines, nil, "grep", "-r", needle, j.in("small"))
	if err != nil {
		return 0, err
	}
	return took, wantLines("lines found", lines, (j.small+needleIn-1)/needleIn)
}

func find(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := tool(ctx, &lines, nil, "find", j.in("tree"))
	if err != nil {
		return 0, err
	}
	return took, wantLines("files and directories", lines, j.dirs()+j.treeFiles())
}

func list(ctx context.Context, j *job) (time.Duration, error) {
	var lines lineCounter
	took, err := tool(ctx, &lines, nil, "ls", "-l", j.in("many"))
	if err != nil {
		return 0, err
	}
	return took, wantLines("lines", lines, j.many+1) // the first is the total
}

func rsyncUnchanged(ctx context.Context, j *job) (time.Duration, error) {
	here := j.out("small")
	if err := os.CopyFS(here, os.DirFS(j.onServer("small"))); err != nil {
		return 0, err
	}
	for i := range j.small {
		if err := os.Chtimes(filepath.Join(here, smallName(i)), j.mtime, j.mtime); err != nil {
			return 0, err
		}
	}
	var stats bytes.Buffer
	took, err := tool(ctx, &stats, nil, "rsync", "-a", "--stats", j.in("small")+"/", here+"/")
	if err != nil {
		return 0, err
	}
	return took, transferredNothing(stats.String(), j.small)
}

// replaceSmall is what an editor or a sync program does to have a new version in place, whole: the
// median of some.
func replaceSmall(_ context.Context, j *job) (time.Duration, error) {
	if _, err := os.ReadDir(j.in(j.up)); err != nil {
		return 0, err
	}
	var times []time.Duration
	for i := range 10 {
		text := smallText(i)
		temp, final := j.in(filepath.Join(j.up, ".new-"+smallName(i))), filepath.Join(j.up, smallName(i))
		time.Sleep(settle)
		start := time.Now()
		err := errors.Join(os.WriteFile(temp, text, 0o644), os.Rename(temp, j.in(final)), os.Chtimes(j.in(final), j.mtime, j.mtime))
		times = append(times, time.Since(start))
		if err != nil {
			return 0, err
		}
		data, err := os.ReadFile(j.onServer(final))
		if err != nil || !bytes.Equal(data, text) {
			return 0, fmt.Errorf("wrong result: the server has something else in %s (%v)", final, err)
		}
		st, err := os.Stat(j.onServer(final))
		if err != nil {
			return 0, err
		}
		if !st.ModTime().Equal(j.mtime) {
			return 0, fmt.Errorf("wrong result: on the server %s is from %v, not from %v", final, st.ModTime().UTC(), j.mtime.UTC())
		}
	}
	return median(times), nil
}

// median is the upper one of an even number; 0 of none.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
