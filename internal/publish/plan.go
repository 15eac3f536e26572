package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Publisher writes policies below one path of Parameter Store.
type Publisher struct {
	Store Store
	Path  string // such as /soe/prod
	// Call calls op, and repeats it while its error is one that goes away by itself, such as
	// throttling: by default the service allows three writes a second. op may be carried out twice.
	Call func(ctx context.Context, op func(context.Context) error) error
}

// Everybody is the percentage that publishes a policy to the whole fleet.
const Everybody = 100

// A Plan is what is going to change, and how. Its JSON is a stable format.
type Plan struct {
	Manifest string `json:"manifest"` // the parameter's name
	Before   State  `json:"before"`
	After    State  `json:"after"`
	// Changes are what changes for each persona, compared with what everybody has now. They are nil
	// if that could not be read; then a warning says so.
	Changes []Change `json:"personas"`
	// Parameters are the names of the parameters to be written, without the manifest.
	Parameters []string `json:"parameters"`
	Warnings   []string `json:"warnings"`

	now        published
	then       manifest.Manifest
	text       string // the text of then
	parameters []manifest.Parameter
	collects   bool // whether old fragments are deleted afterwards
}

// Nothing says whether there is nothing to do.
func (p *Plan) Nothing() bool { return len(p.parameters) == 0 && !p.replaces() }

// replaces says whether the manifest is going to change.
func (p *Plan) replaces() bool { return !reflect.DeepEqual(p.now.manifest, p.then) }

// State is what a manifest tells the fleet.
type State struct {
	Serial  int64    `json:"serial"` // for everybody; 0: nothing is published
	Rollout *Rollout `json:"rollout,omitempty"`
	Paused  bool     `json:"paused,omitempty"`
}

// Rollout is a newer generation for a share of the fleet.
type Rollout struct {
	Serial  int64   `json:"serial"`
	Percent float64 `json:"percent"`
}

func stateOf(m manifest.Manifest) State {
	s := State{Serial: m.Serial, Paused: m.Pause}
	if m.Rollout != nil {
		s.Rollout = &Rollout{m.Rollout.Serial, m.Rollout.Percent}
	}
	return s
}

// published is what is published at one moment.
type published struct {
	manifest manifest.Manifest // its serial is 0 if nothing is published
	version  int64             // of the parameter; 0 if there is none
	values   map[string]string // of the fragments' parameters
}

