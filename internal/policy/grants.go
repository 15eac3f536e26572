package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

const (
	sudoersDir = "/etc/sudoers.d"
	// lastSudoers is the file with which the agent denies everything to everybody else.
	lastSudoers = "zz-soe-sudo"
)

// A contradiction is one between [sudo] and a sudoers file of the same policy, or between a package
// and one architecture of it. With it the agent would undo its own changes. Or it is what a drop-in has
// others write together with the rest of the policy, and alone would not.
type contradiction struct {
	Problem
	id ID // of the file, or of the package in one architecture
}

// contradictions returns the certain ones. Merge refuses the policy because of them.
func (p *Policy) contradictions() (certain Problems) {
	for _, c := range slices.Concat(p.grants(), p.packageProblems(), p.writtenProblems()) {
		if c.Gravity == Error {
			certain = append(certain, c.Problem)
		}
	}
	return certain
}

// Doubtful returns warnings about files that may contradict [sudo], which can only be decided on a
// machine, and about administrators who cannot log in.
func (p *Policy) Doubtful() (warnings Problems) {
	warnings = p.loginless()
	for _, c := range p.grants() {
		if c.Gravity != Error {
			warnings = append(warnings, c.Problem)
		}
	}
	return warnings
}

func (p *Policy) grants() []contradiction {
	resource, ok := p.Lookup(NewID("sudo", "allow"))
	sudo, is := resource.Spec.(Sudo)
	if !ok || !is {
		return nil
	}
	g := &grants{policy: p, sudo: sudo, allow: resource.Origin, aliases: map[string][]sudotext.Subject{}, commands: map[string]string{}, read: map[string]bool{}}
	for _, r := range p.Resources {
		if d, is := r.Spec.(Dropin); is && d.Ensure == Present && path.Dir("/"+r.ID.Name()) == sudoersDir {
			g.file(r, "")
		}
	}
	for i, found := range g.found {
		g.judge(found)
		g.judgeDenial(found, g.found[i+1:])
		g.judgeDefaults(found)
	}
	return g.problems
}

// grants searches for contradictions.
type grants struct {
	policy   *Policy
	sudo     Sudo
	allow    Origin
	aliases  map[string][]sudotext.Subject
	commands map[string]string // command aliases
	read     map[string]bool
	found    []grant
	problems []contradiction
}

// A grant is a line of one of the policy's sudoers files.
type grant struct {
	resource Resource
	by       string // the policy's file that includes the line's file
	line     sudotext.Line
}

// file reads a sudoers file of the policy, and the files of the policy that it includes.
func (g *grants) file(r Resource, by string) {
	name := "/" + r.ID.Name()
	if g.read[name] {
		return
	}
	g.read[name] = true
	for _, line := range sudotext.Parse([]byte(r.Spec.(Dropin).Content)) {
		if !hasReference(line.Text) { // otherwise its text is not known yet
			g.found = append(g.found, grant{r, by, line})
		}
		maps.Copy(g.aliases, line.Aliases)
		maps.Copy(g.commands, line.Commands)
		if line.Sort != sudotext.Include && line.Sort != sudotext.IncludeDir {
			continue
		}
		target := line.Path
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		for _, other := range g.policy.Resources {
			file := "/" + other.ID.Name()
			inDir := line.Sort == sudotext.IncludeDir && path.Dir(file) == path.Clean(target) && !strings.Contains(path.Base(file), ".") && !strings.HasSuffix(file, "~")
			if d, is := other.Spec.(Dropin); is && d.Ensure == Present && (inDir || file == path.Clean(target)) {
				g.file(other, name)
			}
		}
	}
}

