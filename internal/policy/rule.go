package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/target"
)

// A Severity says how important it is that a resource is compliant. The words are those of SSM
// Compliance, in lower case.
type Severity string

// The severities, the most serious first.
const (
	Critical      Severity = "critical"
	High          Severity = "high"
	Medium        Severity = "medium"
	Low           Severity = "low"
	Informational Severity = "informational"
)

func severities() []Severity { return []Severity{Critical, High, Medium, Low, Informational} }

// DisruptInWindow is consent to end or disturb the session of somebody at the desktop, in the
// maintenance window.
const DisruptInWindow = "window"

// A Rule says more about the resources that it matches. If several matching rules say something
// different, the last one counts; Controls add up.
type Rule struct {
	Match    []string `json:"match"` // globs over IDs; * matches slashes too
	Severity Severity `json:"severity,omitempty"`
	Controls []string `json:"controls,omitempty"`
	Audit    bool     `json:"audit,omitempty"` // report drift, and do not repair it
	// Pending is how long a change may be pending before the resource is not compliant; 0: the rule
	// does not say.
	Pending time.Duration `json:"pending,omitempty"`
	// Disrupt is DisruptInWindow, or empty if the rule does not say.
	Disrupt string            `json:"disrupt,omitempty"`
	Until   time.Time         `json:"until,omitzero"` // the time at which Audit ends; zero: it does not end
	Reason  string            `json:"reason,omitempty"`
	When    target.Conditions `json:"when,omitempty"` // the machines it is for; none: every machine
	Origin  Origin            `json:"origin"`
}

// Matches reports whether the rule is about the resource.
func (r Rule) Matches(id ID) bool {
	return slices.ContainsFunc(r.Match, func(glob string) bool { return matchGlob(glob, string(id)) })
}

// LastDay returns the last day of Audit, as it is written in the policy, or "" if it does not end.
func (r Rule) LastDay() string {
	if r.Until.IsZero() {
		return ""
	}
	return r.Until.AddDate(0, 0, -1).Format(time.DateOnly)
}

