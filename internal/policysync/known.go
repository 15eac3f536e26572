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

// Known is a policy from disk, without the network.
type Known struct {
	Policy  *policy.Policy
	Refused []public.Line // why it is not another one
	Damaged bool          // what was kept of the last one cannot be read: the first of Refused
	Saved   time.Time     // when what was published was last confirmed; zero: never
	Since   time.Time     // when this machine first had this serial; zero: never
}

// Previous are the personas that the machine had when its last good policy was kept.
func (m *Machine) Previous(s Subject) []string {
	last, _, _ := m.lastGood(s.Facts.Identity()) // without it, there were none
	return last.Personas
}

// Last is the last good policy of a machine, if it has one.
func (m *Machine) Last(f facts.Facts) (last LastGood, kept bool) {
	last, kept, err := m.lastGood(f.Identity())
	return last, kept && err == nil
}

// Known is the policy that can be had without the network: the machine's own
// layers with what was last published. If those do not go together, it is the
// last good policy as it was kept, and if there is none the seed.
func (m *Machine) Known(s Subject) (Known, error) {
	var known Known
	last, kept, err := m.lastGood(s.Facts.Identity())
	if err != nil {
		known.Refused, known.Damaged = []public.Line{{Whole: err.Error(), Open: "cannot use the last good policy kept on disk: " + public.Withheld}}, true
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
		p, err := merged(sources, personas)
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

// doubts are why the policy may not be what is meant for the machine. Of one that is
// not what was asked for, what was refused says so; of one that was never published to
// it, that.
func (known Known) doubts(p *policy.Policy, s Subject, kept, whole bool) []public.Line {
	switch {
	case len(known.Refused) > 0 || s.Path != "" && !kept:
		return nil
	case !whole:
		return []public.Line{public.All(fmt.Sprintf("not all that is published for %s has been had yet", strings.Join(s.Personas, ", ")))}
	}
	return p.Doubts
}

// KeepOwn makes the machine's own layers the last good policy, for a machine to which
// nothing is published. Its personas decide while it cannot be told which it has.
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

// KeepLocal has the machine's own layers, as they are now, in the last good policy, next
// to what was published last.
func (m *Machine) KeepLocal(s Subject) error {
	last, kept, err := m.lastGood(s.Facts.Identity())
	if err != nil || !kept || s.Path != last.Path {
		return err
	}
	last.Sources = append(m.own(last).sources, layer(last.Sources, policy.Remote)...)
	return m.keep(last)
}

// Problems are an error in its parts, one line each. Everybody may read what is wrong in a
// fragment of this machine that everybody may read. Of another one the open part says
// which it is, and of what is published, which is root's, that it is refused.
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

// openly is what everybody may read of a problem. One without a line may be about several
// fragments.
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
