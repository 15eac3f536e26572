package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

func sudoSection() section {
	return section{"sudo", sudoForm(), (*decoder).sudo, `[sudo]
allow = ["root", "%soe-admins"]
root_groups = ["docker"]

[sudo.commands]
"%developers" = ["(root) NOPASSWD: /usr/bin/systemctl restart docker.service"]
`, []Spec{Sudo{}}}
}

// Sudo names the only subjects that may administer the machine, as in the user list of sudoers(5):
// "root", "alice", "%group", "%EXAMPLE\Linux Admins".
type Sudo struct {
	Allow []string `json:"allow"`
	// RootGroups are groups whose members are equivalent to root, such as "docker". Only the
	// allowed may be members.
	RootGroups []string `json:"root_groups,omitempty"`
	// Commands are what subjects that are not allowed may run nevertheless, in the syntax of
	// sudotext.ParseCommand.
	Commands map[string][]string `json:"commands,omitempty"`
}

// Kind implements Spec.
func (Sudo) Kind() string { return "sudo" }

// Expand implements Spec.
func (s Sudo) Expand(expand func(string) string) Spec {
	s.Allow = expandAll(s.Allow, expand)
	return s
}

func sudoForm() *form {
	return record("who administers the machine, by sudo and by polkit",
		key{name: "allow", form: texts("users, and groups with a `%`: these and nobody else. One at least besides root", value("")).eg(`["root", "%EXAMPLE\\Linux Admins"]`)},
		key{name: "root_groups", form: texts("groups whose members are as good as root, in which only the allowed may be", text("")).eg(`["docker"]`)},
		key{name: "commands", form: named("what users, and groups with a `%`, may run who are not allowed", `"SUBJECT"`, `^%?[^!#+%" ]`, texts("commands as in sudoers(5), one each, with whom they are run as and tags before them", text(""))).eg(`commands."%developers" = ["(root) NOPASSWD: /usr/bin/systemctl restart docker.service"]`)},
	).needing([]string{"allow"})
}

func (d *decoder) sudo(t *table) {
	groups := t.texts("root_groups")
	if allow := t.texts("allow"); allow != nil || !t.has("allow") {
		d.set(t, "allow", NewID("sudo", "allow"), Sudo{Allow: allow, RootGroups: groups, Commands: d.commands(t)})
	}
	t.close()
}

// commands reads who may run what. Problems refer to the line of the subject.
func (d *decoder) commands(sudo *table) map[string][]string {
	t := sudo.child("commands")
	if t == nil {
		return nil
	}
	commands := map[string][]string{}
	for _, subject := range t.keys() {
		if why := notASubject(subject); why != "" {
			t.problem(subject, "%s", why)
		}
		commands[subject] = t.texts(subject)
		if len(commands[subject]) == 0 && t.isArray(subject) {
			t.problem(subject, "it names no command")
		}
		for _, text := range commands[subject] {
			command, err := sudotext.ParseCommand(text)
			if err != nil {
				t.problem(subject, "%q: %v", text, err)
				continue
			}
			for _, why := range waysToRoot(command) {
				d.advice = append(d.advice, Problem{
					File: d.file, Line: d.lines.at(append(slices.Clone(t.path), subject)), Gravity: Warning,
					Message: fmt.Sprintf("%s may become root by %q: %s", subject, text, why),
					Hint:    "grant a program that does the one thing, with its arguments",
				})
			}
		}
	}
	return commands
}

func (s Sudo) validate(v *validator) {
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
		v.short(group, mostOfDirectorys)
		v.refuse(group == "" || strings.HasPrefix(group, "-") || strings.ContainsAny(group, "%:,") || breaksLine(group),
			"%q is not the name of a group; it is written without %%", group)
		v.refuse(allowed["%"+group], "root_groups has %s, and allow has its members: whoever is in it is allowed", group)
	}
	v.refuse(administrators == 0, "it would leave no administrator: root cannot log in to a WorkSpace; name a user or a %%group as well")
}

func (s Sudo) entry(string) entry {
	lines := pairs("allow", s.Allow, "root_groups", s.RootGroups)
	for _, subject := range slices.Sorted(maps.Keys(s.Commands)) {
		lines = append(lines, "commands."+pair(subject, s.Commands[subject]))
	}
	return inTable("sudo", lines...)
}

// advise warns about commands granted to subjects that may run everything.
func (s Sudo) advise(a *adviser, of Setting) {
	for _, subject := range slices.Sorted(maps.Keys(s.Commands)) {
		if slices.Contains(s.Allow, subject) || subject == "root" {
			a.warn(of.Line, fmt.Sprintf("the commands of %s in [sudo.commands] have no effect: [sudo] allow lets %s run everything", subject, subject), "")
		}
	}
}

// loginless returns warnings about accounts that [sudo] allows by name, and that cannot log in by the shell
// that the policy gives them, while it allows others too.
func (p *Policy) loginless() (warnings Problems) {
	resource, _ := p.Lookup(NewID("sudo", "allow"))
	sudo, _ := resource.Spec.(Sudo)
	for _, subject := range sudo.Allow {
		r, _ := p.Lookup(NewID("user", subject))
		if user, _ := r.Spec.(User); user.Ensure == Present && endsAtOnce(user.Shell) {
			warnings = append(warnings, Problem{
				File: r.Origin.Fragment, Line: r.Origin.Line, Gravity: Warning,
				Message: fmt.Sprintf("%s administers the machine by [sudo] allow at %s, and cannot log in with the shell %s", subject, resource.Origin, user.Shell),
				Hint:    "leave the shell out, or take the user out of allow",
			})
		}
	}
	return warnings
}

// notASubject returns why a text does not name a user or, with a "%", a group; or "".
func notASubject(subject string) string {
	name := strings.TrimPrefix(subject, "%")
	switch {
	case len(name) > mostOfDirectorys:
		return fmt.Sprintf("the name %.40q… is longer than %d bytes", subject, mostOfDirectorys)
	case name == "" || strings.TrimSpace(name) != name || strings.Contains(name, `"`) || breaksLine(name) || strings.ContainsRune("!#+%", rune(name[0])):
		return fmt.Sprintf("%q is not a user or a %%group", subject)
	case name == "ALL":
		return "ALL would be everybody; name users and groups"
	}
	return ""
}

// sudoProblems reports problems of [sudo] that only the merged policy shows.
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
		problem("it would leave no administrator: the policy removes everybody whom it allows, or gives them a shell that ends at once")
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

// removesAll reports whether all subjects except root are accounts or groups that the policy
// removes, or accounts that cannot log in by the shell that it gives them.
func (p *Policy) removesAll(subjects []string) bool {
	return !slices.ContainsFunc(subjects, func(subject string) bool {
		return subject != "root" && subject != "%root" && !p.removes(subject)
	})
}

func (p *Policy) removes(subject string) bool {
	if name, isGroup := strings.CutPrefix(subject, "%"); isGroup {
		r, _ := p.Lookup(NewID("group", name))
		group, _ := r.Spec.(Group)
		return group.Ensure == Absent
	}
	r, _ := p.Lookup(NewID("user", subject))
	user, _ := r.Spec.(User)
	return user.Ensure == Absent || endsAtOnce(user.Shell) || user.System && user.Shell == ""
}

// endsAtOnce reports whether a shell is a program by which a login ends.
func endsAtOnce(shell string) bool {
	return slices.Contains([]string{"false", "true", "nologin", "sync", "shutdown", "halt", "poweroff", "reboot", "null"}, path.Base(shell))
}
