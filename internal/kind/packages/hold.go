package packages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// hold is the ledger's kind for packages that the agent put into the list of the versionlock
// plugin.
const hold = "hold"

var errNoVersionlock = errors.New("the versionlock plugin is not installed or not enabled: " +
	"add yum-plugin-versionlock (with dnf: python3-dnf-plugin-versionlock) to [packages]")

// A lockList is the list of the versionlock plugin. While the list has an entry for a package, yum
// and dnf do not see other versions of it.
type lockList struct {
	file  string
	lines []string
}

// readLockList reads the list that the installed plugin uses. It returns errNoVersionlock if the
// plugin is not installed or not enabled, because then the list has no effect.
func (m manager) readLockList() (lockList, error) {
	dir := "/etc/yum/pluginconf.d"
	if m.program() == "dnf" {
		dir = "/etc/dnf/plugins"
	}
	conf, err := m.system.FS.ReadFile(path.Join(dir, "versionlock.conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return lockList{}, errNoVersionlock
	}
	if err != nil {
		return lockList{}, err
	}
	l := lockList{file: path.Join(dir, "versionlock.list")}
	enabled := false
	for _, s := range parseINI(conf)["main"] {
		switch s.key {
		case "enabled":
			enabled = slices.Contains([]string{"1", "true", "yes", "on"}, strings.ToLower(s.value))
		case "locklist":
			l.file = s.value
		}
	}
	if !enabled {
		return lockList{}, errNoVersionlock
	}
	content, err := m.system.FS.ReadFile(l.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return lockList{}, err
	}
	l.lines = slices.Collect(strings.Lines(string(content)))
	return l, nil
}

// write writes the list, even if it is empty: yum refuses to run when the plugin cannot read its
// list.
func (l lockList) write(files system.FileWriter) error {
	return files.WriteFile(l.file, []byte(strings.Join(l.lines, "")), system.Attr{Mode: 0o644})
}

// lockEntry matches the entries of yum ("0:tool-1.0-1.*") and of dnf ("tool-0:1.0-1.*").
var lockEntry = regexp.MustCompile(`^(?:\d+:)?(.+)-(?:\d+:)?[^-]+-[^-]+$`)

// locked returns the name of the package that a line locks, or "".
func locked(line string) string {
	line = strings.TrimSpace(line)
	if match := lockEntry.FindStringSubmatch(line); match != nil && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "!") {
		return match[1]
	}
	return ""
}

// of returns the entries for a package.
func (l lockList) of(name string) []string {
	var entries []string
	for _, line := range l.lines {
		if locked(line) == name {
			entries = append(entries, strings.TrimSpace(line))
		}
	}
	return entries
}

// set replaces the entries for a package.
func (l *lockList) set(name string, entries []string) {
	l.lines = slices.DeleteFunc(l.lines, func(line string) bool { return locked(line) == name })
	if n := len(l.lines); n > 0 && !strings.HasSuffix(l.lines[n-1], "\n") {
		l.lines[n-1] += "\n"
	}
	for _, entry := range entries {
		l.lines = append(l.lines, entry+"\n")
	}
}

// entries returns the entries that keep a package in its installed versions.
func (m manager) entries(name string, instances []instance) []string {
	var entries []string
	for _, i := range instances {
		entry := fmt.Sprintf("%s:%s-%s-%s.*", cmp.Or(i.epoch, "0"), name, i.version, i.release)
		if m.program() == "dnf" {
			entry = fmt.Sprintf("%s-%s:%s-%s.*", name, cmp.Or(i.epoch, "0"), i.version, i.release)
		}
		if !slices.Contains(entries, entry) {
			entries = append(entries, entry)
		}
	}
	return entries
}

// holds reports whether the policy holds a package, or the agent still has entries in the list.
func (k *Kind) holds() bool {
	return len(k.ledger.Owned(hold)) > 0 || slices.ContainsFunc(k.wants, func(w policy.Want[policy.Package]) bool { return w.Spec.Hold })
}

// lookAtHolds reads the list if holds says that it matters. Without the plugin nothing is held, and
// the list is empty.
func (k *Kind) lookAtHolds() (lockList, error) {
	if !k.holds() {
		return lockList{}, nil
	}
	list, err := k.manager.readLockList()
	if errors.Is(err, errNoVersionlock) {
		return lockList{}, nil
	}
	return list, err
}

// judgeHold records drift if a package that should be held is not, or is held although the policy
// no longer wants it. The package is otherwise compliant.
func (k *Kind) judgeHold(r *converge.Resource, want policy.Want[policy.Package], list lockList, instances []instance) {
	name := want.ID.Name()
	held := k.ledger.Owns(policy.NewID(hold, name))
	if !want.Spec.Hold && !held {
		return
	}
	got := list.of(name)
	var wanted []string
	if want.Spec.Hold {
		wanted = k.manager.entries(name, instances)
	}
	if !slices.Equal(got, wanted) {
		r.AddPublicDrift("hold", cmp.Or(strings.Join(wanted, ", "), "none"), cmp.Or(strings.Join(got, ", "), "none"))
	}
}

// released returns the packages that the agent holds and that the policy no longer wants held.
func (k *Kind) released() []string {
	var names []string
	for _, id := range k.ledger.Owned(hold) {
		want, named := k.policy.Lookup(policy.NewID("package", id.Name()))
		if !named || !want.Spec.(policy.Package).Hold {
			names = append(names, id.Name())
		}
	}
	return names
}

// setHolds writes the list. Before the transaction (afterwards is false) it removes what would
// block the changes still to be done. After it, the list holds the packages in the versions that
// are now installed. Entries of packages that neither the policy nor the agent holds stay as they
// are.
func (k *Kind) setHolds(ctx context.Context, drifted []converge.Resource, wants []policy.Want[policy.Package], afterwards bool) error {
	released := slices.DeleteFunc(k.released(), func(name string) bool {
		return !slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID == policy.NewID(k.Name(), name) })
	})
	if len(released) == 0 && !slices.ContainsFunc(wants, func(w policy.Want[policy.Package]) bool { return w.Spec.Hold }) {
		return nil
	}
	list, err := k.manager.readLockList()
	switch {
	case errors.Is(err, errNoVersionlock) && !afterwards:
		return nil // the plugin may be among the packages to be installed
	case err != nil:
		return err
	}
	there, err := k.installed(ctx)
	if err != nil {
		return err
	}
	before := strings.Join(list.lines, "")
	for _, name := range released {
		list.set(name, nil)
	}
	for _, want := range wants {
		name := want.ID.Name()
		switch {
		case !want.Spec.Hold:
		case afterwards:
			entries := k.manager.entries(name, there[name])
			if !slices.Equal(list.of(name), entries) {
				list.set(name, entries)
			}
			k.ledger.Own(policy.NewID(hold, name))
		case !k.right(want, there):
			list.set(name, nil)
		}
	}
	if strings.Join(list.lines, "") != before {
		if err := list.write(k.system.FS); err != nil {
			return err
		}
	}
	for _, name := range released {
		k.ledger.Disown(policy.NewID(hold, name))
	}
	return nil
}
