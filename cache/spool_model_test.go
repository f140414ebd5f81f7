package cache

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// spoolModel is a file as plain bytes, and the server's file below it.
type spoolModel struct {
	t      *testing.T
	rnd    *rand.Rand
	f      *SpoolFile
	now    []byte // what the file must read as
	server []byte
	sound  bool // server is what the SpoolFile was told it is
	kinds  [3]int
}

const modelSize = 48 << 10

// TestSpoolFileAgainstModel does random operations on a SpoolFile and on plain bytes, with the server's content
// fetched only when asked for, and uploads that are interrupted by changes or break.
func TestSpoolFileAgainstModel(t *testing.T) {
	ops := 100_000
	if testing.Short() {
		ops = 10_000
	}
	const seed = 1
	m := &spoolModel{t: t, rnd: rand.New(rand.NewPCG(seed, seed)), f: createFile(t, openSpool(t, t.TempDir(), 0)), sound: true}
	m.server = m.random(20_000)
	m.now = bytes.Clone(m.server)
	if err := m.f.SetBase(int64(len(m.server))); err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		switch k := m.rnd.IntN(100); {
		case k < 40:
			m.read()
		case k < 75:
			m.change()
		case k < 85:
			off, end := m.span()
			m.fetch(Range{off, end})
		case k < 95:
			m.upload()
		case k < 97:
			m.breakUpload()
		case k < 98:
			m.restart()
		default:
			m.check()
		}
		if t.Failed() {
			t.Fatalf("at operation %d of seed %d", i, seed)
		}
	}
	m.check()
	for kind, n := range m.kinds {
		if n < ops/1000 {
			t.Errorf("only %d plans were %v: the test doesn't test that", n, PlanKind(kind))
		}
	}
}

func (m *spoolModel) random(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(1 + m.rnd.IntN(255)) // never 0, which is a hole's
	}
	return p
}

// span returns a range of the file's offsets, some of it behind its end.
func (m *spoolModel) span() (off, end int64) {
	off = m.rnd.Int64N(int64(len(m.now)) + 500)
	n := m.rnd.Int64N(300)
	if m.rnd.IntN(20) == 0 {
		n = m.rnd.Int64N(10_000)
	}
	return off, off + n
}

// fetch fills r as a caller does that has read it from the server.
func (m *spoolModel) fetch(r Range) {
	r.End = min(r.End, int64(len(m.server)))
	if r.Off >= r.End {
		return
	}
	if err := m.f.Fill(m.server[r.Off:r.End], r.Off); err != nil {
		m.t.Error(err)
	}
}

func (m *spoolModel) read() {
	off, end := m.span()
	m.compare(off, end)
}

// compare reads [off, end), fetching what is missing.
func (m *spoolModel) compare(off, end int64) {
	buf := make([]byte, end-off)
	done := 0
	for {
		n, missing, err := m.f.ReadAt(buf[done:], off+int64(done))
		done += n
		if missing != nil {
			if missing.Off != off+int64(done) || missing.End > end || missing.Len() <= 0 {
				m.t.Errorf("missing %v while reading [%d,%d), %d done", *missing, off, end, done)
				return
			}
			m.fetch(*missing)
			continue
		}
		if err != nil && err != io.EOF {
			m.t.Error(err)
		}
		if err == nil && done < len(buf) {
			m.t.Errorf("read of [%d,%d) ends after %d bytes without a reason", off, end, done)
		}
		break
	}
	size := int64(len(m.now))
	if want := m.now[min(off, size):min(end, size)]; !bytes.Equal(buf[:done], want) {
		m.t.Errorf("[%d,%d) of %d bytes reads wrong (%d bytes)", off, end, size, done)
	}
}

func (m *spoolModel) change() {
	before := m.f.Version()
	size := int64(len(m.now))
	switch k := m.rnd.IntN(10); {
	case k < 6 || size > modelSize:
		off, end := m.span()
		if m.rnd.IntN(3) == 0 {
			off, end = size, size+end-off // append
		}
		if size > modelSize {
			m.truncate(m.rnd.Int64N(size))
			return
		}
		p := m.random(int(end - off))
		if len(p) == 0 {
			return
		}
		if n, err := m.f.WriteAt(p, off); n != len(p) || err != nil {
			m.t.Errorf("WriteAt = %d, %v", n, err)
		}
		m.now = append(m.now, make([]byte, max(0, end-size))...)
		copy(m.now[off:], p)
	case k < 8:
		m.truncate(size + m.rnd.Int64N(600))
	default:
		m.truncate(max(0, size-m.rnd.Int64N(600)))
	}
	if int64(len(m.now)) != size && m.f.Version() == before {
		m.t.Error("a change without a new version")
	}
}

func (m *spoolModel) truncate(size int64) {
	if err := m.f.Truncate(size); err != nil {
		m.t.Error(err)
	}
	m.now = append(m.now, make([]byte, max(0, size-int64(len(m.now))))...)[:size:size]
}

