package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ftpfs/fs"
)

// testLifeline is a lifeline of this process and somebody who watches it.
func testLifeline(t *testing.T, owner int) (*lifeline, serverWatch) {
	t.Helper()
	m := mountEntry{Dev: "test-" + strconv.Itoa(os.Getpid()) + t.Name(), Options: "user_id=" + strconv.Itoa(owner)}
	l, err := newLifeline(m)
	if err != nil {
		t.Fatal(err)
	}
	w := watchServer(m)
	t.Cleanup(w.Close)
	return l, w
}

// die does what the kernel does when a process ends.
func die(l *lifeline) {
	l.l.Close()
	for _, fd := range l.waiting {
		_ = syscall.Close(fd)
	}
}

func TestLifelineTellsFailures(t *testing.T) {
	l, w := testLifeline(t, os.Getuid())
	l.end(errors.New("two files are lost"))
	die(l)
	if err := w.wait(t.Context(), quietly); err == nil || !strings.Contains(err.Error(), "two files are lost") {
		t.Errorf("%v", err)
	}
}

func TestLifelineEndsWell(t *testing.T) {
	l, w := testLifeline(t, os.Getuid())
	l.end(nil)
	die(l)
	if err := w.wait(t.Context(), quietly); err != nil || w.c == nil {
		t.Errorf("%v, connected %v", err, w.c != nil)
	}
}

func TestLifelineTellsACrash(t *testing.T) {
	l, w := testLifeline(t, os.Getuid())
	die(l)
	if err := w.wait(t.Context(), quietly); err == nil || !strings.Contains(err.Error(), "died") {
		t.Errorf("%v", err)
	}
}

func TestLifelineOfAnotherUserIsNotTrusted(t *testing.T) {
	l, w := testLifeline(t, os.Getuid()+1)
	defer die(l)
	if w.c != nil {
		t.Error("connected")
	}
}

func TestWaitingForTheEndCanBeInterrupted(t *testing.T) {
	l, w := testLifeline(t, os.Getuid())
	defer die(l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.wait(ctx, quietly); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("%v", err)
	}
}

func TestNextMountGetsItsNumberWhileTheLastOneStillUploads(t *testing.T) {
	first, w := testLifeline(t, os.Getuid())
	first.release() // the mount is gone
	second, next := testLifeline(t, os.Getuid())
	defer die(second)
	if next.c == nil {
		t.Error("the next mount can't be watched")
	}
	first.end(errors.New("one file is lost"))
	die(first)
	if err := w.wait(t.Context(), quietly); err == nil || !strings.Contains(err.Error(), "one file is lost") {
		t.Errorf("%v", err)
	}
}

// A mount that is gone may keep its device number's name for a while, and another have the number already.
func TestLifelinesOfTwoSitesOnOneNumber(t *testing.T) {
	old := mountEntry{Dev: "test-" + strconv.Itoa(os.Getpid()) + t.Name(), Options: "user_id=" + strconv.Itoa(os.Getuid()), Source: "ftp://a/"}
	next := old
	next.Source = "ftp://b/"
	dead, err := newLifeline(old)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLifeline(next)
	if err != nil {
		t.Fatal(err)
	}
	w := watchServer(next)
	defer w.Close()
	l.end(nil)
	die(l)
	dead.end(errors.New("of another"))
	die(dead)
	if err := w.wait(t.Context(), quietly); err != nil {
		t.Error(err)
	}
}

// TestLastWordComesThrough has a watcher that is stopped while it is told of many steps.
func TestLastWordComesThrough(t *testing.T) {
	l, w := testLifeline(t, os.Getuid())
	l.release()
	for i := range int64(20_000) {
		l.progress(fs.Backlog{Files: 1, Bytes: i})
	}
	l.end(nil)
	die(l)
	if err := w.wait(t.Context(), quietly); err != nil {
		t.Error(err)
	}
}
