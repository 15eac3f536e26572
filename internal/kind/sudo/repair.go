package sudo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (k *Kind) repairSudo(ctx context.Context, allow []string) error {
	p, err := k.plan(ctx, allow)
	if err != nil {
		return err
	}
	if err := validate(ctx, k.system, p.changes()); err != nil {
		return fmt.Errorf("nothing is changed, for sudo would not work after it: %w", err)
	}
	administrators := k.working(ctx, p.judge.administrators())
	if p.openDir != "" {
		if err := k.system.FS.SetAttr(sudoers.Dir, system.Attr{Mode: dirMode}); err != nil {
			return err
		}
	}
	if err := k.system.FS.MkdirAll(sudoers.Dir, dirMode); err != nil {
		return err
	}
	before, err := k.before(p)
	if err != nil {
		return err
	}
	if err := k.write(p); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // what is begun is ended: nobody is left with a sudo that does not work
	err = validate(ctx, k.system, nil)
	if still := k.working(ctx, administrators); err == nil && len(still) < len(administrators) {
		err = fmt.Errorf("of %s, whom it let in before, sudo lets in %q alone", strings.Join(administrators, ", "), still)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the files are put back as they were: %w", err), k.putBack(before))
	}
	k.forgetPasswords(ctx, p.judge)
	return nil
}

func (k *Kind) write(p *plan) error {
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

// working are those of the users whom sudo itself lets in. In an image nothing can
// be asked.
func (k *Kind) working(ctx context.Context, users []string) []string {
	if !k.system.Running() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(users), func(name string) bool {
		a := k.ask(ctx, name)
		return a.err != nil || !a.mayUse
	})
}

// before are the files that a plan changes, as they are.
func (k *Kind) before(p *plan) (map[string]system.Kept, error) {
	before := map[string]system.Kept{}
	for name := range p.changes() {
		info, err := k.system.FS.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			before[name] = system.Kept{Info: system.Info{Type: fs.ModeIrregular}}
			continue
		case err != nil:
			return nil, err
		}
		old := system.Kept{Info: info}
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

// putBack undoes write.
func (k *Kind) putBack(before map[string]system.Kept) error {
	var errs []error
	for name, old := range before {
		switch old.Info.Type {
		case fs.ModeIrregular: // there was none
			errs = append(errs, k.system.FS.Remove(name))
		case fs.ModeSymlink:
			errs = append(errs, k.system.FS.Symlink(old.Link, name))
		default:
			errs = append(errs, k.system.FS.WriteFile(name, old.Content, old.Info.Attr))
		}
	}
	return errors.Join(errs...)
}

// forgetPasswords removes sudo's records of who has given the password lately
// (sudoers_timestamp(5)), but for those of the allowed: a right that comes back
// by mistake is then not one without a password. sudo names them by user, since
// 1.9.15 by uid. That one stays is no failure, for it grants nothing.
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
