package ftpconn

import (
	"errors"
	"io/fs"
	"testing"
)

// The texts are those of real servers.
func TestClassify(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		path string
		want error // nil: look into it
	}{
		{550, "Failed to open file.", "/x", nil}, // vsftpd says no more
		{550, "/x: No such file or directory", "/x", fs.ErrNotExist},
		{550, "/not empty: No such file or directory", "/not empty", fs.ErrNotExist},
		{550, "/x: Permission denied", "/x", fs.ErrPermission},
		{550, "/x: File exists", "/x", fs.ErrExist},
		{550, "/x: Directory not empty", "/x", ErrNotEmpty},
		{550, "/x: Not a regular file", "/x", ErrIsDir},
		{550, "I can only retrieve regular files", "/x", ErrIsDir},
		{550, "Could not delete /x: Invalid argument", "/x", nil},
		{450, "/x: No such file or directory", "/x", fs.ErrNotExist},
		{451, "Failure writing to local file.", "/x", ErrNoSpace},
		{451, "Error during write to file\n Transfer aborted", "/x", ErrNoSpace},
		{451, "Error during read from data connection\n Transfer aborted", "/x", ErrConnLost},
		{451, "Transfer aborted\n0.014 seconds (measured here), 72.02 Mbytes per second", "/x", ErrConnLost}, // Pure-FTPd, after a reset
		{451, "Transfer aborted\n0.049 seconds (measured here)", "/x", ErrConnLost},                          // Pure-FTPd
		{451, "Transfer aborted. Input/output error", "/x", nil},                                             // ProFTPD, on a full disk
		{426, "Data connection: No such file or directory.", "/x", ErrConnLost},
		{452, "Error writing file: No space left on device.", "/x", ErrNoSpace},
		{552, "Quota exceeded", "/x", ErrQuota},
		{553, "Prohibited file name: x", "/x", ErrBadName},
		{550, "/a*: Invalid directory name", "/a*", ErrBadName},
		{421, "There are too many connections from your internet address.", "", ErrTooMany},
		{530, "Sorry, the maximum number of allowed clients (2) are already connected.", "", ErrTooMany},
		{530, "Login incorrect.", "", ErrLogin},
		{502, "Command not implemented.", "", errors.ErrUnsupported},
		{501, "/x: No such file or directory", "/x", fs.ErrNotExist}, // pyftpdlib, MLSD
	} {
		if got := classify(c.code, c.text, c.path); !errors.Is(got, c.want) || c.want == nil && got != nil {
			t.Errorf("%d %s: %v, want %v", c.code, c.text, got, c.want)
		}
	}
}

// 530 is about the log-in only where one is under way.
func TestRefusalByCommand(t *testing.T) {
	for _, c := range []struct {
		cmd, text string
		want      error
	}{
		{"PASS secret", "Login incorrect.", ErrLogin},
		{"USER u", "Permission denied.", ErrLogin},
		{"ACCT a", "No.", ErrLogin},
		{connecting, "Not today.", ErrLogin},
		{"USER u", "Sorry, the maximum number of clients (2) for your user are already connected.", ErrTooMany},
		{"RETR /f", "No transfer-slave(s) available", ErrBusy}, // DrFTPD
		{"PRET STOR /f", "No transfer-slave(s) available", ErrBusy},
		{"STOR /f", "Access denied.", fs.ErrPermission},
		{"MKD /d", "Not logged in.", nil},
		{"RETR /f", "Too many transfers", ErrTooMany},
	} {
		re := refusalOf(c.cmd, reply{code: 530, lines: []string{c.text}}, "/f")
		if re.Kind != c.want {
			t.Errorf("%s: %v is of the kind %v, want %v", re.Command, re, re.Kind, c.want)
		}
		if re.Command == "PASS secret" {
			t.Error("the password is in the error")
		}
	}
}
