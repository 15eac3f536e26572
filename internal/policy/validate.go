package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

var (
	personaName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	// What some useradd accepts: each distribution's has rules of its own, and Debian's takes
	// all but this, and slashes (shadow-utils, is_valid_name). # begins a comment in passwd(5).
	accountName    = regexp.MustCompile(`^[^-~+#:,/\\\s][^:,/\\\s]*$`)
	packageName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	packageGroup   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._+-]*$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^:-]*$`)
	topicName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)
	fingerprint    = regexp.MustCompile(`^[0-9A-F]{40}$`)
	// systemd.unit(5): the characters of a unit name.
	unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|socket|timer|path|target|mount|automount|slice)$`)
	// GSettings keys are small letters, digits, hyphens.
	dconfKey     = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	timezoneName = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	pcoipName    = regexp.MustCompile(`^[a-z0-9_]+(\.[a-z0-9_]+)*$`)
	checkName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// IsPersona says whether a persona may be called so: in small letters, digits and
// hyphens.
func IsPersona(name string) bool { return personaName.MatchString(name) }

// validate returns what is wrong with the values of a resource, as far as can be
// told without a machine. A value that holds a reference is not looked at until
// it is resolved. From then on braces are text like any other: what a value
// holds is never a reference.
func validate(id ID, spec Spec, resolved bool) []string {
	v := validator{name: id.Name(), resolved: resolved}
	var references []Reference
	if !resolved {
		references = v.references(id, spec)
	}
	switch s := spec.(type) {
	case System:
		v.system(s)
	case Group:
		v.group(s)
	case User:
		v.user(s)
	case Sudo:
		v.sudo(s)
	case Dropin:
		v.dropin(s, slices.ContainsFunc(references, Reference.Secret))
	case Directory:
		v.directory()
	case PCoIP:
		v.pcoip(s)
	case Dconf:
		v.dconf(s)
	case Repository:
		v.repository(s)
	case Package:
		v.pkg(s)
	case Patch:
		v.refuse(s.Updates != AllUpdates && s.Updates != SecurityUpdates, `%q is neither "all" nor "security"`, s.Updates)
	case Service:
		v.service(s)
	case Check:
		v.check(s)
	}
	return v.messages
}

type validator struct {
	name     string
	resolved bool
	messages []string
}

// references returns those of a spec, and says which stand where none may.
func (v *validator) references(id ID, spec Spec) []Reference {
	references, errs := findReferences(spec)
	for _, err := range errs {
		v.wrong("%v", err)
	}
	if _, isDropin := spec.(Dropin); !isDropin {
		for _, r := range references {
			v.refuse(r.Secret(), "%s is a secret, and what is written here can be read by everybody; %s", r, whereSecretsGo)
		}
	}
	fixed, _ := json.Marshal(spec.Expand(func(string) string { return "" }))
	v.refuse(meantAsReference.Match(fixed) || meantAsReference.MatchString(string(id)),
		"it holds a reference where none is replaced: names, accounts, services and attributes of files are written out")
	return references
}

// open says whether a value is not known yet.
func (v *validator) open(value string) bool { return !v.resolved && hasReference(value) }

func (v *validator) wrong(format string, args ...any) {
	v.messages = append(v.messages, fmt.Sprintf(format, args...))
}

func (v *validator) refuse(when bool, format string, args ...any) {
	if when {
		v.wrong(format, args...)
	}
}

// match says that a value must be of a form, unless it is yet to be resolved.
func (v *validator) match(form *regexp.Regexp, value, message string) {
	if !v.open(value) && !form.MatchString(value) {
		v.wrong("%q %s", value, message)
	}
}

func (v *validator) ensure(e Ensure) {
	v.refuse(e != Present && e != Absent, `ensure is "present" or "absent", and not %q`, e)
}

func (v *validator) system(s System) {
	switch v.name {
	case "timezone":
		v.match(timezoneName, s.Value, "is not the name of a time zone, such as Europe/Berlin")
	case "selinux":
		v.refuse(!v.open(s.Value) && !slices.Contains([]string{"enforcing", "permissive", "disabled"}, s.Value),
			"%q is none of enforcing, permissive, disabled", s.Value)
	}
}

