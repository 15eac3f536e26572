package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) explainCommand() *cobra.Command {
	var dirs, personas []string
	var on string
	c := &cobra.Command{
		Use:   "explain ID",
		Short: "Say why a resource is as it is: who set it, what that replaced, where it stands",
		Long: `Explain says of one resource what is wanted, who set it in which line of which fragment,
what that replaced, which rules apply, where it stands and since when, and what became of
it last. It asks no network. Where the resource stands everybody may see; what is wanted,
the rules and the history take root.

With --policy it needs no machine: it explains what the fragments in DIR say of the
resource for a machine of the personas, and on the target named with --on.`,
		Example: `  soe-agent explain dropin/etc/sysctl.d/60-soe.conf
  soe-agent explain package/git --policy policy --persona base,developer`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(c *cobra.Command, args []string) error {
			id := policy.ID(args[0])
			var e explanation
			var err error
			if len(dirs) > 0 || c.Flags().Changed("persona") || on != "" {
				e, err = explainFragments(id, dirs, personas, on)
			} else {
				e, err = a.explainHere(c.Context(), id)
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			return a.printExplanation(e)
		},
	}
	c.Flags().StringArrayVar(&dirs, "policy", nil, "explain what the fragments in `DIR` say, without a machine (may be repeated)")
	personaFlag(c, &personas)
	onFlag(c, &on)
	return c
}

// An explanation is what there is to say of a resource. What nobody could tell is not in
// it.
type explanation struct {
	ID                 policy.ID        `json:"id"`
	Want               policy.Spec      `json:"want,omitempty"`    // with references for secrets
	Content            string           `json:"content,omitempty"` // that is wanted of a drop-in
	Origin             policy.Origin    `json:"origin"`
	NotApplicable      string           `json:"not_applicable,omitempty"` // why the machine has no use for it
	Undecided          string           `json:"undecided,omitempty"`      // why it cannot be told whether it is for the machine
	Severity           policy.Severity  `json:"severity"`
	Controls           []string         `json:"controls,omitempty"`
	Rules              []policy.Rule    `json:"rules,omitempty"` // that are about it; of two that say a thing the later one is believed, but for controls
	*converge.Resource                  // where it stands
	Awaited            []string         `json:"awaited,omitempty"` // before which that is not the last word, as in the report
	History            []history.Change `json:"history,omitempty"`

	text   string   // what is wanted, as a fragment says it
	hidden []string // what takes root to see
}

// explainFragments explains what fragments say of a resource.
func explainFragments(id policy.ID, dirs, personas []string, on string) (explanation, error) {
	fragments, p, err := readPolicy(dirs, personas, on)
	if err != nil {
		return explanation{}, err
	}
	e := explanation{ID: id}
	if e.add(p) {
		return e, nil
	}
	if elsewhere, is := p.Left[id]; is {
		return e, fmt.Errorf("cannot explain %s: %s sets it, and is not for this target: %s", id, elsewhere.Origin, elsewhere.Why)
	}
	others := map[string]bool{}
	for _, f := range fragments {
		if slices.ContainsFunc(f.Settings, func(s policy.Setting) bool { return s.ID == id }) {
			for _, persona := range f.Personas {
				others[persona] = true
			}
		}
	}
	if len(others) > 0 {
		return e, fmt.Errorf("cannot explain %s: nothing sets it for %s; it is set for %s: name these with --persona",
			id, strings.Join(personas, ", "), strings.Join(sorted(others), ", "))
	}
	return e, unexplained(id, idsOf(p), "soe-agent policy show lists what there is")
}

// add adds what a policy says of the resource, if it sets it.
func (e *explanation) add(p *policy.Policy) bool {
	r, ok := p.Lookup(e.ID)
	if !ok {
		return false
	}
	e.Want, e.Origin, e.text = r.Spec, r.Origin, r.Text()
	e.NotApplicable, e.Undecided = r.NotApplicable, r.Undecided
	if r.Shown != nil {
		e.Want = r.Shown
	}
	if c, is := e.Want.(policy.Confidential); is {
		e.Content, _ = c.Confidential(e.ID)
	}
	ruling := p.Ruling(e.ID, time.Now())
	e.Severity, e.Controls = ruling.Severity, ruling.Controls
	e.addRules(p)
	return true
}

// addRules adds the rules that are about the resource.
func (e *explanation) addRules(p *policy.Policy) {
	for _, r := range p.Rules {
		if r.Matches(e.ID) {
			e.Rules = append(e.Rules, r)
		}
	}
}

// explainHere explains a resource of this machine.
func (a *app) explainHere(ctx context.Context, id policy.ID) (explanation, error) {
	e := explanation{ID: id}
	last, reportErr := a.lastReport(ctx)
	known := make([]string, len(last.Resources))
	for i, r := range last.Resources {
		known[i] = string(r.ID)
		if r.ID == id {
			e.Resource, e.Origin, e.Severity, e.Controls = &last.Resources[i], r.Origin, r.Severity, r.Controls
			e.Awaited = last.Awaited
		}
	}
	var wanted bool
	var policyErr error
	if a.needsRoot() != nil {
		e.hidden = append(e.hidden, "wanted", "rules")
	} else if p, err := a.knownPolicy(ctx); err != nil {
		policyErr = err
		e.text = "cannot be told: " + err.Error()
	} else {
		if wanted = e.add(p); !wanted && e.Resource != nil {
			e.addRules(p)
		}
		known = append(known, idsOf(p)...)
	}
	switch {
	case wanted || e.Resource != nil:
	case len(known) == 0 && cmp.Or(policyErr, reportErr) != nil:
		if policyErr != nil && reportErr != nil && policyErr.Error() == reportErr.Error() {
			policyErr = nil
		}
		return e, errors.Join(policyErr, reportErr)
	default:
		return e, unexplained(id, known, "soe-agent report --verbose lists what there is")
	}
	changes, err := a.history(history.Query{ID: string(id), Limit: 5})
	if errors.Is(err, fs.ErrPermission) {
		e.hidden, err = append(e.hidden, "history"), nil
	}
	e.History = changes
	return e, err
}

// knownPolicy is the policy that this machine can tell without the network.
func (a *app) knownPolicy(ctx context.Context) (*policy.Policy, error) {
	m, err := agent.Open(ctx, a.rootDir, system.ReadOnly, slog.Default())
	if err != nil {
		return nil, err
	}
	config, err := a.readConfig(m.System)
	if err != nil {
		return nil, err
	}
	p, _, err := m.Known(ctx, config)
	return p, err
}

// unexplained is the error for a resource that there is not; otherwise says where to look
// when no other can have been meant.
func unexplained(id policy.ID, known []string, otherwise string) error {
	slices.Sort(known)
	known = slices.Compact(known)
	var near []string
	for _, k := range known {
		if strings.Contains(strings.ToLower(k), strings.ToLower(string(id))) {
			near = append(near, k)
		}
	}
	if meant := policy.Nearest(string(id), known); len(near) == 0 && meant != "" {
		near = []string{meant}
	}
	const most = 5
	if len(near) > 0 {
		otherwise = "did you mean " + strings.Join(near[:min(most, len(near))], ", ") + "?"
	}
	return fmt.Errorf("cannot explain %s: the policy says nothing of it; %s", id, otherwise)
}

func idsOf(p *policy.Policy) []string {
	ids := make([]string, len(p.Resources))
	for i, r := range p.Resources {
		ids[i] = string(r.ID)
	}
	return ids
}

func (a *app) printExplanation(e explanation) error {
	row := func(name, value string) {
		if value != "" {
			a.printf("%-10s %s\n", name, strings.ReplaceAll(strings.TrimSuffix(value, "\n"), "\n", "\n"+strings.Repeat(" ", 11)))
		}
	}
	row("resource", string(e.ID))
	if r := e.Resource; r != nil {
		row("state", fmt.Sprintf("%s since %s", r.State, r.Since.Local().Format(time.DateTime)))
		row("why", r.Reason)
		if r.Effect != "" && r.Effect != converge.Now {
			row("effect", string(r.Effect))
		}
		for _, what := range e.Awaited {
			row("awaited", what)
		}
	}
	row("wanted", e.text)
	if e.Origin.Fragment != "" {
		row("set by", e.Origin.String())
	}
	row("persona", e.Origin.Persona)
	for _, lower := range e.Origin.Overrode {
		row("instead of", lower.String())
	}
	for _, r := range e.Rules {
		row("rule", fmt.Sprintf("%s: %s", r.Origin, said(r, time.Now())))
	}
	row("severity", string(e.Severity))
	row("controls", strings.Join(e.Controls, ", "))
	if r := e.Resource; r != nil {
		if r.Disrupt == policy.DisruptInWindow {
			row("disrupt", "a session at the desktop may end for it in the maintenance window")
		}
		for _, d := range r.Diff {
			row(d.Aspect, fmt.Sprintf("want %q, got %q", d.Want, d.Got))
		}
	}
	for _, name := range e.hidden {
		row(name, "root may see it")
	}
	if len(e.History) == 0 {
		return nil
	}
	a.printf("\nLast changes:\n")
	return report.History(a.stdout, e.History, a.style())
}

// said is what a rule says of what it matches, for people.
func said(r policy.Rule, now time.Time) string {
	var says []string
	add := func(when bool, format string, args ...any) {
		if when {
			says = append(says, fmt.Sprintf(format, args...))
		}
	}
	add(r.Severity != "", "severity %s", r.Severity)
	add(len(r.Controls) > 0, "controls %s", strings.Join(r.Controls, ", "))
	add(r.Pending > 0, "pending %s", policy.Days(r.Pending))
	add(r.Disrupt != "", "disrupt %s", r.Disrupt)
	switch {
	case !r.Audit:
	case r.Until.IsZero():
		add(true, "audit")
	case now.Before(r.Until):
		add(true, "waived until %s", r.LastDay())
	default:
		add(true, "its waiver ended after %s", r.LastDay())
	}
	return cmp.Or(strings.Join(says, "; "), "nothing") + reason(r)
}

func reason(r policy.Rule) string {
	if r.Reason == "" {
		return ""
	}
	return ": " + r.Reason
}
