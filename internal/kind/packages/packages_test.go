package packages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// units is a systemd with the scope of an earlier transaction, which ends after the given number of
// queries.
type units struct {
	system.UnitStates
	looks int
	state string
}

func (u *units) Unit(_ context.Context, name string) (system.Unit, error) {
	switch name {
	case "soe-agent-packages.scope":
	case "soe-agent-packages-2.scope", "soe-agent-packages-3.scope", "soe-agent-packages-4.scope":
		return system.Unit{LoadState: "not-found", ActiveState: "inactive"}, nil
	default:
		return system.Unit{}, errors.New("nobody expected " + name)
	}
	if u.looks--; u.looks >= 0 {
		return system.Unit{ActiveState: u.state}, nil
	}
	return system.Unit{LoadState: "not-found", ActiveState: "inactive"}, nil
}

const patience = 2 * time.Minute

// A desk is a machine with yum.
type desk struct {
	*yum
	system *system.System
	clock  *clock
	units  *units
	ledger *converge.Ledger
	window schedule.Window
	rules  []policy.Rule
}

func newDesk(t *testing.T, w world) *desk {
	t.Helper()
	root := kindtest.Dir(t)
	s := kindtest.Open(t, system.Options{Root: root})
	d := &desk{yum: &yum{t: t, root: root, world: w, came: map[string]int{}}, system: s, clock: &clock{time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)}, units: &units{}, ledger: kindtest.Ledger(t, root)}
	if d.installed == nil {
		d.installed = map[string]string{}
	}
	d.touch()
	s.Runner, s.Clock, s.Units.UnitStates = d.yum, d.clock, d.units
	return d
}

func (d *desk) kind(wants map[string]policy.Package) *Kind {
	p := &policy.Policy{Rules: d.rules}
	for name, want := range wants {
		p.Resources = append(p.Resources, policy.Resource{ID: policy.NewID("package", name), Spec: want})
	}
	slices.SortFunc(p.Resources, func(a, b policy.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return New(p, d.system, d.ledger, patience, d.window)
}

func check(t *testing.T, k converge.Kind) (drifted []converge.Resource, states map[string]string) {
	t.Helper()
	resources := kindtest.Check(t, k)
	states = map[string]string{}
	for _, r := range resources {
		text := string(r.State)
		for _, diff := range r.Diff {
			text += fmt.Sprintf(" %s: %s, not %s", diff.Aspect, diff.Got, diff.Want)
		}
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		states[r.ID.Name()] = text
		if r.State == converge.Drifted {
			drifted = append(drifted, r)
		}
	}
	return drifted, states
}

// repair repairs what has drifted and returns the errors by name.
func repair(t *testing.T, k converge.Kind) map[string]string {
	t.Helper()
	drifted, _ := check(t, k)
	reasons := map[string]string{}
	for _, outcome := range k.Repair(t.Context(), drifted) {
		reasons[outcome.ID.Name()] = outcome.Err.Error()
	}
	return reasons
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (- wanted, + got):\n%s", what, diff)
	}
}

func TestWhatIsInstalledIsComparedWithWhatIsWanted(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"git": "2.40-1", "firefox": "115.0-1", "gimp": "2.8-1", "node": "16.20.2-1.el7"}})
	k := d.kind(map[string]policy.Package{
		"git": {Ensure: "present"}, "firefox": {Ensure: "140.0"}, "gimp": {Ensure: "absent"}, "nano": {Ensure: "absent"},
		"node": {Ensure: "16.20.2-1.el7"}, "vim": {Ensure: "present"}, "jq": {Ensure: "1.5"},
	})
	_, states := check(t, k)
	same(t, "the states", states, map[string]string{
		"git": "compliant", "nano": "compliant", "node": "compliant",
		"firefox": "drifted version: 115.0-1, not 140.0", "gimp": "drifted version: 2.8-1, not absent",
		"vim": "drifted version: absent, not present", "jq": "drifted version: absent, not 1.5",
	})
	check(t, k)
	if len(d.ran) != 1 {
		t.Errorf("two checks of an unchanged machine ran %q", d.ran)
	}
	d.installed["vim"] = "8.0-1"
	d.touch()
	if _, states := check(t, k); states["vim"] != "compliant" || len(d.ran) != 2 {
		t.Errorf("after an installation by somebody else vim is %s", states["vim"])
	}
}

