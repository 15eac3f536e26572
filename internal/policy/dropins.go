package policy

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/protected"
)

func dropinsSection() section {
	return section{
		"dropins", named("files of directories that are read as a whole, such as `/etc/sysctl.d`, by their paths", `"/PATH"`, absolutePath, dropinForm()), (*decoder).dropins,
		`[dropins."/etc/sysctl.d/60-soe.conf"]
content = "kernel.dmesg_restrict = 1\n"
`,
		[]Spec{Dropin{}},
	}
}

// Dropin is a whole file of a ".d" directory.
type Dropin struct {
	Ensure  Ensure       `json:"ensure"`
	Content string       `json:"-"` // may contain a secret, so it is never written to JSON
	Mode    *fs.FileMode `json:"mode,omitempty"`
	Owner   string       `json:"owner,omitempty"`
	Group   string       `json:"group,omitempty"`
	// Activate is the command that makes a change of the file take effect. Nil means the command
	// that its directory is known to need, and empty means none.
	Activate []string `json:"activate,omitzero"`
}

// Kind implements Spec.
func (Dropin) Kind() string { return "dropin" }

// Expand implements Spec.
func (d Dropin) Expand(expand func(string) string) Spec {
	d.Content = expand(d.Content)
	return d
}

// Confidential implements Confidential.
func (d Dropin) Confidential(id ID) (text, file string) { return d.Content, "/" + id.Name() }

func (Dropin) notation() notation { return wholeLines }

func dropinForm() *form {
	return record("one file, whole",
		ensureKey(),
		key{name: "content", form: value("the whole file. It may hold references, and alone of all places secrets").eg(`"kernel.dmesg_restrict = 1\n"`)},
		key{name: "mode", form: like("left out: what its directory is for says it", fileMode).eg(`"0644"`)},
		key{name: "owner", form: text("a name; left out: root")},
		key{name: "group", form: text("a name; left out: root")},
		key{name: "activate", form: texts("the command that makes a change take effect, without a shell; `[]` for none; left out: what its directory is known to need", text("")).eg(`["/usr/bin/chronyc", "reload", "sources"]`)},
	).needing([]string{"content"}, []string{"ensure"})
}

