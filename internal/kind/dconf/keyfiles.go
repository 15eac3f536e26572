package dconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// personalID is the resource that exists if somebody has settings of their own in place of locked
// ones. A program started with GSETTINGS_BACKEND=keyfile reads them there and ignores dconf with
// its profile and locks.
const personalID = policy.ID(kindName + "/keyfiles")

// personalKeyfile is the file of GIO's keyfile backend, relative to a home.
const personalKeyfile = ".config/glib-2.0/settings/keyfile"

// A message names at most this many people, and keys of each.
const (
	maxNamed = 5
	maxKeys  = 3
)

// checkPersonal looks for people's own settings in place of those that the policy locks. Files in a
// home are under that person's control, so they are reported and nothing is repaired.
func (k *Kind) checkPersonal(ctx context.Context) ([]converge.Resource, error) {
	locked := k.locked()
	if len(locked) == 0 || !k.system.Running() {
		return nil, nil
	}
	homes, err := k.homes(ctx)
	if err != nil {
		return nil, err
	}
	var found, doubts []string
	for _, home := range sortedHomes(homes) {
		content, err := k.system.FS.ReadPersonal(home, homes[home], personalKeyfile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			doubts = append(doubts, err.Error())
		default:
			if own := overridden(personalSettings(string(content)), locked); len(own) > 0 {
				found = append(found, fmt.Sprintf("%s has %s", path.Join(home, personalKeyfile), few(own, maxKeys)))
			}
		}
	}
	want, _ := k.whole(personalID)
	r := converge.Wanted(want)
	switch {
	case len(found) > 0:
		r.SetFailedErr(public.Because("somebody has settings of their own in place of locked ones, which programs use that are started with GSETTINGS_BACKEND=keyfile",
			errors.New(few(append(found, doubts...), maxNamed))))
	case len(doubts) > 0:
		r.SetUnknownErr(public.Because("it cannot be told whether somebody has settings of their own in place of locked ones", errors.New(few(doubts, maxNamed))))
	case !k.overridden.Load():
		return nil, nil
	}
	k.overridden.Store(true)
	return []converge.Resource{r}, nil
}

// locked returns the texts of the values that the policy locks, by path.
func (k *Kind) locked() map[string]string {
	all := map[string]string{}
	for _, want := range policy.Of[policy.Dconf](k.policy) {
		if value, err := k.text(want.ID, want.Spec); err == nil && want.Spec.Lock {
			all[pathOf(want.ID)] = value
		}
	}
	return all
}

// homes returns the home directories of the people who may use the desktop, with the owners' uids.
// It does not query the directory service.
func (k *Kind) homes(ctx context.Context) (map[string]int, error) {
	uids, err := facts.PersonalUIDs(ctx, k.system)
	if err != nil {
		return nil, err
	}
	accounts, err := facts.LocalAccounts(k.system)
	if err != nil {
		return nil, err
	}
	homes := map[string]int{}
	for _, a := range accounts {
		if slices.Contains(uids, a.UID) && path.IsAbs(a.Home) && a.Home == path.Clean(a.Home) && a.Home != "/" {
			homes[a.Home] = a.UID
		}
	}
	const home = "/home"
	names, err := k.system.FS.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range names {
		info, err := k.system.FS.Stat(path.Join(home, name))
		if err == nil && info.IsDir() && slices.Contains(uids, info.UID) {
			homes[path.Join(home, name)] = info.UID
		}
	}
	return homes, nil
}

func sortedHomes(homes map[string]int) []string {
	var names []string
	for name := range homes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// personalSettings parses a keyfile that somebody has written, as GLib does. If an entry appears
// twice, the last one counts.
func personalSettings(keyfile string) map[string]string {
	all := map[string]string{}
	dir := ""
	for line := range strings.Lines(keyfile) {
		line = strings.TrimSpace(line)
		if inner, ok := strings.CutPrefix(line, "["); ok {
			group, _, _ := strings.Cut(inner, "]")
			if dir = "/"; strings.Trim(group, "/") != "" {
				dir = "/" + strings.Trim(group, "/") + "/"
			}
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && dir != "" && !strings.HasPrefix(line, "#") {
			all[dir+strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return all
}

// typed matches the part of a GVariant text that gives the type of the value.
var typed = regexp.MustCompile(`^(?:@\S+|boolean|byte|int16|uint16|int32|uint32|handle|int64|uint64|double|string|objectpath|signature)\s+`)

// overridden returns the locked keys for which somebody's own settings have another value.
func overridden(own, locked map[string]string) []string {
	var keys []string
	for path, value := range locked {
		if said, has := own[path]; has && typed.ReplaceAllString(said, "") != typed.ReplaceAllString(value, "") {
			keys = append(keys, strings.TrimPrefix(path, "/"))
		}
	}
	slices.Sort(keys)
	return keys
}

// few lists at most most elements, and how many more there are.
func few(all []string, most int) string {
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
