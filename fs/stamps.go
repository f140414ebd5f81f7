package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"ftpfs/ftpconn"
)

// The second and later downloads of a handle open what has the file's name then, which may be another file by now. So each
// one asks for the file's time right before it, in the same packet. A small file is read whole by its first.

// errStamp ends a download before which the server told another time of the file than it should have.
var errStamp = errors.New("the file has another time on the server by now")

// sampleSize is how much is remembered of what was read first and last, in bytes: what grew has it still, another file of the
// name hasn't.
const sampleSize = 512

// stamps is what a reader knows of its file from its downloads. Guarded by reader.mu.
type stamps struct {
	stamp ftpconn.Stamp // of the first download; zero: not known
	known int           // counts how often the file was given another time by this mount
	odd   bool          // its time isn't the one of the listing, of the same version
	moved bool          // a later one had another, and nobody has looked why yet

	first, last sample // of what was read first, and last

	other version // that is larger and no continuation of this one
}

// sample is what was read somewhere.
type sample struct {
	data []byte
	off  int64
}

// unstampLocked forgets what downloads said so far: this mount changes the file or its time, or has done so.
func (r *reader) unstampLocked() {
	r.stamp, r.moved = ftpconn.Stamp{}, false
	r.known++
}

// patching says that changes are being put into the server's file, which gets another time by each.
func (r *reader) patching() bool {
	f := r.n.file()
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.patched
}

// beginningLocked is that of a download of p.
func (r *reader) beginningLocked(p string, small bool) beginning {
	known := r.known
	return beginning{!small, func(now ftpconn.Stamp) error {
		if !r.n.has(p) {
			return errAway
		}
		if now.Text == "" || r.patching() {
			return nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case r.known != known:
		case r.stamp.Text == now.Text:
			r.checked = time.Now()
		case r.stamp.Text != "":
			r.moved = true
			return errStamp
		case r.ver.exact() && !r.odd && !r.ver.time.Truncate(time.Second).Equal(now.Time.Truncate(time.Second)):
			return errStamp
		default:
			r.stamp = now
		}
		return nil
	}}
}

// rememberLocked takes note of what was read at off.
func (r *reader) rememberLocked(off int64, p []byte) {
	if r.first.data == nil {
		r.first = sample{bytes.Clone(p[:min(len(p), sampleSize)]), off}
	}
	end := p[max(0, len(p)-sampleSize):]
	r.last = sample{append(r.last.data[:0], end...), off + int64(len(p)-len(end))}
}

// extended says that the file at p, which is of version now, has grown behind what the reader knows of it.
func (r *reader) extended(ctx context.Context, p string, now version) (bool, error) {
	r.mu.Lock()
	first, last := r.first, sample{bytes.Clone(r.last.data), r.last.off}
	grown, empty := r.ver.size >= 0 && now.size > r.ver.size, r.ver.size == 0
	samples := []sample{first, last}
	if r.atEnd && last.off+int64(len(last.data)) == r.ver.size {
		samples = samples[1:]
	}
	r.mu.Unlock()
	if !grown || empty || len(first.data) == 0 {
		return grown && empty, nil
	}
	for _, s := range samples {
		if same, err := r.stillHas(ctx, p, s); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// stillHas says that the file at p has on the server what was read of it.
func (r *reader) stillHas(ctx context.Context, p string, s sample) (bool, error) {
	d, err := r.n.t.remote.Retrieve(ctx, p, s.off)
	if err != nil {
		return false, err
	}
	defer d.Close()
	got := make([]byte, len(s.data))
	if _, err := io.ReadFull(d, got); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return bytes.Equal(got, s.data), nil
}

// retimed takes note that this mount gives the file another time, or has given it.
func (f *file) retimed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.readersLocked() {
		r.mu.Lock()
		r.ver.time = time.Time{}
		r.unstampLocked()
		r.mu.Unlock()
	}
}
