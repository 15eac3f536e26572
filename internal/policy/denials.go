package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// judgeDenial reports a line that takes the administration from somebody whom [sudo] allows, unless one
// behind it gives that back.
func (g *grants) judgeDenial(found grant, behind []grant) {
	if !found.line.TakesMany(g.commands) {
		return
	}
	var denied []string
	for _, subject := range g.deniedBy(found.line.Users) {
		if !slices.ContainsFunc(behind, func(later grant) bool { return g.givesBack(later.line, subject) }) {
			denied = append(denied, subject)
		}
	}
	if len(denied) == 0 {
		return
	}
	whom := strings.Join(denied, ", ")
	if len(found.resource.Secrets) > 0 { // a name may be one
		whom = "somebody"
	}
	g.contradiction(found, Error, fmt.Sprintf("it denies %s what [sudo] allow at %s gives them; take the line out, or take them out of allow", whom, g.allow))
}

// deniedBy returns those of the allowed whom a list of users surely means. The last subject that means
// somebody decides.
func (g *grants) deniedBy(users []sudotext.Subject) (denied []string) {
	subjects := append([]string{"root"}, g.sudo.Allow...)
	for _, s := range users { // such as one whom the policy puts in an allowed group
		named := func(subject string) bool { return strings.EqualFold(subject, s.Name) }
		if s.Form == sudotext.User && !s.Negated && g.allowed(s, 0) == yes && !slices.ContainsFunc(subjects, named) {
			subjects = append(subjects, s.Name)
		}
	}
	for _, subject := range subjects {
		if means, sure := g.listMeans(users, subject, 0); means && sure && !slices.Contains(denied, subject) {
			denied = append(denied, subject)
		}
	}
	return denied
}

// listMeans reports whether a list means a subject of [sudo] allow. A name that may mean the same people, such
// as another group, leaves doubt.
func (g *grants) listMeans(users []sudotext.Subject, subject string, depth int) (means, sure bool) {
	sure = depth < 16
	for _, s := range slices.Backward(users) {
		is, certain := g.means(s, subject, depth)
		switch {
		case is && certain:
			return !s.Negated, sure
		case is || !certain && s.Negated:
			sure = false
		}
	}
	return false, sure
}

// means reports whether a subject of sudoers(5) means one of [sudo] allow, whatever its negation.
func (g *grants) means(s sudotext.Subject, subject string, depth int) (is, certain bool) {
	group, isGroup := strings.CutPrefix(subject, "%")
	switch s.Form {
	case sudotext.All:
		return true, true
	case sudotext.User:
		return !isGroup && strings.EqualFold(s.Name, subject), true
	case sudotext.Group:
		return isGroup && strings.EqualFold(s.Name, group), isGroup && strings.EqualFold(s.Name, group)
	case sudotext.UID:
		return subject == "root" && s.Name == "0", subject == "root"
	case sudotext.Named:
		if members, defined := g.aliases[s.Name]; defined {
			return g.listMeans(members, subject, depth+1)
		}
	}
	return false, false
}

// givesBack reports whether a line grants a subject everything.
func (g *grants) givesBack(line sudotext.Line, subject string) bool {
	means, sure := g.listMeans(line.Users, subject, 0)
	return line.Sort == sudotext.Grant && means && sure && line.GivesAll()
}

// judgeDefaults reports settings that [sudo] undoes wherever they are: those that weaken sudo, or keep the
// allowed from becoming root.
func (g *grants) judgeDefaults(found grant) {
	// Whether a setting is only for the allowed may depend on who is in which group.
	some := func(worst answer) func([]sudotext.Subject) bool {
		return func(users []sudotext.Subject) bool {
			return !slices.ContainsFunc(users, func(s sudotext.Subject) bool { return g.allowed(s, 0) > worst })
		}
	}
	meets := func(users []sudotext.Subject) bool { return len(g.deniedBy(users)) > 0 }
	isDir := func(string) bool { return true } // only a machine tells
	for _, s := range found.line.Weakens(some(maybe)) {
		g.contradiction(found, Error, fmt.Sprintf("%s weakens sudo, and [sudo] at %s undoes it; leave it out", g.setting(found, s), g.allow))
	}
	for _, s := range found.line.Hinders(meets, g.commands, isDir) {
		g.contradiction(found, Error, fmt.Sprintf("%s keeps those from becoming root whom [sudo] allow at %s names; leave it out, or bind it to others", g.setting(found, s), g.allow))
	}
	surely := found.line.Weakens(some(maybe))
	for _, s := range found.line.Weakens(some(yes)) {
		if !slices.Contains(surely, s) {
			g.contradiction(found, Warning, fmt.Sprintf("%s is for somebody whom [sudo] allow at %s does not name: unless a group that it names has them, no machine will be compliant; leave it out", g.setting(found, s), g.allow))
		}
	}
}

// setting is a parameter of Defaults, for a message. Its value may be a secret.
func (g *grants) setting(found grant, s sudotext.Setting) string {
	if len(found.resource.Secrets) > 0 {
		return fmt.Sprintf("%q", s.Name)
	}
	return fmt.Sprintf("\"Defaults%s %s\"", found.line.Defaults.Scope, s)
}
