package policy

// A Spec is what the policy wants of one resource. Specs are compared with
// reflect.DeepEqual and written as JSON, and are never changed once parsed.
//
// Those of this package are all there are; each is of a section, which sections lists.
type Spec interface {
	// Kind is the first part of the IDs of such resources.
	Kind() string
	// Expand returns the spec with each string in which references are allowed
	// replaced by what expand makes of it. What is named in full by an ID, and what a
	// person must be able to review without a machine (accounts, services), takes none.
	Expand(expand func(string) string) Spec
	// validate says what is wrong with its values, as far as can be told without a machine.
	validate(v *validator)
	// entry is what a document says of the resource of this name.
	entry(name string) entry
}

// Confidential is implemented by a Spec that may hold secrets, in a text that is never
// written out: all others are shown to everybody.
type Confidential interface {
	// Confidential is that text, and the file of the machine that holds it.
	Confidential(id ID) (text, file string)
}

// removable is implemented by a Spec by which something may be absent: by each that has
// an Ensure.
type removable interface {
	// absence says whether it is to be so, and which spec would say as much.
	absence() (is bool, alone Spec)
}

// advising is implemented by a Spec of which an author may have to be warned.
type advising interface {
	advise(a *adviser, of Setting)
}

// surrounded is implemented by a Spec because of which a report has other resources too.
type surrounded interface {
	// beside are these; one that ends in a slash stands for any that begins with it.
	beside(id ID) []ID
}

// explained is implemented by a Spec of which a value says little by itself, such as a number.
type explained interface {
	// meaning is what a value of the resource of this name means, for people, or "" where that
	// is no more than it says.
	meaning(name, value string) string
}

// noted is implemented by a Spec whose texts have a notation of their own.
type noted interface{ notation() notation }

// fitting is implemented by a Spec that has to be seen as a whole to tell whether the values of
// its references fit.
type fitting interface {
	// misfit says why it would not be what was meant with those put in, or "".
	misfit(put Spec) string
}

// Ensure says whether something is to be there.
type Ensure string

// What may be ensured of most things. Packages know more (see Package).
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
