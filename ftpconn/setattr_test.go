package ftpconn

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// TestTimesAreSetByWhatTheServerHas has servers that know one way each to set a time.
func TestTimesAreSetByWhatTheServerHas(t *testing.T) {
	const p, ts = "/a file", "20010203040506"
	when := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, c := range []struct {
		name, feature string
		takes         *regexp.Regexp // command lines
		want          string         // the one that did it, "" if none can
	}{
		{"MFMT", "MFMT", regexp.MustCompile(`^MFMT \d{14} /`), "MFMT " + ts + " " + p},
		{"MFF", "MFF modify;UNIX.mode;", regexp.MustCompile(`^MFF Modify=\d{14}; /`), "MFF Modify=" + ts + "; " + p},
		{"MDTM with a time", "", regexp.MustCompile(`^MDTM \d{14} /`), "MDTM " + ts + " " + p},
		{"SITE UTIME of ProFTPD", "", regexp.MustCompile(`^SITE UTIME \d{14} /`), "SITE UTIME " + ts + " " + p},
		{"SITE UTIME of Pure-FTPd", "", regexp.MustCompile(`^SITE UTIME /.* \d{14} \d{14} \d{14} UTC$`),
			"SITE UTIME " + p + " " + ts + " " + ts + " " + ts + " UTC"},
		{"none", "", regexp.MustCompile(`^$`), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ftptest.NewScript(t)
			s.WriteFile(p, []byte("x"))
			if c.feature != "" {
				s.Features("SIZE", "REST STREAM", c.feature)
			}
			for verb, refusal := range map[string]string{"MFMT": "500 Unknown command.", "MFF": "500 Unknown command.",
				"MDTM": "550 No such file.", "SITE": "500 Unknown SITE command."} {
				s.On(verb, func(arg string) []string {
					if c.takes.MatchString(verb + " " + arg) {
						return []string{"213 done"}
					}
					return []string{refusal}
				})
			}
			cl := clientOf(t, at(s.Addr(), "u", "p"))
			var asked int
			for i := range 2 {
				err := cl.SetModTime(t.Context(), p, when)
				if c.want == "" && !errors.Is(err, errors.ErrUnsupported) || c.want != "" && err != nil {
					t.Errorf("time %d: %v", i, err)
				}
				var sent []string
				for _, line := range s.Commands() {
					if strings.Contains(line, ts) {
						sent = append(sent, line)
					}
				}
				switch {
				case c.want != "" && (len(sent) == 0 || sent[len(sent)-1] != c.want):
					t.Errorf("sent %q, want %q last", sent, c.want)
				case i == 1 && c.want != "" && len(sent) != asked+1, i == 1 && c.want == "" && len(sent) != asked:
					t.Errorf("what the server has was not remembered: %q", sent)
				case c.feature != "" && slices.ContainsFunc(sent, func(l string) bool { return l != c.want }):
					t.Errorf("sent %q although FEAT lists %s", sent, c.feature)
				}
				asked = len(sent)
			}
		})
	}
}
