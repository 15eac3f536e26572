package packages

import (
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// multi is a machine with a package in two architectures and another one.
func multi() world {
	return world{
		installed:  map[string]string{"multi": "2.0-1", "multi.i686": "1.0-1", "python3.9": "3.9.1-1", "lone.i686": "1.0-1"},
		repository: map[string][]string{"multi": {"1.0-1", "2.0-1"}, "multi.i686": {"1.0-1", "2.0-1"}, "new.i686": {"1.0-1"}},
	}
}

func TestANameMeansTheArchitecturesThatThePackageManagersMean(t *testing.T) {
	for _, c := range []struct{ name, ensure, want string }{
		{"multi", "present", "compliant"},
		{"multi", "2.0-1", "compliant"}, // whatever version the other architecture has
		{"multi", "1.0-1", "drifted version: 2.0-1, not 1.0-1"},
		{"multi", "absent", "drifted version: 2.0-1, 1.0-1, not absent"},
		{"multi.i686", "present", "compliant"},
		{"multi.i686", "1.0", "compliant"},
		{"multi.i686", "2.0", "drifted version: 1.0-1, not 2.0"},
		{"multi.i686", "absent", "drifted version: 1.0-1, not absent"},
		{"multi.aarch64", "absent", "compliant"},
		{"multi.aarch64", "present", "drifted version: absent, not present"},
		{"lone", "present", "drifted version: absent, not present: it is installed for i686 alone, which is not the machine's own architecture"},
		{"lone", "latest", "compliant"},
		{"python3.9", "present", "compliant"},
		{"python3.9", "absent", "drifted version: 3.9.1-1, not absent"},
		{"python3.9.noarch", "present", "compliant"},
		{"multi-1.0-1.i686", "absent", `drifted name: multi-1.0-1.i686, not that of a package: there is a version in the name; say multi = "absent"`},
		{"multi-2.0-1", "present", `drifted name: multi-2.0-1, not that of a package: there is a version in the name; say multi = "2.0-1"`},
		{"multi-2.0", "latest", `drifted name: multi-2.0, not that of a package: there is a version in the name; say multi = "latest"`},
		{"multi-3.0-1", "absent", "compliant"},
	} {
		d := newDesk(t, multi())
		if _, states := check(t, d.kind(map[string]policy.Package{c.name: {Ensure: policy.Ensure(c.ensure)}})); states[c.name] != c.want {
			t.Errorf("%s = %q is %q, and not %q", c.name, c.ensure, states[c.name], c.want)
		}
	}
}

func TestAPackageIsChangedInTheArchitectureThatIsMeant(t *testing.T) {
	for _, c := range []struct{ name, ensure, line, want string }{
		{"multi.i686", "2.0", "install multi-2.0-[0-9]*.i686", "multi 2.0-1 multi.i686 2.0-1"},
		{"multi.i686", "2.0-1", "install multi-2.0-1.i686", "multi 2.0-1 multi.i686 2.0-1"},
		{"multi.i686", "absent", "remove multi.i686", "multi 2.0-1"},
		{"multi", "absent", "remove multi", ""},
		{"multi", "1.0-1", "downgrade multi-1.0-1.noarch", "multi 1.0-1 multi.i686 1.0-1"},
		{"new.i686", "present", "install new.i686", "multi 2.0-1 multi.i686 1.0-1 new.i686 1.0-1"},
	} {
		w := multi()
		delete(w.installed, "python3.9")
		delete(w.installed, "lone.i686")
		d := newDesk(t, w)
		same(t, c.line+": the reasons", repair(t, d.kind(map[string]policy.Package{c.name: {Ensure: policy.Ensure(c.ensure)}})), map[string]string{})
		same(t, "the transactions", d.transactions, [][]string{{c.line}})
		var there []string
		for name, version := range d.installed {
			there = append(there, name+" "+version)
		}
		slices.Sort(there)
		same(t, c.line, strings.Join(there, " "), c.want)
	}
}

// A package that the agent installed under one name, and that the policy now wants under another,
// stays.
func TestWhatIsStillWantedUnderAnotherNameIsNotReclaimed(t *testing.T) {
	for _, c := range []struct {
		owned, wanted string
		reclaimed     bool
	}{
		{"multi", "multi.i686", false}, {"multi.x86_64", "multi", false}, {"multi.i686", "multi", true}, {"multi.i686", "multi.x86_64", true},
	} {
		d := newDesk(t, world{installed: map[string]string{"multi.x86_64": "1.0-1", "multi.i686": "1.0-1"}})
		d.ledger.Own(policy.NewID("package", c.owned))
		drifted, _ := check(t, d.kind(map[string]policy.Package{c.wanted: {Ensure: policy.Present}}))
		if got := slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID.Name() == c.owned }); got != c.reclaimed {
			t.Errorf("%s, wanted as %s, is reclaimed: %v", c.owned, c.wanted, got)
		}
	}
}