func (d *decoder) dropins(t *table) {
	d.each(t, func(path string, f *table) {
		dropin := Dropin{
			Ensure: f.ensure(), Content: f.text("content"), Owner: f.text("owner"), Group: f.text("group"),
			Activate: f.texts("activate"),
		}
		if text, ok := read[string](f, "mode", `a string such as "0644"`); ok {
			mode, err := strconv.ParseUint(text, 8, 12)
			if err != nil {
				f.problem("mode", "%q is not a file mode such as \"0644\"", text)
			}
			m := fs.FileMode(mode)
			dropin.Mode = &m
		}
		if _, ok := f.values["content"]; !ok && dropin.Ensure == Present {
			f.problem("content", "a drop-in that is to be present needs its content")
		}
		d.set(t, path, NewID("dropin", path), dropin)
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

func (d Dropin) validate(v *validator) {
	v.ensure(d.Ensure)
	file := "/" + v.name
	dir, base := path.Split(file)
	v.refuse(path.Clean(file) != file || breaksLine(file), "%q is not a clean absolute path", file)
	v.dropinPlace(file, d.Activate)
	v.refuse(strings.HasPrefix(base, ".") && skipsDots(path.Clean(dir)), "readers of %s skip files that begin with a dot", dir)
	_, temporary := own.IsTemporary(base)
	v.refuse(temporary, "the agent's own temporary files have such names")
	v.refuse(len(base) > 240, "its name is longer than 240 bytes")
	if why := Written(file, d.Content); why != "" && d.Ensure != Absent {
		if v.resolved {
			why = UnquotedWritten(why) // a value may be a secret
		}
		v.wrong("%s", why)
	}
	if path.Dir(file) == sshdDropins && d.Ensure != Absent {
		v.keepsOutOfSSH(d.Content)
	}
	known := dropindir.Of(path.Dir(file))
	others := func(account string) bool { return !slices.Contains([]string{"", "root", "0"}, account) }
	if d.Ensure != Absent && (known.Dir != "" || inAny(file, rootsPlaces())) {
		v.refuse(others(d.Owner), "whoever owns %s can make root, or others, do anything: it must belong to root", file)
		v.refuse(others(d.Group) && d.Mode != nil && *d.Mode&0o020 != 0, "mode %04o lets the group %s write %s, and so make root, or others, do anything", modeOf(d.Mode), d.Group, file)
	}
	for _, account := range []string{d.Owner, d.Group} {
		v.short(account, mostOfDirectorys)
		v.refuse(strings.Contains(account, ":") || breaksLine(account), "%q is not the name of an account", account)
	}
	if why := passedOver(file); why != "" && d.Ensure != Absent {
		v.wrong("%s", why)
	}
	if why := noPlaceForSecrets(file); why != "" {
		v.refuse(v.secret, "no secret can be in it: %s; %s", why, whereSecretsGo)
	}
	if d.Mode != nil {
		v.refuse(*d.Mode&0o7000 != 0, "mode %04o has setuid, setgid or the sticky bit, which no drop-in needs", *d.Mode)
		v.refuse(*d.Mode&0o002 != 0, "mode %04o lets everybody write it", *d.Mode)
		v.refuse(*d.Mode&known.Modes.Forbidden != 0 || *d.Mode&known.Modes.Needed != known.Modes.Needed, "mode %04o: %s", *d.Mode, known.Modes.Why)
		v.refuse(v.secret && *d.Mode&0o007 != 0, "mode %04o lets everybody see the secret in it", *d.Mode)
	}
	if len(d.Activate) > 0 {
		v.refuse(!path.IsAbs(d.Activate[0]), "activate: %q is not the absolute path of a program", d.Activate[0])
		v.activatedUnits(d.Activate)
	}
}

func modeOf(mode *fs.FileMode) fs.FileMode {
	if mode == nil {
		return 0
	}
	return *mode
}

// activatedUnits refuses systemctl commands that end or disturb a session, or take away what is protected.
func (v *validator) activatedUnits(argv []string) {
	if path.Base(argv[0]) != "systemctl" {
		return
	}
	takesAway := slices.ContainsFunc(argv[1:], func(word string) bool {
		return slices.Contains([]string{"stop", "disable", "mask", "kill"}, word)
	})
	for _, word := range argv[1:] {
		unit := word
		if path.Ext(unit) == "" {
			unit += ".service"
		}
		v.refuse(protected.Disruptive(unit) || protected.EndsAll(unit), "activate: %s of %s disturbs whoever is logged in", argv[0], word)
		if why := protected.Service(unit); why != "" && takesAway {
			v.wrong("activate: %s is protected: %s", word, why)
		}
	}
}

// dropinPlace checks the path of a file. If the agent does not know the reader of a directory, the
// policy must say what activates a change.
func (v *validator) dropinPlace(file string, activate []string) {
	dir := path.Dir(file)
	if why := protected.Path(file); why != "" {
		v.wrong("%s is protected: %s", file, why)
		return // any other message would be irrelevant
	}
	if why := ForbiddenDropin(file); why != "" {
		v.wrong("%s is no place for a drop-in: %s", file, why)
		return
	}
	switch {
	case isDropinDirectory(dir):
	case !slices.ContainsFunc(lastingPlaces(), func(place string) bool { return strings.HasPrefix(dir, place) }):
		v.wrong("%s is not a place for drop-ins: its directory does not end in .d", file)
	case activate == nil:
		v.wrong("nothing is known of the reader of %s: say with activate which command makes a change take effect, or with activate = [] that none is needed", dir)
	}
	for _, place := range []string{"/dev/", "/home/", "/proc/", "/run/user/", "/sys/", "/tmp/", "/var/tmp/"} {
		v.refuse(strings.HasPrefix(file, place), "%s is no place for what the machine relies on: others write there, or it does not last", place)
	}
}

func (d Dropin) entry(name string) entry {
	var lines []string
	if d.Ensure == Absent {
		lines = pairs("ensure", string(d.Ensure), "content", d.Content)
	} else {
		lines = []string{contentLine(d.Content)}
	}
	if d.Mode != nil {
		lines = append(lines, pair("mode", fmt.Sprintf("%04o", uint32(*d.Mode))))
	}
	return ownTable("dropins", "/"+name, append(lines, pairs("owner", d.Owner, "group", d.Group, "activate", d.Activate)...)...)
}

// contentLine writes multi-line text as a TOML literal string if nothing in it needs escaping.
func contentLine(content string) string {
	escaped := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if strings.Count(content, "\n") < 2 || strings.ContainsFunc(content, escaped) || strings.Contains(content, "''") || strings.HasSuffix(content, "'") {
		return pair("content", content)
	}
	return "content = '''\n" + content + "'''"
}

func (d Dropin) absence() (is bool, alone Spec) {
	return d.Ensure == Absent, Dropin{Ensure: Absent, Activate: d.Activate}
}

// advise warns about a file that makes others do what they should not, and about line endings and
// byte order marks that readers take for part of the text.
func (d Dropin) advise(a *adviser, of Setting) {
	if d.Ensure == Absent {
		return
	}
	file := "/" + of.ID.Name()
	a.unknownReader(of, d)
	for _, m := range mentioned(file, d.Content) {
		a.warn(of.Line, fmt.Sprintf("line %d of %s seems to write %s, which is protected: %s", m.Line, file, m.Path, m.Why), "")
	}
	if strings.HasPrefix(d.Content, "\ufeff") {
		a.warn(of.Line, file+" begins with a byte order mark: most readers take it for a part of the first word", "save what it was copied from without one")
	}
	if before, _, found := strings.Cut(d.Content, "\r"); found {
		a.warn(of.Line, fmt.Sprintf("line %d of %s ends as in Windows (CRLF): most readers take the carriage return for a part of the last word", strings.Count(before, "\n")+1, file),
			"save the fragment with the line ends of Unix")
	}
}
