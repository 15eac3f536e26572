package packages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// maxSingly is the largest number of packages that are tried one by one after they could not be
// repaired together. A larger set is halved first.
const maxSingly = 10

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	if err := k.manager.awaitEarlier(ctx); err != nil {
		return all(drifted, err)
	}
	mark := k.Mark()
	before, err := k.manager.mendInterrupted(ctx)
	k.db.forget()
	if unsure := k.Since(mark); unsure != nil {
		return all(drifted, unsure)
	}
	switch {
	case before == nil:
		return all(drifted, err)
	case err != nil:
		k.system.Log.Error("cannot repair the package database after an interrupted transaction; it is tried again at the next pass", "kind", "package", "err", err)
	}
	wants, outcomes := k.postpone(ctx, k.drifted(drifted), before)
	m := &mending{Kind: k, before: before, failed: k.enableTopics(ctx, wants)}
	if err := k.setHolds(ctx, drifted, wants, false); err != nil {
		k.system.Log.Error("cannot remove entries of the versionlock list", "kind", "package", "err", err)
	}
	m.mend(ctx, slices.DeleteFunc(slices.Clone(wants), func(w policy.Want[policy.Package]) bool { return m.failed[w.ID] != nil }))
	if err := k.setHolds(ctx, drifted, wants, true); err != nil {
		m.failHolds(drifted, err)
	}
	if err := m.forgetFiles(wants); err != nil {
		k.system.Log.Warn("cannot remove the downloaded file of a package", "kind", "package", "err", err)
	}
	if err := m.note(ctx, wants); err != nil {
		k.system.Log.Error("cannot record the installed packages in the ledger", "kind", "package", "err", err)
	}
	if slices.ContainsFunc(wants, func(w policy.Want[policy.Package]) bool {
		return slices.Contains(k.reclaim, w.ID) && m.failed[w.ID] == nil
	}) {
		if err := m.removeOrphans(ctx); err != nil {
			k.system.Log.Error("cannot remove dependencies that only reclaimed packages needed; they stay installed", "kind", "package", "err", err)
		}
	}
	outcomes = append(outcomes, m.later...)
	for _, id := range slices.Sorted(maps.Keys(m.failed)) {
		outcomes = append(outcomes, converge.Outcome{ID: id, Err: m.failed[id]})
	}
	return outcomes
}

// drifted returns the wants of the resources that have drifted.
func (k *Kind) drifted(resources []converge.Resource) []policy.Want[policy.Package] {
	has := func(id policy.ID) bool {
		return slices.ContainsFunc(resources, func(r converge.Resource) bool { return r.ID == id })
	}
	var wants []policy.Want[policy.Package]
	for _, want := range k.wants {
		if has(want.ID) {
			wants = append(wants, want)
		}
	}
	for _, id := range k.reclaim {
		if has(id) {
			wants = append(wants, removal(id))
		}
	}
	return wants
}

// disruptive reports whether replacing a package may end a session, because its scripts restart
// what the session depends on.
func disruptive(want policy.Want[policy.Package]) bool {
	name, _ := policy.PackageArch(want.ID.Name())
	return want.Spec.Ensure != policy.Present && protected.PackageCarries(name) != protected.Nobody
}

// consentTo returns the policy's consent to replace a package during a session. The policy can give
// it only for packages that carry desktops and nothing else.
func consentTo(p *policy.Policy, window schedule.Window, id policy.ID, name string) sessionguard.Consent {
	if name, _ := policy.PackageArch(name); protected.PackageCarries(name) != protected.Desktops {
		return sessionguard.Consent{}
	}
	return sessionguard.ConsentTo(p, window, id)
}

// postpone splits off the changes that may end a session while somebody is logged in. They wait.
func (k *Kind) postpone(ctx context.Context, wants []policy.Want[policy.Package], there installed) (now []policy.Want[policy.Package], later []converge.Outcome) {
	for _, want := range wants {
		name := want.ID.Name()
		if !disruptive(want) || len(there.called(name)) == 0 {
			now = append(now, want)
			continue
		}
		person, err := facts.LoggedIn(ctx, k.system)
		if err != nil {
			err = public.Because("cannot change "+name, err)
		} else {
			err = consentTo(k.policy, k.window, want.ID, name).Hold(k.system, person, fmt.Sprintf("whose session may end when %s is replaced", name))
		}
		if err != nil {
			later = append(later, sessionguard.Outcome(want.ID, err))
			continue
		}
		now = append(now, want)
	}
	return now, later
}

func all(drifted []converge.Resource, err error) []converge.Outcome {
	var outcomes []converge.Outcome
	for _, r := range drifted {
		outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because(fmt.Sprintf("cannot bring %s into line", r.ID), err)})
	}
	return outcomes
}

