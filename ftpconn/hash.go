package ftpconn

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"regexp"
	"strings"
	"time"
)

// Sum is what a server computed over a whole file.
type Sum struct {
	Algorithm string // "SHA-512", "SHA-256", "SHA-1", "MD5" or "CRC32"
	Hex       string // lower case
}

// Same says whether h, which NewHash made and the same content was written to, agrees.
func (s Sum) Same(h hash.Hash) bool { return s.Hex == fmt.Sprintf("%x", h.Sum(nil)) }

// NewHash makes the hash of a Sum's algorithm, nil for an unknown one.
func NewHash(algorithm string) hash.Hash {
	switch algorithm {
	case "SHA-512":
		return sha512.New()
	case "SHA-256":
		return sha256.New()
	case "SHA-1":
		return sha1.New()
	case "MD5":
		return md5.New()
	case "CRC32":
		return crc32.NewIEEE()
	}
	return nil
}

// hashForms are the commands for a hash, the best first: HASH (draft-bryan-ftpext-hash-02) with the algorithm that is
// in force, the X commands, and MD5 (draft-twine-ftpmd5-00). FEAT lists them under their name.
var hashForms = []struct{ verb, algorithm string }{
	{"HASH", ""}, {"XSHA512", "SHA-512"}, {"XSHA256", "SHA-256"}, {"XSHA1", "SHA-1"}, {"XSHA", "SHA-1"}, {"XMD5", "MD5"}, {"MD5", "MD5"}, {"XCRC", "CRC32"},
}

// hashRate is how much a server hashes in a second at least; it says nothing meanwhile.
const hashRate = 10 << 20

var reHex = regexp.MustCompile(`(?i)\b[0-9a-f]{8,128}\b`)

// Hash has the server compute a hash over a file of size bytes; errors.ErrUnsupported if it can't.
func (cl *Client) Hash(ctx context.Context, p string, size int64) (sum Sum, err error) {
	abs, err := cl.path(p)
	if err != nil {
		return sum, err
	}
	_, err = cl.do(ctx, anew, func(c *Conn) error {
		verb, algorithm := c.site.hashForm()
		if verb == "" {
			return fmt.Errorf("hashing: %w by the server", errors.ErrUnsupported)
		}
		cmd := verb + " " + abs
		asked := newCall(cmd)
		if err := c.l.send([]*call{asked}, []string{cmd}); err != nil {
			return err
		}
		r, err := c.l.wait(ctx, asked, c.site.cfg.Timeout+time.Duration(size/hashRate)*time.Second)
		if err != nil {
			c.broken.Store(true)
			return err
		}
		if r.class() >= 4 {
			return refusalOf(cmd, r, abs)
		}
		sum, err = parseSum(algorithm, r.text(), abs)
		return err
	})
	return sum, err
}

// hashForm chooses from hashForms; the algorithm is "" if the reply tells.
func (s *site) hashForm() (verb, algorithm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range hashForms {
		args, ok := s.feat[f.verb]
		if !ok || f.verb == "HASH" && !strings.Contains(args, "*") {
			continue
		}
		return f.verb, f.algorithm
	}
	return "", ""
}

// parseSum reads the reply to a hash command: "SHA-256 0-49 6ad...f39 name" (HASH), "name 6ad...f39" (MD5) or the
// digits alone. The name, which may look like a hash, is taken out first.
func parseSum(algorithm, text, name string) (Sum, error) {
	unreadable := fmt.Errorf("the server's hash can't be read: %.200q", text)
	if algorithm == "" {
		first, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		algorithm, text = strings.ToUpper(first), rest
		switch algorithm {
		case "SHA1", "SHA256", "SHA512":
			algorithm = "SHA-" + algorithm[3:]
		case "CRC-32":
			algorithm = "CRC32"
		}
	}
	h := NewHash(algorithm)
	if h == nil {
		return Sum{}, unreadable
	}
	for _, hex := range reHex.FindAllString(strings.Replace(text, name, " ", 1), -1) {
		if len(hex) == 2*h.Size() {
			return Sum{algorithm, strings.ToLower(hex)}, nil
		}
	}
	if algorithm == "CRC32" { // leading zeros are left out by some
		if hex := strings.TrimSpace(text); regexp.MustCompile(`(?i)^[0-9a-f]{1,7}$`).MatchString(hex) {
			return Sum{algorithm, strings.Repeat("0", 8-len(hex)) + strings.ToLower(hex)}, nil
		}
	}
	return Sum{}, unreadable
}
