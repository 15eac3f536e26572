package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// A Log is the slog.Handler of the agent. It writes to the journal, with fields, if its writer is
// connected to the journal, and otherwise text to the writer.
type Log struct {
	slog.Handler
	box *outbox // nil: lines are written synchronously
}

// LogTo returns a log. Lines to the journal never block the caller, nor do any lines of a daemon.
// Lines that were dropped or delivered late are counted, and a later line says how many and of
// which time.
func LogTo(w io.Writer, level slog.Leveler, daemon bool) *Log {
	text := &slog.HandlerOptions{Level: level}
	switch {
	case leadsToJournal(w, os.Getenv("JOURNAL_STREAM")):
		box := newJournalBox(journalSocket)
		return &Log{NewJournalHandler(level, func(message string, priority journal.Priority, fields map[string]string) error {
			box.post(box.letter(time.Now(), message, priority, fields))
			return nil
		}), &box.outbox}
	case daemon:
		box := &outbox{lossLetter: func(lost, late tally) letter {
			var line bytes.Buffer
			slog.New(slog.NewTextHandler(&line, text)).Warn(lossNotice(lost, late))
			return textLetter(w, line.Bytes())
		}}
		return &Log{slog.NewTextHandler(posting{w, box}, text), box}
	}
	return &Log{Handler: slog.NewTextHandler(w, text)}
}

// Flush returns when all lines are delivered, or after patience.
func (l *Log) Flush(patience time.Duration) {
	if l.box != nil {
		l.box.flush(patience)
	}
}

// posting is a writer that posts each line of a text handler.
type posting struct {
	to  io.Writer
	box *outbox
}

func (p posting) Write(line []byte) (int, error) {
	p.box.post(textLetter(p.to, bytes.Clone(line)))
	return len(line), nil
}

func textLetter(w io.Writer, line []byte) letter {
	return letter{at: time.Now(), size: len(line), send: func(bool) error {
		_, err := w.Write(line) // this blocks only the outbox's goroutine
		return err
	}}
}

// lossNotice returns the line that reports lost or delayed log lines.
func lossNotice(lost, late tally) string {
	count := func(n int) string {
		if n == 1 {
			return "1 log line"
		}
		return strconv.Itoa(n) + " log lines"
	}
	between := func(t tally) string {
		return "between " + t.first.Format(time.TimeOnly) + " and " + t.last.Format(time.TimeOnly)
	}
	var parts []string
	if lost.count > 0 {
		parts = append(parts, "lost "+count(lost.count)+" "+between(lost))
	}
	if late.count > 0 {
		parts = append(parts, "delayed "+count(late.count)+" "+between(late))
	}
	return strings.Join(parts, "; ") + ": journald, or whoever reads the log, did not accept them"
}

// leadsToJournal reports whether w is the stream that systemd connected to the journal
// (systemd.exec(5), JOURNAL_STREAM). systemd 219 does not set the variable. There, a socket as the
// output of a service is the journal's.
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
		// When systemd finds no journald as it starts a service, it connects it with /dev/null.
		nowhere := info.Mode()&os.ModeCharDevice != 0 && st.Rdev == unix.Mkdev(1, 3)
		return os.Getenv("NOTIFY_SOCKET") != "" && (info.Mode()&os.ModeSocket != 0 || nowhere)
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// fieldOf returns the journal fields for keys that many log lines have.
func fieldOf(key string) string {
	switch key {
	case "resource", "kind", "state", "policy":
		return "SOE_" + strings.ToUpper(key)
	}
	return ""
}

// A JournalHandler sends each record as one line with the fields SOE_RESOURCE, SOE_KIND, SOE_STATE
// and SOE_POLICY, so that journalctl SOE_RESOURCE=… finds all lines about a resource. Attributes
// from With are in the fields, and not in the line.
type JournalHandler struct {
	level  slog.Leveler
	send   func(message string, priority journal.Priority, fields map[string]string) error
	fields map[string]string // from WithAttrs

	mu   *sync.Mutex // guards the fields below
	buf  *bytes.Buffer
	text slog.Handler // writes the attributes of a record to buf
}

// NewJournalHandler returns a handler that calls send for each line.
func NewJournalHandler(level slog.Leveler, send func(string, journal.Priority, map[string]string) error) *JournalHandler {
	buf := &bytes.Buffer{}
	return &JournalHandler{
		level: level, send: send, mu: &sync.Mutex{}, buf: buf,
		text: slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: attributesAlone}),
	}
}

// attributesAlone leaves out time, level and message, for which the journal has fields.
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
