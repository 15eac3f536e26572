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

// notesFile goes with the reboot, after which the agent has read everything.
const notesFile = own.RunDir + "/pcoip-changes.json"

// notes are what must be remembered of the machine's present boot. In them a start of
// a unit has the moment at which systemd says it was for a name, and other times are
// those since the boot: wall time may be set meanwhile, and is not compared.
type notes struct {
	Changes map[policy.ID]change `json:"changes"`
	// Owed is the start that ended in the failure of a trial, while the next one is
	// still owed.
	Owed map[string]int64 `json:"owed,omitempty"`
}

// A change is the last one of a directive.
type change struct {
	At     time.Duration    `json:"at"`     // of it, or of the start with which it was read
	Unread map[string]int64 `json:"unread"` // the starts that were before it, by unit
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

// noteChanges notes that directives are changed while the agent runs as it does.
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

// noteStart notes that the agent is about to read the changes that it has not yet.
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

// noteOwed notes which start is owed for which failed one.
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

// unread says whether the agent runs as it did before a change.
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
