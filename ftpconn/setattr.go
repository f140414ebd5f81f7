package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Chmod sets permission bits with SITE CHMOD.
func (cl *Client) Chmod(ctx context.Context, p string, mode uint32) error {
	abs, err := cl.path(p)
	if err != nil {
		return err
	}
	if !cl.site.snapshot().Chmod {
		return fmt.Errorf("chmod: %w by the server", errors.ErrUnsupported)
	}
	_, err = cl.do(ctx, anew, func(c *Conn) error {
		_, err := c.ask(ctx, "SITE CHMOD", fmt.Sprintf("%04o %s", mode&07777, abs))
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		cl.site.update(func(s *site) { s.noChmod = true })
	}
	return cl.explain(ctx, opAttr, p, "", err)
}

const timeFormat = "20060102150405" // RFC 3659 section 2.3

// setTimeForms are the ways to set a time, in the order in which they are tried; arg makes verb's
// argument. feature is what FEAT must list, "" for what FEAT never lists.
var setTimeForms = []struct {
	name, feature, verb string
	arg                 func(ts, path string) string
}{
	{"MFMT", "MFMT", "MFMT", func(ts, p string) string { return ts + " " + p }},
	{"MFF", "MFF", "MFF", func(ts, p string) string { return "Modify=" + ts + "; " + p }},
	{"MDTM", "", "MDTM", func(ts, p string) string { return ts + " " + p }},                                                // vsftpd 3.0.3
	{"SITE UTIME", "", "SITE UTIME", func(ts, p string) string { return ts + " " + p }},                                    // ProFTPD mod_site_misc
	{"SITE UTIME (5)", "", "SITE UTIME", func(ts, p string) string { return p + " " + ts + " " + ts + " " + ts + " UTC" }}, // Pure-FTPd
}

// SetModTime sets a modification time by the first means that the server has.
func (cl *Client) SetModTime(ctx context.Context, p string, t time.Time) error {
	abs, err := cl.path(p)
	if err != nil {
		return err
	}
	ts := t.UTC().Format(timeFormat)
	unsupported := fmt.Errorf("setting times: %w by the server", errors.ErrUnsupported)
	cl.site.mu.Lock()
	known := cl.site.setTime
	cl.site.mu.Unlock()
	if known == "none" {
		return unsupported
	}
	var last error
	for _, form := range setTimeForms {
		if known != "" && form.name != known {
			continue
		}
		_, err := cl.do(ctx, anew, func(c *Conn) error {
			if known == "" && form.feature != "" && !c.site.has(form.feature) {
				return errors.ErrUnsupported
			}
			ts := ts
			if form.verb == "MDTM" {
				ts = t.Add(c.site.clockAhead()).UTC().Format(timeFormat)
			}
			r, err := c.ask(ctx, form.verb, form.arg(ts, abs))
			if err == nil && form.verb == "MDTM" && r.code != 213 && r.code != 200 && r.code != 250 && r.code != 253 {
				return errors.ErrUnsupported
			}
			return err
		})
		if err == nil {
			cl.site.update(func(s *site) { s.setTime = form.name })
			return nil
		}
		last = err
		var re *ReplyError
		if !errors.Is(err, errors.ErrUnsupported) && !errors.As(err, &re) {
			return err
		}
		if form.feature != "" && !errors.Is(err, errors.ErrUnsupported) {
			break // the server has it and means its refusal
		}
	}
	e, lerr := cl.look(ctx, p)
	switch {
	case errors.Is(lerr, fs.ErrNotExist):
		return fmt.Errorf("setting the time of %s: %w", p, fs.ErrNotExist)
	case lerr != nil:
		return last
	case e.Type == Dir: // pyftpdlib 1.5.7 and Apache FtpServer set times of files alone
		return unsupported
	case known == "" && (errors.Is(last, errors.ErrUnsupported) || !cl.site.has("MFMT") && !cl.site.has("MFF")):
		cl.site.update(func(s *site) { s.setTime = "none" })
		return unsupported
	}
	return cl.explain(ctx, opAttr, p, "", last)
}

// Space asks with AVBL (draft-peterson-streamlined-ftp-command-extensions).
func (cl *Client) Space(ctx context.Context, p string) (Space, error) {
	abs, err := cl.path(p)
	if err != nil {
		return Space{}, err
	}
	sp := Space{Total: -1, Free: -1}
	_, err = cl.do(ctx, anew, func(c *Conn) error {
		s := c.site
		s.mu.Lock()
		no := s.noSpace
		_, avbl := s.feat["AVBL"]
		s.mu.Unlock()
		if no || !avbl {
			return errors.ErrUnsupported
		}
		r, err := c.ask(ctx, "AVBL", abs)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(r.text()), 10, 64)
		if err != nil || n < 0 {
			s.update(func(s *site) { s.noSpace = true })
			return errors.ErrUnsupported
		}
		sp.Free = n
		return nil
	})
	return sp, err
}
