package dropin

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// memoryFile survives reboots, as the files do of which it tells.
const memoryFile = "/var/lib/soe-agent/dropins.json"

// memory is what must be known of a file when it goes, and can no longer be
// learnt then.
type memory struct {
	// Activate is the command that activates it, where the policy names one.
	Activate map[string][]string `json:"activate,omitempty"`
	// Sysctls are, by file and key, the values that the kernel had before it.
	Sysctls map[string]map[string]string `json:"sysctls,omitempty"`

	changed bool
}

// recall reads the memory. One that makes no sense is begun anew: what it held comes
// with the next reboot.
func (k *Kind) recall() *memory {
	m := &memory{}
	if raw, err := k.system.FS.ReadFile(memoryFile); err == nil && json.Unmarshal(raw, m) != nil {
		m = &memory{}
	}
	if m.Activate == nil {
		m.Activate = map[string][]string{}
	}
	if m.Sysctls == nil {
		m.Sysctls = map[string]map[string]string{}
	}
	return m
}

func (m *memory) save(files system.FileWriter) error {
	if !m.changed {
		return nil
	}
	raw, _ := json.Marshal(m) // plain data always marshals
	if err := files.WriteFile(memoryFile, raw, system.Attr{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		return fmt.Errorf("cannot remember what is to be undone: %w", err)
	}
	m.changed = false
	return nil
}

func (m *memory) forgetActivate(name string) {
	if _, known := m.Activate[name]; known {
		delete(m.Activate, name)
		m.changed = true
	}
}

// original is the value that a key had before any file of the policy.
func (m *memory) original(key string) (string, bool) {
	for _, values := range m.Sysctls {
		if value, known := values[key]; known {
			return value, true
		}
	}
	return "", false
}

// remember notes, before the files are written, what will be needed when they go.
// What is known since mark must be all that there is, or it would be replaced by less.
func (b *batch) remember(drifted []converge.Resource, mark int) error {
	for _, r := range drifted {
		if want, known := b.wants[r.ID]; known && want.Spec.Ensure != policy.Absent {
			b.rememberFile(want)
		}
	}
	if err := b.Since(mark); err != nil {
		return err
	}
	return b.memory.save(b.system.FS)
}

func (b *batch) rememberFile(want policy.Want[policy.Dropin]) {
	name := fileOf(want.ID)
	switch activate := want.Spec.Activate; {
	case activate == nil:
		b.memory.forgetActivate(name)
	case b.memory.Activate[name] == nil || !slices.Equal(activate, b.memory.Activate[name]):
		b.memory.Activate[name], b.memory.changed = activate, true
	}
	if path.Dir(name) == sysctlDir && want.Spec.Activate == nil && b.system.Running() {
		b.rememberSysctls(name, want.Spec.Content)
	}
}

// rememberSysctls notes the values of the keys that a file is about to set. What
// it sets already, not by the agent's doing, is nobody's original value.
func (b *batch) rememberSysctls(name, content string) {
	there, _ := b.system.FS.ReadFile(name)
	old := sysctlsIn(b.system, string(there))
	known := maps.Clone(b.memory.Sysctls[name])
	for key := range sysctlsIn(b.system, content) {
		_, remembered := known[key]
		_, set := old[key]
		if remembered || set {
			continue
		}
		value, found := b.memory.original(key)
		if !found {
			value, found = sysctl(b.system, key)
		}
		if found {
			if known == nil {
				known = map[string]string{}
			}
			known[key], b.memory.changed = value, true
		}
	}
	if known != nil {
		b.memory.Sysctls[name] = known
	}
}
