package packages

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

const versionlock = "/etc/yum/pluginconf.d/versionlock.list"

func (d *desk) locks(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.root, versionlock))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAPackageIsHeldInItsVersionUntilThePolicySaysOtherwise(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"tool": "1.0-1", "other": "1.0-1"},
		repository: map[string][]string{"tool": {"1.0-1", "2.0-1"}, "new": {"1.0-1"}},
	})
	d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 1\nlocklist = "+versionlock+"\n")
	const theirs = "# theirs\n0:other-1.0-1.*\n!0:bad-6-6.*\n"
	d.write(versionlock, strings.TrimSuffix(theirs, "\n"))

	held := map[string]policy.Package{"tool": {Ensure: "present", Hold: true}, "new": {Ensure: "present", Hold: true}, "other": {Ensure: "present"}}
	_, states := check(t, d.kind(held))
	same(t, "before", states, map[string]string{
		"tool": "drifted hold: none, not 0:tool-1.0-1.*", "new": "drifted version: absent, not present", "other": "compliant",
	})
	same(t, "the reasons", repair(t, d.kind(held)), map[string]string{})
	same(t, "the list", d.locks(t), theirs+"0:new-1.0-1.*\n0:tool-1.0-1.*\n")
	_, states = check(t, d.kind(held))
	same(t, "held", states, map[string]string{"tool": "compliant", "new": "compliant", "other": "compliant"})

	d.write(versionlock, d.locks(t)+"0:tool-2.0-1.*\n")
	_, states = check(t, d.kind(held))
	same(t, "with a second lock", states["tool"], "drifted hold: 0:tool-1.0-1.*, 0:tool-2.0-1.*, not 0:tool-1.0-1.*")

	// Another version is wanted: the lock is lifted and then set to it.
	held["tool"] = policy.Package{Ensure: "2.0-1", Hold: true}
	same(t, "the reasons", repair(t, d.kind(held)), map[string]string{})
	same(t, "the list", d.locks(t), theirs+"0:new-1.0-1.*\n0:tool-2.0-1.*\n")

	delete(held, "new")
	held["tool"] = policy.Package{Ensure: "present"}
	_, states = check(t, d.kind(held))
	same(t, "released", states["tool"], "drifted hold: 0:tool-2.0-1.*, not none")
	same(t, "the reasons", repair(t, d.kind(held)), map[string]string{})
	same(t, "the list", d.locks(t), theirs)
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"other", "tool"})
	_, states = check(t, d.kind(held))
	same(t, "in the end", states, map[string]string{"tool": "compliant", "other": "compliant"})
}

func TestAHoldThatThePolicyNoLongerNamesEndsAndThePackageStays(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1"}})
	d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 1\n")
	repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: "present", Hold: true}}))
	_, states := check(t, d.kind(nil))
	same(t, "before", states, map[string]string{
		"tool": "drifted hold: 0:tool-1.0-1.*, not none: the agent held its version for a policy that no longer names it",
	})
	same(t, "the reasons", repair(t, d.kind(nil)), map[string]string{})
	same(t, "the list", d.locks(t), "")
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"tool"})
	_, states = check(t, d.kind(nil))
	same(t, "afterwards", states, map[string]string{})
}

// Part of the policy may not be known yet. Then a hold that nothing wants does not count as drift.
func TestAHoldEndsOnlyWhenThatHasDrifted(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1"}, repository: map[string][]string{"new": {"1.0-1"}}})
	d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 1\n")
	repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: "present", Hold: true}}))
	k := d.kind(map[string]policy.Package{"new": {Ensure: "present"}})
	drifted, _ := check(t, k)
	drifted = slices.DeleteFunc(drifted, func(r converge.Resource) bool { return r.ID == "package/tool" })
	k.Repair(t.Context(), drifted)
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"new", "tool"})
	same(t, "the list", d.locks(t), "0:tool-1.0-1.*\n")
	same(t, "the reasons", repair(t, k), map[string]string{})
	same(t, "the list", d.locks(t), "")
}

func TestWithoutThePluginAHoldFailsAndTheReasonSaysWhatToInstall(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1"}, repository: map[string][]string{"new": {"1.0-1"}}})
	wants := map[string]policy.Package{"tool": {Ensure: "present", Hold: true}, "new": {Ensure: "present"}}
	reasons := repair(t, d.kind(wants))
	if why := reasons["tool"]; len(reasons) != 1 || !strings.Contains(why, "cannot hold the version of tool") || !strings.Contains(why, "yum-plugin-versionlock") {
		t.Errorf("the reasons are %q", reasons)
	}
	d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 0\n")
	if why := repair(t, d.kind(wants))["tool"]; !strings.Contains(why, "not enabled") {
		t.Errorf("the reason is %q", why)
	}
}

func TestAnEntryOfTheLockListIsReadAsYumAndDnfWriteIt(t *testing.T) {
	for line, want := range map[string]string{
		"0:tool-1.0-1.*\n": "tool", "2:perl-Foo-Bar-1.0-1.el7.*": "perl-Foo-Bar", "tool-0:1.0-1.*": "tool", "java-1.8.0-openjdk-1:1.8-1.*": "java-1.8.0-openjdk",
		"!0:tool-1.0-1.*": "", "# 0:tool-1.0-1.*": "", "": "", "tool": "",
	} {
		if got := locked(line); got != want {
			t.Errorf("%q is of %q, and not of %q", line, got, want)
		}
	}
}
