package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Change is what changes for the machines of one persona.
type Change struct {
	// Targets are the operating systems on which it changes, by the names of package target; none: on all.
	Targets   []string     `json:"targets,omitempty"`
	Persona   string       `json:"persona"`
	Resources []Difference `json:"resources"`       // by ID
	Rules     bool         `json:"rules,omitempty"` // the rules or the benchmarks differ
}

// Nothing says whether nothing changes.
func (c Change) Nothing() bool { return len(c.Resources) == 0 && !c.Rules }

// A Difference is one resource that is added, removed or changed.
type Difference struct {
	ID     policy.ID `json:"id"`
	Change string    `json:"change"` // "added", "removed" or "changed"
	// Fragment and Line are the place that sets the resource, or that set a removed one.
	Fragment string `json:"fragment"`
	Line     int    `json:"line"`
	// Was and Is are what the old and the new policy want. They are left out if they are long or may
	// hold a secret, as the content of files does.
	Was policy.Spec `json:"was,omitempty"`
	Is  policy.Spec `json:"is,omitempty"`
}

// errUnreadable is wrapped if the published policy cannot be read and so cannot be compared. A better one
// can still be published.
var errUnreadable = errors.New("what is published now cannot be read")

// texts returns the published fragments.
func texts(entries []manifest.Entry, values map[string]string) ([]policy.Source, error) {
	var sources []policy.Source
	var errs []error
	for _, e := range entries {
		text, err := e.Assemble(values, nil)
		errs = append(errs, err)
		sources = append(sources, policy.Source{Name: e.Name, Layer: policy.Remote, Text: text})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return sources, nil
}

// changes compares two policies for each persona, on all targets on which they differ, beginning with base, which stands for machines without
// another one. The error wraps errUnreadable if the old policy is wrong; if the new one is, it is of type
// policy.Problems.
func changes(before, after []policy.Source) ([]Change, error) {
	old, err := policy.ParseAll(before)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	young, err := policy.ParseAll(after)
	if err != nil {
		return nil, err
	}
	var personas []string
	for _, f := range append(slices.Clone(old), young...) {
		personas = append(personas, f.Personas...)
	}
	slices.Sort(personas)
	personas = slices.DeleteFunc(slices.Compact(personas), func(p string) bool { return p == "base" })
	all := []Change{}
	variants := policy.Variants(old, young)
	for _, persona := range append([]string{"base"}, personas...) {
		for i, before := range variants[0] {
			was, err := policy.Merge(before.Fragments, []string{persona}, nil)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errUnreadable, err)
			}
			is, err := policy.Merge(variants[1][i].Fragments, []string{persona}, nil)
			if err != nil {
				return nil, err
			}
			all = append(all, Change{Targets: before.Targets, Persona: persona, Resources: differences(was, is), Rules: !sameRules(was, is)})
		}
	}
	return all, nil
}

// differences compares two policies and returns the differences sorted by ID.
func differences(was, is *policy.Policy) []Difference {
	found := []Difference{}
	for _, r := range was.Resources {
		if _, stays := is.Lookup(r.ID); !stays {
			found = append(found, difference(r, "removed", r.Spec, nil))
		}
	}
	for _, r := range is.Resources {
		old, known := was.Lookup(r.ID)
		switch {
		case !known:
			found = append(found, difference(r, "added", nil, r.Spec))
		case !reflect.DeepEqual(old.Spec, r.Spec):
			found = append(found, difference(r, "changed", old.Spec, r.Spec))
		}
	}
	slices.SortFunc(found, func(a, b Difference) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return found
}

// longest is the longest spec that is shown, in bytes of JSON.
const longest = 200

func difference(r policy.Resource, change string, was, is policy.Spec) Difference {
	d := Difference{ID: r.ID, Change: change, Fragment: r.Origin.Fragment, Line: r.Origin.Line}
	for _, spec := range []policy.Spec{was, is} {
		if _, is := spec.(policy.Confidential); is || len(written(spec)) > longest {
			return d
		}
	}
	d.Was, d.Is = was, is
	return d
}

// written returns a spec as it is shown: as JSON.
func written(spec policy.Spec) string {
	text, _ := json.Marshal(spec) // specs are plain data and always marshal
	return string(text)
}

func sameRules(a, b *policy.Policy) bool {
	return slices.EqualFunc(a.Rules, b.Rules, func(a, b policy.Rule) bool {
		a.Origin, b.Origin = policy.Origin{}, policy.Origin{}
		return reflect.DeepEqual(a, b)
	}) && slices.EqualFunc(a.Benchmarks, b.Benchmarks, func(a, b policy.Benchmark) bool {
		return a.Name == b.Name && slices.Equal(a.Controls, b.Controls) && maps.Equal(a.Waived, b.Waived)
	})
}
