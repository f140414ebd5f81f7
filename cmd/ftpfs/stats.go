package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ftpfs/ftpconn"
)

// logStats logs what the mount has done so far at each SIGUSR1, until the function that it returns is called. Bytes
// are of files' contents, without the listings.
func (m *site) logStats() (stop func()) {
	began := time.Now()
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer close(done)
		for range signals {
			m.log.Info("statistics", append([]any{"mounted_for", time.Since(began).Round(time.Second)}, m.stats()...)...)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// stats is the state of all layers, as groups of attributes.
func (m *site) stats() []any {
	pool, traffic := m.client.Stats(), m.client.Traffic()
	tree, waiting := m.mounted.Stats(), m.mounted.Backlog()
	groups := []any{
		sessionStats(pool),
		slog.Group("reads", "requests", tree.Reads, "bytes", tree.ReadBytes,
			"downloads", traffic.Downloads, "received", traffic.Received, "open_files", tree.OpenFiles, "buffers", tree.Buffers),
		slog.Group("blocks", "hits", tree.Blocks.Hits, "misses", tree.Blocks.Misses, "memory", tree.Blocks.Bytes,
			"disk_hits", tree.Blocks.DiskHits, "disk", tree.Blocks.Disk, "damaged", tree.Blocks.Bad),
		slog.Group("ahead", "files", tree.Ahead.Files, "used", tree.Ahead.FilesUsed, "missed", tree.Ahead.FilesMissed,
			"at_open", tree.Ahead.Begun, "listings", tree.Ahead.Lists, "listings_used", tree.Ahead.ListsUsed),
		slog.Group("uploads", "confirmed", traffic.Uploads, "failed", traffic.UploadsFailed, "sent", traffic.Sent,
			"waiting", waiting.Files, "waiting_bytes", waiting.Bytes),
	}
	if m.meta != nil {
		s := m.meta.Stats()
		groups = append(groups, slog.Group("entries", "known", s.Entries, "directories", s.Dirs, "hits", s.Hits, "misses", s.Misses,
			"listings", s.Listings, "singles", s.Singles, "times", s.Times, "evicted", s.Evictions))
	}
	return groups
}

func sessionStats(s ftpconn.PoolStats) slog.Attr {
	return slog.Group("sessions", "up", s.Up, "limit", s.Limit, "max", s.Max, "idle", s.Idle, "waiting", s.Waiting,
		"waited", s.Waited, "logins", s.Dials, "failed", s.Failed, "refused", s.Refused)
}
