package ftpconn

import (
	"errors"
	"strings"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

func TestParseSum(t *testing.T) {
	sha := strings.Repeat("ab01", 10)
	for _, c := range []struct{ algorithm, text, want string }{
		{"", "SHA1 0-49 " + sha + " /f", sha},
		{"", "SHA-1 0-49 " + strings.ToUpper(sha) + " /f", sha},
		{"MD5", "/f 0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcdef"},
		{"CRC32", "352441C2", "352441c2"},
		{"CRC32", "2441C2", "002441c2"},
		{"", "WHIRLPOOL 0-3 abcdef /f", ""},
		{"MD5", "352441C2", ""},
		{"SHA-1", "done", ""},
	} {
		got, err := parseSum(c.algorithm, c.text, "/f")
		if got.Hex != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %q: %v, %v", c.algorithm, c.text, got, err)
		}
	}
	name := strings.Repeat("0", 32)
	if got, err := parseSum("MD5", "/"+name+" 0123456789abcdef0123456789abcdef", "/"+name); err != nil || got.Hex[0:4] != "0123" {
		t.Errorf("a name that looks like a hash: %v, %v", got, err)
	}
}

// Each command's reply is that of ProFTPD's mod_digest.
func TestHashCommands(t *testing.T) {
	for _, c := range []struct{ feature, verb, reply string }{
		{"HASH CRC32;MD5;SHA-1*", "HASH", "213 SHA1 0-3 a9993e364706816aba3e25717850c26c9cd0d89d /f"},
		{"XSHA256", "XSHA256", "250 BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"},
		{"XMD5", "XMD5", "250 900150983CD24FB0D6963F7D28E17F72"},
		{"MD5", "MD5", "251 /f 900150983CD24FB0D6963F7D28E17F72"},
		{"XCRC", "XCRC", "250 352441C2"},
	} {
		t.Run(c.verb, func(t *testing.T) {
			s := ftptest.NewScript(t)
			s.Features("EPSV", "SIZE", c.feature)
			s.Reply(c.verb, c.reply)
			sum, err := clientOf(t, at(s.Addr(), "u", "p")).Hash(t.Context(), "/f", 3)
			if err != nil {
				t.Fatal(err)
			}
			h := NewHash(sum.Algorithm)
			h.Write([]byte("abc"))
			if !sum.Same(h) {
				t.Errorf("%v isn't that of abc", sum)
			}
		})
	}
	if _, err := clientOf(t, at(ftptest.NewScript(t).Addr(), "u", "p")).Hash(t.Context(), "/f", 3); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a server that has no hash: %v", err)
	}
}
