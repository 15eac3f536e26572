package policy

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

func filesSection() section {
	return section{
		"files", named("files that others bring, by their paths: who owns them, who may do what with them, and single keys of some", `"/PATH"`, absolutePath, fileForm()), (*decoder).files,
		`[files."/etc/crontab"]
owner = "root"
group = "root"
mode = "at most 0600"

[files."/etc/security/pwquality.conf"]
keys = { enforce_for_root = "", minlen = 14 }
absent = ["dictpath"]
`,
		[]Spec{File{}},
	}
}

// File is a file or directory that is no drop-in. Its content belongs to somebody else, except for some
// keys or lines, unless Content is the whole.
type File struct {
	Ensure Ensure `json:"ensure"`
	// Content is the whole content; nil: it belongs to somebody else.
	Content *string `json:"content,omitempty"`
	// Owner "" means not managed, or root if there is a Content; Group too.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	// Mode is the wanted mode; nil: not managed.
	Mode *fs.FileMode `json:"mode,omitempty"`
	// AtMost means that Mode is the most that may be allowed.
	AtMost bool `json:"at_most,omitempty"`
	// Keys are the wanted values of keys in the file, and Absent are keys that it must not have.
	// Everything else in it is left alone.
	Keys   map[string]string `json:"keys,omitempty"`
	Absent []string          `json:"absent,omitempty"`
	// Lines must be in the file, each once, and AbsentLines must not.
	Lines       []string `json:"lines,omitempty"`
	AbsentLines []string `json:"absent_lines,omitempty"`
	// IfExists means that the file need not exist.
	IfExists bool `json:"if_exists,omitempty"`
}

// Kind implements Spec.
func (File) Kind() string { return "file" }

// Expand implements Spec.
func (f File) Expand(expand func(string) string) Spec {
	if f.Content != nil {
		content := expand(*f.Content)
		f.Content = &content
	}
	if f.Lines != nil {
		f.Lines = expandAll(f.Lines, expand)
	}
	if f.AbsentLines != nil {
		f.AbsentLines = expandAll(f.AbsentLines, expand)
	}
	if f.Keys == nil {
		return f
	}
	keys := map[string]string{}
	for key, value := range f.Keys {
		keys[key] = expand(value)
	}
	f.Keys = keys
	return f
}

// atMost is the prefix of a mode that is the most that may be allowed.
const atMost = "at most "

func fileForm() *form {
	return record("a file that is no drop-in, or a directory in which root alone has business",
		ensureKey(),
		key{name: "content", form: value("all that it holds; left out: what somebody else has in it. It may hold references, and no secrets").eg(`"Authorized use only\n"`)},
		key{name: "owner", form: text("a name; left out: whoever it is, and root with `content`").eg(`"root"`)},
		key{name: "group", form: text("a name; left out: whichever it is, and root with `content`").eg(`"root"`)},
		key{name: "mode", form: like("what it is to have, such as `0644`; `at most 0640` takes away what goes beyond that, and gives nothing; left out: whatever it is", "^("+atMost+")?[0-7]{1,4}$").eg(`"at most 0640"`)},
		key{name: "keys", form: named("what keys of it are to be; all else in it is left alone. The files whose keys are kept are in [the guide](policy.md#keys-of-a-file)", "KEY", `^.`, keyValue()).eg(`{ minlen = 14 }`)},
		key{name: "absent", form: texts("keys that it must not have", text("")).eg(`["dictpath"]`)},
		key{name: "lines", form: texts("lines that it has, each once; all else in it is left alone", text("")).eg(`["/usr/bin/fish"]`)},
		key{name: "absent_lines", form: texts("lines that it must not have", text("")).eg(`["/sbin/nologin"]`)},
		key{name: "if_exists", form: yesOrNo("whether it need not be there; left out: that it is not there is a failure")},
	).needing([]string{"owner"}, []string{"group"}, []string{"mode"}, []string{"keys"}, []string{"absent"}, []string{"content"}, []string{"ensure"}, []string{"lines"}, []string{"absent_lines"})
}

func keyValue() *form {
	f := oneOf(value("the value; `\"\"` where a key may stand alone: that"), whole("the same", 0, 1<<31-1))
	f.is = "a string or a whole number"
	return f
}

