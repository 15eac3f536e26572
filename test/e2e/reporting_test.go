package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

const outboxFile = "/var/lib/soe-agent/compliance.json"

func TestAWSHearsOfEveryChangeAndOfNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	const audited = "/etc/modprobe.d/soe-audited.conf"
	w.MustWriteFile(t, audited, box.File{Content: "# soe\n"})
	w.publish(t, 1, map[string]string{
		"10-base": fmt.Sprintf("schema = 1\n[dropins.%q]\ncontent = \"# soe\\n\"\n[[rules]]\nmatch = [\"dropin%s\"]\nmode = \"audit\"\n", audited, audited),
	})
	// Without polkit, whose answers take a quarter of a minute now and then: that would be news.
	w.MustExec(t, "sh", "-c", "rm -rf /etc/polkit-1 /usr/share/polkit-1/rules.d /usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service; find / -xdev -name polkit.service -delete")
	w.aws.Deny("ssm:PutInventory")
	w.boot(t)
	reports := func() awsfake.Calls { return w.aws.Calls("PutComplianceItems") }
	// looks waits until the daemon has looked for policy some times more: what it has to
	// tell, it has told by then.
	looks := func() {
		t.Helper()
		const enough = 6
		before := w.aws.Calls("GetParameters").Answered
		w.until(t, "the daemon has looked for policy", func() bool { return w.aws.Calls("GetParameters").Answered >= before+enough })
	}
	restart := func() {
		t.Helper()
		w.MustExec(t, "systemctl", "restart", "soe-agent")
	}

	w.until(t, "the status says that the machine is no managed node", func() bool {
		s, _ := w.status(t)
		return strings.Contains(s.ReportError, "not a managed node") && s.LastReport.IsZero()
	})
	w.activate(t)
	w.converged(t, 1)
	w.wantsDelivered(t)
	w.until(t, "the status says that the line is denied", func() bool {
		s, _ := w.status(t)
		return strings.HasPrefix(s.LineError, "denied: ssm:PutInventory") && s.ReportError == "" && !s.LastReport.IsZero()
	})
	w.aws.Heal()
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	w.until(t, "the line has arrived", func() bool {
		line, _ := w.aws.Inventory(nodeID, report.ComplianceType)
		s, _ := w.status(t)
		return len(line.Content) == 1 && line.Content[0]["PolicySerial"] == "1" && line.Content[0]["Compliant"] == "true" && s.LineError == ""
	})

	restart() // nothing is corrected any more
	w.converged(t, 1)
	w.wantsDelivered(t)
	looks()
	before := reports()
	restart()
	w.converged(t, 1)
	looks()
	if after := reports(); after != before {
		t.Errorf("what AWS knew was told again: %+v, then %+v", before, after)
	}

	w.aws.Down()
	w.MustWriteFile(t, audited, box.File{Content: "# not soe\n"})
	w.until(t, "the report waits on disk", func() bool {
		waiting := w.MustReadFile(t, outboxFile)
		return strings.Contains(waiting, `"waiting"`) && strings.Contains(waiting, "# not soe")
	})
	if got := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%a %U", outboxFile)); got != "600 root" {
		t.Errorf("%s is %s", outboxFile, got)
	}
	restart()
	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	w.wantsDelivered(t)
	w.until(t, "nothing waits", func() bool { return !strings.Contains(w.MustReadFile(t, outboxFile), `"waiting"`) })
}
