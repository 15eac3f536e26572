package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

const (
	aspectBoot = "boot" // the files for mounting at boot are wrong

	inFstab     = "fstab "     // prefix of aspects that are options of a line
	aspectsLine = "fstab line" // a line that the agent added
)

// compareBoot determines the changes of the files by which a mount gets its options at boot.
func (l *look) compareBoot(a *aim) error {
	at := point(a.id)
	lines := []int(nil)
	if l.fstabIsOne {
		lines = l.fstab.Lines(at)
	}
	switch {
	case len(lines) > 1 && a.spec != nil:
		return answer(fmt.Sprintf("%s has %d lines for %s, and which one counts cannot be told; leave one", mounts.FstabFile, len(lines), at))
	case len(lines) == 1:
		return l.compareLine(a, lines[0])
	case len(lines) == 0 && at == mounts.SharedMemory && l.fstabIsOne:
		l.compareOwnLine(a, "")
		return nil
	}
	content, err := l.dropinFor(a)
	if err != nil {
		return err
	}
	a.dropin = content
	return l.compareDropin(a)
}

// compareLine handles a mount point with exactly one line.
func (l *look) compareLine(a *aim, number int) error {
	line := l.fstab.Line(number)
	if _, known := a.Before[aspectsLine]; known && mounts.IsSharedMemoryLine(line) {
		l.compareOwnLine(a, line)
		return nil
	}
	if why := l.fstab.Unsure(number); why != "" {
		if a.spec == nil {
			return nil // somebody else has changed it since
		}
		return answer(fmt.Sprintf("the line for %s in %s is left alone: %s", point(a.id), mounts.FstabFile, why))
	}
	for _, option := range mounts.Options() {
		now := onOrOff(l.fstab.Has(number, option))
		goal := a.Goal(inFstab+option, now, on, a.wants(option))
		if goal == now {
			continue
		}
		a.fstab.Set(number, option, goal == on)
		difference := converge.Difference{Aspect: aspectBoot, Want: "without " + option, Got: option + " in " + mounts.FstabFile}
		if goal == on {
			difference.Want, difference.Got = option+" in "+mounts.FstabFile, "without "+option
		}
		a.diff = append(a.diff, difference)
	}
	return l.compareDropin(a)
}

// compareOwnLine handles the line that the agent adds. is is the current line, or "" if there is
// none.
func (l *look) compareOwnLine(a *aim, is string) {
	now, wanted := onOrOff(is != ""), ""
	if a.Goal(aspectsLine, now, on, a.spec != nil) == on && a.spec != nil {
		wanted = mounts.SharedMemoryLine(a.spec.Options)
	}
	if is == wanted {
		return
	}
	if is != "" {
		a.fstab.Delete(a.fstab.Lines(mounts.SharedMemory)[0])
	}
	if wanted != "" {
		a.fstab.Insert(wanted)
	}
	a.diff = append(a.diff, converge.Difference{Aspect: aspectBoot, Want: "a line with the options in " + mounts.FstabFile, Got: "none such"})
}

// writeFstab writes the wanted file if it differs, after its readers have checked it.
func (k *Kind) writeFstab(ctx context.Context, id policy.ID) error {
	a, l, err := k.lookAgain(id)
	if err != nil || a.fstab.String() == l.fstab.String() {
		return err
	}
	if err := k.ask(ctx, l.fstab.String(), a.fstab.String()); err != nil {
		return err
	}
	now, info, err := k.system.FS.Inspect(mounts.FstabFile)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = system.Info{Attr: system.Attr{Mode: 0o644}}, nil
	}
	switch {
	case err != nil:
		return err
	case string(now) != l.fstab.String() || info.Attr != l.fstabInfo.Attr || info.Inode != l.fstabInfo.Inode:
		return fmt.Errorf("somebody else has changed %s in the meantime; it is checked again in the next pass", mounts.FstabFile)
	}
	if a.fstab.String() == "" && k.ledger.Made(mounts.FstabFile) {
		return k.system.FS.Remove(mounts.FstabFile)
	}
	return k.system.FS.WriteFile(mounts.FstabFile, []byte(a.fstab.String()), info.Attr)
}

// lookAgain reads the state anew, because repairs of several mounts change the same file.
func (k *Kind) lookAgain(id policy.ID) (aim, *look, error) {
	mark := k.Mark()
	l, err := k.newLook()
	if err != nil {
		return aim{}, nil, err
	}
	var spec *policy.Mount
	if want, named := k.policy.Lookup(id); named {
		wanted, _ := want.Spec.(policy.Mount)
		spec = &wanted
	}
	a, err := l.aim(id, spec)
	return a, l, errors.Join(err, k.Since(mark))
}

// forgetFstab drops the backup of the file when it contains no changes of the agent any more.
// Otherwise a purge would overwrite what others have written since.
func (k *Kind) forgetFstab() error {
	for _, id := range k.ledger.Owned(k.Name()) {
		for aspect := range maps.Keys(k.ledger.Retouched(string(id))) {
			if strings.HasPrefix(aspect, inFstab) {
				return nil
			}
		}
	}
	return k.ledger.Release(mounts.FstabFile, func(system.Original) error { return nil }, func() error { return nil })
}

