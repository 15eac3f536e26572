package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// rpms says what rpm knows of packages, NAME-VERSION or nothing, in the order given.
func (d *desktop) rpms(t *testing.T, names ...string) string {
	t.Helper()
	result, err := d.Exec(t.Context(), append([]string{"rpm", "-q", "--qf", `%{NAME}-%{VERSION}\n`}, names...)...)
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for line := range strings.Lines(result.Stdout) {
		if !strings.Contains(line, "not installed") {
			there = append(there, strings.TrimSpace(line))
		}
	}
	return strings.Join(there, " ")
}

// transactions is how many dnf has carried out.
func (d *desktop) transactions(t *testing.T) int {
	t.Helper()
	result, err := d.Exec(t.Context(), "dnf", "-q", "history", "list")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(result.Stdout) {
		if strings.Count(line, "|") == 4 && !strings.Contains(line, "Command line") {
			count++
		}
	}
	return count
}

func TestPackagesAreInstalledUpdatedDowngradedAndRemovedInOneTransaction(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository()+`
[packages]
soe-pkg-02 = "1.0"
soe-pkg-03 = "2.0-1"
soe-pkg-04 = "present"
soe-pkg-05 = "1.0-1"
`).wants(t, map[policy.ID]converge.State{
		"repository/soe-test": converge.Corrected,
		"package/soe-pkg-02":  converge.Corrected, "package/soe-pkg-03": converge.Corrected,
		"package/soe-pkg-04": converge.Corrected, "package/soe-pkg-05": converge.Corrected,
	})
	if got := d.rpms(t, "soe-pkg-02", "soe-pkg-03", "soe-pkg-04", "soe-pkg-05"); got != "soe-pkg-02-1.0 soe-pkg-03-2.0 soe-pkg-04-2.0 soe-pkg-05-1.0" {
		t.Errorf("after the first apply there is %s", got)
	}
	d.converged(t)
	if n := d.transactions(t); n != 1 {
		t.Errorf("the first apply took %d transactions", n)
	}
	change := d.repository() + `
[packages]
soe-pkg-01 = "present"
soe-pkg-02 = "0:2.0-1"
soe-pkg-03 = "1.0"
soe-pkg-04 = "absent"
soe-pkg-05 = "latest"
soe-pkg-06 = "latest"
`
	d.apply(t, change).wants(t, map[policy.ID]converge.State{
		"package/soe-pkg-01": converge.Corrected, "package/soe-pkg-02": converge.Corrected, "package/soe-pkg-03": converge.Corrected,
		"package/soe-pkg-04": converge.Corrected, "package/soe-pkg-05": converge.Corrected, "package/soe-pkg-06": converge.Corrected,
	})
	if got := d.rpms(t, "soe-pkg-01", "soe-pkg-02", "soe-pkg-03", "soe-pkg-04", "soe-pkg-05", "soe-pkg-06"); got !=
		"soe-pkg-01-2.0 soe-pkg-02-2.0 soe-pkg-03-1.0 soe-pkg-05-2.0 soe-pkg-06-2.0" {
		t.Errorf("after the second apply there is %s", got)
	}
	d.converged(t)
	if n := d.transactions(t); n != 2 {
		t.Errorf("both applies took %d transactions", n)
	}
	if o := d.command(t, "apply", "--policy", policyDir); o.Code != 0 || d.transactions(t) != 2 {
		t.Errorf("a third apply did something: %d %s", o.Code, o.Stderr)
	}
	// What is kept in its version, and so left out, is still there for what needs it; what needs another one fails.
	d.apply(t, strings.Replace(change, "soe-pkg-01 = \"present\"", "soe-pkg-01 = \"2.0-1\"\nsoe-dep = \"present\"", 1)).wants(t, map[policy.ID]converge.State{
		"package/soe-dep": converge.Corrected, "package/soe-pkg-01": converge.Compliant,
	})
	d.apply(t, strings.Replace(change, "soe-pkg-01 = \"present\"", "soe-pkg-01 = \"1.0-1\"", 1)).wants(t, map[policy.ID]converge.State{
		"package/soe-dep": converge.Corrected, "package/soe-pkg-01": converge.Corrected,
	})
	o := d.apply(t, strings.Replace(change, "soe-pkg-01 = \"present\"", "soe-pkg-01 = \"1.0-1\"\nsoe-dep = \"present\"", 1))
	o.wants(t, map[policy.ID]converge.State{"package/soe-dep": converge.Failed, "package/soe-pkg-01": converge.Compliant})
	if reason := o.resource("package/soe-dep").Reason; !strings.Contains(reason, "soe-pkg-01 >= 2.0") {
		t.Errorf("what needs another version fails: %s", reason)
	}
}