// mending is one run of Repair.
type mending struct {
	*Kind
	before installed
	failed map[policy.ID]error
	later  []converge.Outcome // changes that wait because somebody has logged in
	fresh  bool               // the repositories' metadata has been refreshed
}

// failHolds records err for drifted packages that are not held, or not released.
func (m *mending) failHolds(drifted []converge.Resource, err error) {
	for _, r := range drifted {
		want, _ := m.policy.Lookup(r.ID)
		spec, named := want.Spec.(policy.Package)
		switch {
		case m.failed[r.ID] != nil:
		case named && spec.Hold:
			m.failed[r.ID] = public.Because("cannot hold the version of "+r.ID.Name(), err)
		case m.ledger.Owns(policy.NewID(hold, r.ID.Name())):
			m.failed[r.ID] = public.Because("cannot release the version of "+r.ID.Name(), err)
		}
	}
}

// right reports whether a package is as wanted, as far as rpm can tell.
func (m *mending) right(want policy.Want[policy.Package], there installed) bool {
	if was := m.before.meant(want); want.Spec.Ensure == policy.Latest && len(was) > 0 {
		return newer(was, there.meant(want)) // Check asks the repositories whether it is the newest
	}
	return m.Kind.right(want, there)
}

// newer reports whether there is a newer version in at least one architecture.
func newer(was, is []instance) bool {
	return slices.ContainsFunc(is, func(i instance) bool {
		before := of(was, func(o instance) bool { return o.arch == i.arch })
		return len(before) > 0 && compareEVR(i.evr, before[0].evr) > 0
	})
}

func (k *Kind) right(want policy.Want[policy.Package], there installed) bool {
	r := converge.Wanted(want.Resource)
	k.judge(&r, want, there)
	return r.State == converge.Compliant
}

// task is a package that is not right, and the line for the package manager's shell that should
// repair it.
type task struct {
	policy.Want[policy.Package]
	verb, line string
}

// tasks returns what is still to be done. They are determined again before each transaction,
// because the previous one may have installed something that depends on a package to be removed.
func (m *mending) tasks(ctx context.Context, wants []policy.Want[policy.Package]) ([]task, error) {
	there, err := m.installed(ctx)
	if err != nil {
		return nil, err
	}
	var goes, comes []task
	for _, want := range wants {
		if m.right(want, there) {
			continue
		}
		t := newTask(want, there)
		if why := there.misnamed(want); why != "" {
			m.failed[want.ID] = t.cannot(public.Error(errors.New(why)))
			continue
		}
		if group, is := policy.PackageGroup(want.ID.Name()); is {
			t.line = m.groupLines(group, there)
		}
		if twice := interrupted(there.meant(want)); twice != "" && t.verb != "remove" {
			m.failed[want.ID] = t.cannot(public.Error(errors.New(twice)))
			continue
		}
		if t.verb == "remove" {
			if err := m.refuses(ctx, want.ID); err != nil {
				m.failed[want.ID] = t.cannot(err)
				continue
			}
			goes = append(goes, t)
			continue
		}
		comes = append(comes, t)
	}
	comes = m.fetchFiles(ctx, comes)
	// Removals come first, also when not everything can be done together: the new packages may
	// conflict with them.
	return append(goes, comes...), nil
}

func newTask(want policy.Want[policy.Package], there installed) task {
	t := task{Want: want, verb: "install"}
	switch instances := there.meant(want); {
	case want.Spec.Ensure == policy.Absent:
		t.verb = "remove"
	case len(instances) == 0 || instances[0].sideBySide:
	case want.Spec.Ensure == policy.Latest:
		t.verb = "update"
	case compareEVR(parseEVR(want.Spec.Version()), instances[0].evr) < 0:
		// yum's install would find the newer one, do nothing, and exit with 0.
		t.verb = "downgrade"
	}
	t.line = t.verb + " " + argument(want, there)
	return t
}

// groupLines returns the lines that install a group. If its members are not known, or none is
// installed, the group is installed as one, with its other packages. Otherwise only the missing
// members are, because yum considers a group installed once it was.
func (m *mending) groupLines(group string, there installed) string {
	members, known := m.groups.members[group]
	missing := m.missing(group, there)
	if !known || len(missing) == len(members) {
		return fmt.Sprintf("install %q", "@"+group)
	}
	return "install " + strings.Join(missing, "\ninstall ")
}

func (t task) cannot(err error) error {
	return public.Because(fmt.Sprintf("cannot %s %s", t.verb, t.ID.Name()), err)
}

