package packages

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// maxDependents is how many packages a removal may take along. Nobody means to
// remove half the machine.
const maxDependents = 50

var neededBy = regexp.MustCompile(`is needed by \(installed\) (\S+)`)

// refuses says why a package must not be removed, or nil when it may be: it, and
// everything that would go with it, is neither protected nor wanted. yum and dnf
// remove what depends on it without a question.
func (k *Kind) refuses(ctx context.Context, name string) error {
	if why := protected.Package(name); why != "" {
		return fmt.Errorf("%s", why)
	}
	going := map[string]bool{name: true}
	for {
		names := slices.Sorted(maps.Keys(going))
		out, err := k.system.Runner.Run(ctx, system.Command{
			Argv:     append([]string{"rpm", "-e", "--test", "--allmatches"}, names...),
			ReadOnly: true,
		})
		if err != nil {
			return err
		}
		found := false
		for _, match := range neededBy.FindAllSubmatch(append(out.Stderr, out.Stdout...), -1) {
			dependent := nameOf(string(match[1]))
			if going[dependent] {
				continue
			}
			if why := protected.Package(dependent); why != "" {
				return fmt.Errorf("%s needs it, and %s", dependent, why)
			}
			if k.keeps(dependent) {
				return fmt.Errorf("%s needs it, which the policy wants", dependent)
			}
			going[dependent], found = true, true
		}
		switch {
		case out.ExitCode == 0:
			return nil
		case !found:
			return fmt.Errorf("%s", out.LastLine())
		case len(going) > maxDependents:
			return fmt.Errorf("more than %d packages would be removed with it", maxDependents)
		}
	}
}

// keeps says whether the policy wants a package to be there.
func (k *Kind) keeps(name string) bool {
	want, found := k.policy.Lookup(policy.NewID("package", name))
	spec, ok := want.Spec.(policy.Package)
	return found && ok && spec.Ensure != policy.Absent
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
