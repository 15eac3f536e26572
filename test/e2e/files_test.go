package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestKeysOfOthersFilesAreInEffectAndGivenBack(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const auditd, useradd, chrony = "/etc/audit/auditd.conf", "/etc/default/useradd", "/etc/chrony/chrony.conf"
	d.MustWriteFile(t, auditd, box.File{Content: "# theirs\nmax_log_file = 8\r\nnum_logs = 5", Mode: 0o640})
	before := d.configuration(t)
	d.apply(t, `
[files."/etc/audit/auditd.conf"]
keys = { max_log_file = 16, space_left_action = "syslog" }
[files."/etc/default/useradd"]
keys = { INACTIVE = 33 }
[files."/etc/chrony/chrony.conf"]
keys = { maxdistance = "3.5" }
[files."/etc/shadow-"]
mode = "at most 0640"
if_exists = true
`).wants(t, map[policy.ID]converge.State{"file" + auditd: converge.Pending, "file" + useradd: converge.Corrected, "file" + chrony: converge.Corrected})
	if got := d.MustExec(t, "chronyd", "-p", "-f", chrony); !strings.Contains(got, "maxdistance 3.5\n") {
		t.Errorf("chronyd says %s", got)
	}
	if got := d.MustExec(t, "useradd", "-D"); !strings.Contains(got, "INACTIVE=33\n") {
		t.Errorf("useradd says %s", got)
	}
	if got := d.MustExec(t, "cat", auditd); got != "# theirs\nmax_log_file = 16\nnum_logs = 5\nspace_left_action = syslog\n" {
		t.Errorf("the file holds %q", got)
	}
	result, err := d.Exec(t.Context(), "soe-agent", "purge", "--yes")
	if err != nil || result.Code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	if after := d.configuration(t); after != before {
		t.Errorf("it is not as it was: %s; and the other way round %s", firstDifference(before, after), firstDifference(after, before))
	}
}
