package pcoip

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// notesFile does not survive a reboot. After one, the agent has read everything.
const notesFile = own.RunDir + "/pcoip-changes.json"

// notes are what must be remembered until the next boot. A start of a unit is identified by the
// time that systemd reports for it. All other times are uptimes, because the wall clock may be set
// in between.
type notes struct {
	Changes map[policy.ID]change `json:"changes"`
	// Owed is the start that failed during a trial. It is set until the agent has been started
	// again.
	Owed map[string]int64 `json:"owed,omitempty"`
}

// A change is the latest change of a directive.
type change struct {
	At     time.Duration    `json:"at"`     // uptime of the change, or of the start with which it was read
	Unread map[string]int64 `json:"unread"` // the starts before the change, by unit
}

func (k *Kind) readNotes() (notes, error) {
	var n notes
	content, err := k.system.FS.ReadFile(notesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return notes{}, err
	}
	if err != nil || json.Unmarshal(content, &n) != nil {
		return notes{}, nil
	}
	return n, nil
}

func (k *Kind) writeNotes(n notes) error {
	content, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return k.system.FS.WriteFile(notesFile, content, system.Attr{Mode: 0o600})
}

// noteChanges records that directives are changed while the agent runs with these starts.
func (k *Kind) noteChanges(ids []policy.ID, starts map[string]int64) error {
	if !k.system.Running() || len(ids) == 0 {
		return nil
	}
	n, err := k.readNotes()
	if err != nil {
		return err
	}
	if n.Changes == nil {
		n.Changes = map[policy.ID]change{}
	}
	for _, id := range ids {
		n.Changes[id] = change{At: system.Uptime(k.system.Clock), Unread: maps.Clone(starts)}
	}
	return k.writeNotes(n)
}

// noteStart records that the agent is about to read the changes that it has not read yet.
func (k *Kind) noteStart(agent streaming) error {
	n, err := k.readNotes()
	if err != nil {
		return err
	}
	for id, c := range n.Changes {
		if agent.unread(c) {
			c.At = system.Uptime(k.system.Clock)
			n.Changes[id] = c
		}
	}
	return k.writeNotes(n)
}

// noteOwed records for which failed start another one is owed.
func (k *Kind) noteOwed(owed map[string]int64) error {
	n, err := k.readNotes()
	if err != nil {
		return err
	}
	if len(n.Owed) == 0 && len(owed) == 0 {
		return nil
	}
	n.Owed = owed
	return k.writeNotes(n)
}

// unread reports whether the agent has not been restarted since a change.
func (a *streaming) unread(c change) bool {
	if a.unit != "" {
		at, noted := c.Unread[a.unit]
		return noted && at == a.starts[a.unit]
	}
	for unit, at := range c.Unread {
		if now, runs := a.starts[unit]; runs && now == at {
			return true
		}
	}
	return false
}
