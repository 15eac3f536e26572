package packages

import (
	"slices"
	"strings"
)

// installOnly are the names of packages that are installed side by side with their other
// versions and never updated: who is called so, or provides it, is one (installonlypkgs
// in yum.conf(5) and dnf.conf(5)).
type installOnly []string

func (o installOnly) has(name string, provides []string) bool {
	return slices.Contains(o, name) || slices.ContainsFunc(provides, func(p string) bool { return slices.Contains(o, p) })
}

// installOnly is what the package manager is configured with. What the configuration says
// takes the place of yum's defaults, and is added to those of dnf.
func (m manager) installOnly() installOnly {
	kernels := []string{"kernel", "kernel-PAE", "installonlypkg(kernel)", "installonlypkg(kernel-module)", "installonlypkg(vm)"}
	var said []string
	for _, s := range m.configuration()["main"] {
		if s.key == "installonlypkgs" {
			said = words(s.value)
		}
	}
	switch {
	case m.program() == "dnf":
		return append(said, append(kernels, "multiversion(kernel)")...)
	case said != nil:
		return said
	}
	return append(kernels, "kernel-bigmem", "kernel-enterprise", "kernel-smp", "kernel-debug", "kernel-unsupported",
		"kernel-source", "kernel-devel", "kernel-PAE-debug")
}

// configurationFile is the package manager's own.
func (m manager) configurationFile() string {
	if m.program() == "dnf" {
		return "/etc/dnf/dnf.conf"
	}
	return "/etc/yum.conf"
}

// configuration is what that file says; where it cannot be read, nothing.
func (m manager) configuration() map[string][]setting {
	content, err := m.system.FS.ReadFile(m.configurationFile())
	if err != nil {
		return nil
	}
	return parseINI(content)
}

// words are the elements of a list in a configuration file, which blanks or commas
// separate.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
}
