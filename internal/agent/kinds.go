package agent

import (
	"fmt"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/dconf"
	"github.com/soe-agent/soe-agent/internal/kind/dropin"
	"github.com/soe-agent/soe-agent/internal/kind/file"
	"github.com/soe-agent/soe-agent/internal/kind/firewall"
	"github.com/soe-agent/soe-agent/internal/kind/host"
	"github.com/soe-agent/soe-agent/internal/kind/mount"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/kind/pcoip"
	"github.com/soe-agent/soe-agent/internal/kind/service"
	"github.com/soe-agent/soe-agent/internal/kind/sudo"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A kind is one kind of resources, and how the agent runs it.
type kind struct {
	name    string // the first part of the IDs of its resources
	open    func(m *Machine, p *policy.Policy) converge.Kind
	worker  workerOf
	stage   stage
	affects []string // the kinds that its repair may make drift
}

// workerOf says which worker checks a kind.
type workerOf int

const (
	quick  workerOf = iota // kinds that take a moment
	slow                   // kinds that may take minutes
	checks                 // the policy's own commands, whose duration nobody knows
)

// A stage says from when on a kind is kept.
type stage int

const (
	afterLockDown stage = iota // once the machine is locked down
	lockDown                   // from the start, before the desktop is up: it needs no network
	always                     // from the start, and in safe mode, in which all other kinds are suspended
)

// kinds returns all kinds in the order in which they are repaired: lock down first, slow kinds last. It is the
// only list of them: the workers, the engine and what is checked again are derived from it.
func kinds() []kind {
	nothing, everything := []string{}, policy.Kinds()
	return []kind{
		{"system", func(m *Machine, p *policy.Policy) converge.Kind { return host.New(p, m.System) }, quick, lockDown, nothing},
		// userdel(8) removes a group, groupmod(8) changes accounts.
		{"group", func(m *Machine, p *policy.Policy) converge.Kind { return account.NewGroups(p, m.System, m.Ledger) }, quick, lockDown, []string{"user"}},
		{"user", func(m *Machine, p *policy.Policy) converge.Kind { return account.NewUsers(p, m.System, m.Ledger) }, quick, lockDown, []string{"group", "ageing"}},
		{"ageing", func(m *Machine, p *policy.Policy) converge.Kind { return account.NewAgeing(p, m.System, m.Ledger) }, quick, lockDown, nothing},
		// It makes sure that somebody can repair the machine, above all in safe mode.
		{"sudo", func(m *Machine, p *policy.Policy) converge.Kind { return sudo.New(p, m.System) }, quick, always, nothing},
		// A file that moves from this kind to dropin gets its original back before dropin keeps it.
		{"file", func(m *Machine, p *policy.Policy) converge.Kind { return file.New(p, m.System, m.Ledger) }, quick, lockDown, nothing},
		// Restored files and tmpfiles.d change modes; units mount; what is activated may load firewall rules.
		{"dropin", func(m *Machine, p *policy.Policy) converge.Kind {
			return dropin.New(p, m.System, m.Ledger, m.Schedule.Window)
		}, quick, lockDown, []string{"file", "mount", "firewall"}},
		{"mount", func(m *Machine, p *policy.Policy) converge.Kind { return mount.New(p, m.System, m.Ledger) }, quick, lockDown, nothing},
		{"firewall", func(m *Machine, p *policy.Policy) converge.Kind { return firewall.New(p, m.System, m.Ledger) }, quick, lockDown, nothing},
		{"pcoip", func(m *Machine, p *policy.Policy) converge.Kind {
			return pcoip.New(p, m.System, m.Ledger, m.Schedule.Window)
		}, quick, lockDown, nothing},
		{"dconf", func(m *Machine, p *policy.Policy) converge.Kind { return dconf.New(p, m.System, m.Ledger) }, quick, lockDown, nothing},
		// It decides which packages there are.
		{"repository", func(m *Machine, p *policy.Policy) converge.Kind {
			return packages.NewRepositories(p, m.System, m.Ledger, m.Schedule.LockTimeout.Duration)
		}, slow, afterLockDown, []string{"package", "patch"}},
		// Packages bring sudoers files, schemas, users and units of their own.
		{"package", func(m *Machine, p *policy.Policy) converge.Kind {
			return packages.New(p, m.System, m.Ledger, m.Schedule.LockTimeout.Duration, m.Schedule.Window)
		}, slow, afterLockDown, everything},
		{"patch", func(m *Machine, p *policy.Policy) converge.Kind {
			return packages.NewPatches(p, m.System, m.Ledger, m.Schedule.LockTimeout.Duration, m.Schedule.Window)
		}, slow, afterLockDown, everything},
		// Some services flush all firewall rules, and some mount.
		{"service", func(m *Machine, p *policy.Policy) converge.Kind { return service.New(p, m.System, m.Schedule.Window) }, quick, afterLockDown, []string{"mount", "firewall"}},
		{"check", func(m *Machine, p *policy.Policy) converge.Kind { return check.New(p, m.System, m.Ledger) }, checks, afterLockDown, nothing},
	}
}

// kindsOf opens the kinds of a policy for which of returns true.
func (m *Machine) kindsOf(p *policy.Policy, of func(kind) bool) (opened []converge.Kind) {
	for _, k := range kinds() {
		switch err := m.Ledger.Lost(); {
		case !of(k):
		case err != nil && k.stage != always:
			opened = append(opened, suspended{k.name, p, fmt.Sprintf("only sudo is kept, until the ledger can be read and soe-agent is started again: %v", err)})
		default:
			opened = append(opened, k.open(m, p))
		}
	}
	return opened
}

// affects returns the kinds that may drift when a kind is repaired.
func affects(name string) []string {
	for _, k := range kinds() {
		if k.name == name {
			return k.affects
		}
	}
	return nil
}

// affects says whether repairs by a worker may make kinds of another worker drift.
func (w workerOf) affects(other workerOf) bool {
	all := kinds()
	return slices.ContainsFunc(all, func(k kind) bool {
		return k.worker == w && slices.ContainsFunc(all, func(o kind) bool {
			return o.worker == other && slices.Contains(k.affects, o.name)
		})
	})
}

// inSafeMode says whether a kind is kept in safe mode.
func inSafeMode(name string) bool {
	return slices.ContainsFunc(kinds(), func(k kind) bool { return k.name == name && k.stage == always })
}
