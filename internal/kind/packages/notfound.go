package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// unseen returns the reason why a package, or a version of it, was not found. yum and dnf do not
// distinguish a package that is not in the repositories from one that they are configured to
// ignore.
func (m manager) unseen(want policy.Want[policy.Package], out system.Output) string {
	text := reason(out)
	if _, is := policy.PackageGroup(want.ID.Name()); is || !unknownName(out) && !strings.Contains(text, "filtered out") {
		return text
	}
	if why := m.overlooked(want); why != "" {
		return why + " (" + text + ")"
	}
	return text
}

// overlooked returns what on the machine hides a package from the package manager, or "".
func (m manager) overlooked(want policy.Want[policy.Package]) string {
	name, arch := policy.PackageArch(want.ID.Name())
	if list, err := m.readLockList(); err == nil {
		if line := list.against(name, want.Spec.Version()); line != "" {
			return fmt.Sprintf("the versionlock plugin lets no other version through than %s says: %s", list.file, line)
		}
	}
	names := []string{name}
	for _, arch := range []string{machineArch(), "noarch", arch} {
		names = append(names, name+"."+arch)
		if version := want.Spec.Version(); version != "" {
			names = append(names, name+"-"+version, name+"-"+version+"."+arch)
		}
	}
	perhaps, named := "", false
	for _, file := range m.configurationFiles() {
		content, err := m.system.FS.ReadFile(file)
		if err != nil {
			continue
		}
		sections := parseINI(content)
		for _, section := range slices.Sorted(maps.Keys(sections)) {
			if enabled, _ := value(sections[section], "enabled"); truth(enabled) == "0" {
				continue
			}
			for _, s := range sections[section] {
				switch pattern, through := lets(s, names); {
				case through:
					named = named || s.key == "includepkgs" && s.value != ""
				case s.key == "includepkgs" && section != "main": // this repository may not have the package at all
					perhaps = fmt.Sprintf("of the repository %s only includepkgs = %s is seen, says %s", section, pattern, file)
				default:
					return fmt.Sprintf("%s = %s in [%s] of %s leaves it out", s.key, pattern, section, file)
				}
			}
		}
	}
	if named { // the repository that the package should come from does not hide it
		return ""
	}
	return perhaps
}

// configurationFiles returns the files in which packages may be excluded.
func (m manager) configurationFiles() []string {
	files := []string{m.configurationFile()}
	names, err := m.system.FS.ReadDir(repositoryDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return files
	}
	for _, name := range names {
		if path.Ext(name) == ".repo" {
			files = append(files, path.Join(repositoryDir, name))
		}
	}
	return files
}

// lets reports whether a setting lets a package through that has one of these names. If not, it
// returns the responsible pattern.
func lets(s setting, names []string) (pattern string, through bool) {
	matches := func(pattern string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			is, _ := path.Match(pattern, name)
			return is
		})
	}
	switch s.key {
	case "exclude", "excludepkgs":
		patterns := words(s.value)
		if i := slices.IndexFunc(patterns, matches); i >= 0 {
			return patterns[i], false
		}
	case "includepkgs":
		return s.value, s.value == "" || slices.ContainsFunc(words(s.value), matches)
	}
	return "", true
}

// against returns the entry of the list that hides a version of a package, or "". If version is "",
// it is about any version.
func (l lockList) against(name, version string) (entry string) {
	for _, line := range l.lines {
		line = strings.TrimSpace(line)
		text, excluded := strings.CutPrefix(line, "!")
		if locked(text) != name {
			continue
		}
		_, evr, _ := strings.Cut(text, name+"-")
		same := version != "" && compareEVR(parseEVR(version), parseEVR(strings.TrimSuffix(evr, ".*"))) == 0
		switch {
		case excluded && (same || version == ""):
			return line
		case same:
			return ""
		case !excluded:
			entry = line
		}
	}
	return entry
}
