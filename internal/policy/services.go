package policy

import (
	"path"
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func servicesSection() section {
	return section{"services", named("systemd units", `"UNIT"`, unitName.String(), serviceForm()), (*decoder).services, `[services."chronyd.service"]
enabled = true
running = true
`, []Spec{Service{}}}
}

// Service is a systemd unit. A nil field is not managed.
type Service struct {
	Enabled *bool `json:"enabled,omitempty"`
	Running *bool `json:"running,omitempty"`
	Masked  *bool `json:"masked,omitempty"`
}

// Kind implements Spec.
func (Service) Kind() string { return "service" }

// Expand implements Spec.
func (s Service) Expand(func(string) string) Spec { return s }

func serviceForm() *form {
	return record("a systemd unit; what is left out is not managed",
		key{name: "enabled", form: yesOrNo("it is started at boot")},
		key{name: "running", form: yesOrNo("it runs")},
		key{name: "masked", form: yesOrNo("nobody can start it")},
	).needing([]string{"enabled"}, []string{"running"}, []string{"masked"})
}

func (d *decoder) services(t *table) {
	d.each(t, func(unit string, s *table) {
		service := Service{Enabled: s.flag("enabled"), Running: s.flag("running"), Masked: s.flag("masked")}
		if !s.has("enabled") && !s.has("running") && !s.has("masked") {
			t.problem(unit, "it says neither enabled, running nor masked")
		}
		d.set(t, unit, NewID("service", unit), service)
	})
}

// The characters of a unit name (systemd.unit(5)).
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|socket|timer|path|target|mount|automount|slice)$`)

func (s Service) validate(v *validator) {
	v.match(unitName, v.name, "is not a unit, such as chronyd.service")
	is := func(b *bool, value bool) bool { return b != nil && *b == value }
	v.refuse(s.Running != nil && isTemplate(v.name), "it is a template, of which only instances run: say running of one, such as %s", strings.Replace(v.name, "@", "@NAME", 1))
	v.refuse((is(s.Running, true) || is(s.Enabled, true)) && protected.EndsAll(v.name), "starting it ends everything that is running")
	v.refuse(is(s.Masked, true) && (is(s.Enabled, true) || is(s.Running, true)), "a masked unit can be neither enabled nor running")
	if why := protected.Service(v.name); why != "" && (is(s.Enabled, false) || is(s.Running, false) || is(s.Masked, true)) {
		v.wrong("%s is protected: %s", v.name, why)
	}
}

// isTemplate reports whether a unit is a template (systemd.unit(5)).
func isTemplate(unit string) bool {
	return strings.HasSuffix(strings.TrimSuffix(unit, path.Ext(unit)), "@")
}

func (s Service) entry(name string) entry {
	return ownTable("services", name, pairs("enabled", s.Enabled, "running", s.Running, "masked", s.Masked)...)
}
