package policy

import (
	"path"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
)

func checksSection() section {
	return section{"checks", named("what is looked at, reported and never repaired: a command's outcome, or what the agent itself looks for", "NAME", checkName.String(), checkForm()), (*decoder).checks, `[checks.home-is-a-volume]
run = ["/usr/bin/findmnt", "-no", "SOURCE", "/home"]
stdout = "^/dev/"

[checks.nobody-gets-in-without-a-password]
find = "empty-passwords"

[checks.only-packages-bring-set-id-programs]
find   = "set-id"
except = ["/opt/vendor/bin/helper"]
every  = "12h"
`, []Spec{Check{}, Search{}}}
}

// Check is a command whose result is reported. Nothing is repaired.
type Check struct {
	Run     []string      `json:"run"`
	User    string        `json:"user,omitempty"`   // the user to run as; empty: root
	Stdout  string        `json:"stdout,omitempty"` // an RE2 expression that stdout must match
	Stderr  string        `json:"stderr,omitempty"` // one that stderr must match
	Exit    int           `json:"exit"`
	Timeout time.Duration `json:"timeout"`
	// Every is the interval between runs in the background, with low priority for processor and
	// disk. 0 means that it runs whenever the machine is checked.
	Every time.Duration `json:"every,omitempty"`
}

// StaleAfter is how long the last result of a check with Every counts.
func (c Check) StaleAfter() time.Duration { return 2 * c.Every }

// Kind implements Spec.
func (Check) Kind() string { return "check" }

// Expand implements Spec.
func (c Check) Expand(expand func(string) string) Spec {
	c.Run = expandAll(c.Run, expand)
	c.Stdout, c.Stderr = expand(c.Stdout), expand(c.Stderr)
	return c
}

func (Check) notation() notation { return wholeLines }

func checkForm() *form {
	return record("a command that judges the machine and changes nothing, or what the agent itself looks for",
		key{name: "find", form: word("what the agent itself looks for, instead of a command; each that is found is named", searches()...)},
		key{name: "except", form: texts("with `find`: what is passed over: names of accounts or groups, or globs over paths of files", text("")).eg(`["/opt/tool/*"]`)},
		key{name: "run", form: texts("the program with its whole path, and its arguments; no shell", value("")).eg(`["/usr/bin/findmnt", "-no", "SOURCE", "/home"]`)},
		key{name: "user", form: text("who runs it; left out: root")},
		key{name: "stdout", form: value("a regular expression (RE2) that the output must match").eg(`"^/dev/"`)},
		key{name: "stderr", form: value("a regular expression (RE2) that the errors must match")},
		key{name: "exit", form: whole("the exit code that it must have; left out: 0", 0, 255)},
		key{name: "timeout", form: like("how long it may take; left out: `10s`, and `5m` with `every`", someTime).eg(`"10s"`)},
		key{name: "every", form: like("how often it is run, from `10m` to `30d`, in its own time and with low priority; left out: whenever the machine is checked. What searches files needs it", someDays).eg(`"6h"`)},
	).needing([]string{"run"}, []string{"find"})
}

// Default timeouts of checks.
const (
	defaultCheckTimeout = 10 * time.Second
	patientCheckTimeout = 5 * time.Minute // with Every, because it runs with low priority
)

// Limits of Every.
const (
	mostOften  = 10 * time.Minute
	leastOften = 30 * 24 * time.Hour
)

func (c Check) defaultTimeout() time.Duration {
	if c.Every > 0 {
		return patientCheckTimeout
	}
	return defaultCheckTimeout
}

func (d *decoder) checks(t *table) {
	d.each(t, func(name string, c *table) {
		if c.has("find") {
			d.search(t, name, c)
			return
		}
		if c.has("except") {
			c.problem("except", "it belongs to find")
		}
		check := Check{
			Run: c.texts("run"), User: c.text("user"), Stdout: c.text("stdout"), Stderr: c.text("stderr"),
		}
		check.Every, check.Timeout = c.rhythm(0)
		if exit := c.number("exit"); exit != nil {
			check.Exit = *exit
		}
		d.set(t, name, NewID("check", name), check)
	})
}

// rhythm reads how often a check runs, and how long it may take. usual is that if nothing is said; 0
// means what is usual for a command.
func (t *table) rhythm(usual time.Duration) (every, timeout time.Duration) {
	var err error
	if t.has("every") {
		if every, err = parseDays(t.text("every")); err != nil {
			t.problem("every", "%v", err)
		}
	}
	if timeout = usual; usual == 0 {
		timeout = Check{Every: every}.defaultTimeout()
	}
	if text := t.text("timeout"); text != "" {
		if timeout, err = time.ParseDuration(text); err != nil || timeout <= 0 {
			t.problem("timeout", "%q is not a duration such as \"10s\"", text)
		}
	}
	return every, timeout
}

// often refuses an interval that is too short or too long, also for the time that a run may take.
func (v *validator) often(every, timeout time.Duration) {
	v.refuse(every != 0 && (every < mostOften || every > leastOften), "every %s is not between 10m and 30d", Days(every))
	v.refuse(every != 0 && timeout > every, "its timeout of %s is longer than its interval of %s", Days(timeout), Days(every))
}

var checkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (c Check) validate(v *validator) {
	v.match(checkName, v.name, "is not a name for a check")
	v.refuse(len(c.Run) == 0, `it needs a command to run, such as ["/usr/bin/true"]`)
	if len(c.Run) > 0 {
		v.refuse(!path.IsAbs(c.Run[0]), "%q is not the absolute path of a program", c.Run[0])
	}
	for _, output := range []struct{ name, pattern string }{{"stdout", c.Stdout}, {"stderr", c.Stderr}} {
		if _, err := syntax.Parse(output.pattern, syntax.Perl); err != nil && !v.open(output.pattern) {
			v.wrong("%s is not a regular expression: %v", output.name, err)
		}
	}
	v.short(c.User, mostOfDirectorys)
	v.refuse(strings.Contains(c.User, ":") || breaksLine(c.User) || strings.HasPrefix(c.User, "-"), "%q is not the name of a user", c.User)
	v.often(c.Every, c.Timeout)
	v.refuse(c.Exit < 0 || c.Exit > 255, "exit %d is not between 0 and 255", c.Exit)
}

func (c Check) entry(name string) entry {
	lines := pairs("run", c.Run, "user", c.User, "stdout", c.Stdout, "stderr", c.Stderr)
	if c.Exit != 0 {
		lines = append(lines, pair("exit", c.Exit))
	}
	if c.Timeout != c.defaultTimeout() {
		lines = append(lines, pair("timeout", c.Timeout.String()))
	}
	if c.Every != 0 {
		lines = append(lines, pair("every", Days(c.Every)))
	}
	return ownTable("checks", name, lines...)
}
