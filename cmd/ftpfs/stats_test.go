package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGUSR1 puts a summary into the log, and does nothing else.
func TestStatisticsOnSignal(t *testing.T) {
	f := newFixture(t)
	if err := os.Mkdir(filepath.Join(f.site, "scan"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		writeFile(t, filepath.Join(f.site, fmt.Sprintf("scan/f%02d", i)), strings.Repeat("x", 1000), 0o644)
	}
	log := filepath.Join(f.home, "log")
	f.mount("-o", "log_file="+log)
	f.wantFile()
	if err := os.WriteFile(filepath.Join(f.mnt, "new"), []byte("text"), 0o644); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadDir(filepath.Join(f.mnt, "scan")); err != nil {
		t.Error(err)
	}
	for i := range 40 {
		if _, err := os.ReadFile(filepath.Join(f.mnt, fmt.Sprintf("scan/f%02d", i))); err != nil {
			t.Error(err)
		}
	}
	for _, pid := range f.processes() {
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			t.Error(err)
		}
	}
	var text string
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(text, "statistics"); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(log)
		if text = string(b); time.Now().After(deadline) {
			t.Fatalf("no statistics in the log:\n%s", text)
		}
	}
	for _, want := range []string{
		`level=INFO msg=statistics mounted_for=\S+ sessions\.up=[1-8] sessions\.limit=8 `,
		` reads\.requests=(4[1-9]|[5-9]\d) reads\.bytes=40006 reads\.downloads=4\d `,
		` blocks\.hits=\d+ blocks\.misses=[1-9]`,
		` ahead\.files=([1-9]|[1-3]\d|40) ahead\.used=[1-9]\d? `,
		` uploads\.confirmed=1 uploads\.failed=0 uploads\.sent=4 uploads\.waiting=0 uploads\.waiting_bytes=0 entries\.known=\d+ `,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is not in the log:\n%s", want, text)
		}
	}
	f.wantFile()
	f.umount()
}
