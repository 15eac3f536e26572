package sudo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	grantsPath = sudoers.Dir + "/0-soe-sudo"
	denialPath = sudoers.Dir + "/zz-soe-sudo"

	polkitID policy.ID = "sudo/polkit"
	groupsID policy.ID = "sudo/root_groups"
)

// sudoersAttr is what sudo wants of the files that it reads.
func sudoersAttr() system.Attr { return system.Attr{Mode: 0o440} }

// trusted is how long it is believed, while no file that decides has changed,
// that sudo would say the same again. Groups of the directory are in no file.
const trusted = 10 * time.Minute

// patienceBeforeRepair is how long logind may take, and polkit while sudo is to be mended, and
// patienceInHurry while the desktop waits. polkit 122
// has been seen to answer nobody for 15 seconds, until it gives up a rule that has
// long returned.
const (
	patienceBeforeRepair = 3 * time.Second
	patienceInHurry      = 200 * time.Millisecond
)

// A Kind keeps sudo/allow, sudo/polkit and, when the policy names groups that are
// as good as root, sudo/root_groups.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System

	mu      sync.Mutex
	inLine  string // fingerprint of the machine when sudo last said the right thing
	askedAt time.Time

	polkitInLine  string // the rules that may grant, and to whom, when polkit last granted nobody anything
	polkitAskedAt time.Time

	lookups map[string]lookup // of groups in the directory
}

// New returns the kind for a policy on a machine.
func New(p *policy.Policy, s *system.System) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, lookups: map[string]lookup{}}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return policy.Sudo{}.Kind() }

// Urgent implements converge.Urgent: a grant is not to live for as long as a program
// runs. Whom others have yet to make an administrator is asked before each repair.
func (k *Kind) Urgent() {}

// Watches implements converge.Watcher. /etc holds the accounts and sudoers
// itself, which are replaced and not written. With the services of the directory
// come the administrators for whom a lock-down may have been waiting, and with a
// login somebody of whom sudo was never asked.
func (k *Kind) Watches() []converge.Watch {
	watches := []converge.Watch{
		{Dir: "/etc"},
		{Dir: sudoers.Dir},
		{Dir: authorityDir},
		{Unit: "polkit.service"},
		{Unit: "winbind.service"},
		{Unit: "sssd.service"},
		{Sessions: true},
	}
	dirs := slices.Concat(ruleDirs(), actionDirs())
	for _, top := range entryTops() {
		for _, name := range []string{"10-vendor.d", "20-org.d", "30-site.d", "50-local.d", "90-mandatory.d"} { // pklocalauthority(8)
			dirs = append(dirs, top+"/"+name)
		}
	}
	for _, dir := range dirs {
		watches = append(watches, converge.Watch{Dir: dir})
	}
	return watches
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Sudo](k.policy)
	if len(wants) == 0 {
		return nil, nil
	}
	want := wants[0]
	allow := allowed(want.Spec)
	soon, enough := context.WithTimeout(ctx, patienceBeforeRepair)
	people, peopleErr := facts.People(soon, k.system)
	enough()
	wanted := func(id policy.ID) converge.Resource {
		like := want.Resource
		like.ID = id
		r := converge.Wanted(like)
		r.GuardsRights()
		return r
	}
	resources := []converge.Resource{wanted(want.ID), wanted(polkitID)}
	mark := k.Mark()
	k.checkSudo(ctx, want.Spec, people, peopleErr, &resources[0])
	resources[0].DoubtIf(k.Since(mark))
	mark = k.Mark()
	inTime, cancel := ctx, func() {}
	switch { // sudo is not to wait for a polkit that takes its time, and still less the desktop
	case converge.Hurries(ctx):
		inTime, cancel = context.WithTimeout(ctx, patienceInHurry)
	case resources[0].State == converge.Drifted:
		inTime, cancel = context.WithTimeout(ctx, patienceBeforeRepair)
	}
	k.checkPolkit(inTime, allow, people, &resources[1])
	cancel()
	resources[1].DoubtIf(errors.Join(peopleErr, k.Since(mark)))
	if len(want.Spec.RootGroups) > 0 {
		mark = k.Mark()
		groups := wanted(groupsID)
		k.checkGroups(ctx, want.Spec, people, &groups)
		groups.DoubtIf(errors.Join(peopleErr, k.Since(mark)))
		resources = append(resources, groups)
	}
	for i := range resources {
		if resources[i].State != converge.Drifted || k.bringsAdministrator(allow) {
			continue
		}
		if err := k.administrated(ctx, allow); err != nil {
			resources[i].FailFor(err)
		}
	}
	return resources, nil
}

