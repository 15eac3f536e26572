package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/source"
)

// lookTimeout is how long a command waits for AWS before it goes on with what is
// known. The daemon has more patience.
const lookTimeout = 10 * time.Second

// Policy is the policy for one walk: that which the daemon would enforce, fetched
// if it can be and as it was last known if not. refused is why it is not newer.
func (m *Machine) Policy(ctx context.Context, c Config) (p *policy.Policy, refused []string, err error) {
	if c.AWS.Path == "" {
		return m.Known(ctx, c)
	}
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	aws, err := m.connect(c)
	if err != nil {
		return nil, nil, err
	}
	p, _, err = m.fetch(looking, c, aws)
	if err == nil {
		return p, nil, nil
	}
	m.Log.Warn("going by the last good policy", "err", err)
	known, refused, knownErr := m.Known(ctx, c)
	if isRefusal(err) {
		refused = append(refused, problems(err)...)
	}
	return known, refused, knownErr
}

// isRefusal says whether a published policy is there and cannot be used, so that
// its author has to act.
func isRefusal(err error) bool {
	return len(policy.AsProblems(err)) > 0 || errors.Is(err, source.ErrNoValue) || errors.Is(err, source.ErrHalfPublished)
}

func (m *Machine) connect(c Config) (*source.AWS, error) {
	return source.Connect(c.AWS, m.Facts.Region, m.System)
}

// Only is a policy of these fragments alone, in the machine's personas.
func (m *Machine) Only(ctx context.Context, c Config, sources []policy.Source) (*policy.Policy, error) {
	p, err := merged(sources, c.Personas)
	if err != nil {
		return nil, err
	}
	p, _, err = resolve.Resolve(ctx, p, m.Facts, lazily{m, c})
	return p, err
}

// lazily connects to AWS only when a value is wanted from it.
type lazily struct {
	machine *Machine
	config  Config
}

func (l lazily) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, error) {
	aws, err := l.machine.connect(l.config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return aws.Fetch(ctx, references)
}

func merged(sources []policy.Source, personas []string) (*policy.Policy, error) {
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		return nil, err
	}
	return policy.Merge(fragments, personas)
}

// onMachine are the fragments of the layers that are on the machine.
func (m *Machine) onMachine() ([]policy.Source, error) {
	seed, err1 := source.ReadDir(m.System.FS, SeedDir, policy.Seed)
	local, err2 := source.ReadDir(m.System.FS, LocalDir, policy.Local)
	return append(seed, local...), errors.Join(err1, err2)
}

// fetch gets the published policy, puts it together with the machine's own
// layers, resolves it, and keeps it as the last good one.
func (m *Machine) fetch(ctx context.Context, c Config, aws *source.AWS) (*policy.Policy, source.LastGood, error) {
	last, _, err := source.ReadLastGood(m.System.FS, StateDir, m.Facts.MachineID)
	if err != nil {
		m.Log.Warn("cannot use what was kept of the last policy", "err", err)
	}
	own, err := m.onMachine()
	if err != nil {
		return nil, last, err
	}
	published, serial, err := aws.Published(ctx, c.Personas, last.Sources)
	if err != nil {
		return nil, last, err
	}
	good := source.LastGood{
		Machine: m.Facts.MachineID, Saved: m.System.Clock.Now(), Serial: serial,
		Personas: c.Personas, Sources: append(own, published...),
	}
	p, err := merged(good.Sources, c.Personas)
	if err != nil {
		return nil, last, fmt.Errorf("cannot use the published policy, serial %d: %w", serial, err)
	}
	p.Serial = serial
	p, good.Values, err = resolve.Resolve(ctx, p, m.Facts, aws)
	if err != nil {
		return nil, last, fmt.Errorf("cannot use the published policy, serial %d: %w", serial, err)
	}
	return p, good, nil
}

// Known is the policy that can be had without the network: the machine's own
// layers with what was last published. If those do not go together, it is the
// last good policy as it was kept, and if there is none the seed; refused says why.
func (m *Machine) Known(_ context.Context, c Config) (p *policy.Policy, refused []string, err error) {
	last, kept, err := source.ReadLastGood(m.System.FS, StateDir, m.Facts.MachineID)
	if err != nil {
		refused = append(refused, err.Error())
	}
	own, err := m.onMachine()
	if err != nil {
		refused = append(refused, problems(err)...)
	}
	attempts := [][]policy.Source{own}
	if kept {
		attempts[0] = append(own, layer(last.Sources, policy.Remote)...)
		attempts = append(attempts, last.Sources)
	}
	attempts = append(attempts, layer(own, policy.Seed), nil)
	for i, sources := range attempts {
		personas := c.Personas
		if kept && i == 1 {
			personas = last.Personas
		}
		p, err := merged(sources, personas)
		if err == nil {
			p, err = resolve.Offline(p, m.Facts, last.Value)
		}
		if err != nil {
			refused = append(refused, problems(err)...)
			continue
		}
		whole := i == 0 && c.AWS.Path == ""
		if kept && i < 2 {
			p.Serial, whole = last.Serial, slices.Equal(personas, last.Personas)
		}
		p.Partial = !whole
		return p, refused, nil
	}
	return nil, refused, fmt.Errorf("cannot find a policy to enforce: %s", strings.Join(refused, "; "))
}

func layer(sources []policy.Source, l policy.Layer) []policy.Source {
	var of []policy.Source
	for _, s := range sources {
		if s.Layer == l {
			of = append(of, s)
		}
	}
	return of
}

// problems are an error in its parts, one line each.
func problems(err error) []string {
	if ps := policy.AsProblems(err); len(ps) > 0 {
		lines := make([]string, len(ps))
		for i, p := range ps {
			lines[i] = p.Error()
		}
		return lines
	}
	return strings.Split(err.Error(), "\n")
}