func (d *decoder) files(t *table) {
	d.each(t, func(path string, f *table) {
		file := File{Ensure: f.ensure(), Owner: f.text("owner"), Group: f.text("group"), IfExists: f.isSet("if_exists"), Lines: f.texts("lines"), AbsentLines: f.texts("absent_lines")}
		if f.has("content") {
			content := f.text("content")
			file.Content = &content
		}
		if text, ok := read[string](f, "mode", `a string such as "0640" or "at most 0640"`); ok {
			digits, most := strings.CutPrefix(text, atMost)
			mode, err := strconv.ParseUint(digits, 8, 12)
			if err != nil {
				f.problem("mode", "%q is not a file mode such as \"0640\" or \"at most 0640\"", text)
			}
			m := fs.FileMode(mode)
			file.Mode, file.AtMost = &m, most
		}
		file.Absent = f.texts("absent")
		if keys := f.child("keys"); keys != nil {
			file.Keys = keys.valuesOfKeys()
		}
		if !f.has("mode") && file.Owner == "" && file.Group == "" && len(file.everyKey())+len(file.Lines)+len(file.AbsentLines) == 0 && !file.Whole() {
			t.problem(path, "it says nothing of it: name its owner, its group, its mode, its content, or keys or lines in it")
		}
		d.set(t, path, NewID("file", path), file)
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

// valuesOfKeys reads texts and numbers under keys that the author chooses.
func (t *table) valuesOfKeys() map[string]string {
	values := map[string]string{}
	for _, key := range t.keys() {
		if _, isNumber := t.values[key].(int64); isNumber {
			values[key] = strconv.Itoa(*t.number(key))
		} else {
			values[key], _ = read[string](t, key, "a string or a whole number")
		}
	}
	return values
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
	f.validateContent(v, file)
	f.validateKeys(v, file)
	f.validateLines(v, file)
	if a, is := lookupAttrFile(file); is {
		a.validateAttrs(v, f, file)
	}
	if decidesLogins(file) {
		v.refuse(f.Owner != "" && f.Owner != "root" && f.Owner != "0", "whoever owns %s decides who gets in: it must belong to root", file)
		v.refuse(f.Mode != nil && *f.Mode&0o022 != 0, "whoever can write %s decides who gets in: only root may", file)
	}
	for _, account := range []string{f.Owner, f.Group} {
		v.short(account, mostOfDirectorys)
		v.refuse(strings.Contains(account, ":") || breaksLine(account), "%q is not the name of an account", account)
	}
	known := dropindir.Of(path.Dir(file))
	others := f.Owner != "" && f.Owner != "root" && f.Owner != "0"
	v.refuse(others && known.RootsAlone, "the reader of %s ignores files that do not belong to root", path.Dir(file))
	v.refuse(others && isReadByAll(file), "%s is read in everybody's session, root's too: it must belong to root", file)
	v.refuse(others && isHeeded(file), "whoever owns %s can make root do anything: it must belong to root", file)
	if f.Mode == nil {
		return
	}
	mode := *f.Mode
	v.refuse(mode&0o7000 != 0, "mode %04o has setuid, setgid or the sticky bit, which [files] gives to nothing", mode)
	v.refuse(mode&0o002 != 0, "mode %04o lets everybody write it", mode)
	v.refuse(mode&0o020 != 0 && !f.AtMost && !slices.Contains([]string{"", "root", "0"}, f.Group) && isHeeded(file), "mode %04o lets the group %s write %s, and so make root do anything", mode, f.Group, file)
	v.refuse(mode&0o444 != 0o444 && isReadByAll(file), "mode %04o would keep people from reading %s, which their sessions, or programs that these need, begin with", mode, file)
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
	var lines []string
	if f.Content != nil {
		lines = append(lines, contentLine(*f.Content))
	}
	lines = append(lines, pairs("ensure", f.Ensure.unlessPresent(), "owner", f.Owner, "group", f.Group, "mode", mode, "absent", f.Absent, "lines", f.Lines, "absent_lines", f.AbsentLines, "if_exists", f.IfExists)...)
	if len(f.Keys) > 0 {
		var members []string
		for _, key := range slices.Sorted(maps.Keys(f.Keys)) {
			members = append(members, pair(key, f.Keys[key]))
		}
		lines = append(lines, inline("keys", members))
	}
	return ownTable("files", "/"+name, lines...)
}

func (f File) absence() (is bool, alone Spec) { return f.Ensure == Absent, File{Ensure: Absent} }

// fileProblems reports files that two sections would manage.
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
