package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// blockBytes is what a test's file has: every position of every path and time tells where it is.
func blockBytes(v FileVersion, off int64, n int) []byte {
	seed := uint64(len(v.Path))<<56 ^ uint64(v.ModTime)<<40 ^ uint64(v.Size)
	b := make([]byte, min(v.Size-off, int64(n)))
	for i := range b {
		x := (seed + uint64(off) + uint64(i)) * 0x9e3779b97f4a7c15
		b[i] = byte(x >> 56)
	}
	return b
}

func memoryBlocks(t *testing.T, budget int64) *Blocks {
	t.Helper()
	b, err := NewBlocks(BlocksConfig{Memory: budget})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// read returns what b knows of v at off, of n bytes, and fails if any of it is wrong.
func readBlocks(t *testing.T, b *Blocks, v FileVersion, off int64, n int) int {
	t.Helper()
	got := make([]byte, n)
	m := b.ReadAt(v, got, off)
	if m > 0 && !bytes.Equal(got[:m], blockBytes(v, off, m)) {
		t.Errorf("wrong bytes of %s at %d", v.Path, off)
	}
	return m
}

func putBlocks(b *Blocks, v FileVersion, off int64, n int) {
	b.Put(v, time.Now(), off, blockBytes(v, off, n), false)
}

func TestBlocksJoinPiecesInAnyOrder(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/f", Size: 3*BlockSize + 100, ModTime: 1}
	whole := blockBytes(v, 0, int(v.Size))
	r := rand.New(rand.NewPCG(1, 2))
	const piece = 5000
	for _, i := range r.Perm(int(v.Size+piece-1) / piece) {
		off := i * piece
		b.Put(v, time.Now(), int64(off), whole[off:min(off+piece, len(whole))], false)
		readBlocks(t, b, v, r.Int64N(v.Size), 20_000)
	}
	for i := 0; i < len(whole); i += piece { // of parts with a gap between them one was dropped
		b.Put(v, time.Now(), int64(i), whole[i:min(i+piece, len(whole))], false)
	}
	if n := readBlocks(t, b, v, 0, int(v.Size)); n != int(v.Size) {
		t.Errorf("read %d of %d bytes", n, v.Size)
	}
}

func TestBlocksGiveNothingOfAnotherVersion(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	putBlocks(b, v, 0, 1000)
	for _, other := range []FileVersion{
		{Path: "/g", Size: 1000, ModTime: 1}, {Path: "/f", Size: 1001, ModTime: 1},
		{Path: "/f", Size: 1000, ModTime: 2}, {Path: "/f", Size: 1000, ModTime: 1, Owner: b.NewOwner()},
	} {
		if n := b.ReadAt(other, make([]byte, 1000), 0); n != 0 {
			t.Errorf("%d bytes for %+v", n, other)
		}
	}
}

func TestBlocksKeepTheBudget(t *testing.T) {
	b := memoryBlocks(t, 10*BlockSize)
	for i := range 50 {
		v := FileVersion{Path: fmt.Sprint("/", i), Size: BlockSize + int64(i), ModTime: 1}
		putBlocks(b, v, 0, int(v.Size))
		if st := b.Stats(); st.Bytes > 10*BlockSize {
			t.Fatalf("%d bytes in memory, the budget is %d", st.Bytes, 10*BlockSize)
		}
	}
	last := FileVersion{Path: "/49", Size: BlockSize + 49, ModTime: 1}
	if n := readBlocks(t, b, last, 0, 1000); n != 1000 {
		t.Errorf("%d bytes of what was stored last", n)
	}
	if n := readBlocks(t, b, FileVersion{Path: "/0", Size: BlockSize, ModTime: 1}, 0, 1000); n != 0 {
		t.Errorf("%d bytes of what was not used for longest", n)
	}
}

func TestBlocksForget(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/d/f", Size: 1000, ModTime: 1}
	for name, forget := range map[string]func(){
		"path": func() { b.Forget("/d/f") }, "tree": func() { b.ForgetTree("/d") }, "root": func() { b.ForgetTree("/") },
		"version": func() { b.Drop(v) },
	} {
		putBlocks(b, v, 0, 1000)
		if n := readBlocks(t, b, v, 0, 1000); n != 1000 {
			t.Fatalf("%s: %d bytes before", name, n)
		}
		forget()
		if n := readBlocks(t, b, v, 0, 1000); n != 0 {
			t.Errorf("%s: %d bytes after", name, n)
		}
		if st := b.Stats(); st.Bytes != 0 {
			t.Errorf("%s: %d bytes left", name, st.Bytes)
		}
	}
}

func TestBlocksForgetTreeLeavesOthers(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/dir", Size: 1000, ModTime: 1}
	putBlocks(b, v, 0, 1000)
	b.ForgetTree("/d")
	if n := readBlocks(t, b, v, 0, 1000); n != 1000 {
		t.Errorf("%d bytes", n)
	}
}

func TestBlocksDontStoreWhatWasAskedForBeforeForget(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	began := time.Now()
	b.Forget("/f")
	b.Put(v, began, 0, blockBytes(v, 0, 1000), false)
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 {
		t.Error("stored what was read before the change")
	}
	began = time.Now()
	b.Put(v, began, 0, blockBytes(v, 0, 1000), false)
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 10 {
		t.Error("didn't store what was read after the change")
	}
}

func TestBlocksRememberSoManyForgottenPathsOnly(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	began := time.Now()
	b.Forget("/f")
	for i := range 3 * maxForgotten {
		b.Forget(fmt.Sprint("/", i))
	}
	if n := len(b.forgotten); n > maxForgotten {
		t.Errorf("%d paths", n)
	}
	b.Put(v, began, 0, blockBytes(v, 0, 1000), false)
	if n := b.ReadAt(v, make([]byte, 10), 0); n != 0 {
		t.Error("stored what was read before the change")
	}
}

func TestPassingBytesAreNotKeptInMemory(t *testing.T) {
	b := memoryBlocks(t, 1<<20)
	v := FileVersion{Path: "/f", Size: 1000, ModTime: 1}
	b.Put(v, time.Now(), 0, blockBytes(v, 0, 1000), true)
	if st := b.Stats(); st.Bytes != 0 {
		t.Errorf("%d bytes", st.Bytes)
	}
}

func TestNilBlocks(t *testing.T) {
	var b *Blocks
	b.Put(FileVersion{Path: "/f", Size: 1}, time.Now(), 0, []byte("x"), false)
	b.Forget("/f")
	b.ForgetTree("/")
	b.Drop(FileVersion{})
	if n := b.ReadAt(FileVersion{Path: "/f", Size: 1}, make([]byte, 1), 0); n != 0 || b.Persistent() || b.NewOwner() != 0 {
		t.Error("a nil Blocks has something")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestBlocksUnderLoad(t *testing.T) {
	b := memoryBlocks(t, 6*BlockSize)
	var versions []FileVersion
	for i := range 4 {
		versions = append(versions, FileVersion{Path: fmt.Sprint("/", i%2), Size: 4*BlockSize + int64(i), ModTime: int64(i)})
	}
	var content [4][]byte
	for i, v := range versions {
		content[i] = blockBytes(v, 0, int(v.Size))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			buf := make([]byte, 100_000)
			for i := range 400 {
				k := r.IntN(len(versions))
				off := r.Int64N(versions[k].Size)
				end := min(off+r.Int64N(100_000), versions[k].Size)
				switch {
				case i%50 == 49:
					b.Forget(versions[k].Path)
				case i%2 == 0:
					b.Put(versions[k], time.Now(), off, content[k][off:end], false)
				default:
					n := b.ReadAt(versions[k], buf[:end-off], off)
					if !bytes.Equal(buf[:n], content[k][off:off+int64(n)]) {
						t.Error("wrong bytes")
					}
				}
			}
		})
	}
	wg.Wait()
}