var pathSyntax = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+/?$`)

// top returns the path without a slash at its end.
func (p *Publisher) top() string { return strings.TrimSuffix(p.Path, "/") }

// current reads the manifest.
func (p *Publisher) current(ctx context.Context) (published, error) {
	var now published
	if p.Path == "" {
		return now, errors.New("cannot publish: no path is configured; set path in [aws], such as \"/soe/prod\", in a file that --config names")
	}
	if !pathSyntax.MatchString(p.Path) {
		return now, fmt.Errorf("cannot publish to %q: a path is made of names of letters, digits and ._- with a slash before each", p.Path)
	}
	name := manifest.Name(p.Path)
	parameter, there, err := p.get(ctx, name)
	if err != nil || !there {
		return now, err
	}
	now.version = parameter.Version
	now.manifest, err = manifest.Parse(name, aws.ToString(parameter.Value))
	if err != nil {
		return now, fmt.Errorf("cannot publish over what is there, which a newer release may have written: %w", err)
	}
	return now, nil
}

// Plan finds out what it takes to publish fragments to a percentage of the fleet: Everybody, or less for a
// rollout next to what everybody has. The names of the sources are the names of their files. An error in
// the fragments is of type policy.Problems.
func (p *Publisher) Plan(ctx context.Context, sources []policy.Source, percent float64) (*Plan, error) {
	sources, fragments, err := named(sources)
	if err != nil {
		return nil, err
	}
	now, err := p.current(ctx)
	if err != nil {
		return nil, err
	}
	held, err := p.getAll(ctx, slices.Sorted(maps.Keys(parametersOf(now.manifest))))
	if err != nil {
		return nil, err
	}
	now.values = valuesOf(held)
	entries, unpublished, err := p.pack(sources, fragments, now)
	if err != nil {
		return nil, err
	}
	parameters, err := p.place(ctx, unpublished)
	if err != nil {
		return nil, err
	}
	then, err := next(now.manifest, entries, percent)
	if err != nil {
		return nil, err
	}
	plan, err := p.plan(now, then)
	if err != nil {
		return nil, err
	}
	plan.collects, plan.parameters = true, parameters
	for _, parameter := range parameters {
		plan.Parameters = append(plan.Parameters, parameter.Name)
	}
	before, err := texts(now.manifest.Fragments, now.values)
	if err == nil {
		plan.Changes, err = changes(before, sources)
	}
	if errors.Is(err, errUnreadable) {
		plan.Changes = nil
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("cannot tell what changes: %v", err))
		return plan, nil
	}
	return plan, err
}

// plan returns the plan to replace one manifest by another.
func (p *Publisher) plan(now published, then manifest.Manifest) (*Plan, error) {
	plan := &Plan{
		Manifest: manifest.Name(p.Path), Before: stateOf(now.manifest), After: stateOf(then),
		Changes: []Change{}, Parameters: []string{}, Warnings: []string{}, now: now, then: then,
	}
	text, warning, err := manifestText(then)
	if warning != "" {
		plan.Warnings = append(plan.Warnings, warning)
	}
	plan.text = text
	if before, after := now.manifest.Schema, then.Oldest(); after == manifest.Schema2 && before != after {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("the manifest becomes one of schema 2, because fragments have conditions: agents before %s refuse it and keep the policy that they have; upgrade all agents first",
			manifest.Since2))
	}
	return plan, err
}

// PlanPause finds out what it takes to make every machine stay at its serial, or to let them all go on.
func (p *Publisher) PlanPause(ctx context.Context, pause bool) (*Plan, error) {
	now, err := p.current(ctx)
	if err != nil {
		return nil, err
	}
	if now.version == 0 {
		return nil, fmt.Errorf("cannot pause or resume: nothing is published at %s", p.Path)
	}
	then := now.manifest
	then.Pause = pause
	return p.plan(now, then)
}

// named parses the sources and gives them the names under which they are published.
func named(sources []policy.Source) ([]policy.Source, []policy.Fragment, error) {
	if len(sources) == 0 {
		return nil, nil, errors.New("cannot publish a policy without fragments")
	}
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		return nil, nil, err
	}
	files := map[string]string{}
	var renamed []policy.Source
	var errs []error
	for _, s := range sources {
		name := strings.TrimSuffix(path.Base(s.Name), ".toml")
		if other, taken := files[name]; taken {
			errs = append(errs, fmt.Errorf("cannot publish %s: its name is that of %s, and a fragment's name is there once; rename it", s.Name, other))
		}
		files[name] = s.Name
		renamed = append(renamed, policy.Source{Name: name, Layer: policy.Remote, Text: s.Text})
	}
	return renamed, fragments, errors.Join(errs...)
}

func sameFragment(a, b manifest.Entry) bool {
	return a.Name == b.Name && a.SHA256 == b.SHA256 && slices.Equal(a.Personas, b.Personas) && a.When.String() == b.When.String()
}

// same says whether two generations are the same policy.
func same(a, b []manifest.Entry) bool { return slices.EqualFunc(a, b, sameFragment) }

// CheckPercent returns an error if a policy cannot be published to a percentage of the fleet.
func CheckPercent(percent float64) error {
	if !(percent >= 0 && percent <= Everybody) { // also refuses NaN
		return fmt.Errorf("cannot publish to %s percent: it is a number from 0 to 100", number(percent))
	}
	return nil
}

// next returns the manifest that publishes a policy to a percentage of the fleet. The same policy keeps its
// serial. Another one gets a serial greater than all before, even if its content was published before,
// because machines never go back in serials.
func next(now manifest.Manifest, fragments []manifest.Entry, percent float64) (manifest.Manifest, error) {
	if err := CheckPercent(percent); err != nil {
		return now, err
	}
	generation := manifest.Generation{Serial: now.Newest() + 1, Fragments: fragments}
	everybodys := now.Serial > 0 && same(now.Fragments, fragments)
	rolling := now.Rollout != nil && same(now.Rollout.Fragments, fragments)
	switch {
	case rolling:
		generation.Serial = now.Rollout.Serial
	case everybodys && now.Rollout == nil:
		generation.Serial = now.Serial
	}
	then := manifest.Manifest{Pause: now.Pause, Generation: generation}
	switch {
	case percent == Everybody, everybodys && now.Rollout == nil:
		then.Schema = then.Oldest()
		return then, nil
	case now.Serial == 0:
		return now, errors.New("cannot begin with a rollout: the other machines would have nothing; publish a policy for everybody first")
	case everybodys && !rolling:
		return now, fmt.Errorf("cannot roll out what everybody has, serial %d; to take back the rollout of serial %d, publish without --percent",
			now.Serial, now.Rollout.Serial)
	}
	then.Generation = now.Generation
	then.Rollout = &manifest.Rollout{Generation: generation, Percent: percent, Salt: salt(now, generation.Serial)}
	then.Schema = then.Oldest()
	return then, nil
}

// salt decides which share of the fleet gets a rollout. A rollout that replaces another one goes to the same
// machines: with another salt, most of them would fall back to the old policy, and as many others would get
// an unproven one. A new rollout goes to other machines, so that it is not always the same people who find
// the faults.
func salt(now manifest.Manifest, serial int64) string {
	if now.Rollout != nil {
		return now.Rollout.Salt
	}
	return strconv.FormatInt(serial, 10)
}

// number returns a percentage as people write it.
func number(percent float64) string { return strconv.FormatFloat(percent, 'f', -1, 64) }
