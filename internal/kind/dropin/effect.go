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

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// awaiting lists files that are written but not in effect yet.
	awaiting = own.RunDir + "/dropins-awaiting-effect"
	// untilReboot lists files with effects that outlive their content until the reboot. The list is gone
	// after it.
	untilReboot = own.RunDir + "/dropins-until-reboot"
	// untilLogin lists files that take effect at the next login.
	untilLogin = own.RunDir + "/dropins-until-login"
)

// readNames returns the names in a list.
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

// A step makes files take effect: the built-in way for their family, or a command of the policy.
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

// stepOf returns the step for a change of a file, whether the policy names the file now or did so
// earlier.
func (b *batch) stepOf(name string) step {
	want, named := b.wants[policy.NewID(b.Name(), name)]
	remembered, known := b.undo.Activate[name]
	switch {
	case named && want.Spec.Activate != nil:
		return ownStep(want.Spec.Activate)
	case !named && known:
		return ownStep(remembered)
	}
	return step{activation: familyOf(name).activation}
}

// expect records, before a file is changed, that the change must take effect.
func (b *batch) expect(name string) error {
	b.touched = append(b.touched, name)
	if b.stepOf(name) == (step{}) && b.broken[name] == nil && !b.awaiting[name] {
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
	return b.system.FS.AppendFile(awaiting, []byte(name+"\n"))
}

// relabel gives the files the SELinux label that the machine's policy wants, where SELinux is on. A
// new file gets the label of its directory, and a replaced one that of the old file, which may have
// been moved there.
func (b *batch) relabel(ctx context.Context) {
	has, err := b.hasLabels()
	if err != nil {
		for _, name := range b.touched {
			b.fail(name, err)
		}
	}
	if !has {
		return
	}
	there := slices.DeleteFunc(slices.Clone(b.touched), func(name string) bool {
		_, err := b.system.FS.Stat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.fail(name, fmt.Errorf("cannot tell whether it needs an SELinux label: %w", err))
		}
		return err != nil
	})
	slices.Sort(there)
	if err := runFor(ctx, b.system, there, "restorecon", "--"); err != nil && !errors.Is(err, system.ErrNotInstalled) {
		for _, name := range there {
			b.fail(name, public.Because("cannot give it its SELinux label", err))
		}
	}
}

// activate makes the changed files take effect, with each step once.
func (b *batch) activate(ctx context.Context) {
	if len(b.changed) == 0 {
		return
	}
	byStep, settled := map[step][]string{}, false
	for _, name := range b.changed {
		if err := b.stillBroken(ctx, name); err != nil {
			b.fail(name, public.Because("the change is made and cannot take effect", err))
			continue
		}
		s := b.stepOf(name)
		if b.namesItself(s, name) {
			delete(b.awaiting, name)
			b.undo.dropActivate(name)
			settled = true
			continue
		}
		byStep[s] = append(byStep[s], name)
	}
	for _, s := range slices.SortedFunc(maps.Keys(byStep), step.compare) {
		names := byStep[s]
		mark := b.Mark()
		failures := b.take(ctx, s, names)
		for _, name := range names {
			err := failures[name]
			if err == nil {
				err = b.Since(mark)
			}
			if err != nil {
				b.fail(name, err)
				settled = b.settleGone(s, name, err) || settled
				continue
			}
			delete(b.awaiting, name)
			settled = true
		}
	}
	err := b.undo.save(b.system.FS)
	if settled {
		err = errors.Join(err, b.writeNames(awaiting, b.awaiting))
	}
	if err != nil {
		b.fail(b.changed[0], err)
	}
}

// settleGone reports whether a failed step for a removed file is dropped. It is, once reported, if the
// policy no longer names the command: no other policy could make it succeed. Steps that only wait for
// a session are kept. Built-in steps, and those that the policy still names, are retried until they
// succeed or the machine reboots. They are dropped if their program is not installed: then nothing has
// read the file.
func (b *batch) settleGone(s step, name string, err error) bool {
	id := policy.NewID(b.Name(), name)
	var held *sessionguard.Held
	resource, named := b.policy.Lookup(id)
	spec, _ := resource.Spec.(policy.Dropin)
	switch {
	case named && spec.Ensure != policy.Absent || errors.As(err, &held):
		return false
	case errors.Is(err, system.ErrNotInstalled):
	case s.command == "" || named || b.purgeable(id):
		return false
	}
	delete(b.awaiting, name)
	b.undo.dropActivate(name)
	return true
}

// namesItself reports whether a command of the policy names the file that is gone. It could only fail.
func (b *batch) namesItself(s step, name string) bool {
	if !strings.Contains(s.command, name) {
		return false
	}
	_, err := b.system.FS.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// stillBroken returns what keeps a file from taking effect. The file that broke the configuration may
// have been fixed in the same batch.
func (b *batch) stillBroken(ctx context.Context, name string) error {
	if b.broken[name] == nil {
		return nil
	}
	delete(b.broken, name)
	content, err := b.system.FS.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.vetFile(ctx, name, content); err != nil {
		return err
	}
	return b.broken[name]
}

func (b *batch) fail(name string, err error) {
	b.outcomes = append(b.outcomes, sessionguard.Outcome(policy.NewID(b.Name(), name), err))
}

// take runs one step for its files, and returns an error for each that failed.
func (b *batch) take(ctx context.Context, s step, names []string) map[string]error {
	switch {
	case s.command != "":
		return b.takeOwn(ctx, s, names)
	case s.activation == loadSysctls:
		return b.loadSysctls(ctx, names)
	case s.activation == createTmpfiles:
		return b.takeTmpfiles(ctx, names)
	case s.activation == awaitReboot:
		return b.await(untilReboot, names)
	case s.activation == awaitLogin:
		return b.await(untilLogin, names)
	case s.activation == reloadSystemd:
		return b.takeUnits(ctx, names)
	}
	return b.unlessLocked(s.activation.activate(ctx, b.system, names))
}

func (b *batch) takeOwn(ctx context.Context, s step, names []string) map[string]error {
	err := b.runOwn(ctx, strings.Split(s.command, "\x00"), names)
	failures := map[string]error{}
	for _, name := range names {
		failures[name] = err
		_, named := b.wants[policy.NewID(b.Name(), name)]
		if err == nil && !named {
			b.undo.dropActivate(name)
		}
	}
	return failures
}

// runOwn runs a command of the policy. Its output is not passed on if it may quote a secret.
func (b *batch) runOwn(ctx context.Context, argv, names []string) error {
	if !b.system.Running() {
		return nil
	}
	shown := strings.Join(argv, " ")
	if err := b.system.TrustedCommand(argv); err != nil {
		return fmt.Errorf("cannot activate it with %s: %w", shown, err)
	}
	if err := sessionguard.MayRun(ctx, b.system, argv, b.consentTo(names)); err != nil {
		return fmt.Errorf("cannot activate it with %s: %w", shown, err)
	}
	out, err := b.system.Runner.Run(ctx, system.Command{Argv: argv, OwnScope: true}) // the command may leave a process running
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