func TestADatabaseThatCannotBeReadIsAnErrorAndNoDrift(t *testing.T) {
	// rpm may go on with a database that it makes up, or with what is left of one.
	for _, stdout := range []string{"", "package git is not installed\npackage nano is not installed\n", "=nano\t0\t1.0\t1\tx86_64\tnano \npackage git is not installed\n"} {
		for _, stderr := range []string{
			"error: rpmdb: BDB0113 Thread/process failed: BDB1507\nerror: cannot open Packages index",
			"rpmdb: cannot open Packages index", "warning: using a dummy database, for it cannot open Packages index",
		} {
			for _, wants := range []policy.Ensure{"present", "absent"} {
				d := newDesk(t, world{installed: map[string]string{"git": "1.0-1"}})
				d.system.Runner = runner(func(system.Command) (system.Output, error) { return said(1, stdout, stderr), nil })
				resources, err := d.kind(map[string]policy.Package{"git": {Ensure: wants}, "nano": {Ensure: "present"}}).Check(t.Context())
				if err == nil || !strings.Contains(err.Error(), "cannot open Packages index") || len(resources) != 0 {
					t.Errorf("%q, %q, %s: %v, %v", stdout, stderr, wants, resources, err)
				}
			}
		}
	}
}

type runner func(system.Command) (system.Output, error)

func (r runner) Run(_ context.Context, c system.Command) (system.Output, error) { return r(c) }

func TestAKilledTransactionIsRecognised(t *testing.T) {
	there, err := newDesk(t, world{}).at(nil).parseQuery([]string{"git", "kernel", "glibc", "tool-1.0"}, said(1, "=git\t0\t2.0\t1\tx86_64\tgit \n=git\t0\t1.0\t1\tx86_64\tgit \n"+
		"=kernel\t0\t4.14\t1\tx86_64\tkernel \n=kernel\t0\t5.10\t1\tx86_64\tkernel \n=glibc\t0\t2.26\t1\ti686\tglibc \n=glibc\t0\t2.26\t1\tx86_64\tglibc \n=tool\t0\t1.0\t1\tnoarch\ttool \n", ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ensure policy.Ensure
		state  converge.State
		reason string
	}{
		"git":      {"2.0", converge.Drifted, "both 2.0-1 and 1.0-1 are recorded as installed"},
		"kernel":   {"4.14", converge.Compliant, ""},
		"glibc":    {"2.26-1", converge.Compliant, ""},
		"tool-1.0": {"present", converge.Drifted, `there is a version in the name; say tool = "1.0"`},
	} {
		want := policy.Want[policy.Package]{Resource: policy.Resource{ID: policy.NewID("package", name)}, Spec: policy.Package{Ensure: c.ensure}}
		r := converge.Wanted(want.Resource)
		if judge(&r, want, there); r.State != c.state || !strings.HasPrefix(r.Reason, c.reason) {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
}

func TestYumMendsEverythingInOneTransaction(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"down": "2.0-1", "up": "1.0-1", "gone": "1.0-1", "news": "1.0-1"},
		repository: map[string][]string{"new": {"1.0-1", "2.0-1"}, "old": {"1.0-1", "2.0-1"}, "down": {"1.0-1", "2.0-1"}, "up": {"1.0-1", "2.0-1"}, "news": {"1.0-1", "2.0-1"}},
	})
	k := d.kind(map[string]policy.Package{
		"new": {Ensure: "present"}, "old": {Ensure: "1.0"}, "down": {Ensure: "1.0-1"}, "up": {Ensure: "2.0"}, "gone": {Ensure: "absent"}, "news": {Ensure: "latest"},
	})
	same(t, "the reasons", repair(t, k), map[string]string{})
	same(t, "the transactions", d.transactions, [][]string{{
		"remove gone", "downgrade down-1.0-1", "install new", "update news", "install old-1.0", "install up-2.0",
	}})
	same(t, "what is installed", d.installed, map[string]string{"new": "2.0-1", "old": "1.0-1", "down": "1.0-1", "up": "2.0-1", "news": "2.0-1"})
	if drifted, states := check(t, k); len(drifted) > 0 {
		t.Errorf("after the repair: %v", states)
	}
	for id, owned := range map[policy.ID]bool{"package/new": true, "package/old": true, "package/up": false, "package/news": false} {
		if d.ledger.Owns(id) != owned {
			t.Errorf("the ledger says of %s %v", id, !owned)
		}
	}
}

