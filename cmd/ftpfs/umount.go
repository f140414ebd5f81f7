package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errBusy is returned by unmount for a mount in use.
var errBusy = errors.New("in use")

// umountCommand takes the mount away and returns when the process that served it has ended, so that
// everything written is on the server; its failure to get it there is the error returned.
//
// It waits as long as wait says, forever if that is negative, and says so if that wasn't enough.
func umountCommand(ctx context.Context, p string, lazy bool, wait time.Duration, tell waiter) error {
	path, err := resolvePath(p)
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", p)
	}
	if err != nil {
		return err
	}
	m, ok, err := findMount(path)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("nothing is mounted on %s", path)
	case m.Type != fsType:
		return fmt.Errorf("%s on %s is of type %s, not ours: umount %s", m.Source, path, m.Type, path)
	}
	serving := watchServer(m)
	defer serving.Close()
	err = unmount(path, lazy)
	if errors.Is(err, errBusy) {
		return busyError(path)
	}
	if err != nil {
		return fmt.Errorf("can't unmount %s: %w", path, err)
	}
	if wait == 0 {
		return nil
	}
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	return serving.wait(ctx, tell)
}

func busyError(path string) error {
	who := "a process of another user"
	if h := holders("/proc", path); len(h) > 0 {
		who = strings.Join(h, ", ")
	}
	return fmt.Errorf("%s is in use by %s: end it or leave the directory, or detach with ftpfs umount --lazy %s", path, who, path)
}

// unmount takes the mount on path away: itself as root, through fusermount3 otherwise. lazy detaches
// it although it is in use. The error is errBusy (wrapped) for a mount in use.
func unmount(path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		err := unix.Unmount(path, flags)
		if errors.Is(err, syscall.EBUSY) {
			return errBusy
		}
		if !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	helper, err := fusermount()
	if err != nil {
		return err
	}
	args := []string{"-u", path}
	if lazy {
		args = []string{"-u", "-z", path}
	}
	cmd := exec.Command(helper, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(stderr.String())
		if strings.Contains(text, "busy") {
			return fmt.Errorf("%w: %s", errBusy, text)
		}
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}
