package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/protected"
)

func mountsSection() section {
	return section{
		"mounts", named("options of what is mounted, by mount points", `"/PATH"`, absolutePath, mountForm()), (*decoder).mounts,
		`[mounts."/dev/shm"]
options = ["nodev", "nosuid", "noexec"]
`,
		[]Spec{Mount{}},
	}
}

// Mount is a mount at a path. Somebody else has mounted it.
type Mount struct {
	// Options are the wanted options, a subset of mounts.Options, in the same order.
	Options []string `json:"options"`
	// IfMounted means that nothing need be mounted there.
	IfMounted bool `json:"if_mounted,omitempty"`
}

// Kind implements Spec.
func (Mount) Kind() string { return "mount" }

// Expand implements Spec.
func (m Mount) Expand(func(string) string) Spec { return m }

func mountForm() *form {
	return record("a mount that is there",
		key{name: "options", form: texts("the options that it is to have besides those that it has", word("what nobody may do there", mounts.Options()...)).eg(`["nodev", "nosuid"]`)},
		key{name: "if_mounted", form: yesOrNo("whether the path need not be a mount point; left out: that it is none is a failure")},
	).needing([]string{"options"})
}

func (d *decoder) mounts(t *table) {
	d.each(t, func(point string, m *table) {
		options := m.texts("options")
		if len(options) == 0 {
			t.problem(point, "it does not say which options it is to have")
		}
		slices.SortFunc(options, func(a, b string) int { return slices.Index(mounts.Options(), a) - slices.Index(mounts.Options(), b) })
		d.set(t, point, NewID("mount", point), Mount{Options: slices.Compact(options), IfMounted: m.isSet("if_mounted")})
		if !strings.HasPrefix(point, "/") {
			t.problem(point, "it is not an absolute path")
		}
	})
}

func (m Mount) validate(v *validator) {
	point := "/" + v.name
	if path.Clean(point) != point || breaksLine(point) {
		v.wrong("%q is not a clean absolute path", point)
		return
	}
	for _, option := range m.Options {
		v.refuse(!slices.Contains(mounts.Options(), option), "%q is not among the options that a policy can ask for: %s", option, strings.Join(mounts.Options(), ", "))
	}
	if why := ForbiddenMount(point); why != "" {
		v.wrong("%s is not kept by [mounts]: %s", point, why)
		return
	}
	if why := protected.Programs(point); why != "" {
		v.refuse(slices.Contains(m.Options, "noexec"), "noexec is not kept on %s: %s", point, why)
	}
}

// ForbiddenMount returns why [mounts] must not touch a mount point, or "" if it may.
func ForbiddenMount(point string) string {
	if why := protected.Mount(point); why != "" {
		return "it is protected, " + why
	}
	return ""
}

func (m Mount) entry(name string) entry {
	return ownTable("mounts", "/"+name, pairs("options", m.Options, "if_mounted", m.IfMounted)...)
}

// advise reports known problems with some options.
func (m Mount) advise(a *adviser, of Setting) {
	point := "/" + of.ID.Name()
	if slices.Contains(m.Options, "noexec") && (point == "/tmp" || point == "/var/tmp") {
		a.say(Notice, of.Line, "noexec on "+point+" keeps programs from running that unpack themselves there: installers, and some of Java's and Python's", "try it on a few machines first")
	}
	if slices.Contains(m.Options, "nosuid") && point == "/opt" {
		a.say(Notice, of.Line, "nosuid on /opt takes from programs there the rights that they are installed with: the sandbox of some browsers does not start", "try it on a few machines first")
	}
}