func TestALatestPackageIsRightWhenAnyOfItsArchitecturesHasBecomeNewer(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"multi": "2.0-1", "multi.i686": "1.0-1"},
		repository: map[string][]string{"multi": {"2.0-1"}, "multi.i686": {"1.0-1", "2.0-1"}},
	})
	was, is := []instance{{evr: parseEVR("2.0-1"), arch: "x86_64"}, {evr: parseEVR("1.0-1"), arch: "i686"}}, []instance{{evr: parseEVR("2.0-1"), arch: "x86_64"}, {evr: parseEVR("2.0-1"), arch: "i686"}}
	if !newer(was, is) || newer(was, was) {
		t.Error("an update of one architecture is not seen")
	}
	same(t, "the reasons", repair(t, d.kind(map[string]policy.Package{"multi.i686": {Ensure: "latest"}})), map[string]string{})
	same(t, "the transactions", d.transactions, [][]string{{"update multi.i686"}})
}

func TestWhatIsInstalledSideBySideIsWhatThePackageManagerIsConfiguredWith(t *testing.T) {
	for _, c := range []struct {
		conf, name, provides string
		want                 bool
	}{
		{"", "kernel", "kernel", true},
		{"", "kernel-devel", "kernel-devel", true},
		{"", "kernel-doc", "kernel-doc", false},
		{"", "kernel-livepatch-repo-cdn", "kernel-livepatch-repo-cdn", false},
		{"", "kernel-headers", "kernel-headers kernel-headers(x86-64)", false},
		{"", "kmod-foo", "kmod-foo installonlypkg(kernel-module)", true},
		{"", "kernel-uek", "kernel-uek kernel", true},
		{"installonlypkgs=kernel, own\n  other", "kernel-devel", "kernel-devel", false},
		{"installonlypkgs=kernel, own\n  other", "other", "other", true},
		{"installonlypkgs=", "kernel", "kernel", false},
	} {
		d := newDesk(t, world{})
		d.write("/etc/yum.conf", "[main]\n"+c.conf+"\n")
		line := "=" + c.name + "\t0\t1.0\t1\tx86_64\t" + c.provides + " \n=" + c.name + "\t0\t2.0\t1\tx86_64\t" + c.provides + " \n"
		there, err := d.at(nil).parseQuery(nil, said(0, line, ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := there[c.name][0].sideBySide; got != c.want {
			t.Errorf("with %q, %s is installed side by side: %v", c.conf, c.name, got)
		}
		if got := len(there.twice()) == 0; got != c.want {
			t.Errorf("with %q, two versions of %s are as they should be: %v", c.conf, c.name, got)
		}
	}
}

func TestAKeyIsNobodysDependency(t *testing.T) {
	d := newDesk(t, world{repository: map[string][]string{"tool": {"1.0-1"}}})
	d.brings = map[string]string{"tool": "gpg-pubkey"}
	repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: policy.Present}}))
	if d.installed["gpg-pubkey"] == "" || len(d.ledger.Owned(dependency)) > 0 {
		t.Errorf("the dependencies are %v, of %v", d.ledger.Owned(dependency), d.installed)
	}
	d.ledger.Own(policy.NewID(dependency, "gpg-pubkey")) // earlier versions recorded it
	repair(t, d.kind(nil))
	if d.installed["tool"] != "" || d.installed["gpg-pubkey"] == "" || len(d.ledger.Owned(dependency)) > 0 {
		t.Errorf("afterwards there is %v, and the dependencies are %v", d.installed, d.ledger.Owned(dependency))
	}
}
