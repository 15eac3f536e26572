package dropindir

import (
	"regexp"
	"slices"
	"sync"
)

// table is all that is known. The first that matches counts, and in each group patterns come last.
// The manual page of each reader says which modes it accepts and when it reads the files. It is
// made when it is first asked for, once, and never changed.
var table = sync.OnceValue(func() []Directory {
	return slices.Concat(
		boot(), kernel(), systemd(),
		jobs(), access(), packages(), services(),
		browsers(), sessions(),
	)
})

var (
	endsInConf  = regexp.MustCompile(`\.conf$`)
	endsInRules = regexp.MustCompile(`\.rules$`)
	anyName     = regexp.MustCompile(``)
)

func sbin(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, "/usr/sbin/"+name, "/usr/bin/"+name, "/sbin/"+name, "/bin/"+name)
	}
	return all
}
