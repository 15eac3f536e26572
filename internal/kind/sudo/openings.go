package sudo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An opening lets somebody join a group by themselves at any time, such as a group password.
type opening struct {
	group string
	facts.Opening
}

// openingsOf returns the openings of some groups. No administrator needs one: usermod(8) adds members,
// and an opening would let people who were removed come back.
func openingsOf(names []string, all map[string]facts.Opening) (open []opening) {
	for _, name := range names {
		o := all[name]
		o.Administrators = slices.DeleteFunc(slices.Clone(o.Administrators), func(a string) bool { return a == "root" })
		if o.Password || len(o.Administrators) > 0 {
			open = append(open, opening{name, o})
		}
	}
	return open
}

// openingsOfAllowed returns the openings of the groups that may administer, under all names that
// /etc/group has for their numbers.
func (k *Kind) openingsOfAllowed(ctx context.Context, allow []string) (open []opening, err error) {
	local, err1 := facts.LocalGroups(k.system)
	all, err2 := facts.Openings(k.system)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if len(openingsOf(slices.Collect(maps.Keys(all)), all)) == 0 {
		return nil, nil // no lookup is needed
	}
	var names []string
	for _, subject := range allow {
		name, isGroup := strings.CutPrefix(subject, "%")
		if !isGroup {
			continue
		}
		group, found, err2 := k.rootedIn(ctx, name, local)
		if err = errors.Join(err, err2); found {
			for _, name := range group.names() {
				names = appendNew(names, name)
			}
		}
	}
	return openingsOf(names, all), err
}

// checkOpenings reports how others could join the groups that may administer.
func (k *Kind) checkOpenings(ctx context.Context, allow []string, r *converge.Resource) {
	open, err := k.openingsOfAllowed(ctx, allow)
	differsByOpenings(r, open)
	if err != nil && r.State != converge.Drifted {
		r.SetUnknownErr(err)
	}
}

func differsByOpenings(r *converge.Resource, open []opening) {
	for _, o := range open {
		if len(o.Administrators) > 0 {
			r.AddPublicDrift("administrators of the group "+o.group, "nobody but root", strings.Join(o.Administrators, ", ")+", who can put anybody into it with gpasswd")
		}
		if o.Password {
			r.AddPublicDrift("password of the group "+o.group, "none", "one that lets in whoever knows it, with newgrp")
		}
	}
}

// close removes the openings.
func (k *Kind) close(ctx context.Context, open []opening) error {
	var errs []error
	for _, o := range open {
		if len(o.Administrators) > 0 {
			if err := k.gpasswd(ctx, "--administrators", "", o.group); err != nil {
				errs = append(errs, fmt.Errorf("cannot take the administrators from the group %s: %w", o.group, err))
			}
		}
		if o.Password {
			if err := k.gpasswd(ctx, "--restrict", o.group); err != nil {
				errs = append(errs, fmt.Errorf("cannot take the password from the group %s: %w", o.group, err))
			}
		}
	}
	return errors.Join(errs...)
}

// closeAllowed removes the openings of the groups that may administer.
func (k *Kind) closeAllowed(ctx context.Context, allow []string) error {
	open, err := k.openingsOfAllowed(ctx, allow)
	return errors.Join(err, k.close(ctx, open))
}

// gpasswd runs gpasswd(1), which holds the lock of the accounts while it writes.
func (k *Kind) gpasswd(ctx context.Context, args ...string) error {
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: append([]string{"gpasswd"}, args...)})
	if err == nil && out.ExitCode != 0 {
		err = errors.New(out.LastLine())
	}
	return err
}

// givenAtLogin reports which groups pam_group(8) gives to people at login, if it is in use.
func (k *Kind) givenAtLogin(gids map[int]string, local []facts.Group) (stuck []string) {
	const file = "/etc/security/group.conf"
	content, _ := k.system.FS.ReadFile(file)
	names := map[string]bool{}
	for gid, name := range gids {
		names[name] = true
		for _, g := range local {
			names[g.Name] = names[g.Name] || g.GID == gid
		}
	}
	for line := range strings.Lines(strings.ReplaceAll(string(content), "\\\n", " ")) {
		rule, _, _ := strings.Cut(line, "#")
		fields := strings.Split(rule, ";")
		for _, group := range strings.FieldsFunc(fields[len(fields)-1], func(r rune) bool { return strings.ContainsRune(", \t\n", r) }) {
			if len(fields) == 5 && names[group] && k.usesPamGroup() {
				stuck = append(stuck, fmt.Sprintf("a line of %s gives %s to people who log in; take it out", file, group))
			}
		}
	}
	return stuck
}

func (k *Kind) usesPamGroup() bool {
	const dir = "/etc/pam.d"
	names, _ := k.system.FS.ReadDir(dir)
	return slices.ContainsFunc(names, func(name string) bool {
		content, _ := k.system.FS.ReadFile(path.Join(dir, name))
		for line := range strings.Lines(string(content)) {
			if rule, _, _ := strings.Cut(line, "#"); strings.Contains(rule, "pam_group.so") {
				return true
			}
		}
		return false
	})
}
