package fs

import "ftpfs/ftpconn"

// wantsGrowth says that somebody has read to the end and may be waiting for more.
func (f *file) wantsGrowth() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range f.handles {
		if h.r.hasReachedEnd() {
			return true
		}
	}
	return false
}

// follow gives a clean local copy up if the server has another version by now.
func (f *file) follow(e ftpconn.Entry) {
	f.mu.Lock()
	if f.copy == nil || f.isLocalLocked() {
		f.mu.Unlock()
		return
	}
	if versionOf(f.server).same(versionOf(e)) {
		if versionOf(e).exact() { // the time that the server gave to an upload is learned now
			f.server = e
		}
		f.mu.Unlock()
		return
	}
	copy, base := f.copy, f.base
	f.copy, f.base, f.server = nil, nil, e
	f.baseGen++
	f.mu.Unlock()
	copy.Close()
	if base != nil {
		base.close()
	}
}