// matchGlob has one special character: * matches any text, including slashes.
func matchGlob(glob, text string) bool {
	part, rest, more := strings.Cut(glob, "*")
	if !more {
		return glob == text
	}
	if !strings.HasPrefix(text, part) {
		return false
	}
	text = text[len(part):]
	for {
		if part, rest, more = strings.Cut(rest, "*"); !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
}

// matchesNothing reports whether a glob cannot match any ID, in any policy.
func matchesNothing(glob string) bool {
	literal, _, more := strings.Cut(glob, "*")
	return !slices.ContainsFunc(Kinds(), func(kind string) bool {
		return strings.HasPrefix(literal, kind+"/") && (more || len(literal) > len(kind)+1) || more && strings.HasPrefix(kind, literal)
	})
}

// Ruling is what the rules of a policy say about one resource.
type Ruling struct {
	Severity Severity
	Controls []string
	Audit    bool // do not repair it now
	Waived   bool // Audit with an end
	Until    time.Time
	Reason   string
	Pending  time.Duration // how long a change may be pending
	Disrupt  string        // when a desktop's session may end for it: DisruptInWindow, or "" for never
}

// patience is how long a change may be pending if no rule says: a week, in which AWS reboots most
// WorkSpaces for maintenance.
const patience = 7 * 24 * time.Hour

// parseDays parses a duration such as "7d" or "12h".
func parseDays(text string) (time.Duration, error) {
	number, isDays := strings.CutSuffix(text, "d")
	if days, err := strconv.Atoi(number); isDays && err == nil && days > 0 && days <= 3650 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= time.Minute {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a time such as \"7d\" or \"12h\", of a minute or more", text)
}

// Days returns a duration for people: "7d", or "36h0m0s".
func Days(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// localDate is the TOML decoder's mark of a date without a time.
const localDate = "date-local"

func ruleForm() *form {
	match := texts("globs over IDs of resources, in which `*` is any text, slashes included", like("", `^((`+strings.Join(Kinds(), "|")+`)/.|[a-z]*\*)`)).eg(`["sudo/*", "dconf/org/mate/screensaver/*"]`)
	return record("what is to be said of resources",
		key{name: "match", form: match},
		severityKey(), controlsKey(),
		key{name: "mode", form: word("`audit`: report them, and do not touch them", "audit")},
		key{name: "until", form: &form{doc: "the last day of a waiver, in UTC, without quotes; it needs `mode` and `reason`", types: []string{aString}, isDate: true, example: "2026-12-31"}},
		key{name: "reason", form: text("why they are audited only").eg(`"TICKET-123"`)},
		key{name: "pending", form: like("how long they may wait for their effect before that is held against the machine; left out: `7d`", someDays).eg(`"3d"`)},
		key{name: "disrupt", form: word("`window`: a session at the desktop may end for them in the maintenance window", DisruptInWindow)},
		key{name: "when", form: whenForm("conditions on facts of the machine, which must all hold for the rule to be used")},
	).needing([]string{"match"})
}

func (d *decoder) rule(t *table) {
	r := Rule{
		Match: t.texts("match"), Severity: t.severity(), Controls: t.controls(),
		Reason: t.text("reason"), Disrupt: t.text("disrupt"), When: t.when(),
	}
	r.Origin.Line = d.lines.at(t.path)
	if len(r.Match) == 0 {
		t.problem("match", `a rule needs the resources it is about, such as ["sudo/*"]`)
	}
	for _, glob := range r.Match {
		kind, _, slash := strings.Cut(glob, "/")
		switch {
		case !matchesNothing(glob):
		case !slash && slices.Contains(Kinds(), kind):
			t.problem("match", `%q matches nothing; all resources of the kind are "%s/*"`, glob, kind)
		default:
			t.problem("match", "%q begins with no kind of resource; kinds are %s", glob, strings.Join(Kinds(), ", "))
		}
	}
	switch mode := t.text("mode"); mode {
	case "":
	case "audit":
		r.Audit = true
	default:
		t.problem("mode", `%q is not a mode; the only one is "audit"`, mode)
	}
	if t.has("disrupt") && r.Disrupt != DisruptInWindow {
		t.problem("disrupt", `%q is not a time at which sessions may be disrupted; the only one is "window", the maintenance window`, r.Disrupt)
	}
	if t.has("pending") {
		var err error
		if r.Pending, err = parseDays(t.text("pending")); err != nil {
			t.problem("pending", "%v", err)
		}
	}
	if until, ok := t.value("until"); ok {
		day, isDate := until.(time.Time)
		isDate = isDate && day.Location().String() == localDate
		switch {
		case !isDate:
			t.problem("until", "it wants a date such as 2026-12-31, without quotes and time of day, and not %s", describe(until))
		case !r.Audit:
			t.problem("until", `only a rule with mode = "audit" can end`)
		case r.Reason == "":
			t.problem("until", "a waiver needs a reason")
		}
		// The day is the last one of the waiver. It is a day in UTC, so that a waiver ends on all
		// machines at once.
		r.Until = time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, time.UTC).AddDate(0, 0, 1)
	}
	t.close()
	d.rules = append(d.rules, r)
}

func (r Rule) lines() []string {
	lines := pairs("match", r.Match, "severity", string(r.Severity), "controls", r.Controls)
	if r.Pending != 0 {
		lines = append(lines, pair("pending", Days(r.Pending)))
	}
	lines = append(lines, pairs("disrupt", r.Disrupt)...)
	if r.Audit {
		lines = append(lines, pair("mode", "audit"))
	}
	if !r.Until.IsZero() {
		lines = append(lines, "until = "+r.LastDay())
	}
	if lines = append(lines, pairs("reason", r.Reason)...); len(r.When) > 0 {
		lines = append(lines, "when = "+r.When.String())
	}
	return lines
}
