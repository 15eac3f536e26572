package policysync

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Known is a policy that was read from disk, without the network.
type Known struct {
	Policy  *policy.Policy
	Refused []public.Line // why it is not a better one
	Damaged bool          // the last good policy will never be readable: the first of Refused says so
	Saved   time.Time     // when the published policy was last confirmed; zero: never
	Since   time.Time     // when this machine first had this serial; zero: never
}

// Previous returns the personas that the machine had when its last good policy was kept.
func (m *Machine) Previous(s Subject) []string {
	last, _, _ := m.lastGood(s.Facts.Identity()) // without a last good policy there were none
	return last.Personas
}

// Last returns the last good policy of this machine, if it has one.
func (m *Machine) Last(f facts.Facts) (last LastGood, kept bool) {
	last, kept, err := m.lastGood(f.Identity())
	return last, kept && err == nil
}

// Known returns the best policy that can be had without the network: the machine's own layers with what was
// published last. If these cannot be merged it is the last good policy as it was kept, and if there is none
// the seed.
func (m *Machine) Known(s Subject) (Known, error) {
	var known Known
	last, kept, err := m.lastGood(s.Facts.Identity())
	if err != nil {
		known.Refused, known.Damaged = []public.Line{{Whole: err.Error(), Open: "cannot use the last good policy kept on disk: " + public.Withheld}}, errors.Is(err, errDamaged)
	}
	if kept = kept && s.Path == last.Path; kept {
		known.Saved, known.Since = last.Saved, last.since(last.Serial, last.Saved)
	}
	own := m.own(last)
	known.Refused = append(known.Refused, own.refused...)
	attempts := [][]policy.Source{own.sources}
	if kept {
		attempts[0] = append(own.sources, layer(last.Sources, policy.Remote)...)
		attempts = append(attempts, last.Sources)
	}
	attempts = append(attempts, layer(own.sources, policy.Seed), nil)
	for i, sources := range attempts {
		personas := s.Personas
		if kept && i == 1 {
			personas = last.Personas
		}
		p, err := merged(sources, personas, s.Facts.Target())
		if err != nil {
			known.Refused = append(known.Refused, m.Problems(err)...)
			continue
		}
		p = resolve.Offline(p, s.Facts, last.Value)
		whole := i == 0 && s.Path == ""
		if kept && i < 2 && s.Path != "" {
			p.Serial, whole = last.Serial, slices.Equal(personas, last.Personas)
		}
		p.Partial = !whole || s.Unsure || len(own.refused) > 0
		p.Doubts = append(known.doubts(p, s, kept, whole), s.Doubts...)
		known.Policy = p
		return known, nil
	}
	return known, fmt.Errorf("cannot find a policy to enforce: %s", strings.Join(public.Whole(known.Refused), "; "))
}

// doubts returns why the policy may not be what is meant for the machine. It returns none if Refused says
// so already, or if no published policy was ever fetched, which the status reports by itself.
func (known Known) doubts(p *policy.Policy, s Subject, kept, whole bool) []public.Line {
	switch {
	case len(known.Refused) > 0 || s.Path != "" && !kept:
		return nil
	case !whole:
		return []public.Line{public.All(fmt.Sprintf("not everything that is published for %s has been fetched yet", strings.Join(s.Personas, ", ")))}
	}
	return p.Doubts
}

// KeepOwn makes the machine's own layers the last good policy, for a machine to which nothing is published.
// It keeps the personas too: they are used later while the machine's personas cannot be determined.
func (m *Machine) KeepOwn(s Subject) error {
	last, _, err := m.lastGood(s.Facts.Identity())
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	return m.keep(LastGood{
		Machine: last.Machine.Renewed(s.Facts.Identity()), Saved: m.System.Clock.Now().Truncate(time.Second),
		Personas: s.Personas, Sources: m.own(last).sources,
	})
}

// KeepLocal replaces the machine's own layers in the last good policy by those that are there now. What was
// published last stays in it.
func (m *Machine) KeepLocal(s Subject) error {
	last, kept, err := m.lastGood(s.Facts.Identity())
	if err != nil || !kept || s.Path != last.Path {
		return err
	}
	last.Sources = append(m.own(last).sources, layer(last.Sources, policy.Remote)...)
	return m.keep(last)
}

// Problems splits an error into its parts, one line each. The public part quotes what is wrong in a
// fragment of this machine if everybody may read that fragment. Of another local fragment it gives the
// name. What is published is for root to read, so of that it says only that it is refused.
func (m *Machine) Problems(err error) []public.Line {
	problems := policy.AsProblems(err)
	if len(problems) == 0 {
		open := public.Text(err)
		if open == "" {
			open = "cannot use the policy: " + public.Withheld
		}
		return []public.Line{{Whole: err.Error(), Open: open}}
	}
	lines := make([]public.Line, len(problems))
	for i, p := range problems {
		lines[i] = public.Line{Whole: p.Error(), Open: m.openly(p)}
	}
	return lines
}

// openly returns the public text of a problem. A problem without a line number may quote several fragments.
func (m *Machine) openly(p policy.Problem) string {
	local := strings.HasPrefix(p.File, m.SeedDir+"/") || strings.HasPrefix(p.File, m.LocalDir+"/")
	switch {
	case !local:
		return "cannot use what is published: " + public.Withheld
	case p.Line > 0 && system.MayBeReadByAll(m.System.FS, p.File):
		return p.Error()
	}
	return policy.Problem{File: p.File, Line: p.Line, Message: "cannot use it: " + public.Withheld}.Error()
}
