package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepareMountpoint returns the absolute path of a directory that can be mounted on. A dead mount that
// an ended ftpfs left there is taken away first. A directory with files in it is allowed, as
// for mount(8): they are hidden while the mount lasts.
func prepareMountpoint(p string) (string, error) {
	path, err := resolvePath(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the mountpoint %s does not exist: mkdir -p %s", p, p)
	case err != nil:
		return "", fmt.Errorf("mountpoint: %w", err)
	}
	m, mounted, err := findMount(path)
	if err != nil {
		return "", err
	}
	dir, err := isDir(path)
	// The second is what a question gets that the process behind a mount has no time left to answer.
	dead := errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
	if dead && mounted && m.Type == fsType {
		if err := unmount(path, true); err != nil {
			return "", fmt.Errorf("%s holds a dead mount of %s that can't be taken away: %w", path, m.Source, err)
		}
		return prepareMountpoint(p)
	}
	switch {
	case dead:
		return "", fmt.Errorf("%s holds a dead mount (%s): fusermount3 -u -z %s, or as root umount -l %s", path, m.Type, path, path)
	case mounted && m.Type == fsType:
		return "", fmt.Errorf("%s is mounted already, on %s: ftpfs umount %s", m.Source, path, path)
	case err != nil:
		return "", fmt.Errorf("mountpoint: %w", err)
	case !dir:
		return "", fmt.Errorf("the mountpoint %s is not a directory", p)
	}
	return path, nil
}

// isDir says whether path is a directory. A mount is asked, and the kernel's memory isn't: in that the root of a mount that
// just died still lives for a second.
func isDir(path string) (bool, error) {
	var st unix.Statx_t
	for {
		switch err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_TYPE, &st); err {
		case nil:
			return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
		case unix.EINTR:
		case unix.ENOSYS: // a kernel before 4.11, or a sandbox of that time
			info, err := os.Stat(path)
			return err == nil && info.IsDir(), err
		default:
			return false, &fs.PathError{Op: "statx", Path: path, Err: err}
		}
	}
}

// checkFUSE says what is missing on this machine before anything is tried.
func checkFUSE() error {
	if _, err := os.Stat("/dev/fuse"); errors.Is(err, fs.ErrNotExist) {
		return errors.New("this machine has no /dev/fuse: load the module (modprobe fuse); a container needs --device /dev/fuse --cap-add SYS_ADMIN")
	}
	if os.Geteuid() == 0 {
		return nil // mounts without a helper
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return errors.New("you may not open /dev/fuse: chmod 666 /dev/fuse as root (udev does that where it runs)")
	}
	_, err := fusermount()
	return err
}

// fusermount is the set-user-ID helper that mounts and unmounts for ordinary users.
func fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if file, err := exec.LookPath(name); err == nil {
			return file, nil
		}
	}
	return "", errors.New("fusermount3 is missing, without which only root can mount: install the package fuse3 (apt install fuse3, dnf install fuse3, pacman -S fuse3, apk add fuse3)")
}
