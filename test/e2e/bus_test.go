package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// onTheBus has what a watch tells of (a drop-in), and what only a walk finds out (a check).
const onTheBus = "schema = 1\n" + onlyDomainAdmins + `
[dropins."/etc/sysctl.d/60-soe.conf"]
content = "kernel.dmesg_restrict = 1\n"
[checks.flag]
run = ["/usr/bin/test", "-e", "/root/flag"]
`

const onFlag = "check/flag"

// asks calls a method of the agent's with busctl(1).
func (w *workspace) asks(t *testing.T, user string, args ...string) box.Result {
	t.Helper()
	command := append([]string{"busctl", "--json=short", "call", bus.Name, string(bus.Path), bus.Interface}, args...)
	result, err := w.ExecAs(t.Context(), user, command...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// documentFrom is what a method returned as its only string.
func documentFrom(t *testing.T, r box.Result, into any) {
	t.Helper()
	var reply struct{ Data []string }
	err := json.Unmarshal([]byte(r.Stdout), &reply)
	if err == nil && len(reply.Data) == 1 {
		err = json.Unmarshal([]byte(reply.Data[0]), into)
	}
	if err != nil || len(reply.Data) != 1 {
		t.Fatalf("%v: %s %s", err, r.Stdout, r.Stderr)
	}
}

// flag puts the file there that the check wants, or takes it away, which nobody notices.
func (w *workspace) flag(t *testing.T, there bool) {
	t.Helper()
	if there {
		w.MustExec(t, "touch", "/root/flag")
	} else {
		w.MustExec(t, "rm", "-f", "/root/flag")
	}
}

func TestOverTheBusEverybodyMayReadAndOnlySomeMayDo(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, withTool(t, "flood"), withTool(t, "forge"))
	w.publishOnly(t, 1, map[string]string{"10-base": onTheBus})
	w.MustWriteFile(t, "/root/flag", box.File{})
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	for _, part := range []struct {
		name string
		do   func(*testing.T, *workspace)
	}{
		{"what it offers is what is described", offersWhatIsDescribed},
		{"the desktop user reads", userReads},
		{"the desktop user does nothing", userDoesNothing},
		{"root has it walk", rootApplies},
		{"an administrator by policy", administratorApplies},
		{"the command line asks the daemon", commandLineAsks},
		{"status --watch tells of changes", watchTells},
		{"a flood neither fills nor hinders it", floodIsBorne},
	} {
		t.Run(part.name, func(t *testing.T) { part.do(t, w) })
	}
}

func offersWhatIsDescribed(t *testing.T, w *workspace) {
	described := w.MustExecAs(t, box.DesktopUser, "busctl", "introspect", "--xml-interface", bus.Name, string(bus.Path))
	if strings.TrimSpace(described) != strings.TrimSpace(bus.Interfaces) {
		t.Errorf("it describes itself as %s", described)
	}
	if tree := w.MustExecAs(t, box.DesktopUser, "busctl", "--list", "tree", bus.Name); !strings.Contains(tree, string(bus.Path)) {
		t.Errorf("its objects are %s", tree)
	}
}

func userReads(t *testing.T, w *workspace) {
	var status agent.Status
	documentFrom(t, w.asks(t, box.DesktopUser, "Status"), &status)
	if status.Serial != 1 || !status.Compliant {
		t.Errorf("the status is %+v", status)
	}
	var r report.Report
	documentFrom(t, w.asks(t, box.DesktopUser, "Report"), &r)
	if len(r.Resources) < 3 || r.Policy.Serial != 1 {
		t.Errorf("the report is %+v", r)
	}
	phase := w.MustExecAs(t, box.DesktopUser, "busctl", "get-property", bus.Name, string(bus.Path), bus.Interface, "Phase")
	if phase != "s \"keeping\"\n" {
		t.Errorf("the phase is %s", phase)
	}
}

func userDoesNothing(t *testing.T, w *workspace) {
	w.flag(t, false)
	defer w.flag(t, true)
	for _, c := range []struct{ want, call string }{
		{"cannot apply:", "Apply as 0"},
		{"cannot reload:", "Reload"},
		{"cannot carry out pending:", "CarryOutPending"},
		{"cannot set debug:", "SetDebug b true"},
		{`cannot apply "sodu"`, "Apply as 1 sodu"},
		{"its arguments are", "Apply s sudo"},
		{"has no such method", "Destroy"},
	} {
		if r := w.asks(t, box.DesktopUser, strings.Fields(c.call)...); r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s ends with %d: %s", c.call, r.Code, r.Stderr)
		}
	}
	r, err := w.ExecAs(t.Context(), box.DesktopUser, "busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
		"org.freedesktop.DBus", "RequestName", "su", bus.Name, "2")
	if err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "Access denied") {
		t.Errorf("the desktop user asks for the name: %v, %d: %s", err, r.Code, r.Stderr)
	}
	if got := w.report(t).resource(onFlag); got.State != converge.Compliant {
		t.Errorf("the check was walked: %s", got.State)
	}
}