// upload does what a Plan says, sometimes with changes before it is confirmed.
func (m *spoolModel) upload() {
	p := m.f.Plan()
	m.kinds[p.Kind]++
	server := m.sent(p)
	sent := bytes.Clone(m.now)
	changed := false
	if m.rnd.IntN(2) == 0 {
		v := m.f.Version()
		for range 1 + m.rnd.IntN(4) {
			m.change()
		}
		changed = m.f.Version() != v
	}
	if !bytes.Equal(server, sent) {
		m.t.Errorf("plan %+v makes a file of %d bytes that differs from the one of %d", p, len(server), len(sent))
	}
	m.server, m.sound = server, true
	if m.f.MarkClean(p.Version, p.Size) == changed {
		m.t.Errorf("MarkClean = %v with changes %v", !changed, changed)
	}
	m.invariants()
}

// sent returns the server's file after p.
func (m *spoolModel) sent(p Plan) []byte {
	switch p.Kind {
	case Clean:
		return m.server
	case AppendFrom:
		m.local(p.Off, p.Size)
		return append(bytes.Clone(m.server), m.now[p.Off:]...)
	}
	if p.Server >= 0 && p.Server <= p.Size {
		patched := append(bytes.Clone(m.server), make([]byte, len(m.now)-len(m.server))...)
		for _, r := range m.f.DirtyRanges() {
			copy(patched[r.Off:r.End], m.now[r.Off:r.End])
		}
		if int(p.Server) != len(m.server) || !bytes.Equal(patched, m.now) {
			m.t.Errorf("plan %+v: the server's file of %d bytes, with what is dirty put into it, differs", p, len(m.server))
		}
	}
	for _, r := range m.f.Missing(0, p.Size) {
		m.fetch(r)
	}
	m.local(0, p.Size)
	return bytes.Clone(m.now)
}

// local reads [off, end) as an uploader does, who fetches no more.
func (m *spoolModel) local(off, end int64) {
	buf := make([]byte, end-off)
	if n, missing, err := m.f.ReadAt(buf, off); n != len(buf) || missing != nil || err != nil || !bytes.Equal(buf, m.now[off:end]) {
		m.t.Errorf("uploading [%d,%d): %d bytes, missing %v, %v", off, end, n, missing, err)
	}
}

func (m *spoolModel) breakUpload() {
	p := m.f.Plan()
	server := m.sent(p)
	switch p.Kind {
	case AppendFrom:
		m.server = server[:p.Off+m.rnd.Int64N(p.Size-p.Off)]
		m.f.MarkBroken(p.Off)
	case Whole:
		m.server = m.random(int(m.rnd.Int64N(p.Size + 1)))
		m.f.MarkBroken(0)
	default:
		return
	}
	m.sound = false
	if got := m.f.Plan().Kind; got != Whole {
		m.t.Errorf("plan %v after a broken upload", got)
	}
	m.invariants()
}

// restart replaces the server's file, where that is allowed.
func (m *spoolModel) restart() {
	size := m.rnd.IntN(modelSize)
	dirty := m.f.Dirty()
	if err := m.f.SetBase(int64(size)); (err != nil) != dirty {
		m.t.Errorf("SetBase of a file with dirty %v: %v", dirty, err)
	}
	if !dirty {
		m.server, m.sound = m.random(size), true
		m.now = bytes.Clone(m.server)
	}
}

// invariants compares the marks with the bytes.
func (m *spoolModel) invariants() {
	f, size := m.f, int64(len(m.now))
	if f.Size() != size || f.Base() > size {
		m.t.Errorf("size %d, base %d; want size %d", f.Size(), f.Base(), size)
	}
	for _, r := range f.known.Gaps(0, size) {
		if r.End > f.Base() {
			m.t.Errorf("%v is neither local nor below base %d", r, f.Base())
		}
	}
	for _, r := range f.dirty.Gaps(0, size) {
		if r.End > f.Base() || r.End > int64(len(m.server)) || !bytes.Equal(m.now[r.Off:r.End], m.server[r.Off:r.End]) {
			m.t.Errorf("%v is not dirty, but the server has something else (base %d)", r, f.Base())
		}
	}
	for _, r := range f.dirty.Ranges() {
		if !f.known.Contains(r.Off, r.End) || r.End > size {
			m.t.Errorf("%v is dirty, but not local", r)
		}
	}
	if m.sound && f.SizeChanged() != (len(m.server) != len(m.now)) {
		m.t.Errorf("SizeChanged is %v: %d bytes on the server, %d here", f.SizeChanged(), len(m.server), len(m.now))
	}
	if !f.Dirty() && !bytes.Equal(m.server, m.now) {
		m.t.Error("clean, but the server has something else")
	}
	if f.alloc.Bytes() != f.spool.Usage() {
		m.t.Errorf("usage %d, allocated %d", f.spool.Usage(), f.alloc.Bytes())
	}
}

func (m *spoolModel) check() {
	m.invariants()
	if m.rnd.IntN(10) == 0 { // seldom: it makes everything local
		m.compare(0, int64(len(m.now))+10)
	}
}
