package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// What a daemon found that does not run any more is nobody's word of how the machine is now,
// however it has ended, and whoever asks.
func TestWithoutADaemonNoReportCallsTheMachineCompliantAndEachSaysWhy(t *testing.T) {
	t.Parallel()
	w := alone(t, onlyDomainAdmins)
	w.boot(t)
	w.until(t, "the machine is compliant", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
	for _, gone := range []struct {
		how, ends, begins string
		rewritten         bool // the files too, for whoever reads them and asks nobody
	}{
		{"killed and not started again", "mkdir -p /run/systemd/system/soe-agent.service.d; printf '[Service]\nRestart=no\n' >/run/systemd/system/soe-agent.service.d/no.conf; systemctl daemon-reload; systemctl kill -s KILL soe-agent; until systemctl show -p ActiveState soe-agent | grep -Eq '=(inactive|failed)$'; do sleep 0.1; done", "systemctl start soe-agent", true},
		{"stopped", "systemctl stop soe-agent", "systemctl start soe-agent", true},
		{"held by SIGSTOP", "systemctl kill -s STOP soe-agent", "systemctl kill -s CONT soe-agent", false},
	} {
		w.MustExec(t, "sh", "-c", gone.ends)
		if gone.rewritten {
			w.saysNothingOfNow(t, gone.how)
		}
		for _, as := range []string{"", "user"} {
			ask := func(args ...string) box.Result {
				t.Helper()
				if as != "" {
					args = append([]string{"runuser", "-u", as, "--"}, args...)
				}
				result, err := w.Exec(t.Context(), args...)
				if err != nil {
					t.Fatal(err)
				}
				return result
			}
			formats := []string{"text", "json", "html", "junit"}
			if as != "" {
				formats = formats[1:2]
			}
			for _, format := range formats {
				r := ask("soe-agent", "report", "--format", format)
				if r.Code != 2 || !strings.Contains(r.Stdout, "an agent that runs") {
					t.Errorf("%s, asked by %q: report --format %s exits %d: %.600s", gone.how, as, format, r.Code, r.Stdout)
				}
				if format == "json" && !strings.Contains(r.Stdout, `"verdict": "`+string(report.Converging)+`"`) {
					t.Errorf("%s: the report says %.300s", gone.how, r.Stdout)
				}
			}
			if r := ask("soe-agent", "explain", "sudo/allow"); !strings.Contains(r.Stdout, "an agent that runs") {
				t.Errorf("%s, asked by %q: explain says %s%s", gone.how, as, r.Stdout, r.Stderr)
			}
			if r := ask("soe-agent", "status"); r.Code != 1 || !strings.Contains(r.Stderr, "not running") || !strings.Contains(r.Stderr, "found last") {
				t.Errorf("%s, asked by %q: status exits %d: %s%s", gone.how, as, r.Code, r.Stdout, r.Stderr)
			}
		}
		w.MustExec(t, "sh", "-c", gone.begins)
		w.until(t, "the machine is compliant again", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
	}
	// Without room for it the files go.
	w.MustExec(t, "sh", "-c", "mount -t tmpfs -o size=64k,mode=755 none /mnt && cp -a /run/soe-agent/. /mnt && mount --move /mnt /run/soe-agent; cat /dev/zero >/run/soe-agent/full 2>/dev/null; systemctl kill -s KILL soe-agent; until systemctl show -p ActiveState soe-agent | grep -Eq '=(inactive|failed)$'; do sleep 0.1; done")
	w.saysNothingOfNow(t, "without room")
	w.MustExec(t, "sh", "-c", "umount /run/soe-agent; systemctl start soe-agent")
	w.until(t, "the machine is compliant again", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
	// What a process of another program's says that has the same number.
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	if r := w.report(t); r.Code != 2 || r.Compliant || len(r.Awaited) != 1 {
		t.Errorf("stopped: report exits with %d: %v", r.Code, r.Awaited)
	}
	w.MustExec(t, "sh", "-c", `sleep 300 >/dev/null 2>&1 & sed -i "s/\"daemon\":[0-9]*/\"daemon\":$!/" /run/soe-agent/report.json /var/lib/soe-agent/report.json; sed -i "s/\"pid\":[0-9]*/\"pid\":$!/" /run/soe-agent/status.json`)
	if r := w.report(t); r.Code != 2 || r.Compliant {
		t.Errorf("another process with its number is taken for the daemon: exit code %d", r.Code)
	}
	if _, code := w.status(t); code != 1 {
		t.Errorf("another process with its number is taken for the daemon: status exits %d", code)
	}
}

// saysNothingOfNow fails the test where a file that a daemon has left calls the machine compliant.
func (w *workspace) saysNothingOfNow(t *testing.T, how string) {
	t.Helper()
	for _, name := range []string{agent.ReportFile, agent.WholeReport, agent.StatusFile} {
		var said struct {
			Verdict   report.Verdict
			Compliant *bool
			Phase     agent.Phase
			Daemon    int
			Resources []any
		}
		content, err := w.Exec(t.Context(), "cat", name)
		if err != nil {
			t.Fatal(err)
		}
		if content.Code != 0 && how == "without room" {
			continue
		}
		if err := json.Unmarshal([]byte(content.Stdout), &said); err != nil || said.Compliant == nil {
			t.Errorf("%s: %s says %q: %v", how, name, content.Stdout, err)
			continue
		}
		if *said.Compliant || said.Verdict != report.Converging || said.Phase == agent.Keeping || said.Daemon != 0 && len(said.Resources) == 0 {
			t.Errorf("%s: %s says %.400s", how, name, content.Stdout)
		}
	}
}