func TestWithYumOneBadPackageStopsNoOther(t *testing.T) {
	d := newDesk(t, world{
		repository: map[string][]string{"a": {"1.0-1"}, "b": {"1.0-1"}, "nodep": {"1.0-1"}, "unsigned": {"1.0-1"}, "badpre": {"1.0-1"}, "vim": {"8.0-1"}},
		broken:     map[string]string{"nodep": "nodep", "unsigned": "unsigned", "badpre": "badpre"},
	})
	k := d.kind(map[string]policy.Package{
		"a": {Ensure: "present"}, "b": {Ensure: "1.0"}, "no-such": {Ensure: "latest"}, "nodep": {Ensure: "present"},
		"unsigned": {Ensure: "present"}, "badpre": {Ensure: "present"}, "vim": {Ensure: "present"}, "typo": {Ensure: "present", Topic: "typo"},
	})
	same(t, "the reasons", repair(t, k), map[string]string{
		"no-such":  "cannot install no-such: No package no-such available.",
		"nodep":    "cannot install nodep: nothing provides does-not-exist needed by nodep-1.0-1.noarch",
		"unsigned": "cannot install unsigned: Package unsigned-1.0-1.noarch.rpm is not signed",
		"badpre":   "cannot install badpre: %prein(badpre-1.0-1.noarch) scriptlet failed, exit status 3",
		"vim":      "cannot install vim: the installed vim-enhanced provides it or has taken its place; name that one in the policy",
		"typo":     "cannot install typo: cannot enable the topic typo of amazon-linux-extras: there is no amazon-linux-extras on this machine; topics are for Amazon Linux 2 alone",
	})
	same(t, "what is installed", d.installed, map[string]string{"a": "1.0-1", "b": "1.0-1", "vim-enhanced": "8.0-1"})
}

func TestManyPackagesAreHalvedAndNotTriedOneByOne(t *testing.T) {
	w := world{repository: map[string][]string{"m-bad": {"1.0-1"}}, broken: map[string]string{"m-bad": "nodep"}}
	wants := map[string]policy.Package{"m-bad": {Ensure: "present"}}
	for i := range 40 {
		name := fmt.Sprintf("p%02d", i)
		w.repository[name], wants[name] = []string{"1.0-1"}, policy.Package{Ensure: "present"}
	}
	d := newDesk(t, w)
	if reasons := repair(t, d.kind(wants)); len(reasons) != 1 {
		t.Errorf("the reasons are %v", reasons)
	}
	if len(d.installed) != 40 || len(d.transactions) > 20 {
		t.Errorf("%d packages are installed, in %d transactions", len(d.installed), len(d.transactions))
	}
}

func TestWhatDependsOnARemovedPackageIsKnownBefore(t *testing.T) {
	for _, c := range []struct {
		dependent, reason string
		wanted            bool
	}{
		{"plugin", "", false},
		{"plugin", "cannot remove tool: plugin needs it, which the policy wants", true},
		{"gnome-shell", "cannot remove tool: gnome-shell needs it, and the desktop cannot be reached without it", false},
		{"libpam-sss", "cannot remove tool: libpam-sss needs it, and the desktop cannot be reached without it", false},
		{"mate-panel", "cannot remove tool: mate-panel needs it, and the desktop cannot be reached without it", false},
	} {
		d := newDesk(t, world{
			installed: map[string]string{"tool": "1.0-1", "lib": "1.0-1", c.dependent: "1.0-1"},
			requires:  map[string]string{"lib": "tool", c.dependent: "lib"},
		})
		wants := map[string]policy.Package{"tool": {Ensure: "absent"}}
		if c.wanted {
			wants[c.dependent] = policy.Package{Ensure: "present"}
		}
		if reasons := repair(t, d.kind(wants)); reasons["tool"] != c.reason {
			t.Errorf("with %s: %q", c.dependent, reasons["tool"])
		}
		if c.reason != "" && len(d.transactions) > 0 {
			t.Errorf("with %s yum was asked to %q", c.dependent, d.transactions)
		}
	}
}

