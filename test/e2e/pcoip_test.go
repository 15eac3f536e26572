package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const clipboardOff = `
[pcoip]
server_clipboard_state = 0
enable_build_to_lossless = 1
`

// killer stands for the agent as AWS describes it: to restart it ends the
// connection and the window manager, and with them what is open on the desktop.
var killer = box.WithFiles(map[string]box.File{unitDir + box.PCoIPService: unit(
	stays+"\nExecStopPost=/bin/sh -c 'loginctl terminate-user "+box.DesktopUser+" || true'", wanted)})

func (d *desktop) agentProcess(t *testing.T) string {
	t.Helper()
	return d.MustExec(t, "systemctl", "show", "-p", "MainPID", box.PCoIPService)
}

func TestAPCoIPDirectiveWaitsForTheLogoutAndThenTheAgentIsRestarted(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, killer)
	before := d.MustReadFile(t, box.PCoIPConf)
	process := d.agentProcess(t)
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	for _, immediate := range []converge.State{converge.Corrected, converge.Compliant} {
		o := d.apply(t, clipboardOff)
		o.wants(t, map[policy.ID]converge.State{
			"pcoip/server_clipboard_state":   converge.Pending,
			"pcoip/enable_build_to_lossless": immediate, // a running agent takes it up
		})
		if r := o.resource("pcoip/server_clipboard_state"); r.Effect != converge.NextSession || !strings.Contains(r.Reason, "user is logged in") {
			t.Errorf("it waits for %q: %s", r.Effect, r.Reason)
		}
		if o.Code != 0 {
			t.Errorf("with a pending directive an apply exits %d", o.Code)
		}
	}
	if d.agentProcess(t) != process || d.fails(t.Context(), "loginctl", "session-status", session.ID) {
		t.Error("the PCoIP agent was restarted while somebody was logged in")
	}
	want := strings.Replace(before, "server_clipboard_state = 1", "server_clipboard_state = 0", 1) + "pcoip.enable_build_to_lossless = 1\n"
	if got := d.MustReadFile(t, box.PCoIPConf); got != want {
		t.Errorf("the file is\n%s", got)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := d.plan(t).resource("pcoip/server_clipboard_state"); r.State != converge.Drifted || r.Diff[0].Aspect != "effect" {
		t.Errorf("a plan then says %s %v", r.State, r.Diff)
	}
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Corrected})
	if d.agentProcess(t) == process {
		t.Error("the PCoIP agent has not read it")
	}
	d.converged(t)

	// A directive that nobody wants any more becomes what it was; the reboot ends the wait.
	if _, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11"); err != nil {
		t.Fatal(err)
	}
	d.apply(t, "[pcoip]\nenable_build_to_lossless = 1\n").wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Pending})
	if got := d.MustReadFile(t, box.PCoIPConf); got != before+"pcoip.enable_build_to_lossless = 1\n" {
		t.Errorf("the file is\n%s", got)
	}
	if err := d.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, "[pcoip]\nenable_build_to_lossless = 1\n")
	d.converged(t)
}

func TestTheDaemonRestartsTheAgentRightAfterTheLogout(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, killer, box.WithFiles(map[string]box.File{"/etc/soe-agent/policy.d/50-pcoip.toml": {Content: "schema = 1\n" + clipboardOff}}))
	process := d.agentProcess(t)
	session, err := d.Login(t.Context(), box.DesktopUser) // of a type that PAM was not told
	if err != nil {
		t.Fatal(err)
	}
	d.MustExec(t, "systemd-run", "--quiet", "--unit=agent-under-test", "soe-agent", "run")
	// says waits, at most ten seconds, until the report says of the clipboard that it is in one of some states.
	says := func(states string) {
		t.Helper()
		d.MustExec(t, "sh", "-c", `for i in $(seq 500); do
  soe-agent report --json 2>/dev/null | tr -d ' \n' | grep -Eq '"id":"pcoip/server_clipboard_state","state":"('"$1"')"' && exit 0
  sleep 0.02
done; soe-agent report; exit 1`, "sh", states)
	}
	says("pending")
	if d.agentProcess(t) != process || d.fails(t.Context(), "loginctl", "session-status", session.ID) {
		t.Error("the PCoIP agent was restarted while somebody was logged in")
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	says("corrected|compliant")
	if d.agentProcess(t) == process {
		t.Error("the PCoIP agent has not read it")
	}
}

