package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const lifePolicy = `
[pcoip]
maximum_frame_rate = 30
[dropins."/etc/modprobe.d/soe-life.conf"]
content = "# managed\n"
`

// unresponsive makes whoever opens a file of the box hang, as a virus scanner does
// that no longer answers, until the function returned is called.
func (w *workspace) unresponsive(t *testing.T, name string) (answer func()) {
	t.Helper()
	scanner, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	answer = func() {
		if !closed {
			closed = true
			unix.Close(scanner) // the kernel lets all pass
		}
	}
	t.Cleanup(answer)
	if err := unix.FanotifyMark(scanner, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, filepath.Join(w.Root, name)); err != nil {
		t.Fatal(err)
	}
	return answer
}

// stray is a grant that the agent takes away as soon as it sees it.
const stray = "/etc/sudoers.d/zz-stray"

func (w *workspace) strayIsMended(t *testing.T) {
	t.Helper()
	w.MustWriteFile(t, stray, box.File{Content: "user ALL=(ALL) NOPASSWD: ALL\n", Mode: 0o440})
	w.until(t, "the stray grant is gone", func() bool { return w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") })
}

func (w *workspace) shows(t *testing.T, property string) string {
	t.Helper()
	text := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "--property="+property, "soe-agent"))
	return strings.TrimPrefix(text, property+"=")
}

// The kernel keeps a thread that opens a file for as long as it pleases. Neither the
// desktop nor any other kind waits for that; the watchdog tries another agent, once.
func TestACheckThatHangsForEverHoldsUpNeitherTheDesktopNorAnythingElse(t *testing.T) {
	t.Parallel()
	const name = "/etc/modprobe.d/soe-life.conf"
	w := alone(t, lifePolicy)
	w.MustWriteFile(t, name, box.File{Content: "# somebody's\n"})
	w.MustWriteFile(t, "/etc/systemd/system/soe-agent.service.d/10-test.conf", box.File{Content: "[Service]\nWatchdogSec=3s\n"})
	answer := w.unresponsive(t, name)
	w.boot(t)
	id := policy.ID("dropin" + name)
	w.until(t, "the rest is in line", func() bool {
		r := w.report(t)
		return r.resource(id).State == converge.Unknown && strings.Contains(r.resource(id).Reason, "has hung since") &&
			r.resource("sudo/allow").State.InLine() && r.resource("pcoip/maximum_frame_rate").State.InLine()
	})
	before, _ := w.status(t)
	w.until(t, "the watchdog has bitten", func() bool { return w.shows(t, "NRestarts") == "1" })
	w.until(t, "another agent keeps the rest", func() bool {
		s, _ := w.status(t)
		return s.PID != before.PID && s.Phase == agent.Keeping
	})
	w.strayIsMended(t)
	if log := w.journal(t); !strings.Contains(log, "the agent stops answering the watchdog") {
		t.Errorf("the journal does not say why:\n%s", log)
	}
	answer()
	w.until(t, "the file is mended when it can be opened", func() bool { return w.report(t).resource(id).State.InLine() })
	if s, _ := w.status(t); s.SafeMode != "" || w.shows(t, "NRestarts") != "1" {
		t.Errorf("after %s restarts: %s", w.shows(t, "NRestarts"), s.SafeMode)
	}
}

func TestAnAgentThatDiesYoungAgainAndAgainKeepsSudoAloneUntilSomebodyAsks(t *testing.T) {
	t.Parallel()
	const name = "/etc/modprobe.d/soe-life.conf"
	w := alone(t, lifePolicy)
	w.boot(t)
	w.converged(t, 0)
	w.MustExec(t, "sh", "-c", "for i in 1 2 3 4; do systemctl kill -s KILL --kill-who=main soe-agent; systemctl restart soe-agent; done")
	w.until(t, "it is in safe mode", func() bool { s, _ := w.status(t); return s.Phase == agent.SafeMode })
	w.MustExec(t, "sh", "-c", "echo changed >"+name)
	w.strayIsMended(t)
	if got := w.MustReadFile(t, name); got != "changed\n" {
		t.Errorf("the drop-in was touched: %q", got)
	}
	w.until(t, "the report says so", func() bool { return w.report(t).resource("sudo/allow").State.InLine() })
	r := w.report(t)
	r.wants(t, map[policy.ID]converge.State{
		"agent": converge.Failed, "dropin" + name: converge.Unknown, "pcoip/maximum_frame_rate": converge.Unknown,
	})
	const why = "the agent crashed 4 times within 10 minutes, each time within a minute of its start"
	if got := r.resource("dropin" + name).Reason; !strings.Contains(got, why) || r.Compliant {
		t.Errorf("compliant: %v; the reason is %q", r.Compliant, got)
	}
	if log := w.journal(t); !strings.Contains(log, "safe mode since") || !strings.Contains(w.shows(t, "StatusText"), why) {
		t.Errorf("systemd says %q, and the journal\n%s", w.shows(t, "StatusText"), log)
	}
	// A restart that somebody asks for is no death, and no reason to try again.
	w.MustExec(t, "systemctl", "restart", "soe-agent")
	w.until(t, "it is still in safe mode", func() bool { s, _ := w.status(t); return s.Phase == agent.SafeMode })
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	w.converged(t, 0)
	if got := w.MustReadFile(t, name); got != "# managed\n" {
		t.Errorf("the drop-in has %q", got)
	}
}

