package dropin

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// undoFile has the undoRecord. It survives reboots, as the drop-ins do.
const undoFile = own.StateDir + "/dropins.json"

// undoRecord has what is needed to undo a file's effect when it leaves the policy, and cannot be read
// from the machine then.
type undoRecord struct {
	// Activate is the command that activates the file, if the policy names one.
	Activate map[string][]string `json:"activate,omitempty"`
	// Sysctls are the kernel's values before the file, by file and key.
	Sysctls map[string]map[string]string `json:"sysctls,omitempty"`

	changed bool
}

// loadUndo reads the record. A damaged one is replaced by an empty one, and that is said; the next
// reboot does what it was for.
func (k *Kind) loadUndo() *undoRecord {
	m := &undoRecord{}
	if raw, err := k.system.FS.ReadFile(undoFile); err == nil {
		if err := json.Unmarshal(raw, m); err != nil {
			k.system.Log.Warn("cannot understand dropins.json, and begin it anew; what a file leaves in effect when it goes stays so until the next reboot",
				"kind", "dropin", "path", undoFile, "err", err)
			m = &undoRecord{changed: true}
		}
	}
	if m.Activate == nil {
		m.Activate = map[string][]string{}
	}
	if m.Sysctls == nil {
		m.Sysctls = map[string]map[string]string{}
	}
	return m
}

func (m *undoRecord) save(files system.FileWriter) error {
	if !m.changed {
		return nil
	}
	raw, _ := json.Marshal(m) // plain data always marshals
	if err := files.WriteFile(undoFile, raw, system.Attr{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		return fmt.Errorf("cannot remember what is to be undone: %w", err)
	}
	m.changed = false
	return nil
}

func (m *undoRecord) dropActivate(name string) {
	if _, known := m.Activate[name]; known {
		delete(m.Activate, name)
		m.changed = true
	}
}

// original is the value of a key before any file of the policy.
func (m *undoRecord) original(key string) (string, bool) {
	for _, values := range m.Sysctls {
		if value, known := values[key]; known {
			return value, true
		}
	}
	return "", false
}

// recordUndo records, before files are written, what is needed when they are removed. If a read has
// failed since mark, the record is not saved: an incomplete one would replace a complete one.
func (b *batch) recordUndo(drifted []converge.Resource, mark int) error {
	for _, r := range drifted {
		if want, known := b.wants[r.ID]; known && want.Spec.Ensure != policy.Absent {
			b.recordUndoOf(want)
		}
	}
	if err := b.Since(mark); err != nil {
		return err
	}
	return b.undo.save(b.system.FS)
}

func (b *batch) recordUndoOf(want policy.Want[policy.Dropin]) {
	name := fileOf(want.ID)
	switch activate := want.Spec.Activate; {
	case activate == nil:
		b.undo.dropActivate(name)
	case b.undo.Activate[name] == nil || !slices.Equal(activate, b.undo.Activate[name]):
		b.undo.Activate[name], b.undo.changed = activate, true
	}
	if path.Dir(name) == sysctlDir && want.Spec.Activate == nil && b.system.Running() {
		b.recordSysctls(name, want.Spec.Content)
	}
}

// recordSysctls records the values of the keys that a file is about to set. A value that is set
// already but not by the agent is not an original value.
func (b *batch) recordSysctls(name, content string) {
	there, _ := b.system.FS.ReadFile(name)
	old := sysctlsIn(b.system, string(there))
	known := maps.Clone(b.undo.Sysctls[name])
	for key := range sysctlsIn(b.system, content) {
		_, remembered := known[key]
		_, set := old[key]
		if remembered || set {
			continue
		}
		value, found := b.undo.original(key)
		if !found {
			value, found = sysctl(b.system, key)
		}
		if found {
			if known == nil {
				known = map[string]string{}
			}
			known[key], b.undo.changed = value, true
		}
	}
	if known != nil {
		b.undo.Sysctls[name] = known
	}
}
