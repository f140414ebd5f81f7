package cache

import (
	"maps"
	"slices"
	"strings"
	"time"
)

func (b *Blocks) dropLocked(drop func(f *blockFile) bool, files []*blockFile) {
	for _, f := range slices.Clone(files) {
		if !drop(f) {
			continue
		}
		for i := range maps.Clone(f.blocks) {
			if r, ok := b.lru.Peek(blockKey{f, i}); ok {
				b.removeLocked(blockKey{f, i}, r)
			}
		}
	}
}

// Drop forgets one version, in memory alone.
func (b *Blocks) Drop(v FileVersion) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(func(f *blockFile) bool { return f.v == v }, b.paths[v.Path])
}

// Forget drops all versions of a file of which this process changes the content, the name or the time, here and on the disk:
// size and time may come out as they were. What was asked for before isn't stored any more.
func (b *Blocks) Forget(path string) {
	if b == nil {
		return
	}
	b.forgetMemory(path)
	if b.disk != nil {
		b.disk.forget(path)
		b.forgetMemory(path) // what a read took from the disk meanwhile
	}
}

func (b *Blocks) forgetMemory(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.forgotten) >= maxForgotten {
		clear(b.forgotten)
		b.floor = now
	}
	b.forgotten[path] = now
	b.dropLocked(always, b.paths[path])
}

func always(*blockFile) bool { return true }

// ForgetTree is Forget for everything below a directory, which was renamed or replaced. On disk it looks at every file of
// the cache.
func (b *Blocks) ForgetTree(dir string) {
	if b == nil {
		return
	}
	below := func(p string) bool { return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/") }
	b.forgetBelow(below)
	if b.disk != nil {
		b.disk.forgetTree(below)
		b.forgetBelow(below)
	}
}

func (b *Blocks) forgetBelow(below func(path string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.floor = time.Now()
	for p, files := range b.paths {
		if below(p) {
			b.dropLocked(always, files)
		}
	}
}