func TestOneAgentAloneChangesTheMachine(t *testing.T) {
	t.Parallel()
	w := alone(t, lifePolicy)
	w.boot(t)
	w.converged(t, 0)
	s, _ := w.status(t)
	second, err := w.Exec(t.Context(), "soe-agent", "run")
	want := fmt.Sprintf("another soe-agent is at work (pid %d, run); stop it first with: systemctl stop soe-agent", s.PID)
	if err != nil || second.Code != 1 || !strings.Contains(second.Stderr, "cannot run: "+want) {
		t.Errorf("%v, exit code %d: %s", err, second.Code, second.Stderr)
	}
	w.MustWriteFile(t, policyDir+"/50-test.toml", box.File{Content: "schema = 1\n"})
	for _, command := range [][]string{{"apply", "--policy", policyDir}, {"purge", "--yes"}} {
		result, err := w.Exec(t.Context(), append([]string{"soe-agent"}, command...)...)
		if err != nil || result.Code != 1 || !strings.Contains(result.Stderr, "cannot "+command[0]+": "+want) {
			t.Errorf("%v: %v, exit code %d: %s", command, err, result.Code, result.Stderr)
		}
	}
	if again, _ := w.status(t); again.PID != s.PID {
		t.Error("the first one did not go on")
	}
}

