package policy

import (
	"fmt"
	"slices"
	"strings"
)

func (v *validator) sudo(s Sudo) {
	administrators := 0
	for _, subject := range s.Allow {
		if why := notASubject(subject); why != "" {
			v.wrong("%s", why)
		}
		if strings.TrimPrefix(subject, "%") != "root" {
			administrators++
		}
	}
	allowed := setOf(s.Allow)
	for _, group := range s.RootGroups {
		v.refuse(group == "" || strings.HasPrefix(group, "-") || strings.ContainsAny(group, "%:,") || breaksLine(group),
			"%q is not the name of a group; it is written without %%", group)
		v.refuse(allowed["%"+group], "root_groups has %s, and allow has its members: whoever is in it is allowed", group)
	}
	v.refuse(administrators == 0, "it would leave no administrator: root cannot log in to a WorkSpace; name a user or a %%group as well")
}

// notASubject says why a text does not name a user or, with a "%", a group; or "".
func notASubject(subject string) string {
	name := strings.TrimPrefix(subject, "%")
	switch {
	case name == "" || strings.TrimSpace(name) != name || strings.Contains(name, `"`) || breaksLine(name) || strings.ContainsRune("!#+%", rune(name[0])):
		return fmt.Sprintf("%q is not a user or a %%group", subject)
	case name == "ALL":
		return "ALL would be everybody; name users and groups"
	}
	return ""
}

// sudoProblems finds what no fragment by itself shows about [sudo].
func (p *Policy) sudoProblems() Problems {
	resource, ok := p.Lookup(NewID("sudo", "allow"))
	if !ok {
		return nil
	}
	var problems Problems
	problem := func(format string, args ...any) {
		problems = append(problems, Problem{
			File: resource.Origin.Fragment, Line: resource.Origin.Line,
			Message: "cannot merge sudo/allow: " + fmt.Sprintf(format, args...),
		})
	}
	sudo := resource.Spec.(Sudo)
	if p.removesAll(sudo.Allow) {
		problem("it would leave no administrator: the policy removes everybody whom it allows")
	}
	allowed, rootGroups := setOf(sudo.Allow), setOf(sudo.RootGroups)
	for _, r := range p.Resources {
		user, isUser := r.Spec.(User)
		if !isUser || user.Ensure == Absent || allowed[r.ID.Name()] {
			continue
		}
		groups := append(slices.Clone(user.Groups), user.Group)
		if slices.ContainsFunc(groups, func(g string) bool { return allowed["%"+g] }) {
			continue
		}
		for _, g := range groups {
			if !user.System && rootGroups[g] {
				problem("root_groups keeps %s for the allowed, and %s puts %s there; allow the user, or leave the group out",
					g, r.Origin, r.ID.Name())
			}
		}
	}
	return problems
}

func setOf(texts []string) map[string]bool {
	set := make(map[string]bool, len(texts))
	for _, text := range texts {
		set[text] = true
	}
	return set
}

// removesAll says whether all subjects but root are accounts or groups that the
// policy takes away.
func (p *Policy) removesAll(subjects []string) bool {
	for _, subject := range subjects {
		name, isGroup := strings.CutPrefix(subject, "%")
		if name == "root" {
			continue
		}
		var ensure Ensure
		if isGroup {
			group, _ := p.Lookup(NewID("group", name))
			g, _ := group.Spec.(Group)
			ensure = g.Ensure
		} else {
			user, _ := p.Lookup(NewID("user", name))
			u, _ := user.Spec.(User)
			ensure = u.Ensure
		}
		if ensure != Absent {
			return false
		}
	}
	return true
}
