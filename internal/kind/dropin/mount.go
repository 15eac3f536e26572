package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// mountFlags are options of which the kernel says whether they are in effect, each with the
// one that takes it back (mount(8)).
func mountFlags() map[string]string {
	return map[string]string{"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}
}

// remount has a mount take in what its files say now, where it is: nothing is unmounted. What
// would keep people from writing waits until nobody is logged in.
func (b *batch) remount(ctx context.Context, unit system.Unit, files []string) error {
	wanted, err := b.mountOptions(unit)
	if err != nil {
		return err
	}
	if wanted["ro"] {
		held := (*sessionguard.Held)(nil)
		if err := b.unnoticed(ctx, unit, unit.Name, b.consentTo(files)); errors.As(err, &held) {
			return nil // the next look finds that it waits
		} else if err != nil {
			return err
		}
	}
	return b.system.Units.ReloadUnit(ctx, unit.Name)
}

// mountOptions are the flags that a mount's files say something of, and what.
func (k *Kind) mountOptions(unit system.Unit) (map[string]bool, error) {
	options := ""
	files := slices.Clone(unit.Files)
	// Drop-ins count after the file that they add to, and systemd names them in their order.
	slices.SortStableFunc(files, func(a, b string) int { return isDropinOf(a) - isDropinOf(b) })
	for _, file := range files {
		content, err := k.system.FS.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(content)) {
			if value, found := strings.CutPrefix(strings.TrimSpace(line), "Options="); found {
				options = value
			}
		}
	}
	flags := map[string]bool{}
	for option := range strings.SplitSeq(options, ",") {
		option = strings.TrimSpace(option)
		for flag, back := range mountFlags() {
			switch option {
			case flag:
				flags[flag] = true
			case back:
				flags[flag] = false
			}
		}
	}
	return flags, nil
}

func isDropinOf(file string) int {
	if strings.HasSuffix(path.Dir(file), ".d") {
		return 1
	}
	return 0
}

// mountedAs judges by the kernel whether a mount is as its files say, if it is mounted.
func (k *Kind) mountedAs(ctx context.Context, name string, r *converge.Resource) {
	unitName := unitOf(name)
	if path.Ext(unitName) != ".mount" || !k.system.Running() {
		return
	}
	unit, err := k.system.Units.Unit(ctx, unitName)
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	unit.Name = unitName
	if !up(unit) {
		return
	}
	wanted, err := k.mountOptions(unit)
	var mounted []string
	if err == nil {
		mounted, err = k.mountedWith(pointOf(unitName))
	}
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	for _, flag := range []string{"noexec", "nosuid", "nodev", "ro"} {
		want, said := wanted[flag]
		if mounted == nil || !said || slices.Contains(mounted, flag) == want {
			continue
		}
		word := map[bool]string{true: flag, false: mountFlags()[flag]}
		held := (*sessionguard.Held)(nil)
		if err := k.unnoticed(ctx, unit, unitName, sessionguard.ConsentTo(k.policy, k.window, r.ID)); flag == "ro" && want && errors.As(err, &held) {
			r.SetPending(held.Until, unitName+" is mounted since before it changed, and "+held.Reason).ReasonIsPublic()
			return
		}
		r.AddPublicDrift(converge.AspectEffect, pointOf(unitName)+" mounted "+word[want], word[!want])
		return
	}
}

// mountedWith are the options with which something is mounted at a point, nil when nothing
// is.
func (k *Kind) mountedWith(point string) ([]string, error) {
	content, err := k.system.FS.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell how %s is mounted: %w", point, err)
	}
	m, is := mounts.At(mounts.Parse(string(content)), point)
	if !is {
		return nil, nil
	}
	return m.Flags, nil
}

// pointOf is where a mount unit mounts, by its name (systemd.unit(5)).
func pointOf(unit string) string {
	var point strings.Builder
	stem := strings.TrimSuffix(unit, ".mount")
	for i := 0; i < len(stem); i++ {
		switch {
		case stem[i] == '-':
			point.WriteByte('/')
		case strings.HasPrefix(stem[i:], `\x`) && len(stem) >= i+4:
			if code, err := strconv.ParseUint(stem[i+2:i+4], 16, 8); err == nil {
				point.WriteByte(byte(code))
				i += 3
				continue
			}
			point.WriteByte(stem[i])
		default:
			point.WriteByte(stem[i])
		}
	}
	return "/" + point.String()
}