// multiPolicies are policies about a package in two architectures, one after the other, and what each brings about.
var multiPolicies = []struct{ packages, there string }{
	{"soe-multi = \"1.0-1\"\n", "1.0.x86_64"},
	{"soe-multi = \"1.0\"\n\"soe-multi.i686\" = \"present\"\n", "1.0.x86_64 2.0.i686"},
	{"\"soe-multi.x86_64\" = \"latest\"\n\"soe-multi.i686\" = \"1.0\"\n", "1.0.i686 2.0.x86_64"},
	{"soe-multi = \"1.0-1\"\n\"soe-multi.i686\" = \"latest\"\n", "1.0.x86_64 2.0.i686"},
	{"soe-multi = \"latest\"\n\"soe-multi.i686\" = \"present\"\n", "2.0.i686 2.0.x86_64"},
	{"soe-multi = \"present\"\n\"soe-multi.i686\" = \"absent\"\n", "2.0.x86_64"},
	{"\"soe-multi.x86_64\" = \"absent\"\n\"soe-multi.i686\" = \"2.0-1\"\n", "2.0.i686"},
	{"soe-multi = \"present\"\n\"soe-multi.i686\" = \"present\"\n", "2.0.i686 2.0.x86_64"},
	{"soe-multi = \"absent\"\n", ""},
}

// keptInEveryArchitecture applies multiPolicies, and what stands beside them of names.
func (d *desktop) keptInEveryArchitecture(t *testing.T) {
	t.Helper()
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature /repo/soe-side-1.0-1.noarch.rpm && rpm -i --nosignature /repo/soe-provider-1.0-1.noarch.rpm")
	for _, p := range multiPolicies {
		o := d.apply(t, d.repository()+"[packages]\n"+p.packages+"soe-side = \"2.0\"\n")
		for _, r := range o.Resources {
			if !r.State.InLine() {
				t.Errorf("with %s%s is %s: %s", p.packages, r.ID, r.State, r.Reason)
			}
		}
		all := strings.Fields(d.MustExec(t, "rpm", "-qa", "--qf", `%{NAME} %{VERSION}.%{ARCH}\n`))
		var there []string
		for i := 0; i+1 < len(all); i += 2 {
			if all[i] == "soe-multi" {
				there = append(there, all[i+1])
			}
		}
		slices.Sort(there)
		if got := strings.Join(there, " "); got != p.there {
			t.Errorf("with %sthere is %q, and not %q", p.packages, got, p.there)
		}
		d.converged(t)
	}
	if got := d.rpms(t, "soe-side"); got != "soe-side-1.0 soe-side-2.0" {
		t.Errorf("side by side there is %q", got)
	}
	o := d.apply(t, d.repository()+"[packages]\nsoe-lone = \"present\"\nsoe-virtual = \"present\"\nsoe-side-2 = \"present\"\n\"soe-side-2.0\" = \"absent\"\n\"soe-provider-1.0-1\" = \"present\"\n")
	for id, want := range map[policy.ID]string{
		"package/soe-lone":           "it is installed for i686 alone",
		"package/soe-virtual":        "the installed soe-provider provides it",
		"package/soe-side-2.0":       `say soe-side = "absent"`,
		"package/soe-provider-1.0-1": `say soe-provider = "1.0-1"`,
	} {
		if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, want) {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestAPackageIsKeptInEachArchitectureAsThePolicySays(t *testing.T) {
	t.Parallel()
	newDesktop(t).keptInEveryArchitecture(t)
}

// goodAndBadPackages are packages of which each has another fault, and good ones among them.
const goodAndBadPackages = `
[packages]
no-such      = "present"
soe-pkg-01   = "9.9"
soe-pkg-02   = "present"
soe-pkg-03   = "1.0"
soe-dep      = "present"
soe-nodep    = "present"
soe-conflict = "present"
soe-unsigned = "present"
soe-wrongkey = "present"
soe-badpre   = "present"
soe-badpost  = "present"
`

func TestOneBadPackageStopsNoOtherAndEachGetsItsOwnReason(t *testing.T) {
	t.Parallel()
	for _, strict := range []string{"best=False", "best=True"} {
		t.Run(strict, func(t *testing.T) {
			t.Parallel()
			d := newDesktop(t)
			d.MustExec(t, "sed", "-i", "s/^best=.*/"+strict+"/", "/etc/dnf/dnf.conf")
			d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"present\"\n")
			d.MustExec(t, "sh", "-c", "echo excludepkgs=soe-pkg-09 >>/etc/dnf/dnf.conf; echo soe-pkg-10-0:1.0-1.* >>/etc/dnf/plugins/versionlock.list")
			o := d.apply(t, d.repository()+goodAndBadPackages+"soe-pkg-09 = \"present\"\nsoe-pkg-10 = \"2.0\"\n")
			for id, want := range map[policy.ID]string{
				"package/no-such":      "cannot install no-such: Unable to find a match: no-such",
				"package/soe-pkg-01":   "Unable to find a match: soe-pkg-01-9.9",
				"package/soe-nodep":    "cannot install soe-nodep: nothing provides does-not-exist needed by soe-nodep-1.0-1.noarch",
				"package/soe-conflict": "package soe-conflict-1.0-1.noarch conflicts with soe-pkg-02",
				"package/soe-unsigned": "cannot install soe-unsigned: Package soe-unsigned-1.0-1.noarch.rpm is not signed",
				"package/soe-wrongkey": "not correct for this package",
				"package/soe-badpre":   "cannot install soe-badpre: %prein(soe-badpre-1.0-1.noarch) scriptlet failed, exit status 3",
				"package/soe-pkg-09":   "excludepkgs = soe-pkg-09 in [main] of /etc/dnf/dnf.conf leaves it out",
				"package/soe-pkg-10":   "/etc/dnf/plugins/versionlock.list says: soe-pkg-10-0:1.0-1.*",
			} {
				if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, want) {
					t.Errorf("%s is %s: %s", id, r.State, r.Reason)
				}
			}
			o.wants(t, map[policy.ID]converge.State{
				"package/soe-pkg-03": converge.Corrected, "package/soe-dep": converge.Corrected, "package/soe-badpost": converge.Corrected,
			})
			if got := d.rpms(t, "soe-pkg-02", "soe-pkg-03", "soe-badpost", "soe-unsigned", "soe-wrongkey"); got != "soe-pkg-02-2.0 soe-pkg-03-1.0 soe-badpost-1.0" {
				t.Errorf("there is %s", got)
			}
			if !strings.Contains(o.Stderr, "%post(soe-badpost-1.0-1.noarch) scriptlet failed") {
				t.Errorf("nothing is said of the script that failed: %s", o.Stderr)
			}
		})
	}
}

