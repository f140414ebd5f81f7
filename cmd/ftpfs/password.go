package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// passwordEnv is the environment variable that may hold the password. The serving process doesn't inherit it.
const passwordEnv = "FTPFS_PASSWORD"

// maxSecretFile bounds what is read of a password or netrc file, in bytes.
const maxSecretFile = 1 << 20

// credentials completes s.URL with user and password: from the URL, password_file, $FTPFS_PASSWORD,
// netrc, and last a prompt. Without a user anywhere it is anonymous.
func credentials(s *settings, warn func(string), prompt func(label string) (string, error)) error {
	u := &s.URL
	if u.HasPassword {
		return nil
	}
	if s.PasswordFile != "" {
		p, err := readPasswordFile(s.PasswordFile)
		return s.usePassword(p, "password_file "+s.PasswordFile, err)
	}
	if p, ok := os.LookupEnv(passwordEnv); ok {
		return s.usePassword(p, "$"+passwordEnv, nil)
	}
	entries, err := readNetrc(s.Netrc, warn)
	if err != nil {
		return err
	}
	if e, ok := netrcFor(entries, u.Host, u.User); ok {
		if u.User == "" {
			u.User = e.Login
		}
		if s.Account == "" {
			s.Account = e.Account
		}
		if e.HasPassword {
			return s.usePassword(string(e.Password), "the netrc entry", nil)
		}
	}
	if u.User == "" || u.User == "anonymous" || u.User == "ftp" {
		u.Password, u.HasPassword = "anonymous@", true
		return nil
	}
	p, err := prompt(fmt.Sprintf("Password for %s at %s: ", u.User, u.Host))
	return s.usePassword(p, "the password typed", err)
}

func (s *settings) usePassword(p, from string, err error) error {
	if err != nil {
		return err
	}
	if s.URL.User == "" {
		return errors.New(from + " gives a password, but there is no user: write ftp://USER@" + s.URL.Host + "/ or user=NAME")
	}
	if strings.ContainsAny(p, "\r\n\x00") {
		return errors.New(from + ": a password with CR, LF or NUL in it can't be sent by FTP")
	}
	s.URL.Password, s.URL.HasPassword = secret(p), true
	return nil
}

// readPasswordFile returns the first line of file, which must be its owner's alone. Pipes and other
// things that are no files (as bash's <(command)) need no such check.
func readPasswordFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	if st.Mode().IsRegular() && st.Mode()&0o077 != 0 {
		return "", fmt.Errorf("password_file %s has mode %04o, so others can read it: chmod 600 %s", file, st.Mode().Perm(), file)
	}
	text, err := readSmall(f)
	if err != nil {
		return "", fmt.Errorf("password_file %s: %w", file, err)
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("password_file %s: its first line is empty", file)
	}
	return line, nil
}

func readSmall(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	if err == nil && len(b) > maxSecretFile {
		err = errors.New("larger than 1 MiB")
	}
	return string(b), err
}

// promptPassword asks at the terminal that the process belongs to, wherever stdin comes from, without echo.
func promptPassword(label string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("no password, and no terminal to ask for it: use password_file=FILE, $" + passwordEnv + " or ~/.netrc")
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	// Ctrl-C must not leave the terminal without echo.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupted)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-interrupted:
			_ = term.Restore(int(tty.Fd()), before)
			fmt.Fprintln(tty)
			os.Exit(exitFailure)
		case <-done:
		}
	}()
	fmt.Fprint(tty, label)
	p, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return string(p), nil
}