func TestTheJournalFindsWhatWasDoneToAResourceAndSaysMoreWhenAsked(t *testing.T) {
	t.Parallel()
	const name = "/etc/modprobe.d/soe-life.conf"
	w := alone(t, lifePolicy)
	w.boot(t)
	w.converged(t, 0)
	find := func(matches ...string) string {
		args := append([]string{"journalctl", "--no-pager", "--output=cat", "--unit=soe-agent"}, matches...)
		result, err := w.Exec(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return result.Stdout
	}
	if got := find("SOE_RESOURCE=dropin" + name); got != "corrected resource=dropin"+name+" kind=dropin state=corrected cause=intentional\n" {
		t.Errorf("of the drop-in it has:\n%s", got)
	}
	s, _ := w.status(t)
	for _, match := range []string{"SOE_KIND=sudo", "SOE_STATE=corrected", "SOE_POLICY=" + s.Digest} {
		if find(match) == "" {
			t.Errorf("nothing has %s", match)
		}
	}
	if got := find("PRIORITY=7"); got != "" {
		t.Errorf("it says more than people want to know:\n%s", got)
	}
	w.MustExec(t, "systemctl", "kill", "-s", "USR1", "soe-agent")
	w.MustExec(t, "sh", "-c", "echo changed >"+name)
	w.until(t, "it says more", func() bool { return strings.Contains(find("PRIORITY=7"), "pass ended") })
	w.MustExec(t, "systemctl", "kill", "-s", "USR1", "soe-agent")
	w.until(t, "it says less again", func() bool { return strings.Contains(find(), "debug=false") })
	if again, _ := w.status(t); again.PID != s.PID {
		t.Error("it is another agent")
	}
}

// stopped stops the agent and says how long that took.
func (w *workspace) stopped(t *testing.T) time.Duration {
	t.Helper()
	took := w.MustExec(t, "sh", "-c", "s=$(date +%s%N); systemctl stop soe-agent; e=$(date +%s%N); echo $((e-s))")
	n, err := strconv.ParseInt(strings.TrimSpace(took), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if result := w.shows(t, "Result"); result != "success" {
		t.Errorf("it ended with %s", result)
	}
	return time.Duration(n)
}

func TestTheAgentStopsAtOnceWhateverItIsDoingAndLeavesNoHalfFile(t *testing.T) {
	t.Parallel()
	d := desktop{}
	w := alone(t, "")
	d.Box, d.repo = w.Box, w.repo
	var many strings.Builder
	many.WriteString("schema = 1\n" + d.repository() + "[packages]\nsoe-slow = \"present\"\n")
	for i := range 2000 {
		fmt.Fprintf(&many, "[dropins.\"/etc/modprobe.d/soe-%04d.conf\"]\ncontent = \"# managed %s\\n\"\n", i, strings.Repeat("x", 100))
	}
	w.MustExec(t, "systemctl", "disable", "soe-agent") // until it is asked for
	w.boot(t)
	w.MustWriteFile(t, localPolicy, box.File{Content: many.String()})
	w.MustExec(t, "systemctl", "start", "--no-block", "soe-agent")
	w.until(t, "it writes drop-ins", func() bool { return !w.fails(t, "test", "-e", "/etc/modprobe.d/soe-0100.conf") })
	if took := w.stopped(t); took > 30*time.Second {
		t.Errorf("in the middle of drop-ins it took %s to stop", took)
	} else {
		t.Logf("in the middle of drop-ins it took %s to stop", took)
	}
	const whole = `cd /etc/modprobe.d; ls soe-*.conf | wc -l; find . -name 'soe-*.conf' ! -size 111c; find . -name '.*.swp'`
	if got := w.MustExec(t, "sh", "-c", whole); strings.Count(got, "\n") != 1 {
		t.Errorf("how many are there, and what is not whole or left behind: %s", got)
	}
	w.MustExec(t, "systemctl", "start", "soe-agent")
	waitFor(t, &d, "/run/soe-slow.started")
	w.until(t, "systemctl status says how far it is", func() bool {
		text := w.shows(t, "StatusText")
		return strings.Contains(text, "package") && strings.Contains(text, "soe-slow") && strings.Contains(text, " of 1")
	})
	if took := w.stopped(t); took > 30*time.Second {
		t.Errorf("in the middle of a transaction it took %s to stop", took)
	} else {
		t.Logf("in the middle of a transaction it took %s to stop", took)
	}
	if scope := w.MustExec(t, "systemctl", "show", "--property=ActiveState", "soe-agent-packages.scope"); scope != "ActiveState=active\n" {
		t.Errorf("the transaction does not go on: %s", scope)
	}
	w.MustExec(t, "touch", "/run/soe-slow.release")
	w.MustExec(t, "systemctl", "start", "soe-agent")
	w.converged(t, 0)
	if got := d.rpms(t, "soe-slow"); got != "soe-slow-1.0" {
		t.Errorf("there is %s", got)
	}
}

// times is how often something that takes time is done: n, or as often as the
// environment says, for whoever has the time.
func times(t *testing.T, variable string, n int) int {
	t.Helper()
	if value := os.Getenv(variable); value != "" {
		var err error
		if n, err = strconv.Atoi(value); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Whatever moment the agent dies in, files are whole and sudo works, and the next one
// goes on.
func TestAnAgentThatIsKilledAgainAndAgainConvergesInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, w.fleetPolicy())
	// Each agent finds drift, dies a little later in its life than the one before, and
	// knows nothing of that: in safe mode it would do less.
	const deaths = `cd /etc
for i in $(seq "$1"); do
  echo changed >modprobe.d/soe-01.conf; rm -f sysctl.d/70-soe-02.conf sudoers.d/0-soe-sudo dconf/db/soe
  (umask 226; echo 'user ALL=(ALL) ALL' >sudoers.d/zz-stray) # with its mode: the agent may replace it at once, and visudo minds
  systemctl restart --no-block soe-agent
  sleep "0.$(printf %03d $((i * 7 % 250)))"
  systemctl kill -s KILL --kill-who=main soe-agent || :
  rm -f /var/lib/soe-agent/life.json
  visudo -cq && grep -qx -e changed -e '# managed, number 1' modprobe.d/soe-01.conf || exit 1
  [ ! -e sysctl.d/70-soe-02.conf ] || grep -qx '# managed, number 2' sysctl.d/70-soe-02.conf || exit 1
done`
	w.MustExec(t, "sh", "-c", deaths, "sh", strconv.Itoa(times(t, "SOE_TEST_KILLS", 50)))
	w.MustExec(t, "systemctl", "restart", "soe-agent")
	w.converged(t, 1)
	w.MustExec(t, "visudo", "-c")
	if left := w.MustExec(t, "sh", "-c", "find /etc /var/lib -name '*.soe.swp'"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if result, err := w.Exec(t.Context(), "soe-agent", "plan"); err != nil || result.Code != 0 {
		t.Errorf("plan: %v, exit code %d\n%s%s", err, result.Code, result.Stdout, result.Stderr)
	}
}

// The box dies with all its processes, as in a power cut; what was written stays.
func TestAMachineThatLosesPowerInTheMiddleOfATransactionConvergesInTheEnd(t *testing.T) {
	t.Parallel()
	d := desktop{}
	w := alone(t, "")
	d.Box, d.repo = w.Box, w.repo
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n" + d.repository() +
		"[packages]\nsoe-slow = \"present\"\nsoe-pkg-01 = \"present\"\nsoe-pkg-02 = \"present\"\nsoe-service = \"present\"\n"})
	for i := range times(t, "SOE_TEST_POWER_CUTS", 3) {
		w.boot(t)
		w.until(t, "a transaction is under way", func() bool {
			return !w.fails(t, "systemctl", "is-active", "--quiet", "soe-agent-packages.scope")
		})
		w.MustExec(t, "sleep", fmt.Sprintf("0.%03d", i*137%700))
		w.Kill()
		// Whatever rpm knows of it, the next boot has something to install.
		w.MustExec(t, "sh", "-c", "rpm -e --nodeps --noscripts soe-slow || :")
	}
	w.boot(t)
	w.MustExec(t, "touch", "/run/soe-slow.release")
	w.converged(t, 0)
	if got := d.rpms(t, "soe-slow", "soe-pkg-01", "soe-pkg-02"); got != "soe-slow-1.0 soe-pkg-01-2.0 soe-pkg-02-2.0" {
		t.Errorf("there is %s", got)
	}
	w.MustExec(t, "rpm", "--verifydb")
}
