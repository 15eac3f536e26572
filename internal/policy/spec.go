package policy

// A Spec is what the policy wants of one resource. Specs are compared with reflect.DeepEqual,
// written as JSON, and never changed after parsing.
//
// All implementations are in this package; each belongs to a section in the list of sections.
type Spec interface {
	// Kind returns the first part of the IDs of such resources.
	Kind() string
	// Expand returns the spec with expand applied to each string in which references are allowed.
	// References are not allowed in what an ID fully names, nor in what people must be able to
	// review without a machine (accounts, services).
	Expand(expand func(string) string) Spec
	// validate reports what is wrong with its values, as far as that can be told without a machine.
	validate(v *validator)
	// entry returns the text of the resource with this name in a document.
	entry(name string) entry
}

// Confidential is implemented by a Spec that may contain secrets, in a text that is never shown.
// All other specs are shown to everybody.
type Confidential interface {
	// Confidential returns that text, and the machine's file that contains it.
	Confidential(id ID) (text, file string)
}

// removable is implemented by a Spec with which something may be absent: each that has an Ensure.
type removable interface {
	// absence reports whether it should be absent, and returns the minimal spec that says the same.
	absence() (is bool, alone Spec)
}

// advising is implemented by a Spec with advice for the author.
type advising interface {
	advise(a *adviser, of Setting)
}

// surrounded is implemented by a Spec that adds other resources to a report.
type surrounded interface {
	// beside returns these; one that ends in a slash stands for all that begin with it.
	beside(id ID) []ID
}

// explained is implemented by a Spec whose values, such as numbers, do not explain themselves.
type explained interface {
	// meaning returns what a value of the resource with this name means, for people, or "" if that
	// is obvious from the value.
	meaning(name, value string) string
}

// noted is implemented by a Spec whose texts have a notation other than the default.
type noted interface{ notation() notation }

// fitting is implemented by a Spec that must be checked as a whole to tell whether the values of
// its references fit.
type fitting interface {
	// misfit returns why the spec with the values put in is not what was meant, or "".
	misfit(put Spec) string
}

// Ensure says whether something should exist.
type Ensure string

// Values of Ensure for most things. Package has more.
const (
	Present Ensure = "present"
	Absent  Ensure = "absent"
)

func (e Ensure) unlessPresent() string {
	if e == Present {
		return ""
	}
	return string(e)
}

func expandAll(texts []string, expand func(string) string) []string {
	expanded := make([]string, len(texts))
	for i, text := range texts {
		expanded[i] = expand(text)
	}
	return expanded
}

func expandValue(value any, expand func(string) string) any {
	switch v := value.(type) {
	case string:
		return expand(v)
	case []any:
		expanded := make([]any, len(v))
		for i, element := range v {
			expanded[i] = expandValue(element, expand)
		}
		return expanded
	}
	return value
}
