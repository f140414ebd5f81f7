package fs

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"ftpfs/cache"
	"ftpfs/ftpconn"
	"ftpfs/ftpconn/ftptest"
)

// throttled is a connection that is read at a limited rate, in bytes per second.
type throttled struct {
	net.Conn
	rate float64
	next time.Time
}

func (c *throttled) Read(p []byte) (int, error) {
	if wait := time.Until(c.next); wait > 0 {
		time.Sleep(wait)
	} else {
		c.next = time.Now()
	}
	n, err := c.Conn.Read(p[:min(len(p), 32<<10)])
	c.next = c.next.Add(time.Duration(float64(n) / c.rate * float64(time.Second)))
	return n, err
}

// TestSegmentsOnServers reads a file from each kind of server over connections that are slow each.
func TestSegmentsOnServers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds of waiting for slow connections")
	}
	for _, kind := range append(ftptest.Kinds(), ftptest.Embedded) {
		t.Run(kind.String(), func(t *testing.T) {
			var s *ftptest.Server
			if kind == ftptest.Embedded {
				s = ftptest.NewServer(t, ftptest.Options{})
			} else {
				s = ftptest.Start(t, kind, ftptest.Options{})
			}
			t.Parallel()
			content, old := pattern(20<<20), time.Now().Add(-time.Hour)
			s.WriteFile("f", content)
			must(t, os.Chtimes(s.Path("f"), old, old))
			const rate = 4 * mega // little, for machines that are busy with other tests
			client, err := ftpconn.New(ftpconn.Config{
				Host: s.Host, Port: s.Port, User: s.User, Password: s.Password, Timeout: 10 * time.Second,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, address)
					return &throttled{Conn: c, rate: rate}, err
				},
			})
			must(t, err)
			defer client.Close()
			tr := newTree(cache.NewMeta(client, cache.MetaConfig{TTL: 30 * time.Second}), nil, Options{TTL: 30 * time.Second})
			defer tr.cancel()
			e, err := tr.fresh(t.Context(), "/f", 0)
			must(t, err)
			str := openStream(tr.ctx, tr, "/f", 0, e.Size, beginning{}, nil)
			defer str.close()
			var found finding
			str.expect(versionOf(e), &found)
			_, _, err = readInOrder(t, str, content, 0, e.Size, nil)
			must(t, err)
			if n, _, _ := found.get(); n < 2 {
				t.Errorf("%d connections were found to pay for connections of %.0f MB/s", n, rate/mega)
			}
		})
	}
}
