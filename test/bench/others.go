package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Other tools have no kinds for dconf, PCoIP and sudo: they are given whole files,
// which is the cheapest honest way that they have. They do not look at what is in
// effect.

// A file is one that is written whole.
type file struct {
	path, content, mode string
	dconf               bool // compiled when it has changed
}

// userSudo is where the image gives its user sudo, which the workload takes away.
const userSudo = "/etc/sudoers.d/01-ws-admin-user"

// directories are those of files, parents first.
var directories = []string{
	"/etc/profile.d", "/etc/modprobe.d", "/etc/sysctl.d", "/etc/pcoip-agent",
	"/etc/dconf", "/etc/dconf/db", "/etc/dconf/db/soe.d", "/etc/dconf/db/soe.d/locks", "/etc/dconf/profile",
}

// files are all of the workload's files.
func (w Workload) files() []file {
	var all []file
	for i := range int(w) {
		all = append(all, file{path: dropinPath(i), content: dropinContent(i), mode: "0644"})
	}
	var values, locks, settings strings.Builder
	for i := range folders {
		fmt.Fprintf(&values, "[%s]\n", dconfFolder(i))
		for j := i; j < keys; j += folders {
			fmt.Fprintf(&values, "key%03d='value %d'\n", j, j)
			fmt.Fprintf(&locks, "/%s/key%03d\n", dconfFolder(i), j)
		}
	}
	for _, setting := range pcoip {
		fmt.Fprintf(&settings, "pcoip.%s = %s\n", setting.key, setting.value)
	}
	return append(all,
		file{path: "/etc/dconf/db/soe.d/00-soe", content: values.String(), mode: "0644", dconf: true},
		file{path: "/etc/dconf/db/soe.d/locks/00-soe", content: locks.String(), mode: "0644", dconf: true},
		file{path: "/etc/dconf/profile/user", content: "user-db:user\nsystem-db:soe\n", mode: "0644", dconf: true},
		file{path: "/etc/pcoip-agent/pcoip-agent.conf", content: settings.String(), mode: "0644"},
		file{path: "/etc/sudoers.d/50-soe", content: "root ALL=(ALL:ALL) ALL\n%" + administrators + " ALL=(ALL) ALL\n", mode: "0440"},
	)
}

// Puppet is the workload as a manifest.
func (w Workload) Puppet() string {
	var b strings.Builder
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	b.WriteString("Package { provider => dnf }\n")
	for _, dir := range directories {
		fmt.Fprintf(&b, "file { '%s': ensure => directory, mode => '0755', owner => root, group => root }\n", dir)
	}
	for _, f := range w.files() {
		then := ""
		if f.dconf {
			then = ", notify => Exec['dconf-update']"
		}
		fmt.Fprintf(&b, "file { '%s': ensure => file, owner => root, group => root, mode => '%s', content => %s%s }\n", f.path, f.mode, quote(f.content), then)
	}
	fmt.Fprintf(&b, "file { '%s': ensure => absent }\n", userSudo)
	b.WriteString("exec { 'dconf-update': command => '/usr/bin/dconf update', refreshonly => true }\n")
	for i := range packages {
		fmt.Fprintf(&b, "package { '%s': ensure => installed }\n", packageName(i))
	}
	for i := range accounts {
		name, id := account(i)
		fmt.Fprintf(&b, "group { '%s': gid => %d }\n", name, id)
		fmt.Fprintf(&b, "user { '%s': uid => %d, gid => %d, system => true, shell => '/usr/sbin/nologin', home => '/nonexistent' }\n", name, id, id)
	}
	for _, unit := range services {
		fmt.Fprintf(&b, "service { '%s.service': ensure => running }\n", unit)
	}
	return b.String()
}

// CFEngine is the workload as a policy of CFEngine 3.16 or newer. It has no
// promise for groups: they are made by a command that is guarded by a class.
func (w Workload) CFEngine() string {
	var b strings.Builder
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	b.WriteString(`body common control { bundlesequence => { "groups", "soe" }; inputs => { "$(sys.libdir)/stdlib.cf" }; }
body contain readable { umask => "022"; }
bundle agent groups {
commands:
`)
	for i := range accounts {
		name, id := account(i)
		fmt.Fprintf(&b, "  \"/usr/sbin/groupadd -g %d %s\" if => not(groupexists(\"%s\"));\n", id, name, name)
	}
	b.WriteString("}\nbundle agent soe {\nfiles:\n")
	for _, dir := range directories {
		fmt.Fprintf(&b, "  \"%s/.\" create => \"true\", perms => mog(\"0755\", \"root\", \"root\");\n", dir)
	}
	for _, f := range w.files() {
		then := ""
		if f.dconf {
			then = `, classes => if_repaired("dconf_changed")`
		}
		fmt.Fprintf(&b, "  \"%s\" create => \"true\", content => %s, perms => mog(\"%s\", \"root\", \"root\")%s;\n", f.path, quote(f.content), f.mode, then)
	}
	fmt.Fprintf(&b, "  \"%s\" delete => tidy;\nusers:\n", userSudo)
	for i := range accounts {
		name, id := account(i)
		fmt.Fprintf(&b, "  \"%s\" policy => \"present\", uid => \"%d\", group_primary => \"%s\", home_dir => \"/nonexistent\", shell => \"/usr/sbin/nologin\";\n", name, id, name)
	}
	b.WriteString("packages:\n")
	for i := range packages {
		fmt.Fprintf(&b, "  \"%s\" policy => \"present\", package_module => yum;\n", packageName(i))
	}
	b.WriteString("commands:\n  dconf_changed::\n    \"/usr/bin/dconf update\" contain => readable;\nservices:\n  any::\n")
	for _, unit := range services {
		fmt.Fprintf(&b, "    \"%s\" service_policy => \"active\";\n", unit)
	}
	b.WriteString("}\n")
	return b.String()
}

// Missing says what of the workload is not there in the machine whose files are
// below root, as far as files tell: drop-ins and accounts. installed are the names
// of its packages.
func (w Workload) Missing(read func(name string) (string, error), installed []string) []string {
	var missing []string
	for i := range int(w) {
		if content, err := read(dropinPath(i)); err != nil || content != dropinContent(i) {
			missing = append(missing, dropinPath(i))
		}
	}
	passwd, _ := read("/etc/passwd") // what cannot be read holds nobody
	for i := range accounts {
		if name, id := account(i); !strings.Contains("\n"+passwd, fmt.Sprintf("\n%s:x:%d:%d:", name, id, id)) {
			missing = append(missing, "user "+name)
		}
	}
	for i := range packages {
		if !slices.Contains(installed, packageName(i)) {
			missing = append(missing, "package "+packageName(i))
		}
	}
	if grant, err := read(userSudo); err == nil && strings.HasPrefix(grant, "#1000 ") { // in sudoers, a user
		missing = append(missing, "the absence of what "+userSudo+" gives")
	}
	return missing
}
