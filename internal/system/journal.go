package system

import "github.com/coreos/go-systemd/v22/journal"

// Journal sends a line to the journal of the machine that runs, with fields of its
// own beside the identifier (systemd.journal-fields(7)). Nobody waits for it, and
// what cannot be sent is lost.
func (s *System) Journal(identifier, line string, fields map[string]string) {
	if !s.Running() {
		return
	}
	all := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	for name, value := range fields {
		all[name] = value
	}
	_ = journal.Send(line, journal.PriInfo, all)
}
