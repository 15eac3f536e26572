package packages

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// dependency is, in the ledger, the kind of the packages that came along with one
// that the policy wanted.
const dependency = "dependency"

// keyPackage is what rpm calls the keys that it has imported. They come with what is
// installed, and nothing needs them.
const keyPackage = "gpg-pubkey"

// reclaimable are the packages that the agent has installed and that the policy no
// longer wants, so that a licence that a persona does not need goes back.
func (k *Kind) reclaimable() []policy.ID {
	return slices.DeleteFunc(k.ledger.Owned(k.Name()), func(id policy.ID) bool {
		_, named := k.policy.Lookup(id)
		name, arch := policy.PackageArch(id.Name())
		return named || protected.Package(name) != "" || name == keyPackage || k.keeps(label{name, arch})
	})
}

// removal is a wish that a package goes which the policy does not name.
func removal(id policy.ID) policy.Want[policy.Package] {
	return policy.Want[policy.Package]{Resource: policy.Resource{ID: id}, Spec: policy.Package{Ensure: policy.Absent}}
}

// broughtHere says whether a package is there because of the agent alone.
func (k *Kind) broughtHere(l label) bool {
	return slices.ContainsFunc([]policy.ID{
		policy.NewID("package", l.name), policy.NewID("package", l.String()), policy.NewID(dependency, l.name),
	}, k.ledger.Owns)
}

// noteDependencies records what came along with the packages that the agent has
// just installed: what is new and was installed in the same transaction. Packages
// that a person installs meanwhile belong to another one.
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

// removeOrphans removes what came along with packages that are reclaimed, as far
// as nothing that stays needs it. What that is rpm says before anything goes.
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

// notNeeded are those of the packages that can go together, because what needs
// them goes as well.
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

// guarded are the installed packages that no transaction may take along. The
// kernel is not among them: older ones are removed when a newer one comes, and the
// package managers themselves keep the one that runs.
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
