package dropin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// awaiting lists files that are written and of which the effect is yet to come.
	awaiting = "/run/soe-agent/dropins-awaiting-effect"
	// untilReboot lists files of which something is in effect that no longer stands
	// in them. It goes with the reboot.
	untilReboot = "/run/soe-agent/dropins-until-reboot"

	stillSet = "the kernel keeps what the file once set, and nobody knows what it was before"
)

// readNames returns the files that a list holds.
func (k *Kind) readNames(list string) map[string]bool {
	names := map[string]bool{}
	content, _ := k.system.FS.ReadFile(list)
	for name := range strings.SplitSeq(string(content), "\n") {
		if name != "" {
			names[name] = true
		}
	}
	return names
}

func (k *Kind) writeNames(list string, names map[string]bool) error {
	if len(names) == 0 {
		return k.system.FS.Remove(list)
	}
	var content bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(names)) {
		content.WriteString(name + "\n")
	}
	return k.system.FS.WriteFile(list, content.Bytes(), system.Attr{Mode: 0o600})
}

// gone are the files that are no longer there nor named, and of which that has
// not taken effect.
func (k *Kind) gone(scene *scene, seen []converge.Resource) []converge.Resource {
	var resources []converge.Resource
	known := func(id policy.ID) bool {
		return slices.ContainsFunc(seen, func(r converge.Resource) bool { return r.ID == id })
	}
	for _, name := range slices.Sorted(maps.Keys(scene.awaiting)) {
		id := policy.NewID(k.Name(), name)
		if known(id) || protected.Path(name) != "" || policy.ForbiddenDropin(name) != "" {
			continue
		}
		resources = append(resources, converge.Unwanted(id, "the policy no longer names it, and that is yet to take effect"))
	}
	for _, name := range slices.Sorted(maps.Keys(scene.untilReboot)) {
		id := policy.NewID(k.Name(), name)
		if known(id) || scene.awaiting[name] {
			continue
		}
		r := converge.Unwanted(id, "")
		r.Diff = nil
		r.Wait(converge.Reboot, stillSet)
		resources = append(resources, r)
	}
	return resources
}

// A step makes files take effect: the agent's own way for their family, or a
// command of the policy's.
type step struct {
	activation activation
	command    string // its words, each ended by a NUL
}

func ownStep(argv []string) step {
	if len(argv) == 0 {
		return step{}
	}
	return step{command: strings.Join(argv, "\x00")}
}

func (s step) compare(other step) int {
	return cmp.Or(cmp.Compare(s.activation, other.activation), cmp.Compare(s.command, other.command))
}

// stepOf is what makes a change of a file take effect, whether the policy names
// the file or did so once.
func (b *batch) stepOf(name string) step {
	want, named := b.wants[policy.NewID(b.Name(), name)]
	remembered, known := b.memory.Activate[name]
	switch {
	case named && want.Spec.Activate != nil:
		return ownStep(want.Spec.Activate)
	case !named && known:
		return ownStep(remembered)
	}
	return step{activation: familyOf(name).activation}
}

// expect notes, before a file is changed, that its effect is to come.
func (b *batch) expect(name string) error {
	if b.stepOf(name) == (step{}) {
		return nil
	}
	content, err := b.system.FS.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && b.stepOf(name).activation == loadSysctls {
		return err
	}
	b.before[name] = content
	b.changed = append(b.changed, name)
	if b.awaiting[name] {
		return nil
	}
	b.awaiting[name] = true
	return b.writeNames(awaiting, b.awaiting)
}

// activate makes the changed files take effect, each step once.
func (b *batch) activate(ctx context.Context) {
	if len(b.changed) == 0 {
		return
	}
	byStep := map[step][]string{}
	for _, name := range b.changed {
		s := b.stepOf(name)
		byStep[s] = append(byStep[s], name)
	}
	settled := false
	for _, s := range slices.SortedFunc(maps.Keys(byStep), step.compare) {
		names := byStep[s]
		failures := b.take(ctx, s, names)
		for _, name := range names {
			if err := failures[name]; err != nil {
				b.fail(name, err)
				continue
			}
			delete(b.awaiting, name)
			settled = true
		}
	}
	err := b.memory.save(b.system.FS)
	if settled {
		err = errors.Join(err, b.writeNames(awaiting, b.awaiting))
	}
	if err != nil {
		b.fail(b.changed[0], err)
	}
}

func (b *batch) fail(name string, err error) {
	b.outcomes = append(b.outcomes, converge.Outcome{ID: policy.NewID(b.Name(), name), Err: err})
}

// take does one step for files, and says for which it failed.
func (b *batch) take(ctx context.Context, s step, names []string) map[string]error {
	if s.command == "" {
		failures := s.activation.activate(ctx, b.system, names)
		if s.activation == loadSysctls && b.system.Running() {
			failures = b.restoreSysctls(ctx, names, failures)
		}
		return failures
	}
	err := b.runOwn(ctx, strings.Split(s.command, "\x00"), names)
	failures := map[string]error{}
	for _, name := range names {
		failures[name] = err
		_, named := b.wants[policy.NewID(b.Name(), name)]
		if err == nil && !named {
			b.memory.forgetActivate(name)
		}
	}
	return failures
}

// runOwn runs a command of the policy's. What it says is not passed on when it
// may quote a secret.
func (b *batch) runOwn(ctx context.Context, argv, names []string) error {
	if !b.system.Running() {
		return nil
	}
	shown := strings.Join(argv, " ")
	out, err := b.system.Runner.Run(ctx, system.Command{Argv: argv})
	switch {
	case err != nil:
		return fmt.Errorf("cannot activate it with %s: %w", shown, err)
	case out.ExitCode == 0:
		return nil
	case slices.ContainsFunc(names, func(name string) bool { return b.holdsSecrets(path.Dir(name)) }):
		return fmt.Errorf("cannot activate it with %s: exit code %d; what it said may hold a secret", shown, out.ExitCode)
	}
	return fmt.Errorf("cannot activate it with %s: %s", shown, out.LastLine())
}
