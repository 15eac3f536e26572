package awsfake

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// PublishPolicy publishes fragments (TOML documents by name) below path as package manifest describes it, and the
// manifest last. A fragment's personas are those that it says itself; one that is not TOML is published all the
// same, for everybody.
func (s *Server) PublishPolicy(path string, serial int, fragments map[string]string) error {
	m := manifest.Manifest{Generation: manifest.Generation{Serial: int64(serial)}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		entry, err := s.publishFragment(path, name, fragments[name])
		m.Fragments = append(m.Fragments, entry)
		errs = append(errs, err)
	}
	text, err := m.Text()
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("cannot publish the policy %d: %w", serial, err)
	}
	return s.put(manifest.Name(path), text, "String")
}

func (s *Server) publishFragment(path, name, text string) (manifest.Entry, error) {
	fragment, _ := policy.Parse(policy.Source{Name: name, Text: text}) // a wrong one is published all the same
	entry, parameters, err := manifest.Pack(path, name, text, fragment.Personas)
	entry.When = fragment.When
	errs := []error{err}
	for _, p := range parameters {
		if !s.hasParameter(p.Name) {
			errs = append(errs, s.put(p.Name, p.Value, "String"))
		}
	}
	return entry, errors.Join(errs...)
}

func (s *Server) hasParameter(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parameters[name] != nil
}