func rootApplies(t *testing.T, w *workspace) {
	w.flag(t, false)
	if r := w.asks(t, "root", "Apply", "as", "1", "check"); r.Code != 0 {
		t.Error(r.Stderr)
	}
	if got := w.report(t).resource(onFlag); got.State != converge.Failed {
		t.Errorf("the check was not walked: %s", got.State)
	}
	w.flag(t, true)
	if r := w.asks(t, "root", "Apply", "as", "0"); r.Code != 0 {
		t.Error(r.Stderr)
	}
	if got := w.report(t).resource(onFlag); got.State != converge.Compliant {
		t.Errorf("the check was not walked: %s", got.State)
	}
	for _, on := range []string{"true", "false"} {
		if r := w.asks(t, "root", "SetDebug", "b", on); r.Code != 0 {
			t.Error(r.Stderr)
		}
	}
}

// administratorApplies shows both ways: with the password of an administrator, whom
// [sudo] has made one of polkit's, and by a rule of the site's own.
func administratorApplies(t *testing.T, w *workspace) {
	w.flag(t, false)
	w.MustWriteFile(t, "/usr/bin/with-agent", box.File{Mode: 0o755, Content: `#!/bin/sh
mkfifo /tmp/registered
pkttyagent --process $$ --notify-fd 5 5>/tmp/registered &
read -r nothing </tmp/registered
exec "$@"
`})
	said := w.MustExec(t, "sh", "-c", fmt.Sprintf(
		`said() { for i in $(seq 3000); do ! grep -qs "$1" /tmp/said || break; sleep 0.02; done; }
{ said 'Choose identity'; grep -o '[0-9]*\.  *%[1]s' /tmp/said | cut -d. -f1; said Password:; echo '%[2]s'; said COMPLETE; } |
runuser -u %[1]s -- script -qefc 'with-agent soe-agent apply --only check' /tmp/said 2>&1 || :`,
		box.DomainAdmin, box.UserPassword))
	if got := w.report(t).resource(onFlag); got.State != converge.Failed {
		t.Errorf("the administrator gave the password, and the check was not walked: %s\n%s", got.State, said)
	}
	w.MustWriteFile(t, "/root/30-site.rules", box.File{Content: `polkit.addRule(function(action, subject) {
    if (action.id == "org.soeagent.agent1.apply" && subject.isInGroup("domain-admins")) return polkit.Result.YES;
});
`})
	w.flag(t, true)
	w.until(t, "polkit has read the rule", func() bool {
		// polkit 122 now and then misses the change of a file, so it is put there again each time.
		w.MustExec(t, "sh", "-c", "cp /root/30-site.rules /root/30 && mv /root/30 /etc/polkit-1/rules.d/30-site.rules")
		return w.asks(t, box.DomainAdmin, "Apply", "as", "0").Code == 0
	})
	if got := w.report(t).resource(onFlag); got.State != converge.Compliant {
		t.Errorf("the check was not walked: %s", got.State)
	}
	if r := w.asks(t, box.DomainAdmin, "Reload"); r.Code == 0 {
		t.Error("the rule for one action allows another")
	}
}

func commandLineAsks(t *testing.T, w *workspace) {
	w.flag(t, false)
	r, err := w.Exec(t.Context(), "soe-agent", "apply", "--only", "check")
	if err != nil || r.Code != 2 || !strings.Contains(r.Stdout, onFlag) {
		t.Errorf("apply: %v, %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	if got := w.report(t).resource(onFlag); got.State != converge.Failed {
		t.Errorf("it was not the daemon who did it: %s", got.State)
	}
	w.flag(t, true)
	w.MustExec(t, "soe-agent", "apply")
	r, err = w.Exec(t.Context(), "soe-agent", "apply", "--policy", "/usr/share/soe-agent/policy.d")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "stop it first") {
		t.Errorf("with a policy of one's own: %v, %d: %s", err, r.Code, r.Stderr)
	}
	r, err = w.ExecAs(t.Context(), box.DesktopUser, "soe-agent", "apply")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "try again with sudo") {
		t.Errorf("as the desktop user: %v, %d: %s", err, r.Code, r.Stderr)
	}
	if said := w.MustExecAs(t, box.DesktopUser, "soe-agent", "status"); !strings.Contains(said, "serial 1") {
		t.Errorf("the desktop user sees %s", said)
	}
}