// mend does all tasks in one transaction, and then what is still not right in smaller and smaller
// parts.
func (m *mending) mend(ctx context.Context, wants []policy.Want[policy.Package]) {
	mark := m.Mark()
	tasks, err := m.tasks(ctx, wants)
	if err != nil || len(tasks) == 0 {
		m.fail(wants, err)
		return
	}
	var lines []string
	var tried []policy.Want[policy.Package]
	for _, t := range tasks {
		lines, tried = append(lines, t.line), append(tried, t.Want)
	}
	var later []converge.Outcome
	out, err := m.manager.ifStill(func(ctx context.Context) error {
		if _, later = m.postpone(ctx, tried, m.before); len(later) > 0 {
			return errPostponed
		}
		return m.Since(mark) // a plan from incomplete information may remove too much
	}).transact(ctx, lines, guarded(m.before), m.options(tried)...)
	m.db.forget()
	if errors.Is(err, errPostponed) {
		m.later = append(m.later, later...)
		m.mend(ctx, slices.DeleteFunc(tried, func(w policy.Want[policy.Package]) bool {
			return slices.ContainsFunc(later, func(o converge.Outcome) bool { return o.ID == w.ID })
		}))
		return
	}
	if err != nil {
		m.fail(tried, err)
		return
	}
	there, err := m.installed(ctx)
	if err != nil {
		m.fail(tried, err)
		return
	}
	left := slices.DeleteFunc(slices.Clone(tried), func(w policy.Want[policy.Package]) bool { return m.right(w, there) })
	m.system.Log.Debug("a package transaction has ended", "kind", "package", "wanted", len(tried), "left", len(left))
	switch {
	case len(left) == 0:
	case !m.fresh && unknownName(out):
		// The package may have been published after the metadata was fetched, which is up to two
		// days old.
		m.fresh = true
		_, _ = m.system.Runner.Run(ctx, system.Command{Argv: []string{m.manager.program(), "clean", "expire-cache"}})
		m.mend(ctx, left)
	case len(tried) == 1:
		m.failed[left[0].ID] = tasks[0].cannot(m.why(ctx, tasks[0], there, out))
	case len(left) == len(tried) && hopeless(out):
		m.fail(left, errors.New(reason(out)))
	case len(left) > maxSingly:
		m.mend(ctx, left[:len(left)/2])
		m.mend(ctx, left[len(left)/2:])
	default:
		for i := range left {
			m.mend(ctx, left[i:i+1])
		}
	}
}

// fail records err for packages that are not right.
func (m *mending) fail(wants []policy.Want[policy.Package], err error) {
	if err == nil {
		return
	}
	for _, want := range wants {
		m.failed[want.ID] = newTask(want, m.before).cannot(err)
	}
}

// why returns the reason why a package that was tried alone is not right.
func (m *mending) why(ctx context.Context, t task, there installed, out system.Output) error {
	if why := there.misnamed(t.Want); why != "" {
		return public.Error(errors.New(why))
	}
	group, isGroup := policy.PackageGroup(t.ID.Name())
	if _, known := m.groups.members[group]; isGroup && !known && !unknownName(out) {
		return public.Error(errors.New("the package manager has not cached a list with the members of the group"))
	}
	if others := there.called(t.ID.Name()); len(others) > 0 && len(there.meant(t.Want)) == 0 {
		return public.Error(fmt.Errorf("it is installed for %s alone: %s; if that is meant, name it %s.%[1]s", others[0].arch, reason(out), t.ID.Name()))
	}
	if t.verb != "install" || isGroup || len(there.called(t.ID.Name())) > 0 {
		return errors.New(m.manager.unseen(t.Want, out))
	}
	provides, err := m.system.Runner.Run(ctx, system.Command{
		Argv: []string{"rpm", "-q", "--qf", `%{NAME}\n`, "--whatprovides", t.ID.Name()}, ReadOnly: true,
	})
	if err == nil && provides.ExitCode == 0 {
		return public.Error(fmt.Errorf("the installed %s provides it or has taken its place; name that one in the policy", provides.LastLine()))
	}
	return errors.New(m.manager.unseen(t.Want, out))
}

// note records in the ledger what the agent installed and removed.
func (m *mending) note(ctx context.Context, wants []policy.Want[policy.Package]) error {
	there, err := m.installed(ctx)
	if err != nil {
		return err
	}
	var arrived []string
	for _, want := range wants {
		names := []string{want.ID.Name()}
		if group, is := policy.PackageGroup(want.ID.Name()); is {
			names = m.groups.members[group]
		}
		for _, name := range names {
			id := policy.NewID(m.Name(), name)
			switch was, is := len(m.before.called(name)) > 0, len(there.called(name)) > 0; {
			case !was && is && want.Spec.Ensure != policy.Absent:
				m.ledger.Own(id)
				base, _ := policy.PackageArch(name)
				m.ledger.Disown(policy.NewID(dependency, base))
				arrived = append(arrived, name, base)
			case !is:
				m.ledger.Disown(id)
			}
		}
	}
	return errors.Join(m.groups.remember(), m.noteDependencies(ctx, arrived))
}
