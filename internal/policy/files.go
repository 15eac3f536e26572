package policy

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

func filesSection() section {
	return section{
		"files", named("files that others bring, by their paths: who owns them, and who may do what with them", `"/PATH"`, absolutePath, fileForm()), (*decoder).files,
		`[files."/etc/crontab"]
owner = "root"
group = "root"
mode = "at most 0600"
`,
		[]Spec{File{}},
	}
}

// File is a file, or a directory, of which somebody else keeps the content.
type File struct {
	Owner string `json:"owner,omitempty"` // "": as it is
	Group string `json:"group,omitempty"`
	// Mode is what it is to have; nil: as it is.
	Mode *fs.FileMode `json:"mode,omitempty"`
	// AtMost says that Mode is the most that may be allowed.
	AtMost bool `json:"at_most,omitempty"`
	// IfExists says that it need not be there.
	IfExists bool `json:"if_exists,omitempty"`
}

// Kind implements Spec.
func (File) Kind() string { return "file" }

// Expand implements Spec.
func (f File) Expand(func(string) string) Spec { return f }

// atMost begins a mode that is the most that may be allowed.
const atMost = "at most "

func fileForm() *form {
	return record("a file that is there, or a directory in which root alone has business",
		key{name: "owner", form: text("a name; left out: whoever it is").eg(`"root"`)},
		key{name: "group", form: text("a name; left out: whichever it is").eg(`"root"`)},
		key{name: "mode", form: like("what it is to have, such as `0644`; `at most 0640` takes away what goes beyond that, and gives nothing; left out: whatever it is", "^("+atMost+")?[0-7]{1,4}$").eg(`"at most 0640"`)},
		key{name: "if_exists", form: yesOrNo("whether it need not be there; left out: that it is not there is a failure")},
	).needing([]string{"owner"}, []string{"group"}, []string{"mode"})
}

func (d *decoder) files(t *table) {
	d.each(t, func(path string, f *table) {
		file := File{Owner: f.text("owner"), Group: f.text("group"), IfExists: f.isSet("if_exists")}
		if text, ok := read[string](f, "mode", `a string such as "0640" or "at most 0640"`); ok {
			digits, most := strings.CutPrefix(text, atMost)
			mode, err := strconv.ParseUint(digits, 8, 12)
			if err != nil {
				f.problem("mode", "%q is not a file mode such as \"0640\" or \"at most 0640\"", text)
			}
			m := fs.FileMode(mode)
			file.Mode, file.AtMost = &m, most
		}
		if !f.has("mode") && file.Owner == "" && file.Group == "" {
			t.problem(path, "it says nothing of it: name its owner, its group or its mode")
		}
		d.set(t, path, NewID("file", path), file)
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

func (f File) validate(v *validator) {
	file := "/" + v.name
	if path.Clean(file) != file || breaksLine(file) {
		v.wrong("%q is not a clean absolute path", file)
		return
	}
	if why := ForbiddenFile(file); why != "" {
		v.wrong("%s is not kept by [files]: %s", file, why)
		return
	}
	for _, account := range []string{f.Owner, f.Group} {
		v.refuse(strings.Contains(account, ":") || breaksLine(account), "%q is not the name of an account", account)
	}
	known := dropindir.Of(path.Dir(file))
	others := f.Owner != "" && f.Owner != "root" && f.Owner != "0"
	v.refuse(others && known.RootsAlone, "the reader of %s passes over files of others than root", path.Dir(file))
	v.refuse(others && isEverybodys(file), "whoever owns %s is in the session of everybody, root's too: it stays root's", file)
	v.refuse(others && IsRootsDirectory(file), "whoever owns %s can have root do anything: it stays root's", file)
	if f.Mode == nil {
		return
	}
	mode := *f.Mode
	v.refuse(mode&0o7000 != 0, "mode %04o has setuid, setgid or the sticky bit, which [files] gives to nothing", mode)
	v.refuse(mode&0o002 != 0, "mode %04o lets everybody write it", mode)
	v.refuse(mode&0o444 != 0o444 && isEverybodys(file), "mode %04o would keep people from reading %s, which their sessions, or programs that these need, begin with", mode, file)
	v.refuse(mode&0o700 != 0o700 && IsRootsDirectory(file), "mode %04o would keep its owner out of %s", mode, file)
	if !IsRootsDirectory(file) {
		v.refuse(mode&known.Modes.Needed != known.Modes.Needed || !f.AtMost && mode&known.Modes.Forbidden != 0, "mode %04o: %s", mode, known.Modes.Why)
	}
}

func (f File) entry(name string) entry {
	mode := ""
	if f.Mode != nil {
		mode = fmt.Sprintf("%04o", uint32(*f.Mode))
		if f.AtMost {
			mode = atMost + mode
		}
	}
	return ownTable("files", "/"+name, pairs("owner", f.Owner, "group", f.Group, "mode", mode, "if_exists", f.IfExists)...)
}

// fileProblems are the files of which two sections would have a say.
func (p *Policy) fileProblems() (problems Problems) {
	for _, r := range p.Resources {
		if _, is := r.Spec.(File); !is {
			continue
		}
		if other, named := p.Lookup(NewID(Dropin{}.Kind(), r.ID.Name())); named {
			problems = append(problems, Problem{
				File: r.Origin.Fragment, Line: r.Origin.Line,
				Message: fmt.Sprintf("cannot merge %s: [dropins] or [directories] keeps it at %s; say its owner, group and mode there", r.ID, other.Origin),
			})
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Message, b.Message) })
	return problems
}
