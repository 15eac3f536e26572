package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// stands is what systemctl says of a unit: whether it is enabled, and whether it runs.
func (d *desktop) stands(t *testing.T, unit string) string {
	t.Helper()
	enabled, _ := d.Exec(t.Context(), "systemctl", "is-enabled", unit)
	active, _ := d.Exec(t.Context(), "systemctl", "is-active", unit)
	return strings.TrimSpace(enabled.Stdout) + " " + strings.TrimSpace(active.Stdout)
}

func (d *desktop) standsAs(t *testing.T, want map[string]string) {
	t.Helper()
	for unit, want := range want {
		if got := d.stands(t, unit); got != want {
			t.Errorf("%s is %s and not %s", unit, got, want)
		}
	}
}

func TestAnAliasStandsForTheUnitThatItIsAnotherNameOf(t *testing.T) {
	t.Parallel()
	files := map[string]box.File{}
	for _, name := range []string{"disabled", "masked", "both", "enabled", "instance@"} {
		files[unitDir+"real-"+name+".service"] = unit(stays, wanted)
	}
	d := newDesktop(t, box.WithFiles(files), box.WithFiles(map[string]box.File{unitDir + "installed.service": unit(stays, wanted+"Alias=by-install.service\n")}))
	for _, name := range []string{"disabled", "masked", "both", "enabled", "instance@"} {
		d.MustExec(t, "ln", "-s", "real-"+name+".service", unitDir+"alias-"+name+".service")
	}
	d.MustExec(t, "ln", "-s", "alias-both.service", unitDir+"alias-of-alias.service")
	d.MustExec(t, "ln", "-s", "dbus.service", unitDir+"messages.service")
	d.MustExec(t, "systemctl", "daemon-reload")
	d.MustExec(t, "systemctl", "--quiet", "enable", "--now", "real-disabled", "real-masked", "real-both", "installed", "real-instance@one")
	d.MustExec(t, "systemctl", "--quiet", "mask", "alias-both.service") // which leaves the real one as it is
	o := d.apply(t, `
[services]
"alias-disabled.service"      = { enabled = false, running = false }
"alias-masked.service"        = { masked = true, running = false }
"alias-of-alias.service"      = { masked = true, running = false }
"alias-enabled.service"       = { enabled = true, running = true }
"alias-instance@one.service"  = { enabled = false, running = false }
"by-install.service"          = { enabled = false, running = false }
"messages.service"            = { enabled = false, running = false, masked = true }
`)
	want := map[policy.ID]converge.State{"service/messages.service": converge.Failed}
	for alias, real := range map[policy.ID]string{
		"service/alias-disabled.service": "real-disabled.service", "service/alias-masked.service": "real-masked.service",
		"service/alias-of-alias.service": "real-both.service", "service/alias-enabled.service": "real-enabled.service",
		"service/alias-instance@one.service": "real-instance@one.service", "service/by-install.service": "installed.service",
	} {
		want[alias] = converge.Corrected
		if r := o.resource(alias); !strings.Contains(r.Reason, "another name of "+real) {
			t.Errorf("of %s the report does not say that it is %s: %q", alias, real, r.Reason)
		}
	}
	o.wants(t, want)
	if r := o.resource("service/messages.service"); !strings.Contains(r.Reason, "nobody could log in without it") {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
	real := map[string]string{
		"real-disabled.service": "disabled inactive", "real-masked.service": "masked inactive", "real-both.service": "masked inactive",
		"real-enabled.service": "enabled active", "real-instance@one.service": "disabled inactive", "installed.service": "disabled inactive",
		"dbus.service": "static active",
	}
	d.standsAs(t, real)
	d.setPolicy(t, `
[services]
"alias-disabled.service" = { enabled = true }
"real-disabled.service"  = { enabled = false }
"alias-masked.service"   = { masked = true }
`)
	o = d.plan(t)
	o.wants(t, map[policy.ID]converge.State{
		"service/alias-disabled.service": converge.Failed, "service/real-disabled.service": converge.Failed, "service/alias-masked.service": converge.Compliant,
	})
	if r := o.resource("service/real-disabled.service"); !strings.Contains(r.Reason, "the contrary as alias-disabled.service") {
		t.Error(r.Reason)
	}
}

func TestATemplateIsEnabledDisabledAndMaskedAndLeavesTheOthersBeTold(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "first@.service":   unit(stays, wanted+"DefaultInstance=one\n"),
		unitDir + "many@.service":    unit(stays, wanted),
		unitDir + "hidden@.service":  unit(stays, wanted),
		unitDir + "shown@.service":   unit(stays, wanted),
		unitDir + "nowhere@.service": unit(stays, wanted),
		unitDir + "other.service":    unit(stays, wanted),
	}))
	d.MustExec(t, "systemctl", "--quiet", "enable", "many@two", "many@three")
	d.MustExec(t, "systemctl", "--quiet", "mask", "shown@.service")
	o := d.apply(t, `
[services]
"first@.service"   = { enabled = true }
"many@.service"    = { enabled = false }
"hidden@.service"  = { masked = true }
"shown@.service"   = { masked = false }
"nowhere@.service" = { enabled = true }
"none@.service"    = { enabled = true }
"gone@.service"    = { enabled = false }
"other.service"    = { enabled = true, running = true }
`)
	o.wants(t, map[policy.ID]converge.State{
		"service/first@.service": converge.Corrected, "service/many@.service": converge.Corrected, "service/hidden@.service": converge.Corrected,
		"service/shown@.service": converge.Corrected, "service/nowhere@.service": converge.Failed, "service/none@.service": converge.Failed,
		"service/gone@.service": converge.Compliant, "service/other.service": converge.Corrected,
	})
	if r := o.resource("service/nowhere@.service"); !strings.Contains(r.Reason, "DefaultInstance=") {
		t.Error(r.Reason)
	}
	d.standsAs(t, map[string]string{
		"first@one.service": "enabled inactive", "many@two.service": "disabled inactive", "many@three.service": "disabled inactive",
		"hidden@x.service": "masked inactive", "shown@x.service": "disabled inactive", "other.service": "enabled active",
	})
	d.setPolicy(t, `
[services]
"first@.service"   = { enabled = true }
"many@.service"    = { enabled = false }
"hidden@.service"  = { masked = true }
`)
	d.converged(t)
}

