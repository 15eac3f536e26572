package sudo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	var left error
	if p.silent {
		left = p.leaveWhatSudoWouldHaveToTell()
	}
	if p.openDir != "" {
		if err := k.system.Rights.SetAttr(sudoers.Dir, system.Attr{Mode: dirMode}); err != nil {
			return "", err
		}
	}
	if err := k.system.Rights.MkdirAll(sudoers.Dir, dirMode); err != nil {
		return "", err
	}
	before, err := k.before(p)
	if err != nil {
		return "", err
	}
	writeErr := k.write(ctx, p, administrators)
	ctx = context.WithoutCancel(ctx) // once begun, finish: a half-written state could break sudo
	if dead == "" {
		if err := k.stillWorks(ctx, p, administrators); err != nil {
			return "", errors.Join(fmt.Errorf("the files are put back as they were: %w", err), k.putBack(p, before))
		}
	}
	if writeErr != nil {
		return "", writeErr
	}
	k.forgetPasswords(ctx, p.judge)
	return dead, errors.Join(left, k.system.Rights.Reserve(sudoers.Dir))
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
	named := p.judge.administrators()
	isRoot := func(name string) bool { return name == "root" }
	known := slices.DeleteFunc(slices.Clone(named), isRoot)
	if len(known) == 0 || p.openDir != "" || p.silent || !k.system.Running() || len(slices.DeleteFunc(slices.Clone(would), isRoot)) > 0 || len(named) > maxAdministrators {
		return nil
	}
	if slices.ContainsFunc(p.judge.groups, func(group string) bool {
		return !slices.ContainsFunc(p.judge.localGroups(), func(g facts.Group) bool { return strings.EqualFold(g.Name, group) })
	}) {
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
// the users whom it let in before.
func (k *Kind) stillWorks(ctx context.Context, p *plan, administrators []string) error {
	still := k.working(ctx, p, administrators, nil)
	if len(still) == len(administrators) && len(still) > 0 {
		return nil
	}
	works, faults, err := k.works(ctx, &plan{silent: p.silent})
	switch lost := without(administrators, still); {
	case err != nil:
		return err
	case !works:
		return fmt.Errorf("sudo would work for nobody: %s", faults[0])
	case len(lost) > 0 && !p.silent && k.system.Running():
		return fmt.Errorf("sudo, which let in %s before, does not do so any more", strings.Join(lost, ", "))
	}
	return nil
}

// write carries out a plan. If the disk is too full for the agent's own files, grants to others are
// removed anyway. If a file of others cannot be written, it is set aside by a rename, unless the
// administrators need a line of it.
func (k *Kind) write(ctx context.Context, p *plan, administrators []string) error {
	var errs []error
	full := false // then the agent's remaining files wait: skipping one would break the order of steps
	aside := map[string]bool{}
	for _, e := range p.steps() {
		own := Owns(e.path)
		if own && full || aside[e.path] {
			continue
		}
		err := k.unchanged(p, e.path)
		if err == nil {
			err = k.apply(e)
		}
		switch {
		case own && err != nil && !system.NoRoom(err):
			return err
		case own:
			full = err != nil
		case err != nil && path.Dir(e.path) == sudoers.Dir && e.takesAway && !e.aside && k.unchanged(p, e.path) == nil &&
			k.letsInWithout(ctx, p, e.path, administrators):
			asideErr := k.system.Rights.SetAside(e.path)
			if asideErr == nil || system.NoRoom(err) {
				err = asideErr
			}
			aside[e.path] = asideErr == nil
		}
		if err != nil && e.lifts && !k.canDoWithout(ctx, p, e, administrators) {
			return err // or the denial would lock them all out
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// letsInWithout reports whether sudo lets all administrators in, with the current files except one.
func (k *Kind) letsInWithout(ctx context.Context, p *plan, name string, administrators []string) bool {
	return len(k.working(ctx, p, administrators, map[string][]byte{name: {}})) == len(administrators)
}

// canDoWithout reports whether sudo lets all administrators in without one edit of the plan. If sudo
// cannot be asked, it did not let anybody in before either.
func (k *Kind) canDoWithout(ctx context.Context, p *plan, e edit, administrators []string) bool {
	changes := p.changes()
	delete(changes, e.path)
	return len(k.working(ctx, p, administrators, changes)) == len(administrators)
}

// unchanged returns an error if a file of somebody else's has changed since the plan was made, so that
// their edit is not lost. The change triggers another check.
func (k *Kind) unchanged(p *plan, name string) error {
	was, read := p.tree.Content[name]
	if !read || Owns(name) {
		return nil
	}
	now, err := sudoers.ReadFile(k.system.FS, name)
	if err == nil && (bytes.Equal(now, was) || p.isFreed(name, now)) {
		return nil
	}
	if err == nil {
		err = errors.New("somebody has just written it")
	}
	return fmt.Errorf("cannot write %s: %w; it is checked again", name, err)
}

// isFreed reports whether a file has the content that the first of its two edits writes.
func (p *plan) isFreed(name string, content []byte) bool {
	return slices.ContainsFunc(p.foreign, func(e edit) bool { return e.path == name && e.freeing != nil && bytes.Equal(e.freeing, content) })
}

func (k *Kind) apply(e edit) error {
	if err := k.system.Rights.WriteFile(e.path, e.content, e.attr); err != nil {
		return err
	}
	if !e.aside {
		return nil
	}
	return k.system.Rights.Remove(system.Aside(e.path))
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

// before are the current versions of the files that a plan changes.
func (k *Kind) before(p *plan) (map[string]system.Original, error) {
	before := map[string]system.Original{}
	for name := range p.changes() {
		info, err := k.system.FS.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			before[name] = system.Original{Info: system.Info{Type: fs.ModeIrregular}}
			continue
		case err != nil:
			return nil, err
		}
		old := system.Original{Info: info}
		if info.Type == fs.ModeSymlink {
			old.Link, err = k.system.FS.Readlink(name)
		} else {
			old.Content, err = k.system.FS.ReadFile(name)
		}
		if err != nil {
			return nil, err
		}
		before[name] = old
	}
	return before, nil
}

// putBack undoes write in reverse order, so that whoever can administer before and after can do so in
// between.
func (k *Kind) putBack(p *plan, before map[string]system.Original) error {
	var errs []error
	steps := p.steps()
	for i, e := range slices.Backward(steps) {
		if was := slices.IndexFunc(steps[:i], func(s edit) bool { return s.path == e.path }); was >= 0 {
			errs = append(errs, k.system.Rights.WriteFile(e.path, steps[was].content, sudoersAttr()))
		} else {
			errs = append(errs, k.putBackOne(e, before[e.path]))
		}
	}
	return errors.Join(errs...)
}

// putBackOne restores one file, unless somebody has changed it since.
func (k *Kind) putBackOne(e edit, old system.Original) error {
	name := e.path
	now, err := sudoers.ReadFile(k.system.FS, name)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case err == nil && !Owns(name) && !bytes.Equal(now, e.content):
		return nil
	case old.Info.Type == fs.ModeIrregular: // there was no file
		return k.system.Rights.Remove(name)
	case gone && k.isAside(name):
		return k.system.Rights.Restore(name)
	case old.Info.Type == fs.ModeSymlink:
		return k.system.Rights.Symlink(old.Link, name)
	}
	return k.system.Rights.WriteFile(name, old.Content, old.Info.Attr)
}

func (k *Kind) isAside(name string) bool {
	_, err := k.system.FS.Stat(system.Aside(name))
	return err == nil
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
