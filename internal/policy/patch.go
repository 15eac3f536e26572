package policy

func patchSection() section {
	return section{"patch", patchForm(), (*decoder).patch, `[patch]
updates = "security"
`, []Spec{Patch{}}}
}

// Patch makes updates be installed, in the maintenance window and when the machine is new.
type Patch struct {
	Updates string `json:"updates"` // AllUpdates or SecurityUpdates
}

// Values of Patch.Updates.
const (
	AllUpdates      = "all"
	SecurityUpdates = "security"
)

// Kind implements Spec.
func (Patch) Kind() string { return "patch" }

// Expand implements Spec.
func (p Patch) Expand(func(string) string) Spec { return p }

func patchForm() *form {
	return record("updates, at once on a new machine and then in the maintenance window",
		key{name: "updates", form: word("which are installed", AllUpdates, SecurityUpdates)},
	).needing([]string{"updates"})
}

func (d *decoder) patch(t *table) {
	if updates, ok := read[string](t, "updates", `"all" or "security"`); ok {
		d.set(t, "updates", NewID("patch", "updates"), Patch{Updates: updates})
	} else if !t.has("updates") {
		t.problem("updates", `it does not say which are to be installed; say "all" or "security"`)
	}
	t.close()
}

func (p Patch) validate(v *validator) {
	v.refuse(p.Updates != AllUpdates && p.Updates != SecurityUpdates, `%q is neither "all" nor "security"`, p.Updates)
}

func (p Patch) entry(string) entry { return inTable("patch", pair("updates", p.Updates)) }
