package ftpconn

import (
	"context"
	"time"
)

// Stamp is what a server says of a file's time (MDTM, RFC 3659 section 3).
type Stamp struct {
	Text string    // as it says it: differs if the file was changed in between, whatever the server's clock and zone
	Time time.Time // the same in UTC, as far as the server's zone is known
}

type stampKey struct{}

// WithStamp asks for the file's stamp along with each download that is begun with the returned context: right before it, in the
// same packet, so that it costs no round trip.
func WithStamp(ctx context.Context) context.Context { return context.WithValue(ctx, stampKey{}, true) }

// StampOf is the stamp that came with a download; zero if it was not asked for, or the server doesn't tell it.
func StampOf(d Download) Stamp {
	if s, ok := d.(interface{ Stamp() Stamp }); ok {
		return s.Stamp()
	}
	return Stamp{}
}

// Stamp implements StampOf.
func (dl *download) Stamp() Stamp { return dl.stamp }

// stampCommand is what asks for the stamp of path, "" if it isn't wanted, or can't be had in one packet with what follows.
func (c *Conn) stampCommand(ctx context.Context, path string) string {
	if ctx.Value(stampKey{}) == nil || !c.site.pipelines() || !c.site.has("MDTM") {
		return ""
	}
	return "MDTM " + path
}

// stamp takes the reply to stampCommand, which came before that to the command behind it.
func (c *Conn) stamp(ctx context.Context, asked *call) Stamp {
	if asked == nil {
		return Stamp{}
	}
	r, err := c.l.wait(ctx, asked, 0)
	if err != nil || r.code != 213 {
		return Stamp{}
	}
	t, err := c.site.mdtm(r.text())
	if err != nil {
		return Stamp{}
	}
	return Stamp{r.text(), t}
}