func (v *validator) account(id *int, what string) {
	v.match(accountName, v.name, "is not a name that useradd and groupadd accept")
	v.refuse(breaksLine(v.name), "%q has a control character in it", v.name)
	v.refuse(strings.Trim(v.name, "0123456789") == "", "%q would be taken for an id wherever it is looked up", v.name)
	v.refuse(v.name == "." || v.name == "..", "%q is no name for a home", v.name)
	if why := protected.Account(v.name); why != "" {
		v.wrong("%s is protected: %s", v.name, why)
	}
	if id != nil && (*id < 1 || *id > 4294967294) {
		v.wrong("%s %d is not between 1 and 4294967294", what, *id)
	}
}

func (v *validator) group(g Group) {
	v.account(g.GID, "gid")
	v.ensure(g.Ensure)
}

func (v *validator) user(u User) {
	v.account(u.UID, "uid")
	v.ensure(u.Ensure)
	if u.Home != "" {
		v.absolute("home", u.Home)
	}
	if u.Shell != "" {
		v.absolute("shell", u.Shell)
	}
	v.refuse(strings.Contains(u.Comment, ":") || breaksLine(u.Comment), "the comment may hold neither a colon nor a line break")
	groups := u.Groups
	if u.Group != "" {
		groups = append(slices.Clone(groups), u.Group)
	}
	for _, g := range groups {
		v.refuse(g == "" || strings.ContainsAny(g, ",:") || breaksLine(g) || strings.HasPrefix(g, "-"), "%q is not the name of a group", g)
	}
}

func (v *validator) absolute(what, value string) {
	v.refuse(!path.IsAbs(value) || path.Clean(value) != value || strings.Contains(value, ":") || breaksLine(value),
		"%s %q is not a clean absolute path", what, value)
}

func (v *validator) dconf(d Dconf) {
	parts := strings.Split(v.name, "/")
	for _, part := range parts {
		v.refuse(part == "", "%q is not a dconf path: no slash at either end, no empty part", v.name)
		v.refuse(strings.ContainsAny(part, "[]") || breaksLine(part) || strings.TrimSpace(part) != part,
			"%q is not a path that a keyfile of dconf can hold: no brackets, no control characters, no blank at the end of a part", v.name)
	}
	v.match(dconfKey, parts[len(parts)-1], "is not the name of a key: letters, digits, hyphens, dots and underscores")
	v.refuse(len(parts) < 2, "%q is a key in no directory", v.name)
	v.refuse(d.Value != nil && !isPlain(d.Value),
		"a value is a string, a number, true, false or an array of these; say anything else as a gvariant")
	v.refuse(breaksLine(d.GVariant), "the gvariant has a line break or another control character")
}

// isPlain says whether a value is one that Dconf.Value may hold. What is not a
// number has no place in JSON, in which specs are compared and reported.
func isPlain(value any) bool {
	switch v := value.(type) {
	case string, int64, bool:
		return true
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		return !slices.ContainsFunc(v, func(element any) bool { return !isPlain(element) })
	}
	return false
}

func (v *validator) service(s Service) {
	v.match(unitName, v.name, "is not a unit, such as chronyd.service")
	is := func(b *bool, value bool) bool { return b != nil && *b == value }
	v.refuse(s.Running != nil && isTemplate(v.name), "it is a template, of which only instances run: say running of one, such as %s", strings.Replace(v.name, "@", "@NAME", 1))
	v.refuse((is(s.Running, true) || is(s.Enabled, true)) && protected.EndsAll(v.name), "to start it is to end everything that runs")
	v.refuse(is(s.Masked, true) && (is(s.Enabled, true) || is(s.Running, true)), "a masked unit can be neither enabled nor running")
	if why := protected.Service(v.name); why != "" && (is(s.Enabled, false) || is(s.Running, false) || is(s.Masked, true)) {
		v.wrong("%s is protected: %s", v.name, why)
	}
}

// isTemplate says whether a unit is a template (systemd.unit(5)).
func isTemplate(unit string) bool {
	return strings.HasSuffix(strings.TrimSuffix(unit, path.Ext(unit)), "@")
}

func (v *validator) check(c Check) {
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
	v.refuse(strings.Contains(c.User, ":") || breaksLine(c.User) || strings.HasPrefix(c.User, "-"), "%q is not the name of a user", c.User)
	v.refuse(c.Exit < 0 || c.Exit > 255, "exit %d is not between 0 and 255", c.Exit)
}
