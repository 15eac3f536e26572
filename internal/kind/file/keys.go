package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// aspectKey begins the aspects that are the lines of a key.
const aspectKey = "key "

func hasKeys(retouched map[string]converge.Retouch) bool {
	for aspect := range retouched {
		if strings.HasPrefix(aspect, aspectKey) {
			return true
		}
	}
	return false
}

// compareKeys says what is to become of the keys of a file, by its lines.
func (a *aim) compareKeys(name string, retouched map[string]converge.Retouch) error {
	known, is := policy.LookupKeyFile(name)
	switch {
	case !is: // an earlier version of the agent kept its keys; this one leaves them to somebody else
		return nil
	case bytes.IndexByte(a.before, 0) >= 0:
		return answer{name + " holds binary data, so that it is no configuration; put a sound copy there by hand"}
	}
	f := keyed.Parse(known.Format, string(a.before))
	spec := policy.File{}
	if a.spec != nil {
		spec = *a.spec
	}
	for _, key := range everyKey(spec, retouched) {
		aspect := aspectKey + key
		value, set := spec.Keys[key]
		named := set || slices.Contains(spec.Absent, key)
		now, got := f.Lines(key), f.Values(key)
		if why := f.Unsure(key); why != "" {
			if named {
				return answer{fmt.Sprintf("the key %s of %s is left alone: %s", key, name, why)}
			}
			continue // it is not as it was made, and somebody else's
		}
		goal := f
		switch {
		case set:
			goal.Set(key, value)
		case named:
			goal.Put(key, "")
		}
		lines := a.goal(aspect, now, goal.Lines(key), named, retouched)
		if lines == now {
			continue
		}
		if named {
			f = goal
		} else {
			f.Put(key, lines)
		}
		a.keys = append(a.keys, converge.Difference{Aspect: aspect, Want: shown(f.Values(key)), Got: shown(got)})
	}
	a.content = []byte(f.String())
	return nil
}

// everyKey are the keys of which the policy speaks, or an earlier one did, in an order.
func everyKey(spec policy.File, retouched map[string]converge.Retouch) []string {
	keys := slices.Concat(spec.Absent, slices.Collect(maps.Keys(spec.Keys)))
	for aspect := range retouched {
		if key, is := strings.CutPrefix(aspect, aspectKey); is {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func shown(values []string) string {
	switch {
	case len(values) == 0:
		return "not set"
	case len(values) == 1:
		return values[0]
	}
	return strings.Join(values, " and ") + ", of which one counts"
}

// write writes a file with other keys, if who reads it takes them so, and nobody has changed
// it since it was looked at.
func (k *Kind) write(ctx context.Context, l *look, name string, a aim) error {
	known, _ := policy.LookupKeyFile(name)
	if err := k.ask(ctx, known, a); err != nil {
		return err
	}
	if known.AtBoot && k.system.Running() && !l.untilBoot[name] {
		l.untilBoot[name] = true
		if err := k.writeUntilBoot(l.untilBoot); err != nil {
			return err
		}
	}
	content := a.content
	if original, kept, err := k.ledger.Original(name); err != nil {
		return err
	} else if kept && !hasKeys(a.after) && strings.TrimRight(string(content), "\r\n") == string(original.Content) {
		content = original.Content // it had no break at its end
	}
	now, info, err := k.system.FS.Inspect(name)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(now, a.before) || info.Attr != a.info.Attr || info.Inode != a.info.Inode:
		return errors.New("somebody else has changed it meanwhile; it is looked at again")
	}
	return k.system.FS.WriteFile(name, content, a.attr)
}

// ask has who reads a file say what it would make of it, if that can be asked.
func (k *Kind) ask(ctx context.Context, known policy.KeyFile, a aim) error {
	if known.Shows == nil || a.spec == nil {
		return nil
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: known.Shows, ReadOnly: true, Staged: system.Staged{known.Path: a.content}})
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		return nil
	case err != nil:
		return err
	case out.ExitCode != 0:
		return fmt.Errorf("%s would not take it: %s", known.Reader, out.LastLine())
	}
	lines := strings.Split(string(out.Stdout), "\n")
	for key, value := range a.spec.Keys {
		if !slices.Contains(lines, key+"="+value) {
			return public.Error(fmt.Errorf("%s would not take the key %s: it does not show it as %q", known.Reader, key, value))
		}
	}
	return nil
}

// untilBoot lists files that are written, and that their reader reads when the machine
// starts. It goes with the reboot.
const untilBoot = own.RunDir + "/files-until-reboot"

func (k *Kind) readUntilBoot() map[string]bool {
	names := map[string]bool{}
	content, _ := k.system.FS.ReadFile(untilBoot)
	for name := range strings.SplitSeq(string(content), "\n") {
		if name != "" {
			names[name] = true
		}
	}
	return names
}

func (k *Kind) writeUntilBoot(names map[string]bool) error {
	return k.system.FS.WriteFile(untilBoot, []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\n")+"\n"), system.Attr{Mode: 0o600})
}
