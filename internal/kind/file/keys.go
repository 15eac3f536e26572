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
	"github.com/soe-agent/soe-agent/internal/system"
)

// aspectKey is the prefix of aspects that are the lines of a key.
const aspectKey = "key "

func hasKeys(retouched map[string]converge.Retouch) bool {
	for aspect := range retouched {
		if strings.HasPrefix(aspect, aspectKey) {
			return true
		}
	}
	return false
}

// compareKeys determines the wanted lines of the keys in a file.
func (l *look) compareKeys(a *aim, name string, retouched map[string]converge.Retouch) error {
	known, is := policy.LookupKeyFile(name)
	switch {
	case !is: // an earlier version of the agent kept its keys; this one leaves them alone
		return nil
	case bytes.IndexByte(a.before, 0) >= 0:
		return answer{name + " holds binary data, so that it is no configuration; put a sound copy there by hand"}
	}
	f, original := keyed.Parse(known.Format, string(a.before)), keyed.File{}
	if kept, is, err := l.ledger.Original(name); err != nil {
		return err
	} else if is {
		original = keyed.Parse(known.Format, string(kept.Content))
	}
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
			continue // somebody else has changed it since
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
		switch {
		case named:
			f = goal
		case lines == original.Lines(key):
			f.GiveBack(key, original)
		default:
			f.Put(key, lines)
		}
		a.keys = append(a.keys, converge.Difference{Aspect: aspect, Want: shown(f.Values(key)), Got: shown(got)})
	}
	a.content = []byte(f.String())
	return nil
}

// everyKey returns the keys that the policy names, or an earlier one did, sorted.
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

// write writes a file with changed keys, if its reader accepts it, and nobody has changed the file
// since it was read.
func (k *Kind) write(ctx context.Context, l *look, name string, a aim) error {
	known, _ := policy.LookupKeyFile(name)
	if err := k.ask(ctx, known, a); err != nil {
		return err
	}
	if known.AtBoot && k.system.Running() && !l.untilBoot[name] {
		l.untilBoot[name] = true
		if err := k.writeNames(untilBoot, l.untilBoot); err != nil {
			return err
		}
	}
	if (name == policy.SSHDConfig || known.Format == keyed.Chrony) && k.system.Running() && !l.awaiting[name] {
		l.awaiting[name] = true
		if err := k.writeNames(awaiting, l.awaiting); err != nil {
			return err
		}
	}
	content := a.content
	if original, kept, err := k.ledger.Original(name); err != nil {
		return err
	} else if kept && !hasKeys(a.after) && a.differsByPlace(known.Format, original.Content) {
		content = original.Content
	}
	now, info, err := k.system.FS.Inspect(name)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(now, a.before) || info.Attr != a.info.Attr || info.Inode != a.info.Inode:
		return errors.New("somebody else has changed it in the meantime; it is checked again in the next pass")
	}
	return k.files(name).WriteFile(name, content, a.attr)
}

// differsByPlace reports whether the restored content differs from the original only in the
// position of the keys' lines, or in the line break at the end.
func (a *aim) differsByPlace(format keyed.Format, original []byte) bool {
	was, becomes := keyed.Parse(format, string(original)), keyed.Parse(format, string(a.content))
	for aspect := range a.during {
		key, is := strings.CutPrefix(aspect, aspectKey)
		if !is {
			continue
		}
		if was.Lines(key) != becomes.Lines(key) {
			return false
		}
		was.Put(key, "")
		becomes.Put(key, "")
	}
	return strings.TrimRight(was.String(), "\r\n") == strings.TrimRight(becomes.String(), "\r\n")
}

const (
	// untilBoot lists files that are written, and that their reader reads only at boot. It does not
	// survive a reboot.
	untilBoot = own.RunDir + "/files-until-reboot"
	// awaiting lists files that are written, and whose reader has not been told to read them yet.
	awaiting = own.RunDir + "/files-awaiting-effect"
)

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
	return k.system.FS.WriteFile(list, []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\n")+"\n"), system.Attr{Mode: 0o600})
}
