package e2e

import (
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/report"
)

// The files that sudo reads may be anywhere: what /etc/sudoers includes, and where links lead.
func TestAGrantInAFileThatSudoReadsFromElsewhereIsTakenBackAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, oneFragment("[sudo]\nallow = [\"root\", \"%domain-admins\"]\n"))
	w.MustExec(t, "sh", "-c", `mkdir -p /opt/more /opt/links && touch /opt/links/linked && chmod 440 /opt/links/linked
ln -s /opt/links/linked /etc/sudoers.d/zzzl && echo '@includedir /opt/more' >>/etc/sudoers`)
	w.until(t, "all is right", func() bool { return w.report(t).Verdict == report.Compliant })
	for _, name := range []string{"/opt/more/x", "/opt/links/linked", "/opt/more/y"} {
		start := time.Now()
		w.MustExec(t, "sh", "-c", "echo 'user ALL=(ALL) NOPASSWD: ALL' >"+name+".new; chmod 440 "+name+".new; mv "+name+".new "+name)
		w.until(t, name+" gives nothing", func() bool { return w.fails(t, "sudo", "-l", "-U", "user", "/usr/bin/id") })
		if took := time.Since(start); took > soon {
			t.Errorf("%s: a grant lived for %s", name, took)
		}
	}
}