func TestAPackageThatSomethingWantedOrProtectedNeedsIsNotRemoved(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository()+"[packages]\nsoe-dep = \"present\"\n")
	o := d.apply(t, d.repository()+"[packages]\nsoe-dep = \"present\"\nsoe-pkg-01 = \"absent\"\n")
	r := o.resource("package/soe-pkg-01")
	if r.State != converge.Failed || r.Reason != "cannot remove soe-pkg-01: soe-dep needs it, which the policy wants" {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if got := d.rpms(t, "soe-dep", "soe-pkg-01"); got != "soe-dep-1.0 soe-pkg-01-2.0" {
		t.Errorf("there is %s", got)
	}
	// What has the name of a protected one protects what it needs, and stays itself.
	d.MustExec(t, "sh", "-ec", `cd /root; printf 'Name: gnome-shell\nVersion: 40\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\nRequires: soe-dep\n%%description\n.\n%%files\n' >shell.spec
rpmbuild -bb --quiet --define '_rpmdir /root/b' --define '_topdir /root/t' shell.spec >/dev/null 2>&1; rpm -i --nosignature b/noarch/gnome-shell-40-1.noarch.rpm`)
	o = d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"absent\"\n")
	if r := o.resource("package/soe-pkg-01"); r.State != converge.Failed || r.Reason != "cannot remove soe-pkg-01: gnome-shell needs it, and the desktop cannot be reached without it" {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	d.MustExec(t, "useradd", "-m", "ubuntu")
	d.setPolicy(t, d.repository()+"[packages]\ngnome-shell = \"absent\"\n[users.ubuntu]\nensure = \"absent\"\n")
	refused, err := d.Exec(t.Context(), "soe-agent", "apply", "--policy", policyDir)
	for _, why := range []string{"gnome-shell must not be removed: the desktop cannot be reached without it", "ubuntu is protected: it is the account that the image is made with"} {
		if err != nil || refused.Code == 0 || !strings.Contains(refused.Stderr, why) {
			t.Errorf("%v, %+v", err, refused)
		}
	}
	d.MustExec(t, "id", "ubuntu")
	if got := d.rpms(t, "gnome-shell", "soe-dep", "soe-pkg-01"); got != "gnome-shell-40 soe-dep-1.0 soe-pkg-01-2.0" {
		t.Errorf("there is %s", got)
	}
	d.MustExec(t, "rpm", "-e", "gnome-shell")
	// When the policy says nothing of what needs it, that goes along.
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"absent\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	if got := d.rpms(t, "soe-dep", "soe-pkg-01"); got != "" {
		t.Errorf("there still is %s", got)
	}
}

