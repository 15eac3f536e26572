package packages

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
)

// A second is a second definition of the repository corp, or one that is not the policy's.
type second struct {
	spec  policy.Repository
	files map[string]string // written after the agent has set it up
	why   string            // the reason why it is not used, or "": it is
}

func seconds(wanted policy.Repository) map[string]second {
	const evil = "[corp]\nbaseurl=file:///srv/evil\ngpgcheck=0\n"
	brought := policy.Repository{Ensure: policy.Present, RepositorySettings: policy.RepositorySettings{Priority: 7}}
	const own = "/etc/yum.repos.d/corp.repo"
	return map[string]second{
		"nothing":                          {wanted, nil, ""},
		"a repository of another id":       {wanted, map[string]string{"/etc/yum.repos.d/aaa.repo": "[other]\nbaseurl=file:///srv\n[corp-debug]\n"}, ""},
		"a file before":                    {wanted, map[string]string{"/etc/yum.repos.d/aaa.repo": evil}, "/etc/yum.repos.d/aaa.repo defines it too"},
		"a file after":                     {wanted, map[string]string{"/etc/yum.repos.d/zzz.repo": "[x]\n" + evil}, "/etc/yum.repos.d/zzz.repo defines it too"},
		"another directory":                {wanted, map[string]string{"/etc/distro.repos.d/x.repo": evil}, "/etc/distro.repos.d/x.repo defines it too"},
		"a directory of yum":               {wanted, map[string]string{"/etc/yum/repos.d/x.repo": evil}, "/etc/yum/repos.d/x.repo defines it too"},
		"a directory that the main names":  {wanted, map[string]string{"/etc/yum.conf": "[main]\nreposdir=/etc/yum.repos.d, /srv/r\n", "/srv/r/x.repo": evil}, "/srv/r/x.repo defines it too"},
		"the package manager's own":        {wanted, map[string]string{"/etc/yum.conf": "[main]\ngpgcheck=1\n" + evil}, "/etc/yum.conf defines it too"},
		"an id with a variable":            {wanted, map[string]string{"/etc/yum.repos.d/v.repo": strings.Replace(evil, "corp", "co$x", 1)}, "/etc/yum.repos.d/v.repo defines it too"},
		"an id with a variable in braces":  {wanted, map[string]string{"/etc/yum.repos.d/v.repo": strings.Replace(evil, "corp", "${x}rp", 1)}, "/etc/yum.repos.d/v.repo defines it too"},
		"an id that cannot become it":      {wanted, map[string]string{"/etc/yum.repos.d/v.repo": strings.Replace(evil, "corp", "other-$x", 1)}, ""},
		"a line by hand":                   {wanted, map[string]string{own: evil}, "its definition is not the policy's"},
		"another key":                      {wanted, map[string]string{"/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp": "x"}, "/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp is not the policy's"},
		"a file that cannot be read":       {wanted, map[string]string{"/etc/yum.repos.d/d.repo/x": ""}, "cannot read what defines it: "},
		"one that a package brings":        {brought, map[string]string{own: "[corp]\nbaseurl=https://rpm.example.com/\npriority=7\n"}, ""},
		"one brought twice":                {brought, map[string]string{own: "[corp]\npriority=7\n", "/etc/yum.repos.d/aaa.repo": evil}, "/etc/yum.repos.d/aaa.repo and /etc/yum.repos.d/corp.repo define it"},
		"one brought with other settings":  {brought, map[string]string{own: "[corp]\npriority=1\n"}, "its definition is not the policy's"},
		"one that is not wanted":           {policy.Repository{Ensure: policy.Absent}, map[string]string{"/etc/yum.repos.d/aaa.repo": evil}, "the policy wants it absent, and /etc/yum.repos.d/aaa.repo defines it"},
		"one that is not wanted, and gone": {policy.Repository{Ensure: policy.Absent}, map[string]string{own: "[other]\n"}, ""},
	}
}

