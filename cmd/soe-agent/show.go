package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/target"
)

func (a *app) showCommand() *cobra.Command {
	var dirs, personas []string
	var on string
	c := &cobra.Command{
		Use:   "show --policy DIR --persona NAME",
		Short: "Show the policy as a machine of these personas has it, and who set what",
		Long: `Show puts the fragments in DIR together as a machine of these personas does, and prints
the policy as one fragment, with a comment for each resource and rule that says who set
it and what that replaced. Lint accepts it as it is, and it is the same policy; so two of
them can be compared. References are not resolved.

What goes by facts of the machine is shown as it is on the target named with --on; without
one it is said which facts decide.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, p, err := readPolicy(dirs, personas, on)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(shown(p))
			}
			fmt.Fprint(a.stdout, p.Text())
			return nil
		},
	}
	policyFlag(c, &dirs)
	personaFlag(c, &personas)
	onFlag(c, &on)
	return c
}

func onFlag(c *cobra.Command, on *string) {
	c.Flags().StringVar(on, "on", "", "pretend that the machine is a `TARGET`: "+strings.Join(target.AllNames(), ", "))
	completeFlag(c, "on", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return target.AllNames(), cobra.ShellCompDirectiveNoFileComp
	})
}

// factsOn returns the facts of a target; none if no target is named.
func factsOn(on string) (target.Facts, error) {
	if on == "" {
		return nil, nil
	}
	t, err := target.Named(on)
	return t.Facts, err
}

func personaFlag(c *cobra.Command, personas *[]string) {
	c.Flags().StringSliceVar(personas, "persona", []string{"base"}, "the machine's personas, the weakest first")
}

// readPolicy reads the fragments in directories and puts them together for personas, on a target.
func readPolicy(dirs, personas []string, on string) ([]policy.Fragment, *policy.Policy, error) {
	if len(dirs) == 0 {
		return nil, nil, errNoPolicy
	}
	facts, err := factsOn(on)
	if err != nil {
		return nil, nil, err
	}
	sources, err := readFragments(dirs)
	if err != nil {
		return nil, nil, err
	}
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		return nil, nil, err
	}
	known := personasOf(fragments)
	if !slices.Contains(known, "base") { // which every machine is
		known = append([]string{"base"}, known...)
	}
	for _, p := range personas {
		if !slices.Contains(known, p) {
			return nil, nil, fmt.Errorf("cannot use persona %q: no fragment is for it; personas here are %s", p, strings.Join(known, ", "))
		}
	}
	p, err := policy.Merge(fragments, personas, facts)
	return fragments, p, err
}

// shownResource is one resource as the policy has it, references unresolved.
type shownResource struct {
	ID      policy.ID     `json:"id"`
	Want    policy.Spec   `json:"want"`
	Content string        `json:"content,omitempty"` // of a drop-in
	Origin  policy.Origin `json:"origin"`
}

func shown(p *policy.Policy) []shownResource {
	resources := make([]shownResource, len(p.Resources))
	for i, r := range p.Resources {
		resources[i] = shownResource{ID: r.ID, Want: r.Spec, Origin: r.Origin}
		if c, is := r.Spec.(policy.Confidential); is {
			resources[i].Content, _ = c.Confidential(r.ID)
		}
	}
	return resources
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
