package fs

import "ftpfs/cache"

// Stats is what a mount has done since it was made, and what it holds.
type Stats struct {
	Reads     uint64 // read requests of the kernel that were answered
	ReadBytes int64  // bytes of the answers
	OpenFiles int64
	Buffers   int64 // bytes that running downloads and what was fetched ahead hold
	Ahead     AheadStats
	Blocks    cache.BlocksStats
}

// Stats returns the counters. It is safe for concurrent use.
func (m *Mounted) Stats() Stats {
	t := m.t
	return Stats{
		Reads: t.reads.Load(), ReadBytes: t.readBytes.Load(),
		OpenFiles: t.files.count.Load(), Buffers: t.buffers.used.Load(),
		Ahead: t.ahead.stats(), Blocks: t.blocks().Stats(),
	}
}
