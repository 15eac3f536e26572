package policysync

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// own are the layers that are on the machine.
type own struct {
	sources []policy.Source
	refused []public.Line // what is not used, and why
}

// own reads the layers that are on the machine. A layer or fragment that others than root could have written,
// or that cannot be read, is refused, and its last accepted version is used instead. Otherwise a chmod
// would be enough to take the machine's exceptions away.
func (m *Machine) own(last LastGood) own {
	var found own
	for _, l := range []struct {
		dir string
		of  policy.Layer
	}{{m.SeedDir, policy.Seed}, {m.LocalDir, policy.Local}} {
		m.read(&found, l.dir, l.of, layer(last.Sources, l.of))
	}
	return found
}

// read reads one layer; before is its last accepted version.
func (m *Machine) read(found *own, dir string, l policy.Layer, before []policy.Source) {
	// errors of opening a file or its directories quote none of its content
	refuse := func(err error) { found.refused = append(found.refused, public.All(err.Error())) }
	leads, _, err := system.Trusted(m.System.FS, dir, os.Geteuid())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names []string
	if err == nil {
		names, err = policy.Fragments(m.System.FS, leads)
	}
	if err != nil {
		refuse(fmt.Errorf("cannot use the policy in %s: %w", dir, err))
		found.sources = append(found.sources, before...)
		return
	}
	for _, file := range names {
		source := policy.Source{Name: dir + file[len(leads):], Layer: l}
		text, err := m.fragment(file)
		if err != nil {
			refuse(fmt.Errorf("cannot use the policy fragment %s: %w", source.Name, err))
			for _, b := range before {
				if b.Name == source.Name {
					found.sources = append(found.sources, b)
				}
			}
			continue
		}
		source.Text = text
		found.sources = append(found.sources, source)
	}
}

func (m *Machine) fragment(name string) (string, error) {
	leads, _, err := system.Trusted(m.System.FS, name, os.Geteuid())
	if err != nil {
		return "", err
	}
	text, err := m.System.FS.ReadFile(leads)
	if err == nil && len(text) > policy.LargestFragment {
		return "", fmt.Errorf("it has %d bytes, and may have up to %d; split it", len(text), policy.LargestFragment)
	}
	return string(text), err
}
