package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// netrcEntry is one machine of a netrc file; Machine "" is the default entry.
type netrcEntry struct {
	Machine     string
	Login       string
	Password    secret
	HasPassword bool
	Account     secret
}

// parseNetrc reads the format of ftp(1) as curl and GNU inetutils do: tokens between white space, "..." with backslash
// escapes around a token that has some in it, '#' begins a comment only where a keyword could
// stand (so a password may contain or begin with one), and a macdef ends at an empty line.
// (jdx/go-netrc takes the '#' of a password for a comment and macdef's lines for tokens.)
func parseNetrc(text string) ([]netrcEntry, error) {
	s := netrcScanner{text: text, line: 1}
	var entries []netrcEntry
	for {
		key, ok := s.keyword()
		if !ok {
			return entries, nil
		}
		if key == "default" {
			entries = append(entries, netrcEntry{})
			continue
		}
		if key == "macdef" {
			s.skipMacro()
			continue
		}
		line := s.line
		value, ok, err := s.token()
		if err == nil && !ok {
			err = fmt.Errorf("line %d: nothing behind %q", line, key)
		}
		if err != nil {
			return nil, err
		}
		if key == "machine" {
			entries = append(entries, netrcEntry{Machine: value})
			continue
		}
		if len(entries) == 0 {
			return nil, fmt.Errorf("line %d: an entry begins with \"machine NAME\" or \"default\"", line)
		}
		e := &entries[len(entries)-1]
		switch key {
		case "login":
			e.Login = value
		case "password":
			e.Password, e.HasPassword = secret(value), true
		case "account":
			e.Account = secret(value)
		case "port", "protocol", "force": // known to others
		default: // the word itself may be a piece of a password with a space in it
			return nil, fmt.Errorf("line %d: a word that is none of machine, default, login, password, account, macdef (quote a password that has a space in it)", line)
		}
	}
}

// netrcFor chooses the entry for host and user ("": any): the first that fits both, a machine's
// before the default's.
func netrcFor(entries []netrcEntry, host, user string) (netrcEntry, bool) {
	for _, isDefault := range []bool{false, true} {
		for _, e := range entries {
			if (e.Machine == "") == isDefault && (isDefault || strings.EqualFold(e.Machine, host)) &&
				(user == "" || e.Login == "" || e.Login == user) {
				return e, true
			}
		}
	}
	return netrcEntry{}, false
}

// readNetrc reads file; "" is ~/.netrc, which may be missing, and whose errors are only warned
// about. warn gets what the owner should know.
func readNetrc(file string, warn func(string)) ([]netrcEntry, error) {
	if file != "" {
		return readNetrcFile(file, warn)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, nil
	}
	entries, err := readNetrcFile(filepath.Join(home, ".netrc"), warn)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		warn(err.Error())
	}
	return entries, nil
}

func readNetrcFile(file string, warn func(string)) ([]netrcEntry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("netrc: %w", err)
	}
	defer f.Close()
	text, err := readSmall(f)
	if err != nil {
		return nil, fmt.Errorf("netrc %s: %w", file, err)
	}
	entries, err := parseNetrc(text)
	if err != nil {
		return nil, fmt.Errorf("netrc %s: %w", file, err)
	}
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode()&0o077 != 0 {
		for _, e := range entries {
			if e.HasPassword && e.Login != "anonymous" && e.Login != "ftp" {
				warn(fmt.Sprintf("%s holds passwords and can be read by others: chmod 600 %s", file, file))
				break
			}
		}
	}
	return entries, nil
}

type netrcScanner struct {
	text string
	line int
}

func (s *netrcScanner) next() byte {
	c := s.text[0]
	s.text = s.text[1:]
	if c == '\n' {
		s.line++
	}
	return c
}

func (s *netrcScanner) skipSpace() {
	for s.text != "" && isNetrcSpace(s.text[0]) {
		s.next()
	}
}

func isNetrcSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// keyword is the next token that isn't in a comment.
func (s *netrcScanner) keyword() (string, bool) {
	for {
		s.skipSpace()
		if s.text == "" {
			return "", false
		}
		if s.text[0] != '#' {
			word, ok, err := s.token()
			return word, ok && err == nil
		}
		for s.text != "" && s.next() != '\n' {
		}
	}
}

func (s *netrcScanner) token() (string, bool, error) {
	s.skipSpace()
	if s.text == "" {
		return "", false, nil
	}
	var b strings.Builder
	if s.text[0] != '"' {
		for s.text != "" && !isNetrcSpace(s.text[0]) {
			b.WriteByte(s.next())
		}
		return b.String(), true, nil
	}
	line := s.line
	for s.next(); s.text != ""; {
		c := s.next()
		if c == '"' {
			return b.String(), true, nil
		}
		if c == '\\' && s.text != "" {
			c = s.next()
			switch c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			}
		}
		b.WriteByte(c)
	}
	return "", false, fmt.Errorf("line %d: a quote that is never closed", line)
}

// skipMacro leaves out everything up to an empty line.
func (s *netrcScanner) skipMacro() {
	for s.text != "" {
		line, rest, _ := strings.Cut(s.text, "\n")
		s.text = rest
		s.line++
		if strings.TrimRight(line, "\r") == "" {
			return
		}
	}
}