func TestAChangeThatTheAgentHasNotStartedForYetIsInEffectAtOnce(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "systemctl", "stop", box.PCoIPService)
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Corrected})
	d.MustExec(t, "systemctl", "start", box.PCoIPService)
	d.converged(t)
}

// Of a unit that was started too often systemd stops what runs, and does not start it: no value is to blame.
func TestAnAgentThatIsRestartedOftenRunsAndNoDirectiveIsBlamed(t *testing.T) {
	t.Parallel()
	const limit = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"
	d := newDesktop(t, box.WithFiles(map[string]box.File{unitDir + box.PCoIPService: unit(stays, limit+wanted)}))
	for _, state := range []string{"2", "3", "0"} {
		o := d.apply(t, "[pcoip]\nserver_clipboard_state = "+state+"\n")
		o.wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Corrected})
		if d.fails(t.Context(), "systemctl", "is-active", box.PCoIPService) {
			t.Fatal("nobody can connect any more")
		}
	}
	// So it is with whatever runs on a file of the policy.
	for _, state := range []string{"1", "2", "3"} {
		d.apply(t, "[dropins.\"/etc/systemd/system/"+box.PCoIPService+".d/10-soe.conf\"]\ncontent = \"[Service]\\nNice="+state+"\\n\"\n")
		if d.fails(t.Context(), "systemctl", "is-active", box.PCoIPService) {
			t.Fatal("nobody can connect any more")
		}
	}
}

func TestAPCoIPFileThatTheAgentCannotReadIsMended(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "systemctl", "stop", box.PCoIPService)
	d.apply(t, clipboardOff)
	d.MustExec(t, "chmod", "600", box.PCoIPConf)
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Corrected})
	if got := d.MustExec(t, "stat", "-c", "%a %U:%G", box.PCoIPConf); got != "644 root:root\n" {
		t.Errorf("the file is %s", got)
	}
}

func TestWithoutAPCoIPAgentADirectiveIsNotCalledCompliant(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "rm", "-r", "/etc/pcoip-agent")
	o := d.apply(t, clipboardOff)
	o.wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Failed})
	if reason := o.resource("pcoip/server_clipboard_state").Reason; !strings.Contains(reason, "not installed") {
		t.Errorf("the reason is %q", reason)
	}
	if !d.fails(t.Context(), "test", "-e", "/etc/pcoip-agent") {
		t.Error("its directory was made")
	}
}

func TestAnAgentThatDoesNotStartWithADirectiveIsStartedWithoutIt(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"10ms", "1min"} { // systemd gives up soon, or goes on for ever
		d := newDesktop(t, box.WithFiles(map[string]box.File{unitDir + box.PCoIPService: unit(
			"ExecStart=/bin/sh -c '! grep -q state.=.0 "+box.PCoIPConf+" || exit 1; exec sleep infinity'\nRestart=on-failure\nRestartSec="+again, wanted)}))
		before := d.MustReadFile(t, box.PCoIPConf)
		for range 2 {
			o := d.apply(t, clipboardOff)
			o.wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Failed})
			if r := o.resource("pcoip/server_clipboard_state"); !strings.Contains(r.Reason, "it was put back to what it was before (pcoip.server_clipboard_state = 1)") {
				t.Errorf("the reason is %q", r.Reason)
			}
			if got := d.MustReadFile(t, box.PCoIPConf); got != before+"pcoip.enable_build_to_lossless = 1\n" {
				t.Errorf("the file is\n%s", got)
			}
			if d.fails(t.Context(), "systemctl", "is-active", box.PCoIPService) {
				t.Error("nobody can connect any more")
			}
		}
	}
}
