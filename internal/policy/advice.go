package policy

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soon is how long before the end of a waiver the author is notified.
const soon = 30 * 24 * time.Hour

// Advise returns warnings about fragments that Parse accepts: settings without any effect, whatever
// the machine, and commands of [sudo.commands] with which their users can become root. It returns
// notices about waivers that end soon. now is the current time.
//
// A rule may match what another fragment sets, of any persona, because a machine may have several.
// So pass all fragments of a policy together.
func Advise(fragments []Fragment, now time.Time) Problems {
	a := adviser{now: now}
	var rules []Rule
	for _, f := range fragments {
		for _, s := range f.Settings {
			a.know(s)
		}
		rules = append(rules, f.Rules...)
	}
	a.globs = indexOf(rules).matched(a.ids)
	for _, f := range fragments {
		a.file = f.Name
		if len(f.Settings)+len(f.Rules)+len(f.Benchmarks) == 0 {
			a.warn(0, "it sets nothing and has no rules", "")
		}
		a.targets(f)
		for _, s := range f.Settings {
			a.absent(s)
			if spec, is := s.Spec.(advising); is {
				spec.advise(&a, s)
			}
		}
		a.problems = append(a.problems, f.Advice...)
		for i, r := range f.Rules {
			a.rule(r)
			a.overruled(r, f.Rules[i+1:])
		}
	}
	a.benchmarks(fragments)
	slices.SortStableFunc(a.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return a.problems
}

// An adviser collects advice about fragments.
type adviser struct {
	now      time.Time
	file     string          // the current fragment
	ids      []ID            // everything that is set
	globs    map[string]bool // the rules' globs that match any of them
	purged   []string        // directories in which any file may be a resource
	guessed  int             // how often nearest has searched
	problems Problems
}

func (a *adviser) know(s Setting) {
	a.ids = append(a.ids, s.ID)
	if spec, is := s.Spec.(surrounded); is {
		for _, id := range spec.beside(s.ID) {
			if strings.HasSuffix(string(id), "/") {
				a.purged = append(a.purged, string(id))
			} else {
				a.ids = append(a.ids, id)
			}
		}
	}
}

func (a *adviser) say(gravity Gravity, line int, message, hint string) {
	a.problems = append(a.problems, Problem{File: a.file, Line: line, Gravity: gravity, Message: message, Hint: hint})
}

func (a *adviser) warn(line int, message, hint string) { a.say(Warning, line, message, hint) }

// absent warns about other settings of something that should be absent.
func (a *adviser) absent(s Setting) {
	spec, is := s.Spec.(removable)
	if !is {
		return
	}
	if absent, alone := spec.absence(); absent && !reflect.DeepEqual(s.Spec, alone) {
		a.warn(s.Line, fmt.Sprintf("%s is to be absent, and what else is said of it has no effect", s.ID), "")
	}
}

func (a *adviser) rule(r Rule) {
	line := r.Origin.Line
	for _, glob := range r.Match {
		if a.matched(glob) {
			continue
		}
		hint := "look at the IDs with: soe-agent policy show"
		if near := a.nearest(glob); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		a.warn(line, fmt.Sprintf("the rule matches nothing by %q: no fragment sets such a resource", glob), hint)
	}
	if r.Severity == "" && len(r.Controls) == 0 && !r.Audit && r.Pending == 0 && r.Disrupt == "" {
		a.warn(line, "the rule says nothing of what it matches", "")
	} else if r.Reason != "" && !r.Audit {
		a.warn(line, `the reason has no effect: it is that of mode = "audit"`, "")
	}
	lastDay := r.LastDay()
	switch left := r.Until.Sub(a.now); {
	case r.Until.IsZero():
	case left <= 0:
		a.warn(line, fmt.Sprintf("the waiver has ended: %s was its last day", lastDay), "take the rule out, or give it another day")
	case left <= soon:
		a.say(Notice, line, fmt.Sprintf("the waiver ends soon: %s is its last day", lastDay), "")
	}
}

// mostGuesses limits how often all IDs are searched for what a glob was meant to be.
const mostGuesses = 20

// nearest returns the ID that a glob was most likely meant to be, or "".
func (a *adviser) nearest(glob string) string {
	if strings.Contains(glob, "*") || a.guessed == mostGuesses {
		return ""
	}
	a.guessed++
	known := make([]string, min(len(a.ids), 5000))
	for i := range known {
		known[i] = string(a.ids[i])
	}
	return Nearest(glob, known)
}

// matched reports whether a glob may match a resource of a machine.
func (a *adviser) matched(glob string) bool {
	literal, _, more := strings.Cut(glob, "*")
	return a.globs[glob] ||
		slices.ContainsFunc(a.purged, func(dir string) bool {
			return strings.HasPrefix(literal, dir) || more && strings.HasPrefix(dir, literal)
		})
}

// overruled warns about what a rule says without effect, because a later rule of the fragment says
// it for everything that this one matches.
func (a *adviser) overruled(r Rule, later []Rule) {
	later = later[:min(len(later), 100)]
	for _, aspect := range []struct {
		name string
		says func(Rule) bool
	}{
		{"severity", func(r Rule) bool { return r.Severity != "" }},
		{"pending", func(r Rule) bool { return r.Pending != 0 }},
		{"disrupt", func(r Rule) bool { return r.Disrupt != "" }},
		{"mode", func(r Rule) bool { return r.Audit }},
	} {
		by := slices.IndexFunc(later, func(other Rule) bool { return aspect.says(other) && other.covers(r) })
		if aspect.says(r) && by >= 0 {
			a.warn(r.Origin.Line, "the rule's "+aspect.name+" has no effect: the rule in line "+strconv.Itoa(later[by].Origin.Line)+
				" says another of all that it matches, and the later one is believed", "")
		}
	}
}

// covers reports whether the rule certainly matches everything that the other matches.
func (r Rule) covers(other Rule) bool {
	if len(r.When) > 0 && r.When.String() != other.When.String() {
		return false // on another machine it does not
	}
	if len(r.Match)*len(other.Match) > 10000 {
		return false // no author would notice it either
	}
	// A glob that matches another one literally matches everything that the other matches.
	return !slices.ContainsFunc(other.Match, func(glob string) bool { return !r.Matches(ID(glob)) })
}