func TestWhatAPackageBroughtAlongStaysWhenItIsRemoved(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository()+"[packages]\nsoe-dep = \"present\"\n")
	d.apply(t, d.repository()+"[packages]\nsoe-dep = \"absent\"\n").wants(t, map[policy.ID]converge.State{"package/soe-dep": converge.Corrected})
	if got := d.rpms(t, "soe-dep", "soe-pkg-01"); got != "soe-pkg-01-2.0" {
		t.Errorf("there is %q", got)
	}
}

func TestAPersonasPackagesAreReclaimedAndWhatWasThereBeforeStays(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature $(find /repo -name 'soe-pkg-05-1.0-1.noarch.rpm')")
	d.apply(t, d.repository()+"[packages]\nsoe-dep = \"present\"\nsoe-pkg-05 = \"present\"\nsoe-pkg-06 = \"present\"\n")
	if got := d.rpms(t, "soe-dep", "soe-pkg-01", "soe-pkg-05", "soe-pkg-06"); got != "soe-dep-1.0 soe-pkg-01-2.0 soe-pkg-05-1.0 soe-pkg-06-2.0" {
		t.Fatalf("there is %q", got)
	}
	d.setPolicy(t, d.repository()+"[packages]\nsoe-pkg-06 = \"present\"\n")
	if r := d.plan(t).resource("package/soe-dep"); r.State != converge.Drifted {
		t.Errorf("the plan says %s", r.State)
	}
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-06 = \"present\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-dep": converge.Corrected, "package/soe-pkg-06": converge.Compliant,
	})
	if got := d.rpms(t, "soe-dep", "soe-pkg-01", "soe-pkg-05", "soe-pkg-06"); got != "soe-pkg-05-1.0 soe-pkg-06-2.0" {
		t.Errorf("there is %q", got)
	}
	d.converged(t)
}

// Not even a name that is unknown keeps what goes and what comes from being
// exchanged: what goes, goes first.
func TestPackagesThatConflictAreExchanged(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"present\"\n")
	before := d.transactions(t)
	d.apply(t, d.repository()+"[packages]\nsoe-conflict = \"present\"\nsoe-pkg-02 = \"absent\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-conflict": converge.Corrected, "package/soe-pkg-02": converge.Corrected,
	})
	if n := d.transactions(t) - before; n != 1 {
		t.Errorf("the exchange took %d transactions", n)
	}
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"present\"\nno-such = \"present\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-conflict": converge.Corrected, "package/soe-pkg-02": converge.Corrected, "package/no-such": converge.Failed,
	})
	if got := d.rpms(t, "soe-conflict", "soe-pkg-02"); got != "soe-pkg-02-2.0" {
		t.Errorf("there is %q", got)
	}
}

func TestAGroupOfPackagesIsKeptWhole(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	for _, name := range []string{"@soe-group", "@SOE Group"} {
		toml := d.repository() + "[packages]\n\"" + name + "\" = \"present\"\nsoe-pkg-06 = \"present\"\n"
		id := policy.NewID("package", name)
		d.apply(t, toml).wants(t, map[policy.ID]converge.State{id: converge.Corrected})
		if got := d.rpms(t, "soe-pkg-31", "soe-pkg-32", "soe-pkg-33"); got != "soe-pkg-31-2.0 soe-pkg-32-2.0 soe-pkg-33-2.0" {
			t.Fatalf("%s: there is %q", name, got)
		}
		d.converged(t)
		d.MustExec(t, "sh", "-c", "dnf -q clean all; rpm -e soe-pkg-32")
		o := d.apply(t, toml)
		o.wants(t, map[policy.ID]converge.State{id: converge.Corrected})
		if got := d.rpms(t, "soe-pkg-32"); got != "soe-pkg-32-2.0" {
			t.Errorf("%s: there is %q", name, got)
		}
		d.apply(t, d.repository()+"[packages]\nsoe-pkg-06 = \"present\"\n")
		if got := d.rpms(t, "soe-pkg-31", "soe-pkg-32", "soe-pkg-33"); got != "" {
			t.Errorf("%s: reclaiming left %q", name, got)
		}
	}
	o := d.apply(t, d.repository()+"[packages]\n\"@lost\" = \"present\"\nsoe-pkg-07 = \"present\"\n")
	o.wants(t, map[policy.ID]converge.State{"package/@lost": converge.Failed, "package/soe-pkg-07": converge.Corrected})
	if reason := o.resource("package/@lost").Reason; !strings.Contains(reason, "lost") || !strings.Contains(reason, "not available") {
		t.Errorf("the reason is %q", reason)
	}
}

