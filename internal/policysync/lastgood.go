package policysync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// LastGood is a policy that was in force. It is enforced at boot, and while a newer one is refused or cannot
// be fetched. It holds no secrets.
type LastGood struct {
	Machine  facts.Identity    `json:"machine"`        // the machine that wrote it
	Path     string            `json:"path"`           // where it was published
	Saved    time.Time         `json:"saved"`          // when it was last confirmed, to the hour
	Since    time.Time         `json:"since,omitzero"` // when this serial was first kept here
	Serial   int64             `json:"serial"`
	Personas []string          `json:"personas"`
	Sources  []policy.Source   `json:"sources"` // of all layers
	Values   map[string]string `json:"values"`  // by reference, as written in the policy
}

// since returns when the machine first had a serial.
func (l LastGood) since(serial int64, now time.Time) time.Time {
	switch {
	case l.Serial != serial:
		return now
	case l.Since.IsZero(): // written by an agent that did not record it
		return l.Saved
	}
	return l.Since
}

// Value returns the value that a reference had.
func (l LastGood) Value(r policy.Reference) (string, bool) {
	value, ok := l.Values[r.String()]
	return value, ok
}

// references returns the references whose values are kept, sorted.
func (l LastGood) references() []policy.Reference {
	var references []policy.Reference
	for _, text := range slices.Sorted(maps.Keys(l.Values)) {
		if r, err := policy.ParseReference(text); err == nil {
			references = append(references, r)
		}
	}
	return references
}

func (m *Machine) lastGoodFile() string { return path.Join(m.StateDir, "lastgood.json") }

// errDamaged means that the last good policy on disk is of no use and will stay so. After any other error
// reading it again may succeed.
var errDamaged = errors.New("it is damaged")

// lastGood returns the last good policy of this machine. ok is false if there is none, or if another
// machine wrote it.
func (m *Machine) lastGood(identity facts.Identity) (last LastGood, ok bool, err error) {
	leads, _, err := system.Trusted(m.System.FS, m.lastGoodFile(), os.Geteuid())
	var content []byte
	if err == nil {
		content, err = m.System.FS.ReadFile(leads)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return LastGood{}, false, nil
	}
	if errors.Is(err, system.ErrUnsafe) || errors.Is(err, system.ErrNotRegular) || errors.Is(err, system.ErrLarge) {
		// Somebody else may have written it, or nothing can ever be read there.
		return LastGood{}, false, fmt.Errorf("cannot use %s: %w: %w", m.lastGoodFile(), errDamaged, err)
	}
	if err != nil {
		return LastGood{}, false, err
	}
	if err := json.Unmarshal(content, &last); err != nil {
		return LastGood{}, false, fmt.Errorf("cannot read %s: %w: %w", m.lastGoodFile(), errDamaged, err)
	}
	if !last.Machine.Same(identity) {
		return LastGood{}, false, nil
	}
	return last, true, nil
}

// Fragments returns the fragments of the last good policy in a state directory, whichever machine wrote it.
// It returns none if the file does not exist. A damaged one is an error.
func Fragments(files system.FileReader, stateDir string) ([]policy.Source, error) {
	name := path.Join(stateDir, "lastgood.json")
	content, err := files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var last LastGood
	if err := json.Unmarshal(content, &last); err != nil {
		return nil, fmt.Errorf("cannot tell which files the last policy put secrets into: cannot read %s: %w: %w; look for them with soe-agent image audit, remove it and try again",
			name, errDamaged, err)
	}
	return last.Sources, nil
}

// freshness is how old the time of the last confirmation may be on disk. Without it every poll would write
// the file.
const freshness = time.Hour

// keep writes a policy to disk, unless it is there already. It refuses to write a secret.
func (m *Machine) keep(last LastGood) error {
	for reference := range last.Values {
		if r, err := policy.ParseReference(reference); err != nil || r.Secret() {
			return fmt.Errorf("cannot keep the policy: %s must not be kept", reference)
		}
	}
	if old, ok, err := m.lastGood(last.Machine); err == nil && ok && last.Saved.Sub(old.Saved).Abs() < freshness {
		old.Saved = last.Saved
		if reflect.DeepEqual(old, last) {
			return nil
		}
	}
	content, err := json.Marshal(last)
	if err != nil {
		return fmt.Errorf("cannot keep the policy: %w", err)
	}
	if err := m.System.FS.MkdirAll(m.StateDir, 0o700); err != nil {
		return err
	}
	return m.System.FS.WriteFile(m.lastGoodFile(), content, system.Attr{Mode: 0o600})
}
