package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/source"
)

// lookTimeout is how long a command waits for AWS before it goes on with what is known. The daemon
// waits longer.
const lookTimeout = 10 * time.Second

// layers returns the machine's policy layers.
func (m *Machine) layers() *policysync.Machine {
	return &policysync.Machine{System: m.System, SeedDir: SeedDir, LocalDir: LocalDir, StateDir: StateDir, Log: m.Log}
}

// connect prepares a connection to AWS; it sends nothing.
func (m *Machine) connect(c Config, client *http.Client, retry source.Retry) (*source.AWS, error) {
	return source.Connect(c.AWS, m.Facts.Region, credentials.New(c.AWS.Credentials, m.System), client, retry)
}

// subject describes this machine for the policy. tags returns the tags of the managed node; it is
// called only if a persona depends on them.
func (m *Machine) subject(ctx context.Context, c Config, tags func(context.Context) (map[string]string, error)) (policysync.Subject, persona.Selection) {
	s := policysync.Subject{Facts: m.Facts, Path: c.AWS.Path}
	selection := persona.Choice{Always: c.Personas, Rules: c.Rules, Every: c.PersonaRules == everyRule}.Select(ctx, persona.Subject{
		System: m.System, Facts: m.Facts, Tags: tags, Previous: m.layers().Previous(s),
	})
	s.Personas, s.Unsure, s.Doubts = selection.Personas, len(selection.Unknown) > 0 || c.unsure, c.doubts(selection)
	if c.unsure {
		s.Doubts = append(s.Doubts, public.All(noConfig))
	}
	return m.doubted(s), selection
}

// doubted adds a doubt to the subject if the agent's state is lost or may be another machine's: then
// nothing may be taken away.
func (m *Machine) doubted(s policysync.Subject) policysync.Subject {
	if err := m.Ledger.Lost(); err != nil {
		s.Unsure, s.Doubts = true, append(s.Doubts, public.All(fmt.Sprintf("only sudo is kept: %v", err)))
	}
	if m.Facts.Unidentified {
		s.Unsure, s.Doubts = true, append(s.Doubts, public.All("the machine's id cannot be read from /etc/machine-id, so the agent's state may be another machine's"))
	}
	return s
}

// noConfig is the doubt while the configuration cannot be used.
const noConfig = "the configuration cannot be used, and may name other personas"

// doubts returns what could not be determined about personas. These texts quote the rules.
func (c Config) doubts(s persona.Selection) []public.Line {
	lines := make([]public.Line, len(s.Unknown))
	for i, doubt := range s.Unknown {
		lines[i] = c.line(doubt, "cannot tell which personas apply: "+public.Withheld)
	}
	return lines
}

// line returns a text that quotes the configuration. Everybody else reads instead if not everybody may read the
// configuration.
func (c Config) line(text, instead string) public.Line {
	if c.hidden {
		return public.Line{Whole: text, Open: instead}
	}
	return public.All(text)
}

// subjectAtBoot returns the subject as it was last known. The directory, which knows the groups of the desktop
// user, may be as far away as AWS, and the boot waits for neither.
func (m *Machine) subjectAtBoot(c Config) policysync.Subject {
	s := policysync.Subject{Facts: m.Facts, Path: c.AWS.Path, Personas: c.Personas, Unsure: len(c.Rules) > 0 || c.unsure}
	switch {
	case c.unsure:
		s.Doubts = []public.Line{public.All(noConfig)}
		return m.doubted(s)
	case !s.Unsure:
		return m.doubted(s)
	}
	s.Doubts = []public.Line{public.All("the rules for personas have not been evaluated since the agent started")}
	if previous := m.layers().Previous(s); len(previous) > 0 {
		s.Personas = previous
	}
	return m.doubted(s)
}

var errNoTags = errors.New("AWS was not asked")

func noTags(context.Context) (map[string]string, error) { return nil, errNoTags }

// tagsOf returns a function that asks AWS for the tags of this machine as a managed node.
func (m *Machine) tagsOf(aws *source.AWS) func(context.Context) (map[string]string, error) {
	return func(ctx context.Context) (map[string]string, error) { return aws.Tags(ctx, m.Facts.ManagedNode) }
}

// A Choice is the policy for one pass.
type Choice struct {
	Policy  *policy.Policy
	Refused []public.Line // why it is not a newer one
	// Never is why the machine should have a published policy and has never had one; otherwise nil.
	Never error

	keep func() error
}

// Keep makes a published policy the last good one, as the daemon does when it begins to enforce it. For any
// other policy it does nothing.
func (c Choice) Keep() error {
	if c.keep == nil {
		return nil
	}
	return c.keep()
}

// Policy returns the policy for one pass: the one that the daemon would enforce. It is fetched if possible, and
// the last known one if not.
func (m *Machine) Policy(ctx context.Context, c Config) (Choice, error) {
	if c.AWS.Path == "" {
		known, err := m.known(ctx, c)
		return Choice{Policy: known.Policy, Refused: known.Refused}, err
	}
	found, err := m.published(ctx, c)
	if err == nil {
		return Choice{Policy: found.Policy, Refused: found.Refused, keep: func() error { return m.layers().Keep(found) }}, nil
	}
	known, knownErr := m.known(ctx, c)
	choice := Choice{Policy: known.Policy, Refused: known.Refused}
	if isRefusal(err) {
		choice.Refused = append(choice.Refused, m.layers().Problems(err)...)
	}
	trouble := source.TroubleOf(err)
	if known.Saved.IsZero() {
		choice.Never = never(trouble.Line(c.hidden))
		m.Log.Warn("cannot get the published policy; enforcing the seed and local layers", "for", trouble.Name, "err", err)
	} else {
		m.Log.Warn("cannot get the published policy; enforcing the last good policy", "for", trouble.Name, "err", err)
	}
	return choice, knownErr
}

// never returns the error that a published policy was never fetched, and why.
func never(why public.Line) error {
	cause := errors.New(why.Whole)
	if why.Open == why.Whole {
		cause = public.Error(cause)
	}
	return public.Because("cannot get the published policy, and this machine has never had one", cause)
}

// published tries once to fetch the published policy.
func (m *Machine) published(ctx context.Context, c Config) (policysync.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	aws, err := m.connect(c, source.Client(), source.Retry{})
	if err != nil {
		return policysync.Found{}, err
	}
	s, _ := m.subject(ctx, c, m.tagsOf(aws))
	return m.layers().Fetch(ctx, s, aws)
}

// Known returns the policy that can be had without the network.
func (m *Machine) Known(ctx context.Context, c Config) (p *policy.Policy, refused []public.Line, err error) {
	known, err := m.known(ctx, c)
	return known.Policy, known.Refused, err
}

func (m *Machine) known(ctx context.Context, c Config) (policysync.Known, error) {
	s, _ := m.subject(ctx, c, noTags)
	return m.layers().Known(s)
}

// isRefusal says whether a policy is published that cannot be used, so that its author has to act.
func isRefusal(err error) bool {
	switch source.Classify(err) {
	case source.Half, source.People:
		return !errors.Is(err, source.ErrNothingPublished)
	}
	return false
}

// Only returns a policy of these fragments alone, for the machine's personas.
func (m *Machine) Only(ctx context.Context, c Config, sources []policy.Source) (*policy.Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, _ := m.subject(ctx, c, noTags)
	return m.layers().Only(ctx, s, sources, func() (*source.AWS, error) { return m.connect(c, source.Client(), source.Retry{}) })
}
