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

// maxDependents is how many packages a removal may take along. More than that cannot be intended.
const maxDependents = 50

var neededBy = regexp.MustCompile(`is needed by \(installed\) (\S+)`)

// refuses returns why a package must not be removed, or nil if it may be. Neither the package nor
// anything that would be removed with it may be protected or wanted by the policy. If the policy
// does not name the package, everything that goes with it must have been installed by the agent.
// yum and dnf remove dependents without asking.
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

// dependents returns the installed packages, apart from the named ones, that need one of them.
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

// keeps reports whether the policy wants a package installed.
func (k *Kind) keeps(l label) bool {
	named := false
	for _, r := range k.policy.Resources {
		want, is := r.Spec.(policy.Package)
		if !is || !l.covers(r.ID.Name()) {
			continue
		}
		named = true
		_, arch := policy.PackageArch(r.ID.Name())
		others := arch == "" && want.Ensure != policy.Latest && policy.ForeignArchitecture(l.arch) // the policy says nothing about the other architectures
		if want.Ensure != policy.Absent && !others {
			return true
		}
	}
	return !named && slices.Contains(k.groups.names(), l.name)
}

// nameOf returns the name in NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func nameOf(nevra string) string {
	for range 2 {
		if i := strings.LastIndexByte(nevra, '-'); i > 0 {
			nevra = nevra[:i]
		}
	}
	return nevra
}
