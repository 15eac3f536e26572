package packages

import (
	"slices"
	"strings"
)

// installOnly lists the packages that are installed side by side with their other versions and are
// never updated. A package belongs to it if it has such a name or provides it (installonlypkgs in
// yum.conf(5) and dnf.conf(5)).
type installOnly []string

func (o installOnly) has(name string, provides []string) bool {
	return slices.Contains(o, name) || slices.ContainsFunc(provides, func(p string) bool { return slices.Contains(o, p) })
}

// installOnly returns the package manager's installonlypkgs. The configured value replaces yum's
// defaults and is added to dnf's.
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

// configurationFile returns the path of the package manager's own configuration.
func (m manager) configurationFile() string {
	if m.program() == "dnf" {
		return "/etc/dnf/dnf.conf"
	}
	return "/etc/yum.conf"
}

// configuration returns the sections of that file, or nil if it cannot be read.
func (m manager) configuration() map[string][]setting {
	content, err := m.system.FS.ReadFile(m.configurationFile())
	if err != nil {
		return nil
	}
	return parseINI(content)
}

// words splits a list in a configuration file. Blanks or commas separate its elements.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
}