func TestAHeldPackageStaysInItsVersionWhoeverUpdates(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	hold := func(version string) string {
		return d.repository() + "[packages]\nsoe-pkg-08 = { ensure = \"" + version + "\", hold = true }\n"
	}
	update := func() string {
		d.MustExec(t, "dnf", "-q", "-y", "upgrade")
		return d.rpms(t, "soe-pkg-08")
	}
	held := map[policy.ID]converge.State{"package/soe-pkg-08": converge.Corrected}
	d.apply(t, hold("1.0")).wants(t, held)
	if got := update(); got != "soe-pkg-08-1.0" {
		t.Errorf("after an update there is %q", got)
	}
	d.converged(t)
	d.apply(t, hold("2.0")).wants(t, held)
	d.apply(t, hold("1.0")).wants(t, held)
	if got := update(); got != "soe-pkg-08-1.0" {
		t.Errorf("after the downgrade and an update there is %q", got)
	}
	d.MustExec(t, "dnf", "-q", "versionlock", "clear")
	d.apply(t, hold("1.0")).wants(t, held)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-08 = \"present\"\n").wants(t, held)
	if got := update(); got != "soe-pkg-08-2.0" {
		t.Errorf("what is no longer held is after an update %q", got)
	}
}

func TestUpdatesAreInstalledOnANewMachineAndThenInTheWindow(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature $(find /repo -name 'soe-pkg-3[45]-1.0-1.noarch.rpm')")
	patch := func(updates string) string {
		return d.repository() + "[packages]\nsoe-pkg-02 = \"1.0-1\"\nsoe-pkg-03 = \"absent\"\n[patch]\nupdates = \"" + updates + "\"\n"
	}
	d.apply(t, patch("security")).wants(t, map[policy.ID]converge.State{"patch/updates": converge.Corrected, "package/soe-pkg-02": converge.Corrected})
	if got := d.rpms(t, "soe-pkg-34", "soe-pkg-35"); got != "soe-pkg-34-2.0 soe-pkg-35-1.0" {
		t.Errorf("after security updates there is %q", got)
	}
	d.converged(t)

	o := d.apply(t, patch("all"))
	o.wants(t, map[policy.ID]converge.State{"patch/updates": converge.Pending})
	if r := o.resource("patch/updates"); r.Effect != converge.Maintenance || !strings.Contains(r.Reason, "no maintenance window is set") {
		t.Errorf("it waits for %s: %s", r.Effect, r.Reason)
	}
	d.window(t, time.Hour, 2*time.Hour)
	d.apply(t, patch("all")).wants(t, map[policy.ID]converge.State{"patch/updates": converge.Pending})
	if got := d.rpms(t, "soe-pkg-35"); got != "soe-pkg-35-1.0" {
		t.Errorf("outside of the window there is %q", got)
	}
	d.window(t, -time.Hour, time.Hour)
	d.apply(t, patch("all")).wants(t, map[policy.ID]converge.State{"patch/updates": converge.Corrected})
	if got := d.rpms(t, "soe-pkg-35", "soe-pkg-02"); got != "soe-pkg-35-2.0 soe-pkg-02-1.0" {
		t.Errorf("in the window there is %q", got)
	}
	before := d.transactions(t)
	d.converged(t)
	if n := d.transactions(t) - before; n != 0 {
		t.Errorf("a pinned package and the updates have had %d transactions more", n)
	}
}

func TestNoInstallationTakesThePlaceOfWhatIsProtected(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature $(find /repo -name 'workspaces-tool-*.rpm')")
	d.apply(t, d.repository()+"[packages]\nsoe-usurper = \"present\"\nsoe-pkg-06 = \"present\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-usurper": converge.Failed, "package/soe-pkg-06": converge.Corrected,
	})
	if got := d.rpms(t, "workspaces-tool", "soe-usurper", "soe-pkg-06"); got != "workspaces-tool-1.0 soe-pkg-06-2.0" {
		t.Errorf("there is %q", got)
	}
}

