package sudo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// repairSudo first does what follows from the files alone. If that is nothing, it does what only
// sudo's answers show; otherwise the next check, which asks sudo about everybody, finds it.
func (k *Kind) repairSudo(ctx context.Context, want policy.Sudo) error {
	p, err := k.plan(ctx, want)
	if err != nil {
		return err
	}
	if len(p.covered) > 0 {
		if err := k.uncover(ctx, p); err != nil {
			return err
		}
		if p, err = k.plan(ctx, want); err != nil { // of the files that were hidden
			return err
		}
	}
	dead, err := k.carryOut(ctx, p)
	if err != nil || dead != "" || p.silent || p.openDir != "" || len(p.changes()) > 0 {
		return errors.Join(err, asError(dead))
	}
	soon, enough := context.WithTimeout(ctx, patienceBeforeRepair)
	people, peopleErr := facts.People(soon, k.system) // the next check asks about people who are missing here
	enough()
	_, wronged, err := k.inEffect(ctx, p, people)
	if len(wronged) == 0 || p.silent {
		return nil //nolint:nilerr // what is not known is not to be mended
	}
	if err := errors.Join(k.planCulprits(ctx, p, wronged), err, peopleErr); err != nil && len(p.foreign) == 0 {
		return err
	}
	dead, err = k.carryOut(ctx, p)
	return errors.Join(err, asError(dead))
}

func asError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// carryOut writes the plan. If sudo did not work before and the agent cannot fix that, it returns the
// reason; grants to others are removed anyway.
func (k *Kind) carryOut(ctx context.Context, p *plan) (dead string, err error) {
	administrators, dead, err := k.keeping(ctx, p)
	if err != nil {
		return "", err
	}
	if p.openDir != "" {
		if err := k.system.Rights.SetAttr(sudoers.Dir, system.Attr{Mode: dirMode}); err != nil {
			return "", err
		}
	}
	if err := k.system.Rights.MkdirAll(sudoers.Dir, dirMode); err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx) // once begun, finish: a half-written state could break sudo
	done, writeErr := k.write(ctx, p, administrators)
	if dead == "" {
		if err := k.stillWorks(ctx, p, administrators, done, writeErr == nil); err != nil {
			return "", errors.Join(fmt.Errorf("the files are put back as they were: %w", err), writeErr, k.putBack(ctx, p, administrators, done))
		}
	}
	k.forgetPasswords(ctx, p.judge)
	return dead, errors.Join(writeErr, k.system.Rights.Reserve(sudoers.Dir))
}

// keeping adjusts the plan so that sudo works afterwards, and returns the administrators that sudo
// must let in then: those whom it lets in now, or would after the plan. If sudo works neither before
// nor after, it returns the reason, and visudo judges the changed files.
func (k *Kind) keeping(ctx context.Context, p *plan) (administrators []string, dead string, err error) {
	administrators = k.administrators(p)
	would := k.working(ctx, p, administrators, p.changes())
	if len(would) == len(administrators) && p.dead == "" {
		return administrators, "", nil
	}
	untrusted := p.dead
	if err := k.planBroken(ctx, p); err != nil {
		return nil, "", err
	}
	if p.dead != "" {
		return nil, p.dead, k.mayStillChange(ctx, p, untrusted)
	}
	would = k.working(ctx, p, administrators, p.changes())
	if refused := without(administrators, would); len(refused) > 0 {
		if err := k.planCulprits(ctx, p, refused); err != nil {
			p.unsure = append(p.unsure, err) // the next check tells
		}
		would = k.working(ctx, p, administrators, p.changes())
	}
	if p.silent {
		if err := k.planDenials(ctx, p); err != nil {
			p.unsure = append(p.unsure, err)
		}
	}
	now := k.working(ctx, p, administrators, nil)
	if lost := without(now, would); len(lost) > 0 {
		return nil, "", fmt.Errorf("nothing is changed, for sudo, which lets in %s now, would not do so any more", strings.Join(lost, ", "))
	}
	return would, "", k.leavesOne(ctx, p, would)
}

