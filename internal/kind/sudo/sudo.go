package sudo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	grantsPath = sudoers.Dir + "/0-soe-sudo"
	denialPath = sudoers.Dir + "/zz-soe-sudo"

	polkitID policy.ID = "sudo/polkit"
)

// sudoersAttr is what sudo wants of the files that it reads.
func sudoersAttr() system.Attr { return system.Attr{Mode: 0o440} }

// trusted is how long it is believed, while no file that decides has changed,
// that sudo would say the same again. Groups of the directory are in no file.
const trusted = 10 * time.Minute

// A Kind keeps sudo/allow and sudo/polkit.
type Kind struct {
	policy *policy.Policy
	system *system.System

	mu      sync.Mutex
	inLine  string // fingerprint of the machine when sudo last said the right thing
	askedAt time.Time
}

// New returns the kind for a policy on a machine.
func New(p *policy.Policy, s *system.System) *Kind { return &Kind{policy: p, system: s} }

// Name implements converge.Kind.
func (k *Kind) Name() string { return policy.Sudo{}.Kind() }

// Watches implements converge.Watcher. /etc holds the accounts and sudoers
// itself, which are replaced and not written.
func (k *Kind) Watches() []converge.Watch {
	return []converge.Watch{{Dir: "/etc"}, {Dir: sudoers.Dir}, {Dir: rulesDir}, {Dir: authorityDir}}
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Sudo](k.policy)
	if len(wants) == 0 {
		return nil, nil
	}
	want := wants[0]
	allow := allowed(want.Spec)
	forSudo, forPolkit := want.Resource, want.Resource
	forPolkit.ID = polkitID
	sudo, polkit := converge.Wanted(forSudo), converge.Wanted(forPolkit)
	k.checkSudo(ctx, allow, &sudo)
	k.checkPolkit(allow, &polkit)
	for _, r := range []*converge.Resource{&sudo, &polkit} {
		if r.State != converge.Drifted || k.bringsAdministrator(allow) {
			continue
		}
		if err := k.administrated(ctx, allow); err != nil {
			r.Fail(err.Error())
		}
	}
	return []converge.Resource{sudo, polkit}, nil
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

func (k *Kind) checkSudo(ctx context.Context, allow []string, r *converge.Resource) {
	if !k.installed() {
		r.Reason = "sudo is not installed, so nobody can use it"
		return
	}
	people, peopleErr := facts.People(ctx, k.system)
	fingerprint := k.fingerprint(people)
	if fingerprint != "" && k.believes(fingerprint) && peopleErr == nil {
		return
	}
	p, err := k.plan(ctx, allow)
	if err != nil {
		r.Doubt(err.Error())
		return
	}
	for _, d := range p.differences() {
		r.Differs(d.Aspect, d.Want, d.Got)
	}
	switch {
	case p.dead != "":
		r.Fail(p.dead)
		return
	case r.State == converge.Drifted:
		return
	}
	wrong, err := k.inEffect(ctx, p, people)
	wrong = append(slices.Clone(p.stuck), wrong...)
	switch err = errors.Join(peopleErr, err); {
	case len(wrong) > 0:
		r.Fail(strings.Join(wrong, "\n"))
	case err != nil:
		r.Doubt(err.Error())
	default:
		k.believe(fingerprint)
	}
}

func (k *Kind) installed() bool {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/local/bin"} {
		if info, err := k.system.FS.Stat(dir + "/sudo"); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
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

// bringsAdministrator says whether the policy makes an account or group that may
// administer, so that only a repair, which comes after theirs, can tell.
func (k *Kind) bringsAdministrator(allow []string) bool {
	return slices.ContainsFunc(allow, func(subject string) bool {
		id := policy.NewID("user", subject)
		if name, isGroup := strings.CutPrefix(subject, "%"); isGroup {
			id = policy.NewID("group", name)
		}
		_, brings := k.policy.Lookup(id)
		return brings
	})
}

// administrated returns an error when the policy would leave the machine without
// an administrator: root cannot log in to a desktop.
func (k *Kind) administrated(ctx context.Context, allow []string) error {
	var reasons []string
	for _, subject := range allow {
		if subject == "root" {
			continue
		}
		reason, err := k.unknown(ctx, subject)
		if err != nil {
			return fmt.Errorf("cannot tell whether the policy leaves an administrator: %w", err)
		}
		if reason == "" {
			return nil
		}
		reasons = append(reasons, reason)
	}
	return fmt.Errorf("it would leave no administrator: %s; nothing is changed until there is one", strings.Join(reasons, ", "))
}

// unknown says why a subject brings no administrator, or "" when it does.
func (k *Kind) unknown(ctx context.Context, subject string) (string, error) {
	name, isGroup := strings.CutPrefix(subject, "%")
	if !isGroup {
		_, found, err := facts.LookupUser(ctx, k.system, name)
		if err != nil || found {
			return "", err
		}
		return fmt.Sprintf("the user %s is not known to this machine", name), nil
	}
	group, found, err := facts.LookupGroup(ctx, k.system, name)
	if err != nil {
		return "", err
	}
	if !found {
		return fmt.Sprintf("the group %s is not known to this machine", name), nil
	}
	// The directory does not always say who is in a group; the local file does.
	local, err := facts.LocalGroups(k.system)
	if err != nil {
		return "", err
	}
	accounts, err := facts.LocalAccounts(k.system)
	if err != nil {
		return "", err
	}
	isLocal := slices.ContainsFunc(local, func(g facts.Group) bool { return g.Name == group.Name })
	hasMembers := len(group.Members) > 0 || slices.ContainsFunc(accounts, func(a facts.Account) bool { return a.GID == group.GID })
	if isLocal && !hasMembers {
		return fmt.Sprintf("nobody is in the group %s", name), nil
	}
	return "", nil
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
			err = k.repairPolkit(allow)
		default:
			err = k.repairSudo(ctx, allow)
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: fmt.Errorf("cannot bring %s into line: %w", r.ID, err)})
		}
	}
	return outcomes
}

func (k *Kind) repairSudo(ctx context.Context, allow []string) error {
	p, err := k.plan(ctx, allow)
	if err != nil {
		return err
	}
	after, err := sudoers.Read(k.system.FS, p.changes())
	if err != nil {
		return err
	}
	if err := after.Validate(ctx, k.system.Runner); err != nil {
		return fmt.Errorf("nothing is changed, for sudo would not work after it: %w", err)
	}
	if p.openDir != "" {
		if err := k.system.FS.SetAttr(sudoers.Dir, system.Attr{Mode: dirMode}); err != nil {
			return err
		}
	}
	if err := k.system.FS.MkdirAll(sudoers.Dir, dirMode); err != nil {
		return err
	}
	for _, e := range p.framing() {
		if err := k.apply(e); err != nil {
			return err // what follows takes away, and relies on this
		}
	}
	var errs []error
	for _, e := range p.foreign {
		errs = append(errs, k.apply(e))
	}
	return errors.Join(errs...)
}

func (k *Kind) apply(e edit) error {
	if e.link {
		// The door replaces no links, and what the link leads to is not ours.
		if err := k.system.FS.Remove(e.path); err != nil {
			return err
		}
	}
	return k.system.FS.WriteFile(e.path, e.content, sudoersAttr())
}