func TestAHeldLockIsWaitedForButNotForEver(t *testing.T) {
	w := world{repository: map[string][]string{"a": {"1.0-1"}}}
	wants := map[string]policy.Package{"a": {Ensure: "present"}}
	d := newDesk(t, w)
	d.locked = 3
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	d = newDesk(t, w)
	d.locked = 1000
	start := d.clock.now
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{"a": "cannot install a: another package manager is at work (process 4077); this is tried again in the next pass"})
	if waited := d.clock.now.Sub(start); waited < patience || waited > patience+time.Minute {
		t.Errorf("it was waited for %s", waited)
	}
}

func TestATransactionOfAnEarlierLifeIsWaitedFor(t *testing.T) {
	d := newDesk(t, world{repository: map[string][]string{"a": {"1.0-1"}, "b": {"1.0-1"}}})
	k := d.kind(map[string]policy.Package{"a": {Ensure: "present"}, "b": {Ensure: "present"}})
	drifted, _ := check(t, k)
	d.units.looks, d.units.state = 10, "active"
	d.installed["a"] = "1.0-1" // installed by the earlier transaction
	d.touch()
	if outcomes := k.Repair(t.Context(), drifted); len(outcomes) > 0 || d.units.looks > 0 {
		t.Errorf("%v, with %d looks to go", outcomes, d.units.looks)
	}
	same(t, "the transactions", d.transactions, [][]string{{"install b"}})

	d.units.looks = 1 << 30
	drifted[0].ID = "package/b"
	delete(d.installed, "b")
	d.touch()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes := k.Repair(ctx, drifted[:1])
	if len(outcomes) != 1 || !errors.Is(outcomes[0].Err, context.Canceled) || !strings.Contains(outcomes[0].Err.Error(), "soe-agent-packages.scope") {
		t.Errorf("%v", outcomes)
	}
}

func TestLatestIsAskedForRarelyAndDoubtConcernsNothingElse(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"a": "1.0-1", "b": "1.0-1", "c": "1.0-1"},
		repository: map[string][]string{"a": {"1.0-1"}, "b": {"1.0-1", "2.0-1"}},
	})
	k := d.kind(map[string]policy.Package{"a": {Ensure: "latest"}, "b": {Ensure: "latest"}, "c": {Ensure: "present"}})
	asked := func() (count int) {
		for _, line := range d.ran {
			if strings.Contains(line, "check-update") {
				count++
			}
		}
		return count
	}
	want := map[string]string{"a": "compliant", "b": "drifted version: 1.0-1, and there is a newer one, not latest", "c": "compliant"}
	for range 3 {
		_, states := check(t, k)
		same(t, "the states", states, want)
	}
	if asked() != 3 { // once about both, then once about each
		t.Errorf("yum was asked %d times", asked())
	}
	d.clock.now = d.clock.now.Add(updatesKept)
	d.repository["b"] = []string{"1.0-1"}
	want["b"] = "compliant"
	_, states := check(t, k)
	same(t, "half an hour later the states", states, want)
	d.clock.now = d.clock.now.Add(updatesKept)
	for _, c := range []struct {
		stale, offline bool
		doubt          string
	}{
		{true, false, `unknown: it cannot be told whether there is a newer one: http://repo.example/repodata/repomd.xml: [Errno 14] curl#7 - "Failed to connect"`},
		{false, true, "unknown: it cannot be told whether there is a newer one: Cannot find a valid baseurl for repo: corp"},
	} {
		d.stale, d.offline = c.stale, c.offline
		_, states := check(t, k)
		same(t, "offline the states", states, map[string]string{"a": c.doubt, "b": c.doubt, "c": "compliant"})
		d.clock.now = d.clock.now.Add(doubtKept)
	}
}

func TestATopicOfAmazonLinuxExtrasIsEnabledFirst(t *testing.T) {
	d := newDesk(t, world{repository: map[string][]string{"libreoffice": {"7.0-1"}, "nginx": {"1.22-1"}}})
	d.extras = true
	d.write(extrasFile, "[amzn2extra-nginx1]\nenabled = 1\n[amzn2extra-libreoffice]\nenabled = 0\n")
	same(t, "the reasons", repair(t, d.kind(map[string]policy.Package{
		"libreoffice": {Ensure: "present", Topic: "libreoffice"}, "nginx": {Ensure: "present", Topic: "nginx1"},
	})), map[string]string{})
	same(t, "what ran before the transaction", d.ran[3:5], []string{"amazon-linux-extras enable libreoffice", "yum clean metadata"})
}

