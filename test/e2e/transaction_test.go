package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestATransactionGoesOnWhenTheDaemonIsKilledAndTheNextDaemonFollowsIt(t *testing.T) {
	t.Parallel()
	d := desktop{}
	w := alone(t, "")
	d.Box, d.repo = w.Box, w.repo
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n" + d.repository() + "[packages]\nsoe-slow = \"present\"\nsoe-pkg-01 = \"present\"\n"})
	w.boot(t)
	inTransaction := func() bool {
		s, _ := w.status(t)
		return strings.Contains(s.Packages, "soe-slow") && strings.Contains(s.Packages, " of 2")
	}
	w.until(t, "the status shows the transaction", inTransaction)
	waitFor(t, &d, "/run/soe-slow.started")
	before, _ := w.status(t)
	w.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "soe-agent")
	w.until(t, "another daemon shows the same transaction", func() bool {
		s, _ := w.status(t)
		return s.PID != before.PID && inTransaction()
	})
	w.MustExec(t, "touch", "/run/soe-slow.release")
	w.until(t, "the transaction has ended", func() bool { s, code := w.status(t); return code == 0 && s.Phase == agent.Keeping && s.Packages == "" })
	if got := d.rpms(t, "soe-slow", "soe-pkg-01"); got != "soe-slow-1.0 soe-pkg-01-2.0" {
		t.Errorf("there is %s", got)
	}
	if n := d.transactions(t); n != 2 { // one was the agent's own package, by the image's maker
		t.Errorf("it took %d transactions", n)
	}
	journal := w.MustExec(t, "journalctl", "--output=cat", "--no-pager", "SYSLOG_IDENTIFIER=soe-agent-packages", "SOE_KIND=package")
	if strings.Count(journal, "Running transaction test") != 1 || strings.Count(journal, "Complete!")+strings.Count(journal, "Installed:") == 0 {
		t.Errorf("the journal has of it:\n%s", journal)
	}
	if !w.fails(t, "test", "-e", packages.ProgressFile) {
		t.Error("there still is a progress")
	}
}

// newerRPM is the agent's package in a version that is newer than that of rpm.
func newerRPM(t *testing.T) string {
	t.Helper()
	if _, err := rpm(); err != nil { // both are built in the same place
		t.Fatal(err)
	}
	out, err := exec.Command("make", "-C", "../..", "--silent", "rpm", "VERSION=99.0.0").CombinedOutput()
	if err != nil {
		t.Fatalf("cannot build the newer package: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	file := "../../" + lines[len(lines)-1]
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil { // a release has one package
		t.Error(err)
	}
	if out, err := exec.Command("make", "-C", "../..", "--silent", "build").CombinedOutput(); err != nil {
		t.Errorf("cannot put the binary back: %v\n%s", err, out)
	}
	return string(content)
}

func TestTheAgentUpgradesAndDowngradesItselfByItsOwnPolicyAndComesBack(t *testing.T) {
	t.Parallel()
	w := alone(t, "[packages]\nsoe-agent = \"99.0.0\"\n")
	w.MustWriteFile(t, "/root/newer/soe-agent.rpm", box.File{Content: newerRPM(t)})
	w.MustExec(t, "cp", "/root/soe-agent.rpm", "/root/newer/older.rpm")
	w.MustExec(t, "createrepo_c", "--quiet", "/root/newer")
	w.MustWriteFile(t, "/etc/yum.repos.d/newer.repo", box.File{Content: "[newer]\nname=newer\nbaseurl=file:///root/newer\ngpgcheck=0\n"})
	w.boot(t)
	w.until(t, "the newer agent runs and everything is in line", func() bool {
		s, code := w.status(t)
		return code == 0 && s.Version == "99.0.0" && s.Phase == agent.Keeping && s.Packages == ""
	})
	d := desktop{Box: w.Box}
	if got := d.rpms(t, "soe-agent"); got != "soe-agent-99.0.0" {
		t.Errorf("there is %s", got)
	}
	if n := d.transactions(t); n != 2 { // one was the first version, by the image's maker
		t.Errorf("it took %d transactions", n)
	}
	if r := w.report(t).resource("package/soe-agent"); !r.State.InLine() {
		t.Error(fmt.Sprint(r))
	}
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n[packages]\nsoe-agent = \"0.2.0\"\n"})
	w.until(t, "the older agent runs and everything is in line", func() bool {
		s, code := w.status(t)
		return code == 0 && s.Version == "0.2.0" && s.Phase == agent.Keeping && s.Packages == ""
	})
	if s, _ := w.status(t); s.SafeMode != "" {
		t.Errorf("it is in %s", s.SafeMode)
	}
}