func TestWhatIsOfThisBootOnlyAndWhatLeadsToNothingIsTakenAway(t *testing.T) {
	t.Parallel()
	files := map[string]box.File{}
	for _, name := range []string{"off", "open", "good", "lost", "hidden", "behind"} {
		files[unitDir+name+".service"] = unit(stays, wanted)
	}
	d := newDesktop(t, box.WithFiles(files))
	d.MustExec(t, "systemctl", "--quiet", "enable", "--runtime", "off", "good")
	d.MustExec(t, "systemctl", "--quiet", "mask", "--runtime", "open", "hidden")
	d.MustExec(t, "systemctl", "--quiet", "enable", "lost", "behind")
	d.MustExec(t, "rm", unitDir+"lost.service")
	d.MustExec(t, "systemctl", "daemon-reload")
	// By hand, so that systemd remembers what was.
	d.MustExec(t, "systemctl", "is-enabled", "behind")
	d.MustExec(t, "systemctl", "show", "-p", "UnitFileState", "behind")
	d.MustExec(t, "rm", "/etc/systemd/system/multi-user.target.wants/behind.service")
	const want = `
[services]
"off.service"    = { enabled = false }
"open.service"   = { masked = false }
"good.service"   = { enabled = true }
"hidden.service" = { masked = true }
"lost.service"   = { enabled = false }
"behind.service" = { enabled = true }
`
	corrected := map[policy.ID]converge.State{}
	for _, name := range []policy.ID{"off", "open", "good", "hidden", "lost", "behind"} {
		corrected["service/"+name+".service"] = converge.Corrected
	}
	d.apply(t, want).wants(t, corrected)
	d.standsAs(t, map[string]string{
		"off.service": "disabled inactive", "open.service": "disabled inactive", "good.service": "enabled inactive", "hidden.service": "masked inactive",
		"behind.service": "enabled inactive",
	})
	d.converged(t)
	d.MustWriteFile(t, unitDir+"lost.service", unit(stays, wanted))
	d.MustExec(t, "systemctl", "daemon-reload")
	d.standsAs(t, map[string]string{"lost.service": "disabled inactive"}) // it came back, and is not enabled
}