// judge reports what is wrong with a line.
func (g *grants) judge(found grant) {
	line, name := found.line, "/"+found.resource.ID.Name()
	includes := line.Sort == sudotext.Include || line.Sort == sudotext.IncludeDir
	switch {
	case line.Sort == sudotext.Unclear:
		g.contradiction(found, Error, "nobody can tell for certain what it grants, and to whom; write each grant on a line of its own")
	case includes && path.Dir(name) == sudoersDir && path.Base(name) > lastSudoers:
		g.contradiction(found, Error, "it includes something behind "+sudoersDir+"/"+lastSudoers+", by which the agent denies everybody else everything; give the file a name that sorts before")
	case includes && inAny(path.Clean(line.Path), peoplesPlaces()):
		g.contradiction(found, Error, "it includes "+line.Path+", where others than root may write; include what only root can")
	case line.Sort == sudotext.Grant && !line.OnlyDenies(g.commands):
		var surely, perhaps []string
		for _, s := range line.Users {
			switch g.allowed(s, 0) {
			case no:
				surely = append(surely, s.String())
			case maybe:
				perhaps = append(perhaps, s.String())
			}
		}
		if len(found.resource.Secrets) > 0 { // a name may be one
			surely, perhaps = surely[:min(len(surely), 1)], nil
			if len(surely) > 0 {
				surely[0] = "somebody"
			}
		}
		if len(surely) > 0 {
			g.contradiction(found, Error, fmt.Sprintf("it grants something to %s, whom [sudo] allow at %s does not name; say in [sudo.commands] what they may run", strings.Join(surely, ", "), g.allow))
		} else if len(perhaps) > 0 {
			g.contradiction(found, Warning, fmt.Sprintf("it grants something to %s, whom [sudo] allow at %s does not name: unless a group that it names has them, no machine will be compliant; say in [sudo.commands] what they may run",
				strings.Join(perhaps, ", "), g.allow))
		}
	}
}

func (g *grants) contradiction(found grant, gravity Gravity, why string) {
	r := found.resource
	where := fmt.Sprintf("line %d of its content", found.line.First)
	if found.by != "" {
		where += ", which " + found.by + " includes"
	}
	prefix := "cannot merge "
	if gravity != Error {
		prefix = ""
	}
	g.problems = append(g.problems, contradiction{Problem{
		File: r.Origin.Fragment, Line: r.Origin.Line, Gravity: gravity,
		Message: fmt.Sprintf("%s%s: %s: %s", prefix, r.ID, where, why),
	}, r.ID})
}

// An answer may depend on the machine.
type answer int

const (
	yes answer = iota
	maybe
	no
)

// allowed reports whether [sudo] allow includes a subject, as far as that can be told without a
// machine.
func (g *grants) allowed(s sudotext.Subject, depth int) answer {
	switch {
	case s.Negated && s.ShutsOut(g.aliases):
		return no // all except somebody
	case s.Negated:
		return yes // it lets nobody in
	}
	open := slices.ContainsFunc(g.sudo.Allow, hasReference)
	switch s.Form {
	case sudotext.Named:
		members, defined := g.aliases[s.Name]
		if !defined || depth > 16 {
			return maybe
		}
		worst := yes
		for _, m := range members {
			if m.Negated {
				return no // all except somebody
			}
			worst = max(worst, g.allowed(m, depth+1))
		}
		return worst
	case sudotext.User:
		return g.allowedUser(s.Name, open)
	case sudotext.UID:
		if s.Name == "0" {
			return yes
		}
		return maybe
	case sudotext.Group:
		switch {
		case slices.ContainsFunc(g.sudo.Allow, func(a string) bool { return strings.EqualFold(a, "%"+s.Name) }):
			return yes
		case open:
			return maybe
		}
		return no
	case sudotext.GID:
		return maybe
	}
	return no
}

func (g *grants) allowedUser(name string, open bool) answer {
	if name == "root" || slices.ContainsFunc(g.sudo.Allow, func(a string) bool { return strings.EqualFold(a, name) }) {
		return yes
	}
	user, _ := g.policy.Lookup(NewID("user", name))
	account, _ := user.Spec.(User)
	inGroup := func(group string) bool { return slices.Contains(g.sudo.Allow, "%"+group) }
	switch {
	case slices.ContainsFunc(account.Groups, inGroup) || inGroup(account.Group):
		return yes
	case open || slices.ContainsFunc(g.sudo.Allow, func(a string) bool { return strings.HasPrefix(a, "%") }):
		return maybe
	}
	return no
}
