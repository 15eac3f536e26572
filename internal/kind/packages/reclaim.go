package packages

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// dependency is the ledger's kind for packages that were installed as dependencies of a package
// that the policy wanted.
const dependency = "dependency"

// keyPackage is rpm's name for the keys that it has imported. They appear along with installed
// packages, and nothing depends on them.
const keyPackage = "gpg-pubkey"

// reclaimable returns the packages that the agent installed and that the policy no longer wants. What
// it wants on other machines stays (see leftOver): so a machine whose facts change, as by an upgrade of
// its operating system, loses no program. So, for example, a licence that a persona does not need is given back.
func (k *Kind) reclaimable() []policy.ID {
	return slices.DeleteFunc(k.ledger.Owned(k.Name()), func(id policy.ID) bool {
		_, named := k.policy.Lookup(id)
		name, arch := policy.PackageArch(id.Name())
		_, elsewhere := k.policy.Left[id]
		return named || elsewhere || protected.Package(name) != "" || name == keyPackage || k.keeps(label{name, arch})
	})
}

// leftOver returns the packages that the agent installed for a fragment that is not for this machine any
// more.
func (k *Kind) leftOver(there installed) []converge.Resource {
	var resources []converge.Resource
	for _, id := range k.elsewhere() {
		if len(there.called(id.Name())) == 0 {
			continue
		}
		resources = append(resources, converge.LeavesOver(id, k.policy.Left[id], k.manager.program()+" remove "+id.Name()))
	}
	return resources
}

// elsewhere returns the packages that the agent installed, and that the policy names for other machines.
func (k *Kind) elsewhere() []policy.ID {
	return slices.DeleteFunc(k.ledger.Owned(k.Name()), func(id policy.ID) bool {
		_, is := k.policy.Left[id]
		return !is
	})
}

// removal returns a want to remove a package that the policy does not name.
func removal(id policy.ID) policy.Want[policy.Package] {
	return policy.Want[policy.Package]{Resource: policy.Resource{ID: id}, Spec: policy.Package{Ensure: policy.Absent}}
}

// broughtHere reports whether a package is installed only because of the agent.
func (k *Kind) broughtHere(l label) bool {
	return slices.ContainsFunc([]policy.ID{
		policy.NewID("package", l.name), policy.NewID("package", l.String()), policy.NewID(dependency, l.name),
	}, k.ledger.Owns)
}

// noteDependencies records which packages were installed as dependencies of those that the agent
// has just installed: those that are new and came in the same transaction. Packages that a person
// installs in the meantime belong to another transaction.
func (m *mending) noteDependencies(ctx context.Context, arrived []string) error {
	if len(arrived) == 0 {
		return nil
	}
	out, err := m.system.Runner.Run(ctx, system.Command{
		Argv: []string{"rpm", "-qa", "--qf", `%{NAME}\t%{INSTALLTID}\n`}, ReadOnly: true,
	})
	if err != nil {
		return err
	}
	ours, came := map[string]bool{}, map[string][]string{}
	for line := range strings.Lines(string(out.Stdout)) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), "\t")
		came[id] = append(came[id], name)
		ours[id] = ours[id] || len(m.before[name]) == 0 && slices.Contains(arrived, name)
	}
	for id := range ours {
		for _, name := range came[id] {
			if ours[id] && len(m.before[name]) == 0 && !slices.Contains(arrived, name) && name != keyPackage {
				m.ledger.Own(policy.NewID(dependency, name))
			}
		}
	}
	return nil
}

// removeOrphans removes dependencies of reclaimed packages that nothing else needs any more. It
// asks rpm what that is before it removes anything.
func (m *mending) removeOrphans(ctx context.Context) error {
	there, err := m.manager.recorded(ctx)
	if err != nil {
		return err
	}
	var orphans []string
	for _, id := range m.ledger.Owned(dependency) {
		switch name := id.Name(); {
		case len(there[name]) == 0, name == keyPackage:
			m.ledger.Disown(id)
		case protected.Package(name) == "" && !m.keeps(label{name: name}):
			orphans = append(orphans, name)
		}
	}
	orphans, err = m.notNeeded(ctx, orphans)
	if err != nil || len(orphans) == 0 {
		return err
	}
	lines := make([]string, len(orphans))
	for i, name := range orphans {
		lines[i] = "remove " + name
	}
	m.system.Log.Info("removing dependencies that only reclaimed packages needed", "kind", "package", "packages", orphans)
	if _, err := m.manager.transact(ctx, lines, guarded(m.before)); err != nil {
		return err
	}
	if there, err = m.manager.recorded(ctx); err != nil {
		return err
	}
	for _, name := range orphans {
		if len(there[name]) > 0 {
			return fmt.Errorf("cannot remove %s, which nothing needs any longer", name)
		}
		m.ledger.Disown(policy.NewID(dependency, name))
	}
	return nil
}

// notNeeded returns those of the packages that can be removed together, because only packages among
// them depend on them.
func (k *Kind) notNeeded(ctx context.Context, names []string) ([]string, error) {
	going := map[string]bool{}
	for _, name := range names {
		going[name] = true
	}
	for settled := false; !settled; {
		settled = true
		for _, name := range slices.Sorted(maps.Keys(going)) {
			dependents, err := k.dependents(ctx, name)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(dependents, func(d label) bool { return !going[d.name] }) {
				delete(going, name)
				settled = false
			}
		}
	}
	return slices.Sorted(maps.Keys(going)), nil
}

// guarded returns the installed packages that no transaction may remove. The kernel is not among
// them: older kernels are removed when a newer one is installed, and the package managers keep the
// running one.
func guarded(there installed) []string {
	var names []string
	for name, all := range there {
		if protected.Package(name) != "" && !all[0].sideBySide {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
