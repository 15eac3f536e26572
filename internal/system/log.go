package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
)

// LogTo returns the handler for what the agent says: fields and all to the journal
// where w leads there, and text to w everywhere else.
func LogTo(w io.Writer, level slog.Leveler) slog.Handler {
	if !leadsToJournal(w, os.Getenv("JOURNAL_STREAM")) {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}
	return NewJournalHandler(level, func(message string, priority journal.Priority, fields map[string]string) error {
		err := journal.Send(message, priority, fields)
		if err != nil { // journald is being restarted: its stream waits for it
			_, err = fmt.Fprintln(w, message)
		}
		return err
	})
}

// leadsToJournal says whether w is the stream that systemd has connected with the
// journal (systemd.exec(5), JOURNAL_STREAM). systemd 219 does not set the variable:
// there a socket that systemd made for a service is the journal's.
func leadsToJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if stream == "" {
		return os.Getenv("NOTIFY_SOCKET") != "" && info.Mode()&os.ModeSocket != 0
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// fieldOf are the journal's fields for the keys that log lines share.
func fieldOf(key string) string {
	switch key {
	case "resource", "kind", "state", "policy":
		return "SOE_" + strings.ToUpper(key)
	}
	return ""
}

// A JournalHandler sends each record as one line with the fields SOE_RESOURCE,
// SOE_KIND, SOE_STATE and SOE_POLICY, so that journalctl SOE_RESOURCE=… finds all
// that was ever said of a resource. What With gave is in the fields alone.
type JournalHandler struct {
	level  slog.Leveler
	send   func(message string, priority journal.Priority, fields map[string]string) error
	fields map[string]string // of With

	mu   *sync.Mutex // guards what follows
	buf  *bytes.Buffer
	text slog.Handler // writes the attributes of a record to buf
}

// NewJournalHandler returns a handler that gives what it is told to send.
func NewJournalHandler(level slog.Leveler, send func(string, journal.Priority, map[string]string) error) *JournalHandler {
	buf := &bytes.Buffer{}
	return &JournalHandler{
		level: level, send: send, mu: &sync.Mutex{}, buf: buf,
		text: slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: attributesAlone}),
	}
}

// attributesAlone leaves out what the journal has in fields of its own.
func attributesAlone(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && (attr.Key == slog.TimeKey || attr.Key == slog.LevelKey || attr.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return attr
}

// Enabled implements slog.Handler.
func (h *JournalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h *JournalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "soe-agent"}
	for field, value := range h.fields {
		fields[field] = value
	}
	r.Attrs(func(attr slog.Attr) bool {
		if field := fieldOf(attr.Key); field != "" {
			fields[field] = attr.Value.Resolve().String()
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	message := strings.TrimSpace(r.Message + " " + strings.TrimSpace(h.buf.String()))
	return h.send(message, priorityOf(r.Level), fields)
}

func priorityOf(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// WithAttrs implements slog.Handler.
func (h *JournalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fields = map[string]string{}
	for field, value := range h.fields {
		with.fields[field] = value
	}
	for _, attr := range attrs {
		if field := fieldOf(attr.Key); field != "" {
			with.fields[field] = attr.Value.Resolve().String()
		}
	}
	return &with
}

// WithGroup implements slog.Handler. The agent has no groups.
func (h *JournalHandler) WithGroup(string) slog.Handler { return h }
