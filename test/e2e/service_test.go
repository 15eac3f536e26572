package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// unit is a service's file.
func unit(service, install string) box.File {
	return box.File{Content: "[Service]\n" + service + "\n" + install}
}

const (
	stays   = "ExecStart=/bin/sleep infinity"
	wanted  = "[Install]\nWantedBy=multi-user.target\n"
	unitDir = "/usr/lib/systemd/system/"
)

func TestServicesAreEnabledStartedStoppedAndMasked(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "on.service":       unit(stays, wanted),
		unitDir + "off.service":      unit(stays, wanted),
		unitDir + "hidden.service":   unit(stays, wanted),
		unitDir + "unmasked.service": unit(stays, wanted),
		unitDir + "static.service":   unit(stays, ""),
		unitDir + "broken.service":   unit("ExecStart=/bin/false\nType=oneshot", wanted),
		unitDir + "short.service":    unit("ExecStart=/bin/true\nType=oneshot", wanted),
		unitDir + "unmet.service":    unit(stays, "[Unit]\nConditionPathExists=/nowhere\n"+wanted),
	}))
	d.MustExec(t, "systemctl", "--quiet", "enable", "--now", "off.service", "hidden.service")
	d.MustExec(t, "systemctl", "--quiet", "mask", "unmasked.service")
	d.MustWriteFile(t, "/opt/elsewhere.service", unit(stays, ""))
	d.MustExec(t, "systemctl", "--quiet", "link", "/opt/elsewhere.service")
	d.MustExec(t, "systemd-run", "--quiet", "--unit=transient.service", "sleep", "infinity")
	o := d.apply(t, `
[services]
"on.service"       = { enabled = true, running = true }
"off.service"      = { enabled = false, running = false }
"hidden.service"   = { masked = true, running = false }
"unmasked.service" = { enabled = true, running = true }
"static.service"   = { enabled = true }
"broken.service"   = { running = true }
"short.service"    = { running = true }
"unmet.service"    = { running = true }
"none.service"     = { enabled = true }
"transient.service" = { enabled = true }
"elsewhere.service" = { enabled = true }
`)
	o.wants(t, map[policy.ID]converge.State{
		"service/on.service": converge.Corrected, "service/off.service": converge.Corrected,
		"service/hidden.service": converge.Corrected, "service/unmasked.service": converge.Corrected,
		"service/static.service": converge.Failed, "service/broken.service": converge.Failed,
		"service/short.service": converge.Failed, "service/none.service": converge.Failed,
		"service/transient.service": converge.Failed, "service/elsewhere.service": converge.Failed,
	})
	for name, reason := range map[policy.ID]string{
		"service/static.service": "it is static", "service/broken.service": "code=exited, status=1/FAILURE",
		"service/short.service": "does its work and ends", "service/unmet.service": "a condition of its file does not hold", "service/none.service": "there is no such unit",
		"service/transient.service": "it is transient", "service/elsewhere.service": "it is linked",
	} {
		if r := o.resource(name); !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: %s", name, r.Reason)
		}
	}
	for name, want := range map[string]string{
		"on.service": "enabled active", "off.service": "disabled inactive",
		"hidden.service": "masked inactive", "unmasked.service": "enabled active",
	} {
		enabled, _ := d.Exec(t.Context(), "systemctl", "is-enabled", name)
		active, _ := d.Exec(t.Context(), "systemctl", "is-active", name)
		if got := strings.TrimSpace(enabled.Stdout) + " " + strings.TrimSpace(active.Stdout); got != want {
			t.Errorf("%s is %s and not %s", name, got, want)
		}
	}
	d.MustExec(t, "systemctl", "stop", "on.service")
	o = d.apply(t, `services."on.service" = { enabled = true, running = true }`)
	o.wants(t, map[policy.ID]converge.State{"service/on.service": converge.Corrected})
	if r := o.resource("service/on.service"); r.Cause != converge.Corrective {
		t.Errorf("the drift of a service that somebody stopped is %s", r.Cause)
	}
	d.converged(t)
}

func TestAUnitFileThatSystemdHasNotReadYetIsFound(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "systemctl", "show", "late.service") // systemd remembers that it is not there
	d.MustWriteFile(t, unitDir+"late.service", unit(stays, wanted))
	d.apply(t, `services."late.service" = { enabled = true, running = true }`).
		wants(t, map[policy.ID]converge.State{"service/late.service": converge.Corrected})
	d.converged(t)
}

func TestWhatWouldEndALiveSessionWaitsForIt(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{unitDir + "accounts-daemon.service": unit(stays, wanted)}))
	d.MustExec(t, "systemctl", "--quiet", "enable", "--now", "accounts-daemon.service")
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	const off = `services."accounts-daemon.service" = { running = false, enabled = false }`
	o := d.apply(t, off)
	o.wants(t, map[policy.ID]converge.State{"service/accounts-daemon.service": converge.Pending})
	if r := o.resource("service/accounts-daemon.service"); r.Effect != converge.NextSession || !strings.Contains(r.Reason, "user is logged in") {
		t.Error(r.Effect, r.Reason)
	}
	if d.fails(t.Context(), "systemctl", "is-active", "accounts-daemon.service") {
		t.Error("it was stopped while somebody was logged in")
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, off).wants(t, map[policy.ID]converge.State{"service/accounts-daemon.service": converge.Corrected})
	d.converged(t)
}

func TestAStopThatSomebodyHasAskedForEndsBeforeTheUnitIsStartedAgain(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "slow.service": unit(stays+"\nExecStartPre=/bin/sh -c 'echo start >>/root/slow'\n"+
			"ExecStop=/bin/sh -c 'echo stopping >>/root/slow; sleep 2; echo stopped >>/root/slow'", wanted),
		"/etc/soe-agent/policy.d/50-slow.toml": {Content: "schema = 1\nservices.\"slow.service\" = { running = true }\n"},
	}))
	d.MustExec(t, "systemd-run", "--quiet", "--unit=agent-under-test", "soe-agent", "run")
	eventually := func(what, lines string) {
		t.Helper()
		const patience = 3 * soon
		var got string
		for start := time.Now(); time.Since(start) < patience; time.Sleep(10 * time.Millisecond) {
			content, _ := d.ReadFile("/root/slow")
			if got = strings.Join(strings.Fields(content), " "); got == lines {
				return
			}
		}
		journal, _ := d.Exec(t.Context(), "journalctl", "--no-pager", "-u", "agent-under-test", "-u", "slow")
		t.Fatalf("%s, %q, is not so after %s: %q\n%s", what, lines, patience, got, journal.Stdout)
	}
	eventually("the daemon starts it", "start")
	d.MustExec(t, "systemctl", "start", "slow.service") // which waits until it is up
	if out, err := d.Exec(t.Context(), "systemctl", "stop", "slow.service"); err != nil || out.Code != 0 {
		t.Errorf("the stop failed: %+v, %v", out, err)
	}
	eventually("the stop runs to its end, and then it is started again", "start stopping stopped start")
	d.MustExec(t, "systemctl", "start", "slow.service")
	d.MustExec(t, "systemctl", "stop", "--no-block", "slow.service")
	eventually("it is stopping", "start stopping stopped start stopping")
	if r := d.command(t, "apply").resource("service/slow.service"); r.State == converge.Failed {
		t.Errorf("meanwhile it is %s: %s", r.State, r.Reason)
	}
	eventually("it is started again after that", "start stopping stopped start stopping stopped start")
}