func TestNothingComesFromARepositoryThatSomebodyElseDefines(t *testing.T) {
	wanted := policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: []string{keyServer(t).URL + "/one.asc"}, Fingerprints: []string{keyOne}}
	for name, c := range seconds(wanted) {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, world{installed: map[string]string{"old": "1.0-1"}, repository: map[string][]string{"a": {"1.0-1"}, "old": {"1.0-1", "2.0-1"}}, from: "corp"})
			if c.spec.BaseURL != "" {
				same(t, "the reasons of the repository", repair(t, d.repositories(c.spec)), map[string]string{})
			}
			for _, file := range slices.Sorted(maps.Keys(c.files)) {
				d.write(file, c.files[file])
			}
			p := &policy.Policy{Resources: []policy.Resource{
				{ID: "package/a", Spec: policy.Package{Ensure: policy.Latest}}, {ID: "repository/corp", Spec: c.spec},
			}}
			reason := repair(t, New(p, d.system, d.ledger, patience, schedule.Window{}))["a"]
			if _, came := d.installed["a"]; came != (c.why == "") {
				t.Errorf("it was taken: %v", came)
			}
			if c.why != "" && !strings.Contains(reason, "it was tried without the repository corp, which is not used: "+c.why) || c.why == "" && reason != "" {
				t.Errorf("the reason: %q", reason)
			}
			updates := &policy.Policy{Resources: []policy.Resource{{ID: "patch/updates", Spec: policy.Patch{Updates: policy.AllUpdates}}, {ID: "repository/corp", Spec: c.spec}}}
			if repair(t, NewPatches(updates, d.system, d.ledger, patience, schedule.Window{})); (d.installed["old"] == "2.0-1") != (c.why == "") {
				t.Errorf("the updates: old is %s", d.installed["old"])
			}
		})
	}
}

func TestWithoutARepositoryThatIsNeededNothingIsDone(t *testing.T) {
	no := false
	d := newDesk(t, world{repository: map[string][]string{"a": {"1.0-1"}}})
	d.write("/etc/yum.repos.d/aaa.repo", "[corp]\n")
	p := &policy.Policy{Resources: []policy.Resource{
		{ID: "package/a", Spec: policy.Package{Ensure: policy.Present}},
		{ID: "repository/corp", Spec: policy.Repository{Ensure: policy.Present, BaseURL: "https://x", RepositorySettings: policy.RepositorySettings{SkipIfUnavailable: &no}}},
	}}
	same(t, "the reasons", repair(t, New(p, d.system, d.ledger, patience, schedule.Window{})), map[string]string{
		"a": "cannot install a: nothing is done without the repository corp, which is not used: /etc/yum.repos.d/aaa.repo defines it too",
	})
	same(t, "what is installed", d.installed, map[string]string{})
}

func TestAnotherNameOfADirectoryDefinesNothingTwice(t *testing.T) {
	d := newDesk(t, world{})
	d.write("/etc/yum.repos.d/corp.repo", "[corp]\n")
	if err := os.MkdirAll(filepath.Join(d.root, "/etc/yum"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"/etc/distro.repos.d": "yum.repos.d", "/etc/yum/repos.d": "/etc/yum.repos.d"} {
		if err := os.Symlink(to, filepath.Join(d.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := newManager(&policy.Policy{}, d.system, patience).definitions()
	same(t, "the definitions", found, definitions{"corp": {"/etc/yum.repos.d/corp.repo"}})
	if err != nil {
		t.Error(err)
	}
}

func TestARepositoryThatIsDefinedElsewhereIsNotInLine(t *testing.T) {
	for name, c := range map[string]struct {
		spec  policy.Repository
		state string
	}{
		"absent":  {policy.Repository{Ensure: policy.Absent}, "drifted defined in: /etc/yum.repos.d/zzz.repo, not none"},
		"brought": {policy.Repository{Ensure: policy.Present, RepositorySettings: policy.RepositorySettings{Priority: 7}}, "drifted defined in: /etc/yum.repos.d/zzz.repo, not /etc/yum.repos.d/rel.repo alone"},
	} {
		d := newDesk(t, world{})
		if name == "brought" {
			d.write("/etc/yum.repos.d/rel.repo", "[corp]\npriority=7\n")
		}
		d.write("/etc/yum.repos.d/zzz.repo", "[corp]\nbaseurl=http://elsewhere/\n")
		k := d.repositories(c.spec)
		_, states := check(t, k)
		same(t, name, states, map[string]string{"corp": c.state})
		same(t, name, repair(t, k), map[string]string{"corp": "cannot set up the repository corp: /etc/yum.repos.d/zzz.repo defines it too; remove it there"})
	}
}
