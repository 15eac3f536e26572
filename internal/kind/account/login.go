package account

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// mayLoseLogin returns why an account must not get a shell by which it cannot log in any more: it is the
// last administrator, or a person's who has used the desktop, and AWS does not say whether the desktop is
// theirs.
func (u *Users) mayLoseLogin(ctx context.Context, db database, have, after facts.Account) error {
	if endsAtOnce(have.Shell) || !endsAtOnce(after.Shell) && u.isListed(after.Shell) {
		return nil
	}
	loginless := after
	loginless.Shell = u.nologin()
	if err := u.keepsAdministrator(ctx, db, have, loginless); err != nil {
		return err
	}
	desktop, err := facts.DesktopUIDs(ctx, u.system)
	if err != nil {
		return fmt.Errorf("cannot tell whether the desktop is theirs, and they could not log in with %s: %w", after.Shell, err)
	}
	if slices.Contains(desktop, have.UID) {
		return public.Error(fmt.Errorf("nobody can log in with %s, and the desktop may be theirs: they have a home in /home; if the account is to go, say ensure = \"absent\"", after.Shell))
	}
	return nil
}

// keepsAdministrator returns an error if a change of an account would leave nobody whom [sudo] allow names
// and who can log in, while there is somebody now.
func (u *Users) keepsAdministrator(ctx context.Context, db database, have, after facts.Account) error {
	changed := database{slices.Clone(db.accounts), db.groups}
	for i, a := range changed.accounts {
		if a == have {
			changed.accounts[i] = after
		}
	}
	if r, _ := u.policy.Lookup(policy.NewID("sudo", "allow")); len(r.Missing) > 0 {
		return fmt.Errorf("cannot tell whether that leaves an administrator: %s is not known in full: the value of %s is not", r.ID, r.Missing[0])
	}
	for _, want := range policy.Of[policy.Sudo](u.policy) {
		before, err := administered(guard{ctx: ctx, system: u.system, db: db}, want.Spec.Allow)
		if err != nil || !before {
			return err
		}
		still, err := administered(guard{ctx: ctx, system: u.system, db: changed}, want.Spec.Allow)
		if err != nil {
			return err
		}
		if !still {
			return errLastAdministrator
		}
	}
	return nil
}

// administered reports whether one of the subjects is, or includes, somebody who can administer.
func administered(g guard, allow []string) (bool, error) {
	for _, subject := range allow {
		if left, err := g.leaves(subject); left || err != nil {
			return left, err
		}
	}
	return false, nil
}

// endsAtOnce reports whether a login with a shell ends at once.
func endsAtOnce(shell string) bool {
	return !facts.CanLogIn(shell) || slices.Contains([]string{"true", "sync", "halt", "shutdown", "poweroff", "reboot", "null"}, path.Base(shell))
}

// isListed reports whether /etc/shells has a shell. pam_shells(8) lets nobody in with another, and a program
// that is not in it may be no shell. A list that cannot be read keeps usermod from running.
func (u *Users) isListed(shell string) bool {
	listed, err := u.system.FS.ReadFile(policy.ShellsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return true // none has more right than another
	}
	return slices.ContainsFunc(strings.Split(string(listed), "\n"), func(line string) bool { return strings.TrimSpace(line) == shell })
}
