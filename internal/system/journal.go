package system

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalSocket is where journald receives lines with fields. systemd holds the socket, so that it
// exists also while journald restarts.
const journalSocket = "/run/systemd/journal/socket"

// longestLine is the length at which a line is truncated, in bytes.
const longestLine = 64 << 10

// A journalBox posts lines to journald.
type journalBox struct {
	outbox
	to *datagrams
}

func newJournalBox(socket string) *journalBox {
	b := &journalBox{to: newDatagrams(socket)}
	b.lossLetter = func(lost, late tally) letter {
		return b.letter(time.Now(), lossNotice(lost, late), journal.PriWarning, map[string]string{"SYSLOG_IDENTIFIER": "soe-agent"})
	}
	return b
}

// letter makes a letter of a line with its fields. A line that is delivered late includes the time
// when it was written, because the journal records when it arrived.
func (b *journalBox) letter(at time.Time, line string, priority journal.Priority, fields map[string]string) letter {
	if len(line) > longestLine {
		line = strings.ToValidUTF8(line[:longestLine], "") + "…"
	}
	return letter{at: at, size: len(line) + 200, send: func(late bool) error {
		if late {
			line := line + " (said at " + at.Format(time.TimeOnly) + ")"
			return b.to.send(journalEntry(line, priority, fields))
		}
		return b.to.send(journalEntry(line, priority, fields))
	}}
}

// journalEntry returns a line in the native protocol of journald
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
func journalEntry(line string, priority journal.Priority, fields map[string]string) []byte {
	var entry bytes.Buffer
	add := func(name, value string) {
		entry.WriteString(name)
		if strings.ContainsRune(value, '\n') {
			entry.WriteByte('\n')
			entry.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		} else {
			entry.WriteByte('=')
		}
		entry.WriteString(value)
		entry.WriteByte('\n')
	}
	add("PRIORITY", strconv.Itoa(int(priority)))
	add("MESSAGE", line)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		add(name, fields[name])
	}
	return entry.Bytes()
}

// Journal sends a line to the journal of the running machine, with fields besides the identifier
// (systemd.journal-fields(7)). It never waits.
func (s *System) Journal(identifier, line string, fields map[string]string) {
	if !s.Running() || s.journal == nil {
		return
	}
	all := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	maps.Copy(all, fields)
	s.journal.post(s.journal.letter(time.Now(), line, journal.PriInfo, all))
}

// FlushJournal returns when the journal has received all lines, or after patience.
func (s *System) FlushJournal(patience time.Duration) {
	if s.journal != nil {
		s.journal.flush(patience)
	}
}