func TestAPasswordThatYumPrintsIsNotRepeated(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"git": "1.0-1"}})
	k := New(&policy.Policy{Resources: []policy.Resource{
		{ID: "package/git", Spec: policy.Package{Ensure: policy.Latest}},
		{ID: "repository/corp", Spec: policy.Repository{}, Secrets: []string{"t0ken"}},
	}}, d.system, d.ledger, patience, schedule.Window{})
	d.system.Runner = runner(func(c system.Command) (system.Output, error) {
		if c.Argv[0] == "rpm" {
			return d.query([]string{"git"}), nil
		}
		return said(1, "", "https://agent:hunter2@rpm.example.com/t0ken/repodata/repomd.xml: [Errno 14] HTTPS Error 403 - Forbidden\n"), nil
	})
	_, states := check(t, k)
	same(t, "the states", states, map[string]string{
		"git": "unknown: it cannot be told whether there is a newer one: https://‹secret›@rpm.example.com/‹secret›/repodata/repomd.xml: [Errno 14] HTTPS Error 403 - Forbidden",
	})
}

func TestNoTransactionTakesAlongWhatThePolicyKeepsInAVersion(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"kept": "1.0-1", "held": "1.0-1", "late": "1.0-1", "up": "1.0-1"},
		repository: map[string][]string{"up": {"2.0-1"}, "late": {"2.0-1"}, "new": {"1.0-1"}},
	})
	d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 1\n")
	same(t, "the reasons", repair(t, d.kind(map[string]policy.Package{
		"kept": {Ensure: "1.0"}, "held": {Ensure: "present", Hold: true}, "late": {Ensure: "latest"}, "up": {Ensure: "2.0"}, "new": {Ensure: "present"},
	})), map[string]string{})
	if !slices.ContainsFunc(d.ran, func(c string) bool { return strings.Contains(c, " --exclude=held.noarch,kept.noarch shell ") }) {
		t.Errorf("what ran: %q", d.ran)
	}
}

func TestWhatCarriesASessionIsNotReplacedDuringOne(t *testing.T) {
	w := world{
		installed:  map[string]string{"pcoip-agent-standard": "21.0-1"},
		repository: map[string][]string{"pcoip-agent-standard": {"21.0-1", "22.0-1"}, "git": {"1.0-1"}},
	}
	d := newDesk(t, w)
	d.system.Sessions = kindtest.Sessions{{User: "alice", State: "active"}}
	k := d.kind(map[string]policy.Package{"pcoip-agent-standard": {Ensure: "22.0"}, "git": {Ensure: "present"}})
	drifted, _ := check(t, k)
	same(t, "the outcomes", k.Repair(t.Context(), drifted), []converge.Outcome{{
		ID: "package/pcoip-agent-standard", Postponed: converge.NextSession,
		Reason: "alice is logged in, whose session may end when pcoip-agent-standard is replaced",
	}})
	same(t, "the transactions", d.transactions, [][]string{{"install git"}})
	if !slices.ContainsFunc(k.Watches(), func(w converge.Watch) bool { return w.Sessions }) {
		t.Error("nobody waits for the end of the session")
	}
	d.system.Sessions = kindtest.Sessions{}
	same(t, "the reasons", repair(t, k), map[string]string{})
	if d.installed["pcoip-agent-standard"] != "22.0-1" {
		t.Errorf("with nobody logged in there is %v", d.installed)
	}
}

func TestAPackageIsNamedWithoutVersionReleaseAndArchitecture(t *testing.T) {
	for nevra, want := range map[string]string{
		"soe-dep-1.0-1.noarch": "soe-dep", "gcc-c++-0:7.3.1-17.amzn2.x86_64": "gcc-c++", "bash-4.2.46-34.amzn2.x86_64": "bash", "odd": "odd",
	} {
		if got := nameOf(nevra); got != want {
			t.Errorf("%s is named %s", nevra, got)
		}
	}
}