func TestWhatAKilledUpdateLeftIsMendedByTheNextRepair(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]box.Option{"SQLite": nil, "Berkeley DB": {box.OlderRPM()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesktop(t, options...)
			d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"2.0\"\n")
			d.twice(t, "soe-pkg-02")
			// While another one is at work it may be about to remove the older version.
			d.MustExec(t, "sh", "-c", "cp /bin/sleep /root/yum && systemd-run --quiet --unit=yum /root/yum 60 && systemctl show --property=MainPID --value yum >/run/yum.pid")
			if o := d.plan(t); o.resource("package/soe-pkg-02").State != converge.Unknown || !strings.Contains(o.resource("package/soe-pkg-02").Reason, "another package manager is at work") {
				t.Errorf("while another package manager is at work it is %+v", o.resource("package/soe-pkg-02"))
			}
			d.MustExec(t, "sh", "-c", "systemctl stop yum; rm /run/yum.pid")
			d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"2.0\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-02": converge.Corrected})
			if got := d.rpms(t, "soe-pkg-02"); got != "soe-pkg-02-2.0" {
				t.Errorf("there is %s", got)
			}
			d.converged(t)
		})
	}
}

func TestAPackageIsInstalledWhenTheOtherPackageManagerIsDone(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository())
	d.MustExec(t, "systemd-run", "--quiet", "dnf", "-y", "install", "soe-slow")
	waitFor(t, d, "/run/soe-slow.started")
	d.MustExec(t, "systemd-run", "--quiet", "sh", "-c", "sleep 3; touch /run/soe-slow.release")
	o := d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\n")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	if strings.Contains(o.Stderr, "interrupted") {
		t.Errorf("what another package manager does is called interrupted: %s", o.Stderr)
	}
	if got := d.rpms(t, "soe-slow", "soe-pkg-01"); got != "soe-slow-1.0 soe-pkg-01-2.0" {
		t.Errorf("there is %s", got)
	}
}

func TestATransactionOutlivesTheAgentAndTheNextOneWaitsForIt(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository())
	d.setPolicy(t, d.repository()+"[packages]\nsoe-slow = \"present\"\n")
	d.MustExec(t, "systemd-run", "--quiet", "--unit=first", "--property=KillMode=process", "soe-agent", "apply", "--policy", policyDir)
	waitFor(t, d, "/run/soe-slow.started")
	d.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "first.service")
	if scope := d.MustExec(t, "systemctl", "show", "--property=ActiveState", "soe-agent-packages.scope"); scope != "ActiveState=active\n" {
		t.Fatalf("the transaction has not outlived the agent: %s", scope)
	}
	d.MustExec(t, "systemd-run", "--quiet", "sh", "-c", "sleep 2; touch /run/soe-slow.release")
	o := d.apply(t, d.repository()+"[packages]\nsoe-slow = \"present\"\nsoe-pkg-01 = \"present\"\n")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	if state := o.resource("package/soe-slow").State; !state.InLine() {
		t.Errorf("soe-slow is %s", state)
	}
	if n := d.transactions(t); n != 2 {
		t.Errorf("it took %d transactions", n)
	}
}

// waitFor waits until a file is there.
func waitFor(t *testing.T, d *desktop, name string) {
	t.Helper()
	d.MustExec(t, "timeout", "180", "sh", "-c", `until [ -e "$0" ]; do sleep 0.05; done`, name)
}

