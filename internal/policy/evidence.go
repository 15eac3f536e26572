package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Evidence is what a resource's own table says about it in addition to what is wanted: how
// important it is, and which controls require it. It is a rule about that resource alone, with the
// rank of the fragment that sets it: it takes precedence over the rules of the same rank, and rules
// of a higher rank take precedence over it. It belongs to the resource: a fragment that replaces
// the resource brings its own.
type Evidence struct {
	Severity Severity
	Controls []string
}

// Keys that both a resource's table and a rule have.
const (
	severityWord = "severity"
	controlsWord = "controls"
)

func severityKey() key {
	var words []string
	for _, s := range severities() {
		words = append(words, string(s))
	}
	return key{name: severityWord, form: word("how much it matters that it is not in line; left out: what the rules say, or `medium`", words...)}
}

func controlsKey() key {
	return key{name: controlsWord, form: texts("what it is demanded by, such as the numbers of a benchmark behind its name and a colon", text("")).eg(`["cis-al2:5.2.2"]`)}
}

// bearing adds the keys of evidence to the tables of named resources, at any depth. No section adds
// them itself.
func (f *form) bearing() {
	if f.each == nil {
		return
	}
	if f.each.bearing(); f.each.each == nil {
		if t := f.each.table(); t != nil {
			t.keys = append(t.keys, severityKey(), controlsKey())
		}
	}
}

// evidence reads the evidence in a resource's table, if that may have any.
func (t *table) evidence(key string, id ID) (e Evidence) {
	f := t.form.under(key).table()
	if _, isTable := t.values[key].(map[string]any); !isTable || f == nil || f.under(controlsWord) == nil {
		return e
	}
	child := t.child(key)
	e = Evidence{child.severity(), child.controls()}
	if strings.Contains(string(id), "*") && !e.nothing() {
		t.problem(key, "its name holds a *, so that %s and %s cannot be said of it alone: say them in [[rules]]", severityWord, controlsWord)
	}
	return e
}

func (e Evidence) nothing() bool { return e.Severity == "" && len(e.Controls) == 0 }

func (t *table) severity() Severity {
	s := Severity(t.text(severityWord))
	if t.has(severityWord) && !slices.Contains(severities(), s) {
		t.problem(severityWord, "%q is none of critical, high, medium, low, informational", s)
	}
	return s
}

// longestControl is how many bytes the name of a control may have, because people read it in a
// table.
const longestControl = 100

func (t *table) controls() []string {
	controls := t.texts(controlsWord)
	for _, c := range controls {
		if c == "" || breaksLine(c) || len(c) > longestControl {
			t.problem(controlsWord, "%.200q is not the name of a control: a text of one line and of %d bytes at most", c, longestControl)
		}
	}
	return controls
}

// ownRules returns the rules that the tables of resources make, for the highest rank that sets each
// resource. The settings are sorted as by resolveRanks. Several settings of one rank may make the
// same statement about a resource; their controls add up.
func ownRules(settings []rankedSetting) (rules []rankedRule, problems Problems) {
	for i := 0; i < len(settings); {
		first := settings[i]
		highest := i == 0 || settings[i-1].ID != first.ID
		own := rankedRule{Rule{Match: []string{string(first.ID)}, Origin: first.origin}, first.rank}
		said, has := first, map[string]bool{} // the setting that gave the severity; the controls so far
		for ; i < len(settings) && settings[i].ID == first.ID && settings[i].rank == first.rank; i++ {
			s := settings[i]
			if len(own.Controls) == 0 && own.Severity == "" {
				own.Origin = s.origin
			}
			for _, c := range s.Evidence.Controls {
				if !has[c] {
					has[c], own.Controls = true, append(own.Controls, c)
				}
			}
			switch severity := s.Evidence.Severity; {
			case severity == "" || severity == own.Severity:
			case own.Severity == "":
				own.Severity, said = severity, s
			default:
				problems = append(problems, Problem{File: s.origin.Fragment, Line: s.origin.Line, Message: fmt.Sprintf(
					"cannot merge %s: its severity is %q here and %q at %s, which has the same rank", s.ID, severity, own.Severity, said.origin)})
			}
		}
		if highest && (own.Severity != "" || len(own.Controls) > 0) {
			rules = append(rules, own)
		}
	}
	return rules, problems
}

// contradicted reports rules that name a resource and give it another severity than its own table,
// at the same rank. A rule with a pattern is about many resources, and the table of one takes
// precedence.
func contradicted(settings []rankedSetting, rules []rankedRule) (problems Problems) {
	type place struct {
		rank int
		id   string
	}
	named := map[place]rankedRule{}
	for _, r := range rules {
		for _, glob := range r.Match {
			if r.Severity != "" {
				named[place{r.rank, glob}] = r // the last one counts
			}
		}
	}
	for _, s := range settings {
		at := place{s.rank, string(s.ID)}
		r, is := named[at]
		if s.Evidence.Severity != "" && is && r.Severity != s.Evidence.Severity {
			delete(named, at) // report it once
			problems = append(problems, Problem{File: r.Origin.Fragment, Line: r.Origin.Line, Message: fmt.Sprintf(
				"cannot merge %s: its severity is %q by this rule and %q by its own table at %s, which has the same rank", s.ID, r.Severity, s.Evidence.Severity, s.origin)})
		}
	}
	return problems
}