func TestAUnitWhoseFileIsWhereTheMaskWouldBeSaysSo(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{"/etc/systemd/system/own.service": unit(stays, wanted)}))
	d.MustExec(t, "systemctl", "--quiet", "enable", "--now", "own.service")
	for _, want := range []string{"masked = true", "masked = true, running = false"} {
		r := d.apply(t, `services."own.service" = { `+want+` }`).resource("service/own.service")
		if r.State != converge.Failed || !strings.Contains(r.Reason, "its file is /etc/systemd/system/own.service, where the mask would have to be") {
			t.Errorf("%s: %s: %s", want, r.State, r.Reason)
		}
	}
}

func TestWhatDiesInItsFirstSecondsIsNotCalledRunning(t *testing.T) {
	t.Parallel()
	dies := func(more string) box.File {
		return unit("ExecStart=/bin/sh -c 'sleep 0.7; echo dead; exit 3'\n"+more, wanted)
	}
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "dying.service":    dies(""),
		unitDir + "clean.service":    unit("ExecStart=/bin/sleep 0.7", wanted),
		unitDir + "again.service":    dies("Restart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0"),
		unitDir + "lives.service":    unit(stays, wanted),
		unitDir + "starting.service": unit("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0.2", wanted),
	}))
	const want = `
[services]
"dying.service"    = { running = true }
"clean.service"    = { running = true }
"again.service"    = { running = true }
"lives.service"    = { running = true }
"starting.service" = { running = true }
`
	o := d.apply(t, want)
	o.wants(t, map[policy.ID]converge.State{
		"service/dying.service": converge.Failed, "service/clean.service": converge.Failed, "service/again.service": converge.Failed,
		"service/lives.service": converge.Corrected, "service/starting.service": converge.Corrected,
	})
	for name, word := range map[policy.ID]string{
		"service/dying.service": "status=3", "service/clean.service": "it ended within 3s of its start", "service/again.service": "again and again",
	} {
		if r := o.resource(name); !strings.Contains(r.Reason, word) {
			t.Errorf("%s: %s", name, r.Reason)
		}
	}
	if r := d.plan(t).resource("service/again.service"); r.State != converge.Drifted {
		t.Errorf("what is started again and again is %s: %s", r.State, r.Reason)
	}
}

func TestAStartLimitIsLiftedOnceWhatItWasHitForHasChanged(t *testing.T) {
	t.Parallel()
	limit := "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "picky.service": unit("Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/grep -q right /etc/picky.d/a.conf\n"+limit, wanted),
	}))
	_, _ = d.Exec(t.Context(), "bash", "-c", "for i in 1 2 3 4; do systemctl start picky; done")
	const service = "services.\"picky.service\" = { running = true }\n"
	o := d.apply(t, service)
	if r := o.resource("service/picky.service"); r.State != converge.Failed || !strings.Contains(r.Reason, "does not start it any more, for it was started and failed too often") {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
	o = d.apply(t, service+"[dropins.\"/etc/picky.d/a.conf\"]\ncontent = \"right\\n\"\nactivate = []\n")
	o.wants(t, map[policy.ID]converge.State{"service/picky.service": converge.Corrected, "dropin/etc/picky.d/a.conf": converge.Corrected})
	if r := o.resource("service/picky.service"); !strings.Contains(r.Reason, "/etc/picky.d/a.conf has changed") {
		t.Errorf("nothing is said of the limit: %q", r.Reason)
	}
	d.standsAs(t, map[string]string{"picky.service": "disabled active"})
}
