package policy

import "regexp"

func casSection() section {
	return section{"cas", named("authorities that the machine trusts, by names of their files", "NAME", caName.String(), caForm()), (*decoder).cas, `[cas.corp]
pem = """
-----BEGIN CERTIFICATE-----
MIIB
-----END CERTIFICATE-----
"""
`, []Spec{CA{}}}
}

// CA is the certificate of an authority in the machine's trust store.
type CA struct {
	PEM string `json:"pem"`
}

// Kind implements Spec.
func (CA) Kind() string { return "ca" }

// Expand implements Spec.
func (c CA) Expand(expand func(string) string) Spec {
	c.PEM = expand(c.PEM)
	return c
}

func (CA) notation() notation { return wholeLines }

var (
	caName = regexp.MustCompile(`^[a-z0-9-]+$`)
	caPEM  = regexp.MustCompile(`(?s)\A\s*-----BEGIN CERTIFICATE-----\n.*-----END CERTIFICATE-----\s*\z`)
)

func caForm() *form {
	return record("the certificate of an authority",
		key{name: "pem", form: value("the certificate in PEM").eg(`"-----BEGIN CERTIFICATE-----\nMIIB…"`)},
	).needing([]string{"pem"})
}

func (d *decoder) cas(t *table) {
	d.each(t, func(name string, c *table) {
		d.set(t, name, NewID("ca", name), CA{PEM: c.text("pem")})
	})
}

func (c CA) validate(v *validator) {
	v.match(caName, v.name, "is not a name of small letters, digits and hyphens")
	v.refuse(!v.open(c.PEM) && !caPEM.MatchString(c.PEM), "%q is not a certificate in PEM", c.PEM)
}

func (c CA) entry(name string) entry { return ownTable("cas", name, pair("pem", c.PEM)) }
