package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// askLines returns an error if a change of a file that decides who gets in would lock somebody out.
func (k *Kind) askLines(ctx context.Context, name string, a aim) error {
	mark := k.Mark()
	var err error
	switch name {
	case policy.ShellsFile:
		err = k.keepsShells(ctx, a)
	case policy.SecureTTYFile:
		err = k.keepsTerminals(ctx, a)
	default:
		return nil
	}
	if unanswered := k.Since(mark); unanswered != nil {
		return fmt.Errorf("cannot prove that nobody is locked out: %w", unanswered)
	}
	return err
}

// goes returns the lines that the change removes.
func (a *aim) goes() (lines []string) {
	before, after := keyed.Parse(keyed.Lines, string(a.before)), keyed.Parse(keyed.Lines, string(a.content))
	for line := range bytes.Lines(a.before) {
		one := keyed.OneLine(string(line))
		if len(before.Values(one)) > 0 && len(after.Values(one)) == 0 {
			lines = append(lines, one)
		}
	}
	return lines
}

// keepsShells returns an error if the change removes the shell of somebody who can log in. Login screens, ftp
// and chsh refuse people whose shell is not listed.
func (k *Kind) keepsShells(ctx context.Context, a aim) error {
	goes := a.goes()
	if len(goes) == 0 {
		return nil
	}
	accounts, err := facts.LocalAccounts(k.system)
	if err != nil {
		return err
	}
	if k.system.Running() {
		people, err := facts.People(ctx, k.system)
		if err != nil {
			return err
		}
		accounts = append(accounts, people...)
	}
	for _, account := range accounts {
		if facts.CanLogIn(account.Shell) && slices.Contains(goes, account.Shell) {
			return public.Error(fmt.Errorf("it would lock somebody out: %s is the shell of %s", account.Shell, account.Name))
		}
	}
	return nil
}

// keepsTerminals returns an error if the change removes a terminal while root has a password and no other way
// to log in.
func (k *Kind) keepsTerminals(ctx context.Context, a aim) error {
	if len(a.goes()) == 0 {
		return nil
	}
	shadow, err := k.system.FS.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(shadow) {
		fields := bytes.SplitN(line, []byte(":"), 3)
		if len(fields) < 3 || string(fields[0]) != "root" || len(fields[1]) > 0 && bytes.ContainsAny(fields[1][:1], "!*") {
			continue
		}
		if k.system.Running() {
			for _, unit := range []string{"amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"} {
				if state, err := k.system.Units.Unit(ctx, unit); err == nil && state.ActiveState == "active" {
					return nil // Session Manager lets root in
				}
			}
		}
		return errors.New("it would lock somebody out: root has a password, could log in at that terminal, and amazon-ssm-agent does not run")
	}
	return nil
}
