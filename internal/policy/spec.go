package policy

import (
	"io/fs"
	"strings"
	"time"
)

// A Spec is what the policy wants of one resource. Specs are compared with
// reflect.DeepEqual and written as JSON, and are never changed once parsed.
type Spec interface {
	// Kind is the first part of the IDs of such resources.
	Kind() string
	// Expand returns the spec with each string in which references are allowed
	// replaced by what expand makes of it.
	Expand(expand func(string) string) Spec
}

// Ensure says whether something is to be there.
type Ensure string

// What may be ensured of most things. Packages know more (see Package).
const (
	Present Ensure = "present"
	Absent  Ensure = "absent"
)

// System is one setting of the machine as a whole: "timezone", a name of the
// tz database, or "selinux", one of "enforcing", "permissive", "disabled".
type System struct {
	Value string `json:"value"`
}

// Group is a local group of /etc/group.
type Group struct {
	Ensure Ensure `json:"ensure"`
	GID    *int   `json:"gid,omitempty"` // nil: whatever id groupadd chooses
	System bool   `json:"system,omitempty"`
	// Registered is true for an entry of the registry [ids]: the id alone is
	// wanted, because some software brings the rest itself.
	Registered bool `json:"registered,omitempty"`
}

// User is a local account of /etc/passwd. An empty field is not managed.
type User struct {
	Ensure  Ensure   `json:"ensure"`
	UID     *int     `json:"uid,omitempty"`
	Group   string   `json:"group,omitempty"`  // the primary group's name
	Groups  []string `json:"groups,omitempty"` // supplementary groups that the user must be in; others are left alone
	Comment string   `json:"comment,omitempty"`
	Home    string   `json:"home,omitempty"`
	Shell   string   `json:"shell,omitempty"`
	System  bool     `json:"system,omitempty"`
	// Registered is true for an entry of the registry [ids].
	Registered bool `json:"registered,omitempty"`
}

// Registry asks for a report of what [ids] does not name.
type Registry struct {
	Of string `json:"of"` // "user" or "group"
}

// Sudo names the only subjects that may administer the machine, as in the user
// list of sudoers(5): "root", "alice", "%group", "%EXAMPLE\Linux Admins".
type Sudo struct {
	Allow []string `json:"allow"`
	// RootGroups are groups whose members are as good as root, such as "docker",
	// in which only the allowed may be.
	RootGroups []string `json:"root_groups,omitempty"`
	// Commands are what subjects who are not allowed may run all the same, as
	// sudotext.ParseCommand reads it.
	Commands map[string][]string `json:"commands,omitempty"`
}

// Dropin is a file of a ".d" directory, whole.
type Dropin struct {
	Ensure  Ensure       `json:"ensure"`
	Content string       `json:"-"` // may hold a secret, so it is never written out
	Mode    *fs.FileMode `json:"mode,omitempty"`
	Owner   string       `json:"owner,omitempty"`
	Group   string       `json:"group,omitempty"`
	// Activate is the command that makes a change of the file take effect. Nil is
	// what its directory is known to need, and empty is nothing.
	Activate []string `json:"activate,omitzero"`
}

// Directory is a directory of drop-ins, named by its path. It is of the kind of
// its files.
type Directory struct {
	// Purge is true when nothing may be in it but what the policy names and what
	// belongs to a package.
	Purge bool `json:"purge"`
}

// PCoIP is one directive of pcoip-agent.conf, as it is written after the "=".
type PCoIP struct {
	Value string `json:"value"`
	// Unchecked is true for what is written although it is not known to be right,
	// because the policy says allow_unknown.
	Unchecked bool `json:"unchecked,omitempty"`
}

// Dconf is one key of the machine's dconf database.
type Dconf struct {
	// Value is a string, int64, float64, bool or a []any of these; it takes the
	// type of the key in the installed schema. Nil when GVariant is given.
	Value any `json:"value,omitempty"`
	// GVariant is the value in GVariant text format, used as it is.
	GVariant string `json:"gvariant,omitempty"`
	// Schema is the id of the GSettings schema that says what the key may be, where
	// the path does not tell: a relocatable schema names no path.
	Schema string `json:"schema,omitempty"`
	// Lock makes the value one that the user cannot change.
	Lock bool `json:"lock"`
}

