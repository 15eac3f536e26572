package policysync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/target"
)

// A Machine has the parts of a policy that are on a machine.
type Machine struct {
	System   *system.System
	SeedDir  string // the seed layer
	LocalDir string // the local layer
	StateDir string // where the last good policy is kept
	Log      *slog.Logger
}

// A Subject describes the machine that a policy is for, at the moment.
type Subject struct {
	Facts    facts.Facts
	Path     string // where its policy is published; empty: nowhere
	Personas []string
	Unsure   bool          // there may be more personas: not all of them could be determined
	Doubts   []public.Line // what could not be determined, for people
}

// ring decides the machine's place in a rollout. The host name is the one thing that differs between clones
// of an image and survives a rebuild.
func (s Subject) ring() string { return s.Facts.Hostname + "\x00" + s.Facts.MachineID }

// Found is the result of a fetch.
type Found struct {
	Policy  *policy.Policy
	Rollout string         // what is being rolled out or paused, for people
	Since   time.Time      // when this machine first had this serial
	Missing source.Missing // values that could not be fetched
	Refused []public.Line  // own layers that are not used; their last accepted version stays in force
	good    LastGood
}

// Fetch fetches the published policy, merges it with the machine's own layers, and resolves it. A policy
// with Missing values is returned too; resources that need them are left alone.
func (m *Machine) Fetch(ctx context.Context, s Subject, aws *source.AWS) (Found, error) {
	if s.Facts.Unidentified {
		return Found{}, errors.New("cannot tell which machine this is, and so not which published policy is for it: /etc/machine-id is empty, not there or cannot be read; see systemd-machine-id-setup(1)")
	}
	last, _, err := m.lastGood(s.Facts.Identity())
	if err != nil && !errors.Is(err, errDamaged) {
		return Found{}, fmt.Errorf("cannot tell which policy was in force last, and could not refuse an older one: %w", err)
	}
	if err != nil {
		m.Log.Warn("cannot use the last good policy kept on disk", "err", err)
	}
	own := m.own(last)
	identity := last.Machine.Renewed(s.Facts.Identity())
	if last.Path != s.Path {
		last = LastGood{} // serials of another path mean nothing here
	}
	listed, values, err := aws.Manifest(ctx, last.references())
	if err != nil {
		return Found{}, err
	}
	if newest := listed.Newest(); newest < last.Serial {
		return Found{}, fmt.Errorf("cannot use the manifest below %s: %w: its serial is %d, and serial %d is in force; publish again, as serial %d or later",
			s.Path, source.ErrOlder, newest, last.Serial, last.Serial+1)
	}
	serial, published := last.Serial, layer(last.Sources, policy.Remote)
	if generation, ok := listed.For(s.ring(), last.Serial); ok {
		serial = generation.Serial
		if published, err = aws.Fragments(ctx, generation.Of(s.Personas, s.Facts.Target()), last.Sources); err != nil {
			return Found{}, fmt.Errorf("cannot use the published policy, serial %d: %w", serial, err)
		}
	}
	now := m.System.Clock.Now().Truncate(time.Second)
	good := LastGood{
		Machine: identity, Path: s.Path, Saved: now, Since: last.since(serial, now), Serial: serial,
		Personas: s.Personas, Sources: append(own.sources, published...),
	}
	p, err := merged(good.Sources, s.Personas, s.Facts.Target())
	if err != nil {
		return Found{}, fmt.Errorf("cannot use the published policy, serial %d: %w", serial, err)
	}
	p.Serial, p.Partial, p.Doubts = serial, s.Unsure || len(own.refused) > 0, append(p.Doubts, s.Doubts...)
	resolved, err := m.resolved(ctx, p, s, values, aws)
	if err != nil {
		return Found{}, fmt.Errorf("cannot use the published policy, serial %d: %w", serial, err)
	}
	good.Values = resolved.Keep
	return Found{Policy: resolved.Policy, Rollout: listed.Described(s.ring()), Since: good.Since, Missing: resolved.Missing, Refused: own.refused, good: good}, nil
}

// Keep makes a fetched policy the last good policy, for the next boot.
func (m *Machine) Keep(f Found) error { return m.keep(f.good) }

// resolved fills in the values: those that were read along with the manifest, and the rest from AWS.
func (m *Machine) resolved(ctx context.Context, p *policy.Policy, s Subject, along map[policy.Reference]string, aws *source.AWS) (resolve.Resolution, error) {
	r, err := resolve.Resolve(ctx, p, s.Facts, m.fit(remaining{along, aws}))
	if err == nil {
		r.Policy.Why = reasons(r.Missing)
	}
	return r, err
}

// fit returns values that may be written to this system: no secrets if it is an image.
func (m *Machine) fit(values resolve.Values) resolve.Values {
	if m.System.Running() {
		return values
	}
	return resolve.WithoutSecrets(values)
}

// remaining asks AWS only for the values that are not known yet.
type remaining struct {
	known map[policy.Reference]string
	aws   resolve.Values
}

func (r remaining) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	known := map[policy.Reference]string{}
	var unknown []policy.Reference
	for _, reference := range references {
		if value, ok := r.known[reference]; ok {
			known[reference] = value
		} else {
			unknown = append(unknown, reference)
		}
	}
	values, missing := r.aws.Fetch(ctx, unknown)
	maps.Copy(values, known)
	return values, missing
}

// reasons returns why values are missing, for people.
func reasons(missing source.Missing) map[string]string {
	why := map[string]string{}
	for reference, err := range missing {
		if errors.Is(err, resolve.ErrInImage) {
			why[reference.String()] = err.Error()
			continue
		}
		why[reference.String()] = source.TroubleOf(err).String()
	}
	return why
}

// Only returns the policy of these fragments alone. It calls connect only if a value has to be fetched.
func (m *Machine) Only(ctx context.Context, s Subject, sources []policy.Source, connect func() (*source.AWS, error)) (*policy.Policy, error) {
	p, err := merged(sources, s.Personas, s.Facts.Target())
	if err != nil {
		return nil, err
	}
	p.Partial, p.Doubts = s.Unsure, append(p.Doubts, s.Doubts...)
	r, err := resolve.Resolve(ctx, p, s.Facts, m.fit(lazily(connect)))
	if err != nil {
		return nil, err
	}
	r.Policy.Why = reasons(r.Missing)
	return r.Policy, nil
}

// lazily connects to AWS when the first value is wanted.
type lazily func() (*source.AWS, error)

func (connect lazily) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	aws, err := connect()
	if err == nil {
		return aws.Fetch(ctx, references)
	}
	missing := map[policy.Reference]error{}
	for _, r := range references {
		missing[r] = err
	}
	return nil, missing
}

func merged(sources []policy.Source, personas []string, facts target.Facts) (*policy.Policy, error) {
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		return nil, err
	}
	p, err := policy.Merge(fragments, personas, facts)
	if err == nil {
		p.Doubts = append(p.Doubts, forNobody(fragments, personas)...)
	}
	return p, err
}

// basic is the persona of a machine that is given no other. Fragments for everybody apply to it, so no
// fragment needs to name it.
const basic = "base"

// forNobody reports personas that no fragment is for: they are misspelled, or what they should get is not
// published.
func forNobody(fragments []policy.Fragment, personas []string) []public.Line {
	var doubts []public.Line
	for _, persona := range personas {
		if persona != basic && !slices.ContainsFunc(fragments, func(f policy.Fragment) bool { return slices.Contains(f.Personas, persona) }) {
			doubts = append(doubts, public.All(fmt.Sprintf("no fragment is for persona %s: it is misspelled, or nothing is published for it", persona)))
		}
	}
	return doubts
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
