package sudotext

import (
	"regexp"
	"slices"
	"strings"
)

// TakesMany reports whether a grant surely takes from whom it is for, as root and on every host, more than
// single programs: it denies many, or lets them run everything in a way in which one cannot become root.
// commands are the aliases of those.
func (l Line) TakesMany(commands map[string]string) bool {
	hosts, rest, _ := strings.Cut(l.Rest, "=")
	if l.Sort != Grant || strings.Trim(hosts, " \t") != "ALL" || !arePrivileges(l.Rest) {
		return false
	}
	p := parser{rest}
	asRoot, bound, takes := true, false, false
	for {
		p.blanks()
		if as := someAs.FindString(p.rest); as != "" {
			asRoot = meansRoot(as[1 : len(as)-1])
		}
		before := p.rest
		if !p.command() {
			return takes
		}
		command := before[:len(before)-len(p.rest)]
		bound = stillBound(command, bound)
		if text, denies := commandOf(command); asRoot && standsForMany(text, commands, 0) {
			takes = denies || bound
		}
		if !p.passBlanks().take(',') {
			return takes
		}
	}
}

// meansRoot reports whether a list of users to run commands as surely has root.
func meansRoot(as string) bool {
	users, _, _ := strings.Cut(as, ":")
	is := false
	for user := range strings.SplitSeq(users, ",") {
		name, negated := strings.CutPrefix(strings.Trim(user, " \t"), "!")
		if name == "ALL" || name == "root" || name == "#0" {
			is = !negated
		}
	}
	return is
}

// stillBound reports whether a command, or by a tag one before it in the list, runs so that it cannot do
// what root can.
func stillBound(command string, before bool) bool {
	p := parser{command}
	p.pass(someAs)
	bound := before
	for {
		switch tag := p.passBlanks().rest; {
		case p.pass(someOption):
			name, _, _ := strings.Cut(tag, "=")
			bound = bound || slices.Contains([]string{"CHROOT", "PRIVS", "LIMITPRIVS"}, strings.TrimRight(name, " \t"))
		case p.pass(someTag):
			name, _, _ := strings.Cut(tag, ":")
			switch strings.TrimRight(name, " \t") {
			case "NOEXEC":
				bound = true
			case "EXEC":
				bound = false
			}
		default:
			return bound
		}
	}
}

// commandOf is a command without what stands before it, and whether it is denied.
func commandOf(command string) (text string, denies bool) {
	p := parser{command}
	p.pass(someAs)
	for p.passBlanks().pass(someOption) || p.pass(someTag) {
		continue
	}
	for p.pass(someDigests) || p.passBlanks().rest != "" && p.rest[0] == '!' {
		if p.take('!') {
			denies = !denies
		}
	}
	return strings.TrimRight(p.rest, " \t"), denies
}

// GivesAll reports whether a grant surely lets whom it is for run everything as root on every host.
func (l Line) GivesAll() bool {
	return l.Sort == Grant && givesAll.MatchString(l.Rest)
}

var givesAll = regexp.MustCompile(`^ALL[ \t]*=[ \t]*\([ \t]*(ALL|root)[ \t]*(:[ \t]*ALL[ \t]*)?\)[ \t]*((NOPASSWD|PASSWD|SETENV|NOSETENV)[ \t]*:[ \t]*)*ALL$`)
