package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// definitions maps the id of each repository to the files that define it, in the order in which the
// package manager reads them. It takes the first definition, and ignores the others.
type definitions map[string][]string

// of returns the files that define a repository. An id may contain variables ($NAME or ${NAME}),
// whose values anybody may change, so that it counts for each id that it may become.
func (d definitions) of(id string) (files []string) {
	files = slices.Clone(d[id])
	for section, defined := range d {
		if section != id && strings.Contains(section, "$") && mayBecome(section, id) {
			files = append(files, defined...)
		}
	}
	slices.Sort(files[len(d[id]):])
	return files
}

var variable = regexp.MustCompile(`\\\$(\\\{.*?\\\}|\w+)`)

func mayBecome(section, id string) bool {
	pattern, err := regexp.Compile("^" + variable.ReplaceAllString(regexp.QuoteMeta(section), ".*") + "$")
	return err != nil || pattern.MatchString(id)
}

// first returns the file that decides about a repository, or "".
func (d definitions) first(id string) string {
	if files := d[id]; len(files) > 0 {
		return files[0]
	}
	return ""
}

// besides returns a file that defines a repository besides the one that should, or "".
func (d definitions) besides(id, file string) string {
	files := d.of(id)
	if i := slices.IndexFunc(files, func(other string) bool { return other != file }); i >= 0 {
		return files[i]
	}
	return ""
}

// definitions reads the files that define repositories: the package manager's own configuration,
// and all *.repo files in its directories.
func (m manager) definitions() (definitions, error) {
	found := definitions{}
	main, err := m.define(found, m.configurationFile())
	if err != nil {
		return nil, err
	}
	dirs := []string{repositoryDir, "/etc/yum/repos.d", "/etc/distro.repos.d"} // the defaults of dnf.conf(5) and yum.conf(5)
	named, _ := value(main, "reposdir")
	for _, dir := range words(named) {
		dirs = append(dirs, path.Clean(strings.TrimPrefix(dir, "file://")))
	}
	for i, dir := range dirs {
		if target, err := m.system.FS.Readlink(dir); err == nil { // another name of a directory defines nothing twice
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(dir), target)
			}
			dir = path.Clean(target)
		}
		if slices.Contains(dirs[:i], dir) {
			continue
		}
		names, err := m.system.FS.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if path.Ext(name) != ".repo" {
				continue
			}
			if _, err := m.define(found, path.Join(dir, name)); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// define adds what a file defines, and returns its settings for the package manager itself. A file
// that does not exist, such as a dangling link, defines nothing.
func (m manager) define(found definitions, file string) (main []setting, err error) {
	text, err := m.system.FS.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sections := parseINI(text)
	for section := range sections {
		if section != "" && section != "main" {
			found[section] = append(found[section], file)
		}
	}
	return sections["main"], nil
}

// untrusted returns why no transaction may take anything from a repository of the policy, by id:
// another file defines it too, or its definition is not what the policy wants, so that what comes
// from there may come from elsewhere and be signed by nobody.
func (m manager) untrusted() map[string]string {
	why := map[string]string{}
	if len(m.repositories) == 0 {
		return why
	}
	k := &Repositories{system: m.system, wants: m.repositories, manager: m}
	found, err := m.definitions()
	for _, want := range m.repositories {
		id := want.ID.Name()
		switch {
		case err != nil:
			why[id] = fmt.Sprintf("cannot read what defines it: %v", err)
		case len(found.of(id)) == 0: // nothing can come from there
		default:
			if said := k.distrusts(want, found); said != "" {
				why[id] = said
			}
		}
	}
	return why
}

// distrusts returns why the definition of a repository is not to be used, or "".
func (k *Repositories) distrusts(want policy.Want[policy.Repository], found definitions) string {
	id, r := want.ID.Name(), converge.Wanted(want.Resource)
	switch {
	case want.Spec.Ensure == policy.Absent:
		return "the policy wants it absent, and " + found.of(id)[0] + " defines it"
	case want.Spec.Brought():
		if other := found.besides(id, found.first(id)); other != "" {
			return fmt.Sprintf("%s and %s define it", found.of(id)[0], other)
		}
		k.checkBrought(&r, want, found)
	default:
		if other := found.besides(id, repositoryFile(id)); other != "" {
			return other + " defines it too"
		}
		k.checkFile(&r, want)
		if _, err := k.system.FS.Stat(keyFile(id)); err == nil { // without a copy, only keys that are imported count
			if has, err := k.hasKeys(want); err != nil || !has {
				return keyFile(id) + " is not the policy's"
			}
		}
	}
	if r.State != converge.Compliant {
		return "its definition is not the policy's"
	}
	return ""
}
