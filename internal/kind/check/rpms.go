package check

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// atATime is how many packages rpm is asked about at a time, so that much can be continued later.
const atATime = 25

// askRPM runs a query with low priority.
func (k *Kind) askRPM(ctx context.Context, args ...string) (system.Output, error) {
	return k.system.Runner.Run(ctx, system.Command{
		Argv: append([]string{"rpm"}, args...), Timeout: 5 * time.Minute, ReadOnly: true,
		Confined: &system.Confinement{Background: true},
	})
}

// explorePackages compares what is installed with what the packages brought, one package after the other.
func (k *Kind) explorePackages(ctx context.Context, wants []policy.Want[policy.Search], p *progress) (ended bool, err error) {
	out, err := k.askRPM(ctx, "-qa", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n")
	if err == nil && (out.ExitCode != 0 || len(out.Stdout) == 0) {
		err = fmt.Errorf("rpm does not say which packages there are: %s", out.LastLine())
	}
	if err != nil {
		return false, err
	}
	packages := strings.Fields(string(out.Stdout))
	packages = slices.DeleteFunc(packages, func(name string) bool { return strings.HasPrefix(name, "gpg-pubkey-") })
	slices.Sort(packages)
	first, found := slices.BinarySearch(packages, p.Package)
	if found {
		first++
	}
	kept := k.keptFiles()
	for some := range slices.Chunk(packages[first:], atATime) {
		if ctx.Err() != nil {
			return false, nil
		}
		// Neither are scripts of packages run, nor is it asked for what a package needs.
		out, err := k.askRPM(ctx, append([]string{"-V", "--nodeps", "--noscripts", "--nomtime"}, some...)...)
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := k.verify(out, wants, p, kept); err != nil {
			return false, err
		}
		p.Package = some[len(some)-1]
	}
	return true, nil
}

// verify reads what rpm says of some packages.
func (k *Kind) verify(out system.Output, wants []policy.Want[policy.Search], p *progress, kept map[string]bool) error {
	for line := range strings.Lines(string(out.Stdout)) {
		line = strings.TrimSpace(line)
		m := verified.FindStringSubmatch(line)
		if m == nil {
			if line != "" && !strings.HasSuffix(line, " is not installed") { // it was removed meanwhile
				return fmt.Errorf("cannot tell what rpm means: %s", plain(line))
			}
			continue
		}
		name, what := alteration(m[1], m[2], m[3])
		if what == "" || kept[name] {
			continue
		}
		for _, want := range wants {
			judge{p.of(want.ID), want.Spec}.add(name, system.Info{}, "%s", what)
		}
	}
	if out.ExitCode != 0 && len(out.Stdout) == 0 {
		return fmt.Errorf("rpm cannot tell: %s", out.LastLine())
	}
	return nil
}

// keptFiles are those that this policy keeps, which are meant to differ from their packages.
func (k *Kind) keptFiles() map[string]bool {
	kept := map[string]bool{}
	for _, r := range k.policy.Resources {
		switch r.Spec.(type) {
		case policy.File, policy.Dropin:
			kept["/"+r.ID.Name()] = true
		}
	}
	return kept
}

// verified is a line of rpm -V: what differs, the kind of the file and its name.
var verified = regexp.MustCompile(`^(missing|[A-Z0-9.?]{8,9}) +(?:([a-z]) +)?(/.*)$`)

// alteration says what a line means, or "" if nothing is amiss. The content of a file of configuration is
// meant to change.
func alteration(flags, kind, file string) (name, what string) {
	name, _, _ = strings.Cut(file, " (") // why it is missing
	config := kind == "c"
	switch {
	case kind == "g", config && flags == "missing":
		return name, ""
	case flags == "missing":
		return name, "is missing"
	}
	var differs []string
	for _, d := range []struct {
		flag    string
		what    string
		content bool
	}{
		{"5", "content", true},
		{"L", "target", true},
		{"M", "mode", false},
		{"D", "device", false},
		{"U", "owner", false},
		{"G", "group", false},
		{"P", "capabilities", false},
	} {
		if strings.Contains(flags, d.flag) && (!config || !d.content) {
			differs = append(differs, d.what)
		}
	}
	switch {
	case len(differs) > 0:
		return name, "differs from its package: " + strings.Join(differs, ", ")
	case strings.Contains(flags, "?"):
		return name, "could not be read"
	}
	return name, ""
}

// unpackaged adds the set-id programs that no package brought as such.
func (k *Kind) unpackaged(ctx context.Context, j judge) error {
	all := j.finds.SetIDs
	if len(all) == 0 {
		return nil
	}
	brought := map[string]uint32{}
	for some := range slices.Chunk(all, atATime) {
		args := []string{"-qf", "--qf", "[%{FILEMODES:octal} %{FILENAMES}\\n]"}
		for _, one := range some {
			args = append(args, one.Path)
		}
		out, err := k.askRPM(ctx, args...)
		if errors.Is(err, system.ErrNotInstalled) {
			break // no package has brought anything
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(out.Stdout)) {
			text, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			if mode, err := strconv.ParseUint(text, 8, 32); err == nil && path.IsAbs(name) {
				brought[merged(name)] |= uint32(mode) & setIDs
			}
		}
	}
	for _, one := range all {
		if one.Mode&setIDs&^brought[merged(one.Path)] != 0 {
			j.add(one.Path, system.Info{Attr: system.Attr{UID: one.UID}}, "has the mode %04o, and no package brought it so", one.Mode)
		}
	}
	return nil
}

// merged is the name of a file where /bin and its like are links to those in /usr.
func merged(name string) string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, dir) {
			return "/usr" + name
		}
	}
	return name
}
