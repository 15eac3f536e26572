package policy

import (
	"path"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/protected"
)

func directoriesSection() section {
	return section{
		"directories", named("directories of drop-ins, by their paths", `"/PATH"`, absolutePath, directoryForm()), (*decoder).directories,
		`[directories."/etc/modprobe.d"]
purge = true
`,
		[]Spec{Directory{}},
	}
}

// Directory is a directory of drop-ins, named by its path. It has the same kind as its files.
type Directory struct {
	// Purge means that the directory may contain only what the policy names and what belongs to a
	// package.
	Purge bool `json:"purge"`
}

// Kind implements Spec.
func (Directory) Kind() string { return Dropin{}.Kind() }

// Expand implements Spec.
func (d Directory) Expand(func(string) string) Spec { return d }

func directoryForm() *form {
	return record("a directory of drop-ins",
		key{name: "purge", form: yesOrNo("nothing may be in it but what the policy names and what belongs to packages")},
	).needing([]string{"purge"})
}

func (d *decoder) directories(t *table) {
	d.each(t, func(path string, f *table) {
		if !f.has("purge") {
			t.problem(path, "it does not say purge = true")
		}
		d.set(t, path, NewID("dropin", path), Directory{Purge: f.isSet("purge")})
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

// validate refuses to purge directories in which others put files that are needed.
func (Directory) validate(v *validator) {
	dir := "/" + v.name
	v.refuse(path.Clean(dir) != dir || breaksLine(dir), "%q is not a clean absolute path", dir)
	v.refuse(!isDropinDirectory(dir) || !strings.HasPrefix(dir, "/etc/") && !strings.HasPrefix(dir, "/usr/local/"),
		"%s is not a directory of drop-ins below /etc or /usr/local", dir)
	if why := dropindir.Of(dir).NoPurge; why != "" {
		v.wrong("%s cannot be purged: %s", dir, why)
	}
	if why := protected.Path(dir); why != "" {
		v.wrong("%s is protected: %s", dir, why)
	}
	if why := ForbiddenDropin(dir + "/"); why != "" {
		v.wrong("%s is no place for drop-ins: %s", dir, why)
	}
}

func (d Directory) entry(name string) entry {
	return ownTable("directories", "/"+name, pair("purge", d.Purge))
}

// beside returns a prefix for all files in it: each file found there is reported as a resource.
func (Directory) beside(id ID) []ID { return []ID{id + "/"} }
