package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An answer says why a mount cannot be kept. It is a fact about the machine, and not a failed read.
type answer string

func (a answer) Error() string { return string(a) }

// An absence is an answer: nothing is mounted there.
type absence string

func (a absence) Error() string { return string(a) }

func isAnswer(err error) bool {
	var a answer
	var none absence
	return errors.As(err, &a) || errors.As(err, &none)
}

// A look reads each thing once, for all mounts.
type look struct {
	*Kind
	mounted []mounts.Mount // only on a running machine

	fstab      mounts.Fstab
	fstabInfo  system.Info
	fstabIsOne bool // a regular file that may be edited, or none, so that it may be made
}

// machinesMounts lists the mounts of the first process, which all processes see that have no mount
// namespace of their own.
const machinesMounts = "/proc/1/mountinfo"

func (k *Kind) newLook() (*look, error) {
	l := &look{Kind: k}
	if k.system.Running() {
		content, err := k.system.FS.ReadFile(machinesMounts)
		if err != nil {
			return nil, fmt.Errorf("cannot tell what is mounted: %w", err)
		}
		l.mounted = mounts.Parse(string(content))
		if _, is := mounts.At(l.mounted, "/"); !is {
			return nil, fmt.Errorf("cannot tell what is mounted: %s names nothing at /", machinesMounts)
		}
	}
	content, info, err := k.system.FS.Inspect(mounts.FstabFile)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it says as much as an empty one
		l.fstabInfo, l.fstabIsOne = system.Info{Attr: system.Attr{Mode: 0o644}}, true
	case err != nil:
		return nil, fmt.Errorf("cannot tell what is mounted at boot: %w", err)
	default:
		l.fstab, l.fstabInfo = mounts.ParseFstab(string(content)), info
		l.fstabIsOne = info.IsRegular() && !info.ACL
	}
	return l, nil
}

// An aim is a mount's current state and what it should become.
type aim struct {
	spec *policy.Mount // nil: the policy does not name it
	id   policy.ID

	mount  mounts.Mount
	flags  []string     // the flags to remount with; nil: they are right
	fstab  mounts.Fstab // the wanted content
	dropin *string      // the wanted drop-in for its unit; nil: none

	diff []converge.Difference
	note string
	converge.Retouching
}

// aim reads the state of a mount. Without a spec, the mount should get back its previous options.
func (l *look) aim(id policy.ID, spec *policy.Mount) (aim, error) {
	a := aim{spec: spec, id: id, Retouching: l.ledger.Retouching(string(id)), fstab: l.fstab}
	if l.system.Running() {
		var is bool
		a.mount, is = mounts.At(l.mounted, point(id))
		switch {
		case is && a.mount.Kind != "autofs":
			a.compareFlags()
		case spec == nil:
		case is:
			return a, absence(point(id) + " is mounted when somebody goes there (autofs), and is not now")
		default:
			return a, absence(point(id) + " is not a mount point of its own, and [mounts] mounts nothing: what people have there would be hidden")
		}
	}
	return a, l.compareBoot(&a)
}

// wants reports whether the policy wants an option.
func (a *aim) wants(option string) bool {
	return a.spec != nil && slices.Contains(a.spec.Options, option)
}

const (
	on  = "on"
	off = "off"
)

func onOrOff(is bool) string {
	if is {
		return on
	}
	return off
}

// compareFlags determines the wanted flags from those in effect.
func (a *aim) compareFlags() {
	flags := slices.Clone(a.mount.Flags)
	for _, option := range mounts.Options() {
		now := onOrOff(slices.Contains(flags, option))
		goal := a.Goal(option, now, on, a.wants(option))
		if goal == now {
			continue
		}
		flags = slices.DeleteFunc(flags, func(flag string) bool { return flag == option })
		difference := converge.Difference{Aspect: option, Want: "not in effect", Got: "in effect"}
		if goal == on {
			flags = append(flags, option)
			difference.Want, difference.Got = difference.Got, difference.Want
		}
		a.diff, a.flags = append(a.diff, difference), flags
	}
}

// remount changes the flags of a mount, but not of its file system, which "bind" makes the kernel
// do. If source and mount point are given, mount(8) adds no options from /etc/fstab.
func (k *Kind) remount(ctx context.Context, a aim) error {
	if a.flags == nil {
		return nil
	}
	options := []string{"remount", "bind"}
	known := []string{"ro", "rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}
	for _, flag := range a.flags {
		if slices.Contains(known, flag) {
			options = append(options, flag)
		}
	}
	if !slices.Contains(options, "noatime") && !slices.Contains(options, "relatime") {
		options = append(options, "strictatime") // mountinfo does not show it
	}
	source := a.mount.Source
	if source == "" || strings.HasPrefix(source, "-") {
		source = "none"
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"mount", "-o", strings.Join(options, ","), source, a.mount.Point}})
	if err == nil && out.ExitCode != 0 {
		err = public.Error(fmt.Errorf("mount(8) did not remount it: %s", out.LastLine()))
	}
	return err
}