// dropinOf returns the path of the agent's drop-in for a unit.
func dropinOf(unit string) string {
	return "/etc/systemd/system/" + unit + ".d/zz-soe-agent-mounts.conf"
}

// dropinFor returns the wanted drop-in of a mount, or nil. It adds a note if nothing provides the
// options at boot.
func (l *look) dropinFor(a *aim) (*string, error) {
	if a.spec == nil {
		return nil, nil
	}
	unit, err := l.unit(unitfiles.MountUnit(point(a.id)))
	switch {
	case err != nil:
		return nil, err
	case unit.kind != "tmpfs":
		// Only tmpfs: another file system might not accept the options, and the machine would not
		// start.
		if !l.system.Running() {
			a.note = "whether anything is mounted there is seen when the machine runs"
			return nil, nil
		}
		a.note = "what mounts it at boot is no line of " + mounts.FstabFile + " that can be edited, so the agent remounts it when it starts"
		return nil, nil
	}
	options := slices.DeleteFunc(strings.Split(unit.options, ","), func(word string) bool { return word == "" })
	for _, option := range a.spec.Options {
		if !slices.Contains(options, option) || slices.Contains(options, strings.TrimPrefix(option, "no")) {
			options = append(options, option)
		}
	}
	text := strings.Join(options, ",")
	if text == unit.options {
		return nil, nil
	}
	text = "# Written by soe-agent: see [mounts] of its policy.\n[Mount]\nOptions=" + text + "\n"
	return &text, nil
}

// compareDropin determines the change of the drop-in.
func (l *look) compareDropin(a *aim) error {
	name := dropinOf(unitfiles.MountUnit(point(a.id)))
	content, err := l.system.FS.ReadFile(name)
	there := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case a.dropin != nil && (!there || string(content) != *a.dropin):
		a.diff = append(a.diff, converge.Difference{Aspect: aspectBoot, Want: "the options in " + name, Got: "others"})
	case a.dropin == nil && there && l.ledger.Made(name):
		a.diff = append(a.diff, converge.Difference{Aspect: aspectBoot, Want: "no " + name, Got: "it is there"})
	}
	return nil
}

func (k *Kind) writeDropin(ctx context.Context, id policy.ID) error {
	a, _, err := k.lookAgain(id)
	if err != nil {
		return err
	}
	name := dropinOf(unitfiles.MountUnit(point(id)))
	content, err := k.system.FS.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case a.dropin == nil && !k.ledger.Made(name), a.dropin != nil && err == nil && string(content) == *a.dropin:
		return nil
	case a.dropin != nil:
		err = k.system.FS.WriteFile(name, []byte(*a.dropin), system.Attr{Mode: 0o644})
	default:
		err = k.ledger.Release(name, func(system.Original) error { return nil }, func() error { return k.system.FS.Remove(name) })
	}
	if err != nil || !k.system.Running() {
		return err
	}
	if err := k.system.Units.Reload(ctx); !errors.Is(err, system.ErrNotRunning) {
		return err
	}
	return nil
}

// A unit is what the files of a mount unit say, without the agent's drop-in and without files
// generated from /etc/fstab.
type unit struct{ kind, options string }

func (l *look) unit(name string) (u unit, err error) {
	found := false
	for _, dir := range unitfiles.Dirs() {
		if found, err = l.readUnit(path.Join(dir, name), &u); found || err != nil {
			break
		}
	}
	if !found || err != nil {
		return unit{}, err
	}
	files := map[string]string{}
	for _, dir := range slices.Backward(unitfiles.Dirs()) { // of two files with the same name, the one in the first directory counts
		dir = path.Join(dir, name+".d")
		entries, err := l.system.FS.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unit{}, err
		}
		for _, entry := range entries {
			if strings.HasSuffix(entry, ".conf") {
				files[entry] = path.Join(dir, entry)
			}
		}
	}
	for _, entry := range slices.Sorted(maps.Keys(files)) {
		if files[entry] == dropinOf(name) {
			continue
		}
		if _, err := l.readUnit(files[entry], &u); err != nil {
			return unit{}, err
		}
	}
	return u, nil
}

// readUnit reads one file, and reports whether it exists.
func (l *look) readUnit(file string, u *unit) (found bool, err error) {
	content, err := l.system.FS.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		if info, failed := l.system.FS.Stat(file); failed == nil && info.Type == fs.ModeSymlink {
			return true, nil // masked
		}
		return false, err
	}
	for line := range strings.Lines(string(content)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "Type":
			u.kind = value
		case "Options":
			u.options = value
		}
		if strings.HasSuffix(value, "\\") {
			u.kind = "" // a continued line: leave the unit alone
			break
		}
	}
	return true, nil
}
