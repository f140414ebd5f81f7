package main

import (
	"log/slog"
	"strings"
	"testing"
)

// memoryLog is a syslogWriter that keeps lines with their priority in front.
type memoryLog []string

func (m *memoryLog) Debug(s string) error   { *m = append(*m, "debug "+s); return nil }
func (m *memoryLog) Info(s string) error    { *m = append(*m, "info "+s); return nil }
func (m *memoryLog) Warning(s string) error { *m = append(*m, "warning "+s); return nil }
func (m *memoryLog) Err(s string) error     { *m = append(*m, "err "+s); return nil }

func TestSyslogGetsLevelsAndNoTime(t *testing.T) {
	var m memoryLog
	log := slog.New(newSyslogHandler(&m, slog.LevelInfo)).With("mount", "/mnt")
	log.Debug("unseen")
	log.Info("a", "level", 7)
	log.Warn("b b")
	log.WithGroup("g").Error("c", "time", 1)
	want := "info msg=a mount=/mnt level=7\n|warning msg=\"b b\" mount=/mnt\n|err msg=c mount=/mnt g.time=1\n"
	if got := strings.Join(m, "|"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
