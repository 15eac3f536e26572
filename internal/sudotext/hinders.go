package sudotext

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// hindrances are those parameters of sudoers(5) by which somebody who may run everything as
// root cannot become root all the same, by name.
var hindrances = sync.OnceValue(func() map[string]weakness {
	return map[string]weakness{
		"command_timeout": {weak: endsSoon, cure: "!command_timeout"},
		"noexec":          {weak: isOn, cure: "!noexec"},
		"passwd_timeout":  {weak: isBelow(0.25), cure: "passwd_timeout = 5"},
		"passwd_tries":    {weak: func(s Setting) bool { return s.Negated || isBelow(1)(s) || s.Value == "0" }, cure: "passwd_tries = 3"},
		"rlimit_as":       {weak: limits(64 << 20), cure: "rlimit_as = default"},
		"rlimit_cpu":      {weak: limits(LeastTime), cure: "rlimit_cpu = default"},
		"rlimit_data":     {weak: limits(64 << 20), cure: "rlimit_data = default"},
		"rlimit_fsize":    {weak: limits(1 << 20), cure: "rlimit_fsize = default"},
		"rlimit_nofile":   {weak: limits(64), cure: "rlimit_nofile = default"},
		"rlimit_nproc":    {weak: limits(64), cure: "rlimit_nproc = default"},
		"rlimit_stack":    {weak: limits(1 << 20), cure: "rlimit_stack = default"},
		"root_sudo":       {weak: isOff, cure: "root_sudo"},
		"runchroot":       {weak: func(s Setting) bool { return !s.Negated && s.Value != "*" && s.Value != "/" }, cure: "!runchroot"},
		"runas_default":   {weak: func(s Setting) bool { return s.Value != "root" }, cure: "runas_default = root"},
	}
})

// LeastTime is how long, in seconds, a command of an administrator's may last at least.
const LeastTime = 60

var timeSpan = regexp.MustCompile(`^(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s?)?$`)

// endsSoon says of a time as sudoers(5) has it, such as 1h30m, whether it is shorter than
// LeastTime; 0 stands for no end.
func endsSoon(s Setting) bool {
	parts := timeSpan.FindStringSubmatch(strings.ToLower(s.Value))
	if s.Negated || parts == nil {
		return false
	}
	seconds := 0
	for i, unit := range []int{24 * 60 * 60, 60 * 60, 60, 1} {
		n, _ := strconv.Atoi(parts[i+1])
		seconds += n * unit
	}
	return seconds > 0 && seconds < LeastTime
}

// limits says of a limit, "soft" or "soft,hard", whether no program can work below it.
func limits(least uint64) func(Setting) bool {
	return func(s Setting) bool {
		for limit := range strings.SplitSeq(s.Value, ",") {
			if n, err := strconv.ParseUint(limit, 10, 64); err == nil && n < least {
				return true
			}
		}
		return false
	}
}

// isBelow says of a setting whether it is a number below another one; 0 stands for no limit.
func isBelow(least float64) func(Setting) bool {
	return func(s Setting) bool {
		value, err := strconv.ParseFloat(s.Value, 64)
		return err == nil && value != 0 && value < least
	}
}

// Hinders returns the parameters of a line of Defaults by which somebody who may run
// everything as root cannot become it. A line for some users alone does
// when meets says so of them, one for single commands does not; commands are the aliases of those; isDir says whether there is a directory.
func (l Line) Hinders(meets func([]Subject) bool, commands map[string]string, isDir func(string) bool) (hindering []Setting) {
	switch {
	case l.Sort != DefaultsLine, len(l.Defaults.Users) > 0 && !meets(l.Defaults.Users):
		return nil
	case strings.HasPrefix(l.Defaults.Scope, "!") && !standsForMany(l.Defaults.Scope[1:], commands, 0):
		return nil
	}
	known := hindrances()
	for _, s := range l.Defaults.Settings {
		if h, listed := known[s.Name]; listed && h.weak(s) || leadsNowhere(s, isDir) {
			hindering = append(hindering, s)
		}
	}
	return hindering
}

// leadsNowhere says whether sudo would go, for each command, where there is nothing: it then runs none.
func leadsNowhere(s Setting, isDir func(string) bool) bool {
	return s.Name == "runcwd" && !s.Negated && path.IsAbs(s.Value) && !isDir(s.Value)
}

// standsForMany says whether a list of commands has one that stands for many, by
// whatever name.
func standsForMany(list string, aliases map[string]string, depth int) bool {
	return depth < maxAliases && slices.ContainsFunc(strings.Split(list, ","), func(command string) bool {
		command = strings.Trim(command, " \t")
		if definition, defined := aliases[command]; defined && command != "ALL" {
			return standsForMany(definition, aliases, depth+1)
		}
		return command == "ALL" || isMany(command) && !aliasName.MatchString(command)
	})
}

// maxAliases is how deep aliases are followed: of a deeper one nobody can tell.
const maxAliases = 16

// Hindrances are those of Defaults by which whoever may run everything as root cannot become
// it; of two of the same name the later one decides. isDir says whether there is a directory.
func Hindrances(settings []Setting, isDir func(string) bool) (all []string) {
	decided := map[string]Setting{}
	for _, s := range settings {
		decided[s.Name] = s
	}
	known := hindrances()
	for name, s := range decided {
		if h, listed := known[name]; listed && h.weak(s) || leadsNowhere(s, isDir) {
			all = append(all, s.String())
		}
	}
	slices.Sort(all)
	return all
}
