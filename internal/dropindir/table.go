package dropindir

import (
	"regexp"
	"slices"
	"sync"
)

// table is all that is known. The first that matches counts, and in each part patterns come last.
// The manual page of each reader says which modes it accepts and when it reads the files.
var table = sync.OnceValue(func() []Directory { return slices.Concat(machine(), services(), desktop()) })

var (
	endsInConf  = regexp.MustCompile(`\.conf$`)
	endsInRules = regexp.MustCompile(`\.rules$`)
	endsInJSON  = regexp.MustCompile(`\.json$`)
	plainName   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	anyName     = regexp.MustCompile(``)
	unitFile    = regexp.MustCompile(`\.(service|socket|timer|path|target|mount|automount|slice|swap|device|scope)$`)
)

var chronyIncludes = regexp.MustCompile(`(?i)^(?:include|confdir|sourcedir)\s+(.*)$`)

func chronyMains() []string { return []string{"/etc/chrony.conf", "/etc/chrony/chrony.conf"} }

func sbin(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, "/usr/sbin/"+name, "/usr/bin/"+name, "/sbin/"+name, "/bin/"+name)
	}
	return all
}

// elsewhere is where a program of people's is that no package of the distribution has brought.
func elsewhere(opt, snap, flatpak string) []string {
	return []string{"/opt/" + opt, "/usr/local/bin/" + snap, "/usr/lib64/" + opt, "/usr/lib/" + opt, "/snap/bin/" + snap, "/var/lib/flatpak/exports/bin/" + flatpak}
}

func systemdProgram(name string) []string {
	return []string{"/usr/lib/systemd/systemd-" + name, "/lib/systemd/systemd-" + name}
}
