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

func TestAPCoIPDirectiveIsPendingUntilTheRebootAndTheAgentIsLeftAlone(t *testing.T) {
	d := newDesktop(t)
	before := d.MustReadFile(t, box.PCoIPConf)
	process := d.MustExec(t, "systemctl", "show", "-p", "MainPID", box.PCoIPService)
	o := d.apply(t, clipboardOff)
	o.wants(t, map[policy.ID]converge.State{
		"pcoip/server_clipboard_state":   converge.Pending,
		"pcoip/enable_build_to_lossless": converge.Corrected, // a running agent takes it up
	})
	if r := o.resource("pcoip/server_clipboard_state"); r.Effect != converge.Reboot || !strings.Contains(r.Reason, "rebooted") {
		t.Errorf("it waits for %q: %s", r.Effect, r.Reason)
	}
	if o.Code != 0 {
		t.Errorf("with a pending directive an apply exits %d", o.Code)
	}
	if d.MustExec(t, "systemctl", "show", "-p", "MainPID", box.PCoIPService) != process {
		t.Error("the PCoIP agent was restarted")
	}
	want := strings.Replace(before, "server_clipboard_state = 1", "server_clipboard_state = 0", 1) + "pcoip.enable_build_to_lossless = 1\n"
	if got := d.MustReadFile(t, box.PCoIPConf); got != want {
		t.Errorf("the file is\n%s", got)
	}
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Pending})
	if err := d.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Compliant})
}

func TestAChangeThatTheAgentHasNotStartedForYetIsInEffectAtOnce(t *testing.T) {
	d := newDesktop(t)
	d.MustExec(t, "systemctl", "stop", box.PCoIPService)
	d.apply(t, clipboardOff).wants(t, map[policy.ID]converge.State{"pcoip/server_clipboard_state": converge.Corrected})
	d.MustExec(t, "systemctl", "start", box.PCoIPService)
	d.converged(t)
}

func TestAPCoIPFileThatTheAgentCannotReadIsMended(t *testing.T) {
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