// twice makes rpm know of a package in two versions, as a killed update leaves it.
func (d *desktop) twice(t *testing.T, name string) {
	t.Helper()
	d.MustExec(t, "sh", "-c", "rpm -i --force --oldpackage --nosignature $(find /repo -name '"+name+"-1.0-1.noarch.rpm')")
	if got := d.rpms(t, name); !strings.Contains(got, "-1.0 ") && !strings.HasSuffix(got, "-1.0") || !strings.Contains(got, "-2.0") {
		t.Fatalf("there is %s", got)
	}
}

func TestWithABerkeleyDBPackagesAreKeptAndAnInterruptedUpdateIsNoticed(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.OlderRPM())
	d.MustExec(t, "test", "-s", "/var/lib/rpm/Packages")
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\nsoe-pkg-02 = \"1.0\"\nsoe-pkg-03 = \"2.0-1\"\nsoe-pkg-04 = \"latest\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-pkg-01": converge.Corrected, "package/soe-pkg-02": converge.Corrected,
		"package/soe-pkg-03": converge.Corrected, "package/soe-pkg-04": converge.Corrected,
	})
	d.converged(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"absent\"\nsoe-pkg-02 = \"latest\"\nsoe-pkg-03 = \"1.0\"\nsoe-pkg-04 = \"latest\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-pkg-01": converge.Corrected, "package/soe-pkg-02": converge.Corrected,
		"package/soe-pkg-03": converge.Corrected, "package/soe-pkg-04": converge.Compliant,
	})
	if got := d.rpms(t, "soe-pkg-01", "soe-pkg-02", "soe-pkg-03", "soe-pkg-04"); got != "soe-pkg-02-2.0 soe-pkg-03-1.0 soe-pkg-04-2.0" {
		t.Errorf("there is %s", got)
	}
	d.converged(t)
	// Somebody else's change is another identity of the database.
	d.MustExec(t, "rpm", "-e", "soe-pkg-04")
	if r := d.plan(t).resource("package/soe-pkg-04"); r.State != converge.Drifted {
		t.Errorf("after rpm -e it is %s", r.State)
	}
	d.twice(t, "soe-pkg-02")
	d.setPolicy(t, d.repository()+"[packages]\nsoe-pkg-02 = \"2.0\"\n")
	if r := d.plan(t).resource("package/soe-pkg-02"); r.State.InLine() || !strings.Contains(fmt.Sprint(r.Reason, r.Diff), "1.0") {
		t.Errorf("recorded twice it is %s: %s %v", r.State, r.Reason, r.Diff)
	}
}

func TestARepositoryThatIsDownAndThatNobodyDeclaredBlocksNoInstallation(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/yum.repos.d/vendor.repo", box.File{Content: "[vendor]\nname=vendor\nbaseurl=http://127.0.0.1:1/\nskip_if_unavailable=0\nretries=1\n"})
	o := d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\nno-such = \"present\"\nsoe-pkg-02 = \"latest\"\n")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected, "package/no-such": converge.Failed})
	if r := o.resource("package/no-such"); !strings.Contains(r.Reason, "without the repository vendor, which cannot be reached") {
		t.Errorf("the reason is %s", r.Reason)
	}
	if r := o.resource("package/soe-pkg-02"); !strings.Contains(r.Reason, "without the repository vendor") {
		t.Errorf("whether soe-pkg-02 is the latest is %s: %s", r.State, r.Reason)
	}
	if !strings.Contains(o.Stderr, "repository=vendor") {
		t.Errorf("the log does not say which is down: %s", o.Stderr)
	}
}

