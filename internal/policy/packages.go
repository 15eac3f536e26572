package policy

import (
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func packagesSection() section {
	return section{"packages", named("packages; a group of packages has an `@` before its name", "NAME", anyPackage, packageForm()), (*decoder).packages, `[packages]
git = "latest"
telnet = "absent"
docker = { ensure = "present", topic = "docker" }
`, []Spec{Package{}}}
}

// Package is one package. Ensure is Present, Absent, Latest, or a version or
// version-release.
type Package struct {
	Ensure Ensure `json:"ensure"`
	Topic  string `json:"topic,omitempty"` // the amazon-linux-extras topic that contains it
	// Hold means that the package stays in its version, whoever updates the machine.
	Hold bool `json:"hold,omitempty"`
	// URL is the location of its file if it does not come from a repository, and SHA256 the file's
	// digest in 64 hex digits.
	URL    string `json:"url,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// PackageGroup returns the name of a group of packages, if name is one: it is written with an "@"
// before it.
func PackageGroup(name string) (group string, is bool) { return strings.CutPrefix(name, "@") }

// Latest is an additional value of a Package's Ensure.
const Latest Ensure = "latest"

// Version returns the wanted version, or version-release. It is empty if any version will do.
func (p Package) Version() string {
	switch p.Ensure {
	case Present, Absent, Latest:
		return ""
	}
	return string(p.Ensure)
}

// Kind implements Spec.
func (Package) Kind() string { return "package" }

// Expand implements Spec.
func (p Package) Expand(expand func(string) string) Spec {
	p.Ensure = Ensure(expand(string(p.Ensure)))
	p.URL, p.SHA256 = expand(p.URL), expand(p.SHA256)
	return p
}

func packageForm() *form {
	ensure := func() *form {
		return &form{
			doc: "`present`, `latest`, `absent`, or a version or version-release", types: []string{aString}, open: true,
			words: []string{string(Present), string(Latest), string(Absent)}, pattern: aVersion,
		}
	}
	return oneOf(ensure(), record("a package, and more about it",
		key{name: "ensure", form: ensure().eg(`"16.20.2-1.el7"`)},
		key{name: "topic", form: like("the topic of amazon-linux-extras that carries it", topicName.String())},
		key{name: "hold", form: yesOrNo("no update changes it")},
		key{name: "url", form: &form{doc: "where its file is, when it comes from no repository", types: []string{aString}, pattern: anyURL, open: true, example: `"https://downloads.example.com/tool-1.0-1.x86_64.rpm"`}},
		key{name: "sha256", form: &form{doc: "the SHA-256 of that file, 64 hexadecimal digits: no other is installed", types: []string{aString}, pattern: anyDigest, open: true}},
	))
}

func (d *decoder) packages(t *table) {
	for _, name := range t.keys() {
		value, _ := t.value(name)
		switch v := value.(type) {
		case string:
			d.set(t, name, NewID("package", name), Package{Ensure: Ensure(v)})
		case map[string]any:
			p := t.child(name)
			d.set(t, name, NewID("package", name), Package{
				Ensure: p.ensure(), Topic: p.text("topic"), Hold: p.isSet("hold"), URL: p.text("url"), SHA256: p.text("sha256"),
			})
			p.close()
		default:
			t.problem(name, `it wants "present", "latest", "absent", a version, or a table, and not %s`, describe(value))
		}
	}
}

var (
	packageName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	packageGroup   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._+-]*$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^:-]*$`)
	topicName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	fileDigest     = regexp.MustCompile(anyDigest)
)

func (p Package) validate(v *validator) {
	name, arch := PackageArch(v.name)
	if group, is := PackageGroup(v.name); is {
		v.match(packageGroup, group, "is not the name of a group of packages")
		v.refuse(p.Ensure != Present || p.Hold, `a group can only be "present"; say the rest of its packages`)
	} else {
		v.match(packageName, v.name, "is not the name of a package")
	}
	if match := versionInName.FindStringSubmatch(name); match != nil {
		v.wrong("there is a version in the name; say %s = %q", match[1], match[2])
	}
	v.refuse(name == "gpg-pubkey", "it is no package but a key; keys are the business of [repositories]")
	v.refuse(p.Hold && (p.Ensure == Latest || p.Ensure == Absent), `what is %q cannot be held; say "present" or a version`, p.Ensure)
	v.refuse(p.Hold && arch != "", "a hold is on all architectures: say it of %s", name)
	if p.Version() != "" { // a version without a digit is probably a misspelled keyword
		v.refuse(!v.open(string(p.Ensure)) && (!packageVersion.MatchString(string(p.Ensure)) || !strings.ContainsAny(string(p.Ensure), "0123456789")),
			`%q is none of "present", "latest", "absent", and no version`, p.Ensure)
	}
	if version, arch := PackageArch(p.Version()); arch != "" && !v.open(string(p.Ensure)) {
		v.wrong("there is an architecture at the end of the version; say \"%s.%s\" = %q", name, arch, version)
	}
	v.refuse(len(p.Ensure) > mostOfName, "its version is longer than %d bytes", mostOfName)
	v.refuse(p.Ensure == "", `say "present", "latest", "absent" or a version`)
	if p.Topic != "" {
		v.match(topicName, p.Topic, "is not a topic of amazon-linux-extras")
	}
	if p.URL != "" || p.SHA256 != "" {
		v.file(p)
	}
	if why := protected.Package(name); why != "" && p.Ensure == Absent {
		v.wrong("%s must not be removed: %s", v.name, why)
	}
}

// file checks the keys about the file of a package.
func (v *validator) file(p Package) {
	v.refuse(p.URL == "" || p.SHA256 == "", "url and sha256 belong together: the digest vouches for what is at the URL")
	v.refuse(p.Ensure == Absent || p.Ensure == Latest || p.Topic != "" || strings.HasPrefix(v.name, "@"), `a file is one version of one package; say "present" or that version`)
	v.refuse(strings.Contains(p.URL, "@"), "%.200q holds a password, or an @ that is to be written %%40", p.URL)
	if why := badURL(p.URL); why != "" && !v.open(p.URL) {
		v.wrong("%.200q %s", p.URL, why)
	}
	v.match(fileDigest, p.SHA256, "is not a SHA-256: 64 hexadecimal digits")
}

func (p Package) entry(name string) entry {
	if p.Topic == "" && !p.Hold && p.URL == "" {
		return inTable("packages", pair(name, string(p.Ensure)))
	}
	return inTable("packages", inline(name, pairs("ensure", string(p.Ensure), "topic", p.Topic, "hold", p.Hold, "url", p.URL, "sha256", p.SHA256)))
}

// absence implements removable: everything that Parse accepts beside "absent" has an effect.
func (p Package) absence() (is bool, alone Spec) { return p.Ensure == Absent, p }
