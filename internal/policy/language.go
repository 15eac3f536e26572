package policy

import "sync"

// language returns the form of a fragment. Like sections, which it is made of, it is made once.
var language = sync.OnceValue(func() *form {
	keys := []key{
		{name: "schema", form: whole("the version of the language", 1, 1)},
		{name: "personas", form: texts("the personas that the fragment is for; left out: everybody", like("", personaName.String())).eg(`["developer"]`)},
		{name: "when", form: whenForm("conditions on facts of the machine, which must all hold for the fragment to be used; it stands before the first table, or is the table `[when]`. While a fact is not known, what the fragment sets is left as it is")},
		{name: "description", form: text("what the fragment is for, for people").eg(`"Developer desktops"`)},
	}
	for _, section := range sections() {
		keys = append(keys, key{name: section.name, form: section.form})
	}
	keys = append(keys, key{name: "benchmarks", form: benchmarksForm()})
	keys = append(keys, key{name: "rules", form: &form{doc: "more about resources, by their IDs. Of several rules that match, the last one that says a thing is believed, and their controls add up", types: []string{anArray}, items: ruleForm()}})
	return record("A fragment of the policy of soe-agent", keys...).needing([]string{"schema"})
})

// Patterns for editors. Parse checks the details.
const (
	absolutePath   = `^/.`
	dconfDir       = `^[^/\[\]]+(/[^/\[\]]+)*$`
	anyPackage     = `^@?[A-Za-z0-9][A-Za-z0-9 ._+-]*$`
	aVersion       = `^[A-Za-z0-9._+~^:-]*[0-9][A-Za-z0-9._+~^:-]*$`
	fileMode       = `^[0-7]{1,4}$`
	someTime       = `^([0-9.]+(h|m|s|ms))+$`
	someDays       = `^([0-9]+d|([0-9.]+(h|m|s|ms))+)$`
	anyFingerprint = `^([0-9A-Fa-f] *){40}$`
	anyDigest      = `^[0-9A-Fa-f]{64}$`
	anyURL         = `^(https?://|file:///)`
)

func ensureKey() key {
	return key{name: "ensure", form: word("whether it is to be there; left out: `present`", string(Present), string(Absent))}
}
