package e2e

import (
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestChecksAreReportedAndNothingElse(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const checks = `
[checks]
root-is-root = { run = ["/usr/bin/id", "-u"], stdout = "^0$" }
as-the-user  = { run = ["/usr/bin/id", "-un"], user = "user", stdout = "^user$" }
writes       = { run = ["/bin/sh", "-c", "touch /etc/written /tmp/written /run/written /home/user/written 2>&1; exit 0"], stdout = "(Read-only file system[^$]*){4}" }
home-is-disk = { run = ["/usr/bin/findmnt", "-no", "SOURCE", "/home"], stdout = "^/dev/mapper/" }
`
	o := d.apply(t, checks)
	o.wants(t, map[policy.ID]converge.State{
		"check/root-is-root": converge.Compliant, "check/as-the-user": converge.Compliant, "check/writes": converge.Compliant,
		"check/home-is-disk": converge.Failed,
	})
	for _, dir := range []string{"/etc", "/tmp", "/run", "/home/user"} {
		if !d.fails(t.Context(), "test", "-e", dir+"/written") {
			t.Errorf("a check has written to %s", dir)
		}
	}
	if o.Code != 2 {
		t.Errorf("apply exits %d", o.Code)
	}
	if o := d.plan(t); o.Code != 2 {
		t.Errorf("plan exits %d", o.Code)
	}
	d.apply(t, checks+`
[[rules]]
match  = ["check/home-is-disk"]
mode   = "audit"
until  = 2999-12-31
reason = "TICKET-1"
`).wants(t, map[policy.ID]converge.State{"check/home-is-disk": converge.Waived})
	d.converged(t)
}
