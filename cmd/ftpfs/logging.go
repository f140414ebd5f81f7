package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
)

// openLog makes the logger that the settings ask for. file is the log file, or nil. A background process
// without syslog and without log_file logs nowhere.
func openLog(s settings) (log *slog.Logger, file *os.File, err error) {
	opt := &slog.HandlerOptions{Level: s.LogLevel}
	if s.LogFile != "" {
		f, err := os.OpenFile(s.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("log_file: %w", err)
		}
		return slog.New(slog.NewTextHandler(f, opt)), f, nil
	}
	if s.Foreground {
		return slog.New(slog.NewTextHandler(os.Stderr, opt)), nil, nil
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "ftpfs")
	if err != nil {
		return slog.New(slog.DiscardHandler), nil, nil
	}
	return slog.New(newSyslogHandler(w, s.LogLevel)).With("mount", s.Mountpoint), nil, nil
}

// syslogWriter is what is used of *syslog.Writer.
type syslogWriter interface {
	Debug(string) error
	Info(string) error
	Warning(string) error
	Err(string) error
}

// syslogHandler formats records as slog's text does, less time and level, which syslog has itself.
type syslogHandler struct {
	out   syslogWriter
	inner slog.Handler // writes to buf

	mu  *sync.Mutex // guards buf, shared by all handlers made by With
	buf *bytes.Buffer
}

func newSyslogHandler(out syslogWriter, level slog.Leveler) *syslogHandler {
	buf := new(bytes.Buffer)
	inner := slog.NewTextHandler(io.Writer(buf), &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			_, isLevel := a.Value.Any().(slog.Level)
			if len(groups) == 0 && (a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime || a.Key == slog.LevelKey && isLevel) {
				return slog.Attr{}
			}
			return a
		},
	})
	return &syslogHandler{out: out, inner: inner, mu: new(sync.Mutex), buf: buf}
}

func (h *syslogHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.inner.Enabled(ctx, l)
}

func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	h.buf.Reset()
	err := h.inner.Handle(ctx, r)
	line := h.buf.String()
	h.mu.Unlock()
	if err != nil {
		return err
	}
	switch {
	case r.Level >= slog.LevelError:
		return h.out.Err(line)
	case r.Level >= slog.LevelWarn:
		return h.out.Warning(line)
	case r.Level >= slog.LevelInfo:
		return h.out.Info(line)
	}
	return h.out.Debug(line)
}

func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{h.out, h.inner.WithAttrs(attrs), h.mu, h.buf}
}

func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{h.out, h.inner.WithGroup(name), h.mu, h.buf}
}