// leavesOne returns an error if sudo refuses all allowed users except root, who cannot log in to a
// desktop, while another person can administer: that person would be the last. Members of a directory
// group may be unknown, and sudo cannot say what it makes of /etc/sudoers.d before others lose write
// access to it.
func (k *Kind) leavesOne(ctx context.Context, p *plan, would []string) error {
	known := without(p.judge.administrators(), []string{"root"})
	if !p.knowsAllowed() || p.openDir != "" || p.silent || !k.system.Running() || len(without(would, []string{"root"})) > 0 {
		return nil
	}
	soon, enough := context.WithTimeout(ctx, patienceBeforeRepair)
	defer enough()
	people, err := facts.People(soon, k.system)
	if err != nil {
		return fmt.Errorf("cannot tell who administers the machine: %w", err)
	}
	for _, person := range people {
		if len(k.working(ctx, p, []string{person.Name}, nil)) > 0 {
			why := fmt.Errorf("sudo refuses %s, whom [sudo] allow names; look for the line that denies it with: sudo -ll -U '%s'", strings.Join(known, ", "), known[0])
			if _, err := sudoers.List(ctx, k.system, known[0], p.changes()); err != nil {
				why = err
			}
			return fmt.Errorf("nothing is changed, for the machine would be left without an administrator but root: %w", why)
		}
	}
	return nil
}

// knowsAllowed reports whether the machine itself knows somebody whom the policy allows besides root, and all
// of them: members of a directory's group may be unknown.
func (p *plan) knowsAllowed() bool {
	named := p.judge.administrators()
	if len(without(named, []string{"root"})) == 0 || len(named) > maxAdministrators {
		return false
	}
	return !slices.ContainsFunc(p.judge.groups, func(group string) bool {
		return !slices.ContainsFunc(p.judge.localGroups(), func(g facts.Group) bool { return strings.EqualFold(g.Name, group) })
	})
}

// mayStillChange returns an error if sudo does not work and the plan should not be carried out: nobody
// could use sudo afterwards, or visudo rejects what the plan writes.
func (k *Kind) mayStillChange(ctx context.Context, p *plan, untrusted string) error {
	if untrusted != "" {
		return errors.New(untrusted)
	}
	faults, err := sudoers.Faults(ctx, k.system, p.changes())
	if err != nil {
		return err
	}
	for _, fault := range faults {
		if _, changes := p.changes()[fault.File]; changes {
			return fmt.Errorf("%s; and nothing is changed, for %s", p.dead, fault)
		}
	}
	return nil
}

// administrators are the allowed users, root first, whom sudo is asked about at a repair. Their number
// is limited.
func (k *Kind) administrators(p *plan) []string {
	names := p.judge.administrators()
	return names[:min(len(names), maxAdministrators)]
}

// without returns the first list without the elements of the second.
func without(some, others []string) []string {
	return slices.DeleteFunc(slices.Clone(some), func(name string) bool { return slices.Contains(others, name) })
}

// stillWorks returns an error if sudo does not work with the files as they are now, or refuses one of
// the administrators. If not everything could be written, these are the ones whom it let in before.
func (k *Kind) stillWorks(ctx context.Context, p *plan, administrators []string, done []step, complete bool) error {
	still := k.working(ctx, p, administrators, nil)
	if len(still) == len(administrators) && len(still) > 0 {
		return nil
	}
	works, faults, err := k.works(ctx, &plan{silent: p.silent})
	if err != nil {
		return err
	}
	if !works {
		return fmt.Errorf("sudo would work for nobody: %s", faults[0])
	}
	lost := without(administrators, still)
	if !complete {
		lost = k.working(ctx, p, lost, contentsBefore(done))
	}
	if len(lost) > 0 && !p.silent && k.system.Running() {
		return fmt.Errorf("sudo, which let in %s before, does not do so any more", strings.Join(lost, ", "))
	}
	return nil
}

// maxAdministrators limits for how many of the allowed sudo is asked at a repair.
const maxAdministrators = 8

// working returns the users whom sudo lets administer now, or would after the changes. It returns none
// if sudo cannot be asked: in an image, or while sudo waits for a directory.
func (k *Kind) working(ctx context.Context, p *plan, users []string, changes map[string][]byte) (working []string) {
	if !k.system.Running() || p.silent {
		return nil
	}
	for _, name := range users {
		l, err := sudoers.List(ctx, k.system, name, changes)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			p.silent = true
			return nil
		}
		if err == nil && l.Administers() {
			working = append(working, name)
		}
	}
	return working
}

// forgetPasswords removes sudo's records of recently entered passwords (sudoers_timestamp(5)), except
// those of the allowed, so that a right that comes back by mistake is not usable without a password.
// sudo names the records by user, since 1.9.15 by uid. A record that stays is no failure, for it
// grants nothing.
func (k *Kind) forgetPasswords(ctx context.Context, j *judge) {
	names, _ := k.system.FS.ReadDir(recordsDir)
	for _, name := range names {
		user := name
		if account, found, err := facts.LookupUser(ctx, k.system, name); err == nil && found {
			user = account.Name
		}
		if !j.allowsUser(user) {
			_ = k.system.FS.Remove(recordsDir + "/" + name)
		}
	}
}

const recordsDir = "/run/sudo/ts"
