package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve is the serving process: it mounts, says so, and ends after the mount with the exit code.
func serve(st stage) int {
	log, logFile, err := openLog(st.settings)
	if err == nil {
		err = serveLogged(&st, log, logFile)
	}
	if err == nil {
		return exitOK
	}
	if !st.fail(err) {
		fmt.Fprintln(os.Stderr, "ftpfs:", err)
	}
	return exitFailure
}

// boundMemory has the collector run earlier where a huge listing and a full memory cache meet, so that the process stays
// below 200 MiB. $GOMEMLIMIT, if set, is the user's own bound.
func boundMemory(s settings) {
	const besides = 112 << 20 // a listing of one million entries, and what the work on it leaves behind
	if os.Getenv("GOMEMLIMIT") == "" {
		more := max(0, s.CacheEntries-defaults().CacheEntries)
		debug.SetMemoryLimit(s.MemCache + besides + 256*int64(more))
	}
}

func serveLogged(st *stage, log *slog.Logger, logFile *os.File) error {
	s := st.settings
	boundMemory(s)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if s.Foreground {
		signal.Notify(signals, syscall.SIGHUP) // the terminal was closed
	} else {
		signal.Ignore(syscall.SIGHUP)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mounting := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-mounting:
		}
	}()
	m, err := mountSite(ctx, s, log)
	close(mounting)
	if err == nil && ctx.Err() != nil {
		err = errors.Join(m.Unmount(), m.Close())
		err = errors.Join(errors.New("interrupted"), err)
	}
	if err != nil {
		return err
	}
	var alive *lifeline
	if e, ok, _ := findMount(s.Mountpoint); ok {
		if alive, err = newLifeline(e); err != nil {
			log.Warn("ftpfs umount won't be able to wait for this process", "err", err)
		}
	}
	go showBacklog(m, alive, s.Foreground)
	defer m.logStats()()
	log.Info("mounted", "source", s.Source, "mountpoint", s.Mountpoint)
	if err := st.ready(); err != nil {
		log.Error("the process that started this mount is gone; unmounting", "err", err)
		_ = unmount(s.Mountpoint, true)
	}
	if !s.Foreground {
		detach(logFile)
	}
	gone := make(chan struct{})
	go func() {
		m.Wait()
		close(gone)
	}()
	cut := waitForEnd(s.Mountpoint, m, gone, signals, log)
	err = m.Close()
	switch {
	case err != nil:
		err = fmt.Errorf("not everything written reached the server: %w", err)
		log.Error("unmounted, with losses", "mountpoint", s.Mountpoint, "err", err)
	case cut != nil:
		err = cut
		log.Error("unmounted", "mountpoint", s.Mountpoint, "err", err)
	default:
		log.Info("unmounted", "mountpoint", s.Mountpoint)
	}
	alive.end(err)
	return err
}

// sameSignal is how long after a signal another one is the same: timeout(1) and others send theirs to the process and to its group.
const sameSignal = 500 * time.Millisecond

// waitForEnd returns when the mount is gone, by whoever's hand. The first signal unmounts (a mount in use is detached and
// serves those who use it to the end); the second returns at once, with an error.
func waitForEnd(mountpoint string, m *site, gone <-chan struct{}, signals <-chan os.Signal, log *slog.Logger) error {
	select {
	case <-gone:
		return nil
	case sig := <-signals:
		log.Info("unmounting", "signal", sig.String())
	}
	go takeDown(mountpoint, m, gone, log)
	for first := time.Now(); ; {
		select {
		case <-gone:
			return nil
		case <-signals:
			if time.Since(first) < sameSignal {
				continue
			}
		}
		_ = unmount(mountpoint, true)
		if b := m.mounted.Backlog(); b.Files > 0 {
			return fmt.Errorf("ended by a second signal; %s wait for the next mount of the same URL", countFiles(b.Files, b.Bytes))
		}
		return errors.New("ended by a second signal; what was being written may be lost")
	}
}

// takeDown unmounts, lazily if the mount stays in use for a second.
func takeDown(mountpoint string, m *site, gone <-chan struct{}, log *slog.Logger) {
	const attempts = 5
	var err error
	for range attempts {
		if err = m.Unmount(); err == nil {
			return
		}
		select {
		case <-gone:
			return
		case <-time.After(time.Second / attempts):
		}
	}
	log.Warn("still in use: detached; this process ends when the mount's users have, or at the next signal",
		"users", strings.Join(holders("/proc", mountpoint), ", "), "err", err)
	if err := unmount(mountpoint, true); err != nil {
		log.Error("can't detach", "err", err)
	}
}

// detach lets go of the terminal. What the Go runtime has to say in its last moment goes to the log file, if there is one.
func detach(logFile *os.File) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	for fd := range 3 {
		to := null
		if fd == 2 && logFile != nil {
			to = logFile
		}
		_ = unix.Dup3(int(to.Fd()), fd, 0)
	}
}
