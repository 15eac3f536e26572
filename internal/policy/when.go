package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/target"
)

// whenForm is the form of the conditions of a fragment or rule.
func whenForm(doc string) *form {
	names := make([]string, len(target.Names()))
	for i, name := range target.Names() {
		names[i] = strings.ReplaceAll(name, ".", `\.`)
	}
	values := oneOf(text(""), texts("", text("")))
	values.is = "a string, or an array of strings of which one must be the value"
	facts := named("the value that a fact must have; `soe-agent facts` lists the facts. A version is given in whole components: `\"8\"` is 8.10 too", "NAME", `^(`+strings.Join(names, "|")+`)$`, values).eg(`fact."os.family" = ["rhel", "debian"]`)
	return record(doc, key{name: "fact", form: facts})
}

// when reads the conditions of a table, if it has any.
func (t *table) when() target.Conditions {
	if !t.has("when") {
		return nil
	}
	conditions := target.Conditions{}
	when := t.child("when")
	if when == nil {
		return nil
	}
	if facts := when.child("fact"); facts != nil {
		for _, name := range facts.keys() {
			if below, is := facts.values[name].(map[string]any); is && len(below) > 0 {
				facts.problem(name, "a name with a dot in it is written in quotes: %q", name+"."+slices.Sorted(maps.Keys(below))[0])
				continue
			}
			values := facts.oneOrMore(name)
			if why := FactProblem(name, values); why != "" {
				facts.problem(name, "%s", why)
			}
			conditions[name] = values
		}
	}
	for _, other := range []string{"tag", "group", "hostname"} {
		if when.has(other) {
			when.problem(other, "conditions here are of facts alone; who gets what by tag, group or name is a persona's, in agent.toml")
			delete(when.values, other)
			conditions[other] = nil
		}
	}
	if len(when.values)+len(conditions) == 0 {
		t.problem("when", `it has no conditions, such as { fact."os.family" = ["rhel"] }`)
	}
	when.close()
	return conditions
}

// FactProblem returns what is wrong with the test of a fact for one of these values, or "".
func FactProblem(fact string, values []string) string {
	why := target.Problem(fact, values)
	if why != target.NoSuchFact {
		return why
	}
	if near := Nearest(fact, target.Names()); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", why, near)
	}
	return why + "; facts are " + strings.Join(target.Names(), ", ")
}

// undecidedFragment returns, for people, that it cannot be told whether a fragment is for the machine. Its
// name is for root to read, as other things of a fragment that not everybody may read.
func undecidedFragment(name, why string) public.Line {
	const text = "cannot tell whether a fragment is for this machine"
	return public.Line{Whole: fmt.Sprintf("%s (%s): %s", text, name, why), Open: text + ": " + why}
}

// on returns what is kept of a rule on a machine. While it cannot be told whether the rule, or its fragment,
// is for the machine, what it may want left alone is left alone.
func (r Rule) on(facts target.Facts, undecided string) (on Rule, applies bool) {
	answer, why := r.When.Hold(facts)
	switch {
	case answer == target.No:
		return Rule{}, false
	case answer == target.Yes && undecided == "":
		r.When = nil
		return r, true
	case !r.Audit:
		return Rule{}, false
	}
	if undecided != "" {
		why = undecided
	}
	return Rule{Match: r.Match, Audit: true, Reason: "it cannot be told whether the rule is for this machine: " + why, Origin: r.Origin}, true
}

// leave records what a fragment for other machines sets.
func (p *Policy) leave(f Fragment, origin Origin, why string) {
	for _, s := range f.Settings {
		origin.Line = s.Line
		p.Left[s.ID] = Elsewhere{origin, why}
	}
}

// judgeApplicable notes what the machine has no use for, and forgets of what is left what the policy names.
func (p *Policy) judgeApplicable(facts target.Facts) {
	for i, r := range p.Resources {
		delete(p.Left, r.ID)
		p.Resources[i].NotApplicable = notApplicable(r.ID, facts)
		if wanted, is := r.Spec.(Package); is && wanted.Topic != "" && facts.Lacks(target.Family, target.Amazon) {
			wanted.Topic = "" // topics are for Amazon Linux alone; the package is kept all the same
			p.Resources[i].Spec = wanted
		}
	}
}

// notApplicable returns why a machine has no use for a resource, or "". Only facts that are known count.
func notApplicable(id ID, facts target.Facts) string {
	name := id.Name()
	has := func(fact, value string) bool { is, known := facts.Has(fact, value); return is && known }
	switch {
	case id.Kind() == "pcoip" && facts.Lacks(target.Streaming, target.PCoIP):
		return fmt.Sprintf("there is no PCoIP agent (%s is %s)", target.Streaming, facts[target.Streaming])
	case id.Kind() == "dconf" && strings.HasPrefix(name, "org/mate/") && has(target.Desktop, target.GNOME) && facts.Lacks(target.Desktop, target.MATE):
		return "it is a setting of MATE, and the desktop is GNOME"
	case id.Kind() == "dconf" && isOfGNOMEShell(name) && has(target.Desktop, target.MATE) && facts.Lacks(target.Desktop, target.GNOME):
		return "it is a setting of GNOME's own programs, and the desktop is MATE"
	case id.Kind() == "repository" && has(target.PackageManager, target.APT):
		return "it is a repository for yum and dnf, and packages come from apt"
	}
	return ""
}

// isOfGNOMEShell says whether only GNOME's session reads a setting. What is below org/gnome/desktop is read
// by programs on MATE too.
func isOfGNOMEShell(name string) bool {
	return slices.ContainsFunc([]string{"org/gnome/shell/", "org/gnome/mutter/", "org/gnome/settings-daemon/", "org/gnome/login-screen/"}, func(dir string) bool {
		return strings.HasPrefix(name, dir)
	})
}
