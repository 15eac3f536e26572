package packages

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestWhatTheAgentInstalledIsReclaimedWithWhatOnlyItNeeded(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"theirs": "1.0-1"},
		repository: map[string][]string{"licensed": {"1.0-1"}, "kept": {"1.0-1"}, "theirs": {"1.0-1"}, "person": {"1.0-1"}},
		requires:   map[string]string{"licensed": "licensed-libs", "kept": "kept-libs"},
	})
	d.brings = map[string]string{"licensed": "licensed-libs", "kept": "kept-libs"}
	wants := map[string]policy.Package{"licensed": {Ensure: "present"}, "kept": {Ensure: "present"}, "theirs": {Ensure: "present"}}
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	d.installed["person"] = "1.0-1" // installed by a person since then
	d.touch()

	delete(wants, "licensed")
	delete(wants, "theirs")
	_, states := check(t, d.kind(wants))
	same(t, "before", states, map[string]string{
		"kept":     "compliant",
		"licensed": "drifted ensure: present, not absent: the agent installed it for a policy that no longer names it",
	})
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"kept", "kept-libs", "person", "theirs"})
	_, states = check(t, d.kind(wants))
	same(t, "afterwards", states, map[string]string{"kept": "compliant"})
}

func TestWhatAPersonsPackageNeedsIsNotReclaimed(t *testing.T) {
	d := newDesk(t, world{
		repository: map[string][]string{"licensed": {"1.0-1"}},
		requires:   map[string]string{"person": "licensed-libs"},
	})
	d.brings = map[string]string{"licensed": "licensed-libs"}
	repair(t, d.kind(map[string]policy.Package{"licensed": {Ensure: "present"}}))
	d.installed["person"] = "1.0-1"
	d.touch()
	same(t, "the reasons", repair(t, d.kind(nil)), map[string]string{})
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"licensed-libs", "person"})

	d = newDesk(t, world{
		repository: map[string][]string{"licensed": {"1.0-1"}},
		requires:   map[string]string{"person": "licensed"},
	})
	repair(t, d.kind(map[string]policy.Package{"licensed": {Ensure: "present"}}))
	d.installed["person"] = "1.0-1"
	d.touch()
	same(t, "the reasons", repair(t, d.kind(nil)), map[string]string{
		"licensed": "cannot remove licensed: person needs it, which the agent has not installed",
	})
}

func TestThePackageManagerItselfIsToldWhatIsProtected(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"pcoip-agent-standard": "20.10-1", "kernel": "5.10-1", "vlc": "3-1"},
		repository: map[string][]string{"tool": {"1.0-1"}},
	})
	repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: "present"}}))
	if i := slices.IndexFunc(d.ran, func(c string) bool {
		return strings.Contains(c, "protected_packages=basesystem,pcoip-agent-standard,glob:/etc/yum/protected.d/*.conf,") && strings.Contains(c, "shell")
	}); i < 0 {
		t.Errorf("what ran: %q", d.ran)
	}
}

func TestAPackageOfAFragmentThatIsForOtherMachinesStaysAndIsSaidWithTheCommandThatRemovesIt(t *testing.T) {
	d := newDesk(t, world{repository: map[string][]string{"tool": {"1.0-1"}, "kept": {"1.0-1"}}})
	repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: "present"}, "kept": {Ensure: "present"}}))
	elsewhere := func() *Kind {
		k := d.kind(map[string]policy.Package{"kept": {Ensure: "present"}})
		k.policy.Left = map[policy.ID]policy.Elsewhere{"package/tool": {Why: "os.family is debian"}}
		k.survey()
		return k
	}
	_, states := check(t, elsewhere())
	same(t, "it stays", states, map[string]string{
		"kept": "compliant",
		"tool": "not-applicable: left over from a fragment that is not for this machine any more (os.family is debian); to remove it: yum remove tool",
	})
	same(t, "the reasons", repair(t, elsewhere()), map[string]string{})
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"kept", "tool"})
	delete(d.installed, "tool") // somebody did as was said
	d.touch()
	_, states = check(t, elsewhere())
	same(t, "afterwards", states, map[string]string{"kept": "compliant"})
}
