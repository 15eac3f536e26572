package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// The prefixes of aspects that are the lines of a key, and single lines.
const (
	aspectKey  = "key "
	aspectLine = "line "
)

// keyOf returns the key, or the line, of an aspect.
func keyOf(aspect string) (key string, is bool) {
	if key, is = strings.CutPrefix(aspect, aspectKey); is {
		return key, true
	}
	return strings.CutPrefix(aspect, aspectLine)
}

func isKey(aspect string) bool {
	_, is := keyOf(aspect)
	return is
}

func hasKeys(retouched map[string]converge.Retouch) bool {
	for aspect := range retouched {
		if isKey(aspect) {
			return true
		}
	}
	return false
}

// formatOf returns the format of a file, and the prefix of the aspects that are its lines.
func formatOf(name string) (keyed.Format, string) {
	if known, is := policy.LookupKeyFile(name); is {
		return known.Format, aspectKey
	}
	return keyed.Lines, aspectLine
}

// edited returns the wanted keys or lines of a file with their values, and the ones that must not be
// there. A line is a key without a value.
func edited(spec *policy.File) (values map[string]string, gone []string) {
	values = map[string]string{}
	if spec == nil {
		return values, nil
	}
	maps.Copy(values, spec.Keys)
	for _, line := range spec.Lines {
		values[line] = ""
	}
	return values, slices.Concat(spec.Absent, spec.AbsentLines)
}

// compareKeys determines the wanted lines of the keys, or the wanted lines, in a file.
func (l *look) compareKeys(a *aim, name string, retouched map[string]converge.Retouch) error {
	format, begins := formatOf(name)
	values, gone := edited(a.spec)
	if bytes.IndexByte(a.content, 0) >= 0 {
		return answer{name + " holds binary data, so that it is no configuration; put a sound copy there by hand"}
	}
	f, original := keyed.Parse(format, string(a.content)), keyed.File{}
	if kept, is, err := l.ledger.Original(name); err != nil {
		return err
	} else if is {
		original = keyed.Parse(format, string(kept.Content))
	}
	for _, key := range everyKey(values, gone, retouched, begins) {
		aspect := begins + key
		value, set := values[key]
		named := set || slices.Contains(gone, key)
		now, got := f.Lines(key), f.Values(key)
		if why := f.Unsure(key); why != "" {
			if named {
				return answer{fmt.Sprintf("the %s of %s is left alone: %s", aspect, name, why)}
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
		words := shown
		if begins == aspectLine {
			words = times
		}
		a.keys = append(a.keys, converge.Difference{Aspect: aspect, Want: words(f.Values(key)), Got: words(got)})
	}
	a.content = []byte(f.String())
	return nil
}

// everyKey returns the keys, or lines, that the policy names, or an earlier one did, sorted.
func everyKey(values map[string]string, gone []string, retouched map[string]converge.Retouch, begins string) []string {
	keys := slices.Concat(gone, slices.Collect(maps.Keys(values)))
	for aspect := range retouched {
		if key, is := strings.CutPrefix(aspect, begins); is {
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

func times(lines []string) string {
	switch len(lines) {
	case 0:
		return "not in it"
	case 1:
		return "in it"
	}
	return fmt.Sprintf("in it %d times", len(lines))
}

// write writes a file with changed keys or lines, if its reader accepts it, and nobody has changed the file
// since it was read.
func (k *Kind) write(ctx context.Context, l *look, name string, a aim) error {
	known, _ := policy.LookupKeyFile(name)
	if err := k.ask(ctx, known, name, a); err != nil {
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
	} else if format, _ := formatOf(name); kept && !hasKeys(a.after) && a.differsByPlace(format, original.Content) {
		content = original.Content
	}
	if err := k.unchanged(name, a); err != nil {
		return err
	}
	return k.files(name).WriteFile(name, content, a.attr)
}

// unchanged returns an error if somebody has changed the file since it was read.
func (k *Kind) unchanged(name string, a aim) error {
	now, info, err := k.system.FS.Inspect(name)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case err != nil && !missing:
		return err
	case missing && a.missing:
		return nil
	case missing || !bytes.Equal(now, a.before) || info.Attr != a.info.Attr || info.Inode != a.info.Inode:
		return errors.New("somebody else has changed it in the meantime; it is checked again in the next pass")
	}
	return nil
}

// differsByPlace reports whether the restored content differs from the original only in the
// position of the keys' lines, or in the line break at the end.
func (a *aim) differsByPlace(format keyed.Format, original []byte) bool {
	was, becomes := keyed.Parse(format, string(original)), keyed.Parse(format, string(a.content))
	for aspect := range a.during {
		key, is := keyOf(aspect)
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