// Package is one package. Ensure is Present, Absent, Latest, or a version or
// version-release.
type Package struct {
	Ensure Ensure `json:"ensure"`
	Topic  string `json:"topic,omitempty"` // the amazon-linux-extras topic that carries it
	// Hold is true when it stays in its version, whoever updates the machine.
	Hold bool `json:"hold,omitempty"`
	// URL is where its file is, when it comes from no repository, and SHA256 the digest of
	// that file, 64 hex digits.
	URL    string `json:"url,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// Patch has updates installed, in the maintenance window and when the machine is new.
type Patch struct {
	Updates string `json:"updates"` // AllUpdates or SecurityUpdates
}

// What a Patch may have installed.
const (
	AllUpdates      = "all"
	SecurityUpdates = "security"
)

// PackageGroup is the name of a group of packages, where a Package is one: written
// with an "@" before it.
func PackageGroup(name string) (group string, is bool) { return strings.CutPrefix(name, "@") }

// Latest is what a Package may ensure besides Present, Absent and versions.
const Latest Ensure = "latest"

// Version is the version, or version-release, that is wanted; empty when any
// will do.
func (p Package) Version() string {
	switch p.Ensure {
	case Present, Absent, Latest:
		return ""
	}
	return string(p.Ensure)
}

// Service is a systemd unit. A nil field is not managed.
type Service struct {
	Enabled *bool `json:"enabled,omitempty"`
	Running *bool `json:"running,omitempty"`
	Masked  *bool `json:"masked,omitempty"`
}

// Check is a command whose outcome is reported and never repaired.
type Check struct {
	Run     []string      `json:"run"`
	User    string        `json:"user,omitempty"`   // who runs it; empty: root
	Stdout  string        `json:"stdout,omitempty"` // an RE2 that the output must match
	Stderr  string        `json:"stderr,omitempty"` // and one that the errors must match
	Exit    int           `json:"exit"`
	Timeout time.Duration `json:"timeout"`
}

// Kind implements Spec.
func (System) Kind() string     { return "system" }
func (Group) Kind() string      { return "group" }
func (User) Kind() string       { return "user" }
func (r Registry) Kind() string { return r.Of }
func (Sudo) Kind() string       { return "sudo" }
func (Dropin) Kind() string     { return "dropin" }
func (Directory) Kind() string  { return Dropin{}.Kind() }
func (PCoIP) Kind() string      { return "pcoip" }
func (Dconf) Kind() string      { return "dconf" }
func (Repository) Kind() string { return "repository" }
func (Package) Kind() string    { return "package" }
func (Patch) Kind() string      { return "patch" }
func (Service) Kind() string    { return "service" }
func (Check) Kind() string      { return "check" }

// Expand implements Spec. What is named in full by an ID, and what a person must
// be able to review without a machine (accounts, services), takes no references.
func (s System) Expand(expand func(string) string) Spec {
	s.Value = expand(s.Value)
	return s
}

func (g Group) Expand(func(string) string) Spec { return g }

func (u User) Expand(func(string) string) Spec { return u }

// Expand implements Spec.
func (r Registry) Expand(func(string) string) Spec { return r }

// Expand implements Spec.
func (s Sudo) Expand(expand func(string) string) Spec {
	s.Allow = expandAll(s.Allow, expand)
	return s
}

func (d Dropin) Expand(expand func(string) string) Spec {
	d.Content = expand(d.Content)
	return d
}

// Expand implements Spec.
func (d Directory) Expand(func(string) string) Spec { return d }

func (p PCoIP) Expand(expand func(string) string) Spec {
	p.Value = expand(p.Value)
	return p
}

func (d Dconf) Expand(expand func(string) string) Spec {
	d.Value = expandValue(d.Value, expand)
	d.GVariant = expand(d.GVariant)
	return d
}

// plainFingerprint takes a fingerprint as gpg(1) prints it, in groups and in
// either case. A reference is left as it is.
func plainFingerprint(text string) string {
	if hasReference(text) {
		return text
	}
	return strings.ToUpper(strings.ReplaceAll(text, " ", ""))
}

func (p Package) Expand(expand func(string) string) Spec {
	p.Ensure = Ensure(expand(string(p.Ensure)))
	p.URL, p.SHA256 = expand(p.URL), expand(p.SHA256)
	return p
}

// Expand implements Spec.
func (p Patch) Expand(func(string) string) Spec { return p }

func (s Service) Expand(func(string) string) Spec { return s }

func (c Check) Expand(expand func(string) string) Spec {
	c.Run = expandAll(c.Run, expand)
	c.Stdout, c.Stderr = expand(c.Stdout), expand(c.Stderr)
	return c
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