func TestARepositoryIsKeptAndItsKeyImportedOnlyIfItIsTheRightOne(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const file, key = "/etc/yum.repos.d/soe-test.repo", "/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-soe-test"
	wrong := fmt.Sprintf("[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n", rpmrepo.BaseURL, rpmrepo.ForeignKeyURL, d.repo.Fingerprint)
	o := d.apply(t, wrong+"[packages]\nsoe-pkg-01 = \"present\"\n")
	if r := o.resource("repository/soe-test"); r.State != converge.Failed || !strings.Contains(r.Reason, "its fingerprint is ") {
		t.Errorf("the repository is %s: %s", r.State, r.Reason)
	}
	if got := d.rpms(t, "gpg-pubkey", "soe-pkg-01"); got != "" {
		t.Errorf("with a wrong key there is %s", got)
	}
	d.apply(t, d.repository()).wants(t, map[policy.ID]converge.State{"repository/soe-test": converge.Corrected})
	if got, want := d.rpms(t, "gpg-pubkey"), "gpg-pubkey-"+strings.ToLower(d.repo.Fingerprint[32:]); got != want {
		t.Errorf("the keys are %s", got)
	}
	d.converged(t)

	d.MustExec(t, "sed", "-i", "s/^gpgcheck=1/gpgcheck=0/; s/^enabled=1/enabled=0/; $ a sslverify=0", file)
	d.MustExec(t, "rpm", "-e", "gpg-pubkey")
	foreign, err := os.ReadFile(d.repo.ForeignKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	d.MustWriteFile(t, key, box.File{Content: string(foreign)})
	o = d.apply(t, d.repository())
	o.wants(t, map[policy.ID]converge.State{"repository/soe-test": converge.Corrected})
	var aspects []string
	for _, diff := range o.resource("repository/soe-test").Diff {
		aspects = append(aspects, diff.Aspect)
	}
	if got := strings.Join(aspects, " "); got != "enabled gpgcheck sslverify key file key" {
		t.Errorf("it differed in %s", got)
	}
	d.converged(t)

	d.MustWriteFile(t, "/etc/yum.repos.d/other.repo", box.File{Content: "[soe-test]\nbaseurl=file:///elsewhere\n"})
	if r := d.apply(t, d.repository()).resource("repository/soe-test"); r.State != converge.Failed || !strings.Contains(r.Reason, "/etc/yum.repos.d/other.repo defines it too") {
		t.Errorf("with two definitions it is %s: %s", r.State, r.Reason)
	}
	d.MustExec(t, "rm", "/etc/yum.repos.d/other.repo")
	d.apply(t, "repositories.soe-test = { ensure = \"absent\" }\n").wants(t, map[policy.ID]converge.State{"repository/soe-test": converge.Corrected})
	if !d.fails(t.Context(), "ls", file) || !d.fails(t.Context(), "ls", key) {
		t.Error("the file or the key of the repository is still there")
	}
}

func TestARepositoryOfTwoKeysAndOneThatSomebodyElseBringsAreKept(t *testing.T) {
	t.Parallel()
	const vendor, theirs = "/etc/yum.repos.d/theirs.repo", "[vendor]\nname=Theirs\nbaseurl=file:///nowhere\nenabled=1\n\n[vendor-debug]\nbaseurl=file:///nowhere\nenabled=0\n"
	d := newDesktop(t)
	d.MustWriteFile(t, vendor, box.File{Content: theirs})
	foreign := strings.Fields(d.MustExec(t, "sh", "-c", "gpg --with-colons --show-keys /repo/RPM-GPG-KEY-foreign 2>/dev/null | tr ':' ' ' | grep ^fpr"))[1]
	two := fmt.Sprintf("[repositories.soe-test]\nbaseurl = %q\ngpgkey = [%q, %q]\nfingerprint = [%q, %q]\nexclude = [\"soe-pkg-01\"]\n",
		rpmrepo.BaseURL, rpmrepo.KeyURL, rpmrepo.ForeignKeyURL, d.repo.Fingerprint, foreign)
	o := d.apply(t, two+"[repositories.vendor]\nenabled = false\npriority = 5\n[packages]\nsoe-wrongkey = \"present\"\nsoe-pkg-02 = \"present\"\nsoe-pkg-01 = \"present\"\n")
	o.wants(t, map[policy.ID]converge.State{
		"repository/soe-test": converge.Corrected, "repository/vendor": converge.Corrected,
		"package/soe-wrongkey": converge.Corrected, "package/soe-pkg-02": converge.Corrected, "package/soe-pkg-01": converge.Failed,
	})
	if reason := o.resource("package/soe-pkg-01").Reason; !strings.Contains(reason, "exclude = soe-pkg-01 in [soe-test] of /etc/yum.repos.d/soe-test.repo leaves it out") {
		t.Errorf("soe-pkg-01 failed: %s", reason)
	}
	if got := d.MustReadFile(t, vendor); got != strings.Replace(theirs, "enabled=1\n", "enabled=0\npriority=5\n", 1) {
		t.Errorf("what somebody else brought is %s", got)
	}
	d.apply(t, two).wants(t, map[policy.ID]converge.State{"repository/vendor": converge.Corrected, "repository/soe-test": converge.Compliant})
	if got := d.MustReadFile(t, vendor); got != theirs {
		t.Errorf("what somebody else brought is given back as %s", got)
	}
	d.converged(t)
}

func TestARepositoryThatLeavesThePolicyIsGivenBackAsItWas(t *testing.T) {
	t.Parallel()
	const file, before = "/etc/yum.repos.d/soe-test.repo", "[soe-test]\nname=theirs\nbaseurl=file:///nowhere\n"
	d := newDesktop(t)
	for _, original := range []string{"", before} {
		if original != "" {
			d.MustWriteFile(t, file, box.File{Content: original})
		}
		d.apply(t, d.repository()).wants(t, map[policy.ID]converge.State{"repository/soe-test": converge.Corrected})
		if got := d.MustReadFile(t, file); !strings.Contains(got, rpmrepo.BaseURL) {
			t.Fatalf("the repository is %q", got)
		}
		d.apply(t, "").wants(t, map[policy.ID]converge.State{"repository/soe-test": converge.Corrected})
		if left := d.MustExec(t, "sh", "-c", "cat "+file+" 2>/dev/null; ls /etc/pki/rpm-gpg"); left != original {
			t.Errorf("there is %q, and not %q", left, original)
		}
		d.converged(t)
	}
}

func TestARepositoryThatCannotBeReachedLeavesInDoubtOnlyWhatItConcerns(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDesktop(t)
	server := &http.Server{Handler: http.FileServer(http.Dir(d.repo.Dir)), ReadHeaderTimeout: time.Minute}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	base := "http://" + listener.Addr().String()
	repository := fmt.Sprintf("[repositories.corp]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n", base, base+"/RPM-GPG-KEY-soe-test", d.repo.Fingerprint)
	const packages = "[packages]\nsoe-pkg-01 = \"present\"\nsoe-pkg-02 = \"latest\"\nsoe-pkg-03 = \"1.0\"\n"
	d.apply(t, repository+packages).wants(t, map[policy.ID]converge.State{
		"repository/corp":    converge.Corrected,
		"package/soe-pkg-01": converge.Corrected, "package/soe-pkg-02": converge.Corrected, "package/soe-pkg-03": converge.Corrected,
	})
	d.converged(t)
	server.Close()
	d.MustExec(t, "dnf", "clean", "all")
	o := d.plan(t)
	o.wants(t, map[policy.ID]converge.State{
		"repository/corp":    converge.Compliant,
		"package/soe-pkg-01": converge.Compliant, "package/soe-pkg-02": converge.Unknown, "package/soe-pkg-03": converge.Compliant,
	})
	if r := o.resource("package/soe-pkg-02"); !strings.Contains(r.Reason, "whether there is a newer one: ") {
		t.Error(r.Reason)
	}
}

func TestAFightOverAFileOfAPackageNamesThePackageAndAsksForItOnce(t *testing.T) {
	t.Parallel()
	const id, file = "dropin/etc/sudoers.d/zz-soe-sudoers", "/etc/sudoers.d/zz-soe-sudoers"
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "other.service": unit("ExecStart=/bin/sh -c 'while sleep 0.1; do cp /root/theirs "+file+"; done'", ""),
		"/root/theirs":            {Content: "# theirs\n"},
		"/root/rpm":               {Mode: 0o755, Content: "#!/bin/sh\necho \"$*\" >>/root/asked\nexec /root/real/rpm \"$@\"\n"},
	}))
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature $(find /repo -name 'soe-sudoers-*.noarch.rpm') && "+
		"mkdir /root/real && mv /usr/bin/rpm /root/real && mv /root/rpm /usr/bin/rpm && systemctl start other.service")
	d.MustWriteFile(t, "/etc/soe-agent/policy.d/50-test.toml", box.File{Content: "schema = 1\n[dropins.\"" + file + "\"]\ncontent = \"# ours\\n\"\n"})
	d.MustExec(t, "systemd-run", "--quiet", "--unit=agent-under-test", "soe-agent", "run")
	reason := regexp.MustCompile(`^something else keeps changing it back: other\.service \(pid \d+, /usr/bin/cp\), and the file is of the package soe-sudoers; it is left alone until`)
	deadline := time.Now().Add(3 * soon)
	for o := (outcome{}); !reason.MatchString(o.resource(id).Reason); o = d.command(t, "report") {
		if time.Now().After(deadline) {
			t.Fatalf("it is %s: %s\n%s", o.resource(id).State, o.resource(id).Reason, o.Stderr)
		}
	}
	if asked := d.MustReadFile(t, "/root/asked"); strings.Count(asked, "-qf --qf") != 1 {
		t.Errorf("rpm was asked\n%s", asked)
	}
}