func watchTells(t *testing.T, w *workspace) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := w.Command(ctx, "runuser", "-u", box.DesktopUser, "--", "sh", "-c", "echo $$ > /tmp/watch.pid; exec soe-agent status --watch")
	documents := w.Command(ctx, "soe-agent", "status", "--watch", "--json")
	var said, told lockedBuffer
	lines.Stdout, documents.Stdout = &said, &told
	if err := lines.Start(); err != nil {
		t.Fatal(err)
	}
	if err := documents.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(t, "both say where the machine stands", func() bool {
		return strings.Contains(said.String(), "keeping; compliant") && strings.Contains(told.String(), `"compliant":true`)
	})
	w.flag(t, false)
	w.MustExec(t, "sh", "-c", "soe-agent apply >/dev/null || :")
	w.until(t, "both say that it is not compliant", func() bool {
		return strings.Contains(said.String(), "not compliant; 1 failed") && strings.Contains(told.String(), `"compliant":false`)
	})
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	w.until(t, "both say that the daemon has gone", func() bool {
		return strings.Contains(said.String(), "not running") && strings.Contains(told.String(), "not running")
	})
	w.flag(t, true)
	w.MustExec(t, "systemctl", "start", "soe-agent")
	w.until(t, "it is compliant again", func() bool {
		all := said.String()
		return strings.Contains(all[strings.LastIndex(all, "not running"):], "keeping; compliant")
	})
	for line := range strings.Lines(told.String()) {
		var status agent.Status
		if err := json.Unmarshal([]byte(line), &status); strings.HasSuffix(line, "\n") && err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	w.MustExec(t, "sh", "-c", "kill -INT $(cat /tmp/watch.pid)")
	if err := lines.Wait(); err != nil {
		t.Errorf("interrupted, it ends with %v", err)
	}
	cancel()
	documents.Wait()
	w.converged(t, 1)
}

// lockedBuffer is written to by a command and read meanwhile.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// kept is what the daemon keeps: kilobytes of memory, and descriptors.
func (w *workspace) kept(t *testing.T) (rss, descriptors int) {
	t.Helper()
	said := strings.Fields(w.MustExec(t, "sh", "-c", `pid=$(systemctl show --value -p MainPID soe-agent)
awk '/^VmRSS/ { print $2 }' /proc/$pid/status; ls /proc/$pid/fd | wc -l`))
	rss, err := strconv.Atoi(said[0])
	if err == nil {
		descriptors, err = strconv.Atoi(said[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	return rss, descriptors
}

func floodIsBorne(t *testing.T, w *workspace) {
	const file = "/etc/sysctl.d/60-soe.conf"
	rss, descriptors := w.kept(t)
	most := rss
	begun, cpu := time.Now(), w.cpu(t)
	asUser(t, w.Box, "forger", "/bin/sh", "-c", "forge 0 /org/freedesktop/systemd1/unit/soe_2dagent_2eservice >/tmp/forged 2>&1")
	forged := func() int { return strings.Count(w.MustExec(t, "sh", "-c", "cat /tmp/forged || true"), "round") }
	w.until(t, "every signal is forged", func() bool { return forged() > 0 })
	flooding := make(chan error, 1)
	go func() {
		out, err := w.Exec(context.WithoutCancel(t.Context()), "runuser", "-u", box.DesktopUser, "--",
			"sh", "-c", "for n in 60 60 60 4; do flood 5000 $n & pids=\"$pids $!\"; done; for p in $pids; do wait $p || exit 1; done")
		if err == nil && (out.Code != 0 || strings.Count(out.Stdout, "answered:") != 4) {
			err = fmt.Errorf("exit code %d: %s%s", out.Code, out.Stdout, out.Stderr)
		}
		t.Log(out.Stdout)
		flooding <- err
	}()
	mended, taken := 0, 0
	for under := true; under; {
		select {
		case err := <-flooding:
			under = false
			if err != nil {
				t.Error(err)
			}
		default:
			if mended < 2 { // one more is a fight
				w.MustWriteFile(t, file, box.File{Content: "kernel.dmesg_restrict = 0\n"})
				w.until(t, "the drift is mended in the flood", func() bool { return strings.Contains(w.MustReadFile(t, file), "= 1") })
				mended++
			}
			w.strayIsMended(t)
			w.MustExec(t, "rm", "-f", stray)
			taken++
			now, _ := w.kept(t)
			most = max(most, now)
		}
	}
	rounds := forged()
	w.MustExec(t, "systemctl", "stop", "forger")
	_, after := w.kept(t)
	share := float64(w.cpu(t)-cpu) / float64(time.Since(begun))
	t.Logf("%d drifts mended and %d grants taken back, beside %d rounds of forged signals; %d KiB before, %d KiB at most; %d descriptors before, %d after; %.2f of a core",
		mended, taken, rounds, rss, most, descriptors, after, share)
	if most-rss >= 10<<10 || after > descriptors+5 || mended == 0 || taken == 0 || rounds < 2 || share > 1 {
		t.Error("the flood is felt")
	}
	if r := w.asks(t, "root", "Apply", "as", "0"); r.Code != 0 {
		t.Errorf("after the flood root asks in vain: %s", r.Stderr)
	}
}