func TestWhatAScriptOfAKilledTransactionLeftRunningHoldsUpNobody(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository())
	d.setPolicy(t, d.repository()+"[packages]\nsoe-slow = \"present\"\n")
	d.MustExec(t, "systemd-run", "--quiet", "--unit=first", "--property=KillMode=process", "soe-agent", "apply", "--policy", policyDir)
	waitFor(t, d, "/run/soe-slow.started")
	d.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "first.service")
	d.MustExec(t, "pkill", "-KILL", "-f", "dnf -y .* shell")
	if scope := d.MustExec(t, "systemctl", "show", "--property=ActiveState", "soe-agent-packages.scope"); scope != "ActiveState=active\n" {
		t.Fatalf("the script does not go on: %s", scope)
	}
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	if scope := d.MustExec(t, "systemctl", "show", "--property=ActiveState", "soe-agent-packages.scope"); scope != "ActiveState=active\n" {
		t.Errorf("the script was waited for, or stopped: %s", scope)
	}
}

func TestATransactionThatSomebodyKillsIsMendedAndDoneInTheSamePass(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository())
	d.setPolicy(t, d.repository()+"[packages]\nsoe-slow = \"present\"\nsoe-pkg-01 = \"present\"\n")
	d.MustExec(t, "systemd-run", "--quiet", "--unit=first", "--property=RemainAfterExit=yes", "soe-agent", "apply", "--policy", policyDir)
	waitFor(t, d, "/run/soe-slow.started")
	d.MustExec(t, "pkill", "-KILL", "-f", "dnf -y .* shell")
	d.MustExec(t, "touch", "/run/soe-slow.release")
	deadline := time.Now().Add(3 * soon)
	for d.MustExec(t, "systemctl", "show", "--property=SubState", "--value", "first.service") == "running\n" {
		if time.Now().After(deadline) {
			t.Fatal("the apply does not end")
		}
	}
	if got := d.rpms(t, "soe-slow", "soe-pkg-01"); got != "soe-slow-1.0 soe-pkg-01-2.0" {
		t.Errorf("there is %q", got)
	}
	said := d.MustExec(t, "journalctl", "--no-pager", "--output=cat", "--unit=first")
	if !strings.Contains(said, "a package transaction was killed") || strings.Contains(said, "ERROR") || strings.Contains(said, "gives no reason") {
		t.Errorf("it says %s", said)
	}
	d.converged(t)
}

func TestWhoeverHoldsRpmsLockIsWaitedForAndNamed(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository())
	const holder = `import fcntl,os,time
f=open("/var/lib/rpm/.rpm.lock","w"); fcntl.lockf(f,fcntl.LOCK_EX); open("/run/held","w")
while not os.path.exists("/run/release"): time.sleep(0.1)`
	d.MustExec(t, "systemd-run", "--quiet", "python3", "-c", holder)
	waitFor(t, d, "/run/held")
	d.MustWriteFile(t, "/run/yum.pid", box.File{Content: "1\n"}) // which yum would wait for without end
	const waits = "waiting for another package manager"
	o := d.applyUntil(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\n", waits, "/run/release")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	for _, want := range []string{waits, "python3 -c import fcntl", "removed a stale lock of yum"} {
		if !strings.Contains(o.Stderr, want) {
			t.Errorf("nothing is said of %q: %s", want, o.Stderr)
		}
	}
	if !d.fails(t.Context(), "test", "-e", "/run/yum.pid") {
		t.Error("the lock that names systemd is still there")
	}
}
