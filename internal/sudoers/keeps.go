package sudoers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Keeps returns an error if a file, with this content, would keep somebody from becoming root who may
// administer, or would weaken sudo. allow are the subjects that may. sudo is asked what it would say with the
// file and without it; what is wrong without it too is not the file's doing. If sudo does not answer, the
// file may not have a line that could deny anybody anything.
func Keeps(ctx context.Context, s *system.System, allow, users []string, name string, content []byte) error {
	if !s.Running() || len(allow) == 0 || path.Dir(name) == Dir && Skipped(path.Base(name)) {
		return nil
	}
	without, err := withGrants(s, allow, name)
	if err != nil {
		return err
	}
	with := maps.Clone(without)
	with[name] = content
	for _, user := range users {
		switch err := keepsOne(ctx, s, user, without, with); {
		case errors.Is(err, system.ErrNotInstalled):
			return nil
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return SurelyKeeps(content, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// withGrants are the files without one of them, and with the agent's own grants even if these are still to be
// written.
func withGrants(s *system.System, allow []string, name string) (map[string][]byte, error) {
	without := map[string][]byte{name: nil}
	_, err := s.FS.Stat(Grants)
	if !errors.Is(err, fs.ErrNotExist) {
		return without, err
	}
	var b strings.Builder
	for _, subject := range allow {
		b.WriteString(sudotext.Quote(subject) + " ALL = (ALL:ALL) ALL\n")
	}
	without[Grants] = []byte(b.String())
	return without, nil
}

func keepsOne(ctx context.Context, s *system.System, user string, without, with map[string][]byte) error {
	after, err := List(ctx, s, user, with)
	if errors.Is(err, ErrUnknownUser) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := IsDir(s.FS)
	hinders, weak := sudotext.Hindrances(after.Defaults, isDir), impersonal(after)
	if after.Administers() && len(hinders)+len(weak) == 0 {
		return nil
	}
	before, err := List(ctx, s, user, without)
	if err != nil {
		return err
	}
	hinders = slices.DeleteFunc(hinders, func(h string) bool { return slices.Contains(sudotext.Hindrances(before.Defaults, isDir), h) })
	weak = slices.DeleteFunc(weak, func(w string) bool { return slices.Contains(impersonal(before), w) })
	switch {
	case before.Administers() && !after.Administers():
		return fmt.Errorf("sudo, which lets %s administer without it, would not do so any more, and [sudo] allow names them; take out what denies them something", user)
	case len(hinders) > 0:
		return fmt.Errorf("%s, whom [sudo] allow names, could not become root any more, by its Defaults %s; leave that out", user, nameOf(hinders[0]))
	case len(weak) > 0:
		return fmt.Errorf("its Defaults %s would weaken sudo, and [sudo] undoes that; leave it out", nameOf(weak[0]))
	}
	return nil
}

// impersonal are the weaknesses that are not about the user's own password alone.
func impersonal(l Listing) (weak []string) {
	for name, personal := range l.Weak() {
		if !personal {
			weak = append(weak, name)
		}
	}
	slices.Sort(weak)
	return weak
}

// nameOf is a setting without its value, which may be a secret.
func nameOf(setting string) string {
	name, _, _ := strings.Cut(setting, " ")
	return name
}

// SurelyKeeps is Keeps for when sudo cannot be asked, because of why: it returns an error if a line of a file
// may deny somebody something.
func SurelyKeeps(content []byte, why error) error {
	all := func([]sudotext.Subject) bool { return true }
	for _, line := range sudotext.Parse(content) {
		hinders := line.Hinders(all, nil, func(string) bool { return false })
		if line.Sort == sudotext.Unclear || line.Sort == sudotext.Grant && strings.Contains(line.Rest, "!") || len(hinders) > 0 {
			return fmt.Errorf("cannot tell whether line %d keeps somebody from root whom [sudo] allow names: %w", line.First, why)
		}
	}
	return nil
}