// allowed are the subjects of the policy, each once, and root before them.
func allowed(want policy.Sudo) []string {
	allow := []string{"root"}
	for _, subject := range want.Allow {
		if !slices.Contains(allow, subject) {
			allow = append(allow, subject)
		}
	}
	return allow
}

func (k *Kind) checkSudo(ctx context.Context, want policy.Sudo, people []facts.Account, peopleErr error, r *converge.Resource) {
	switch installed, err := k.installed(); {
	case err != nil:
		r.DoubtFor(err)
		return
	case !installed:
		r.Note("sudo is not installed, so nobody can use it")
		return
	}
	mark := k.Mark()
	fingerprint := k.fingerprint(people)
	if fingerprint != "" && k.believes(fingerprint) && peopleErr == nil {
		return
	}
	p, err := k.plan(ctx, want)
	if err != nil {
		r.DoubtFor(err)
		return
	}
	differs := func() {
		for _, d := range p.differences() {
			r.DiffersVeiled(d.Aspect, d.Want, d.Got)
		}
	}
	if differs(); r.State == converge.Drifted {
		return
	}
	wrong, err := k.inEffect(ctx, p, people)
	if err != nil || !k.system.Running() {
		// It may be that sudo works for nobody.
		err = errors.Join(err, k.planBroken(ctx, p))
		if differs(); r.State == converge.Drifted {
			return
		}
	}
	if p.dead != "" {
		r.Fail(p.dead)
		return
	}
	if plugins := k.foreignPlugins(); len(plugins) > 0 {
		wrong = append(wrong, fmt.Sprintf("/etc/sudo.conf has sudo go by something else than %s: %s; take that line out", sudoers.Main, strings.Join(plugins, "; ")))
	}
	wrong = append(slices.Clone(p.stuck), wrong...)
	switch err = errors.Join(peopleErr, err); {
	case len(wrong) > 0:
		r.Fail(strings.Join(wrong, "\n"))
	case err != nil:
		r.DoubtFor(err)
	case k.Since(mark) == nil:
		k.believe(fingerprint)
	}
}

func (k *Kind) installed() (bool, error) {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/local/bin"} {
		info, err := k.system.FS.Stat(dir + "/sudo")
		switch {
		case err == nil && !info.IsDir():
			return true, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("cannot tell whether sudo is installed: %w", err)
		}
	}
	return false, nil
}

func (k *Kind) believes(fingerprint string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.inLine == fingerprint && k.system.Clock.Now().Sub(k.askedAt) < trusted
}

func (k *Kind) believe(fingerprint string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inLine, k.askedAt = fingerprint, k.system.Clock.Now()
}

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	wants := policy.Of[policy.Sudo](k.policy)
	if len(wants) == 0 {
		return nil
	}
	allow := allowed(wants[0].Spec)
	refused := k.administrated(ctx, allow)
	var outcomes []converge.Outcome
	for _, r := range drifted {
		err := refused
		switch {
		case err != nil:
		case r.ID == polkitID:
			inTime, cancel := ctx, func() {}
			if converge.Hurries(ctx) {
				inTime, cancel = context.WithTimeout(ctx, patienceInHurry)
			}
			err = k.repairPolkit(inTime, allow)
			cancel()
		case r.ID == groupsID:
			err = k.repairGroups(ctx, wants[0].Spec)
		default:
			err = k.repairSudo(ctx, wants[0].Spec)
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because(fmt.Sprintf("cannot bring %s into line", r.ID), err)})
		}
	}
	return outcomes
}
