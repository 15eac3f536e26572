package sudotext

import (
	"slices"
	"strconv"
	"strings"
)

// hindrances are those parameters of sudoers(5) by which somebody who may run everything as
// root cannot become root all the same, by name.
func hindrances() map[string]weakness {
	return map[string]weakness{
		"noexec":         {weak: isOn, cure: "!noexec"},
		"passwd_timeout": {weak: isBelow(0.25), cure: "passwd_timeout = 5"},
		"passwd_tries":   {weak: func(s Setting) bool { return s.Negated || isBelow(1)(s) || s.Value == "0" }, cure: "passwd_tries = 3"},
		"root_sudo":      {weak: isOff, cure: "root_sudo"},
		"runas_default":  {weak: func(s Setting) bool { return s.Value != "root" }, cure: "runas_default = root"},
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
// everything as root cannot become it, each with its cure. A line for some users alone does
// when meets says so of them, one for single commands does not.
func (l Line) Hinders(meets func([]Subject) bool) (cures []string) {
	switch {
	case l.Sort != DefaultsLine, len(l.Defaults.Users) > 0 && !meets(l.Defaults.Users):
		return nil
	case strings.HasPrefix(l.Defaults.Scope, "!") && !isBoundToMany(l.Defaults.Scope):
		return nil
	}
	known := hindrances()
	for _, s := range l.Defaults.Settings {
		if h, listed := known[s.Name]; listed && h.weak(s) && !slices.Contains(cures, h.cure) {
			cures = append(cures, h.cure)
		}
	}
	return cures
}

// isBoundToMany says whether a scope of commands has one that stands for many.
func isBoundToMany(scope string) bool {
	return slices.ContainsFunc(strings.Split(scope[1:], ","), func(command string) bool {
		command = strings.TrimSpace(command)
		return command == "ALL" || (isMany(command) && !aliasName.MatchString(command))
	})
}

// Hindrances are those of Defaults by which whoever may run everything as root cannot become
// it; of two of the same name the later one decides.
func Hindrances(settings []Setting) (all []string) {
	decided := map[string]Setting{}
	for _, s := range settings {
		decided[s.Name] = s
	}
	for name, h := range hindrances() {
		if s, set := decided[name]; set && h.weak(s) {
			all = append(all, s.String())
		}
	}
	slices.Sort(all)
	return all
}
