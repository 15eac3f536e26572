package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestTheTimeZoneIsSetAndKept(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const berlin = "system.timezone = \"Europe/Berlin\"\n"
	d.apply(t, berlin).wants(t, map[policy.ID]converge.State{"system/timezone": converge.Corrected})
	if zone := d.MustExec(t, "date", "--date=2026-01-01 12:00 UTC", "+%Z"); zone != "CET\n" {
		t.Errorf("the clock shows %s", zone)
	}
	if shown := d.MustExec(t, "timedatectl", "show", "--property=Timezone", "--value"); shown != "Europe/Berlin\n" {
		t.Errorf("timedatectl shows %s", shown)
	}
	d.converged(t)
	d.MustExec(t, "timedatectl", "set-timezone", "Asia/Tokyo")
	o := d.apply(t, berlin)
	o.wants(t, map[policy.ID]converge.State{"system/timezone": converge.Corrected})
	if r := o.resource("system/timezone"); r.Cause != converge.Corrective || r.Diff[0].Got != "Asia/Tokyo" {
		t.Error(r.Cause, r.Diff)
	}
	o = d.apply(t, "system.timezone = \"Europe/Atlantis\"\n")
	o.wants(t, map[policy.ID]converge.State{"system/timezone": converge.Failed})
	if o.Code != 2 {
		t.Errorf("apply exits %d", o.Code)
	}
}

func TestSELinuxIsNotTurnedOnWhereItIsOff(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	o := d.apply(t, "system.selinux = \"enforcing\"\n")
	o.wants(t, map[policy.ID]converge.State{"system/selinux": converge.Failed})
	if r := o.resource("system/selinux"); !strings.Contains(r.Reason, "files have no labels") {
		t.Error(r.Reason)
	}
	if !d.fails(t.Context(), "test", "-e", "/etc/selinux/config") {
		t.Error("a configuration of SELinux was made")
	}
}
