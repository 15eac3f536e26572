package packages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// maxDependents is how many packages a removal may take along. Nobody means to
// remove half the machine.
const maxDependents = 50

var neededBy = regexp.MustCompile(`is needed by \(installed\) (\S+)`)

// refuses says why a package must not be removed, or nil when it may be: it, and
// everything that would go with it, is neither protected nor wanted, and when the
// package is reclaimed it is the agent's own. yum and dnf remove what depends on it
// without a question.
func (k *Kind) refuses(ctx context.Context, id policy.ID) error {
	name, _ := policy.PackageArch(id.Name())
	if why := protected.Package(name); why != "" {
		return public.Error(errors.New(why))
	}
	_, named := k.policy.Lookup(id)
	going := map[string]bool{id.Name(): true}
	for {
		dependents, err := k.dependents(ctx, slices.Sorted(maps.Keys(going))...)
		if err != nil || len(dependents) == 0 {
			return err
		}
		for _, dependent := range dependents {
			switch why := protected.Package(dependent.name); {
			case why != "":
				return public.Error(fmt.Errorf("%s needs it, and %s", dependent.name, why))
			case k.keeps(dependent):
				return public.Error(fmt.Errorf("%s needs it, which the policy wants", dependent.name))
			case !named && !k.broughtHere(dependent):
				return public.Error(fmt.Errorf("%s needs it, which the agent has not installed", dependent.name))
			}
			going[dependent.String()] = true
		}
		if len(going) > maxDependents {
			return public.Error(fmt.Errorf("more than %d packages would be removed with it", maxDependents))
		}
	}
}

// dependents are the installed packages, other than the ones named, that need one
// of these.
func (k *Kind) dependents(ctx context.Context, names ...string) ([]label, error) {
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: append([]string{"rpm", "-e", "--test", "--allmatches"}, names...), ReadOnly: true,
	})
	if err != nil || out.ExitCode == 0 {
		return nil, err
	}
	var dependents []label
	for _, match := range neededBy.FindAllSubmatch(append(out.Stderr, out.Stdout...), -1) {
		l := labelOf(string(match[1]))
		if !slices.ContainsFunc(names, l.covers) && !slices.Contains(dependents, l) {
			dependents = append(dependents, l)
		}
	}
	if len(dependents) == 0 {
		return nil, errors.New(out.LastLine())
	}
	return dependents, nil
}

// keeps says whether the policy wants a package to be there.
func (k *Kind) keeps(l label) bool {
	named := false
	for _, r := range k.policy.Resources {
		want, is := r.Spec.(policy.Package)
		if !is || !l.covers(r.ID.Name()) {
			continue
		}
		named = true
		_, arch := policy.PackageArch(r.ID.Name())
		others := arch == "" && want.Ensure != policy.Latest && policy.ForeignArchitecture(l.arch) // of which it says nothing
		if want.Ensure != policy.Absent && !others {
			return true
		}
	}
	return !named && slices.Contains(k.groups.names(), l.name)
}

// nameOf is the name in NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func nameOf(nevra string) string {
	for range 2 {
		if i := strings.LastIndexByte(nevra, '-'); i > 0 {
			nevra = nevra[:i]
		}
	}
	return nevra
}
