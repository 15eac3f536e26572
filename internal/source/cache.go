package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// LastGood is a policy that was in force: what is enforced at boot, and while a
// newer one is refused or cannot be had. Secrets are not in it.
type LastGood struct {
	Machine  string            `json:"machine"` // the machine that wrote it
	Saved    time.Time         `json:"saved"`
	Serial   int64             `json:"serial"`
	Personas []string          `json:"personas"`
	Sources  []policy.Source   `json:"sources"` // of all layers
	Values   map[string]string `json:"values"`  // by reference, as it is written
}

// Value returns the value that a reference had.
func (l LastGood) Value(r policy.Reference) (string, bool) {
	value, ok := l.Values[r.String()]
	return value, ok
}

func lastGoodFile(dir string) string { return path.Join(dir, "lastgood.json") }

// ReadLastGood returns the last good policy of this machine; ok is false when
// there is none, or when another machine wrote it.
func ReadLastGood(files system.FS, dir, machine string) (last LastGood, ok bool, err error) {
	content, err := files.ReadFile(lastGoodFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return last, false, nil
	}
	if err != nil {
		return last, false, err
	}
	if err := json.Unmarshal(content, &last); err != nil {
		return last, false, fmt.Errorf("cannot read %s: %w", lastGoodFile(dir), err)
	}
	return last, last.Machine == machine, nil
}

// WriteLastGood keeps a policy, unless it is kept already.
func WriteLastGood(files system.FS, dir string, last LastGood) error {
	for reference := range last.Values {
		if r, err := policy.ParseReference(reference); err != nil || r.Secret() {
			return fmt.Errorf("cannot keep the policy: %s must not be kept", reference)
		}
	}
	if old, ok, err := ReadLastGood(files, dir, last.Machine); err == nil && ok {
		old.Saved = last.Saved
		before, _ := json.Marshal(old)
		now, _ := json.Marshal(last)
		if bytes.Equal(before, now) {
			return nil
		}
	}
	content, err := json.Marshal(last)
	if err != nil {
		return fmt.Errorf("cannot keep the policy: %w", err)
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return files.WriteFile(lastGoodFile(dir), content, system.Attr{Mode: 0o600})
}

// ReadDir returns the fragments in a directory of the machine: the files that end
// in ".toml" and do not begin with a dot, by name. A directory that is not there
// has none.
func ReadDir(files system.FS, dir string, layer policy.Layer) ([]policy.Source, error) {
	names, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	var sources []policy.Source
	var errs []error
	for _, name := range names {
		if !strings.HasSuffix(name, ".toml") || strings.HasPrefix(name, ".") {
			continue
		}
		text, err := files.ReadFile(path.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sources = append(sources, policy.Source{Name: path.Join(dir, name), Layer: layer, Text: string(text)})
	}
	return sources, errors.Join(errs...)
}
