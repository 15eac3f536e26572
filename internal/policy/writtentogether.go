package policy

import (
	"fmt"
	"path"
	"slices"
)

// writtenProblems returns what is wrong with files of tmpfiles.d and sysusers.d only together with the rest of
// the policy: a link that another file makes, or a group of which [sudo] decides.
func (p *Policy) writtenProblems() (problems []contradiction) {
	resource, _ := p.Lookup(NewID("sudo", "allow"))
	sudo, _ := resource.Spec.(Sudo)
	tmpfiles := map[ID][]TmpfilesLine{}
	var all [][]TmpfilesLine
	add := func(r Resource, why string) {
		if why != "" && len(r.Secrets) > 0 {
			why = UnquotedWritten(why)
		}
		if why != "" {
			problems = append(problems, contradiction{Problem{
				File: r.Origin.Fragment, Line: r.Origin.Line, Message: fmt.Sprintf("cannot merge %s: %s", r.ID, why),
			}, r.ID})
		}
	}
	for _, r := range p.Resources {
		d, is := r.Spec.(Dropin)
		if !is || d.Ensure != Present {
			continue
		}
		switch path.Base(path.Dir("/" + r.ID.Name())) {
		case "tmpfiles.d":
			tmpfiles[r.ID] = TmpfilesLines(d.Content)
			all = append(all, tmpfiles[r.ID])
		case "sysusers.d":
			add(r, sudo.decidesMembers(d.Content))
		}
	}
	judge := newTmpfilesJudge(nil, all...)
	if len(tmpfiles) < 2 || len(judge.links) == 0 {
		return problems // each has been judged by itself
	}
	for _, r := range p.Resources {
		add(r, judge.judge(tmpfiles[r.ID]))
	}
	return problems
}

// decidesMembers returns why a file of sysusers.d must not put somebody into a group, or "": the section
// decides of it.
func (s Sudo) decidesMembers(content string) string {
	for _, l := range sysusersLines(content) {
		if l.kind != 'r' && l.group != "" && (slices.Contains(s.RootGroups, l.group) || slices.Contains(s.Allow, "%"+l.group)) {
			return fmt.Sprintf("line %d has systemd-sysusers put %s into the group %s, of which [sudo] decides: say it in [users]", l.number, l.name, l.group)
		}
	}
	return ""
}
