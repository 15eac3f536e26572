package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// fills are ways in which /run has no room left.
func fills() map[string]string {
	return map[string]string{
		"no block": `size=$(($(df --output=used -k /run | tail -1))); mount -o remount,size=${size}k /run; dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null || true
			! head -c 5000 /dev/zero >/run/probe 2>/dev/null; rm -f /run/probe; cat /dev/zero >>/run/filler 2>/dev/null || true`,
		"no inode": `used=$(df --output=iused /run | tail -1); mount -o remount,nr_inodes=$((used + 1)) /run
			i=0; while touch /run/filler$i 2>/dev/null; do i=$((i + 1)); done`,
	}
}

const roomPolicy = `
[dropins."/etc/modprobe.d/soe-room.conf"]
content = "# managed\n"
[dropins."/etc/profile.d/soe-room.sh"]
content = "# room\n"
[groups.worker]
gid = 720
`

func TestWithRunFullTheMachineIsKeptAllTheSameAndThatIsSaid(t *testing.T) {
	t.Parallel()
	for how, fill := range fills() {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := alone(t, lifePolicy+roomPolicy)
			w.MustExec(t, "ln", "-s", "/dev/null", "/etc/systemd/system/soe-agent.service") // not at once
			w.boot(t)
			w.MustExec(t, "sh", "-ec", "rm /etc/systemd/system/soe-agent.service; systemctl daemon-reload")
			w.MustExec(t, "sh", "-ec", fill)
			if !w.fails(t, "sh", "-c", "head -c 9000 /dev/zero >/run/probe") {
				t.Fatal("/run is not full")
			}
			apply, err := w.Exec(t.Context(), "soe-agent", "apply")
			if err != nil || apply.Code == 1 || !strings.Contains(apply.Stderr, "/run is full") || w.MustReadFile(t, "/etc/modprobe.d/soe-room.conf") != "# managed\n" {
				t.Errorf("%v, exit code %d: %s\n%s", err, apply.Code, apply.Stdout, apply.Stderr)
			}
			w.MustExec(t, "rm", "-f", "/etc/modprobe.d/soe-room.conf", "/etc/profile.d/soe-room.sh")
			w.MustExec(t, "umount", "/run/soe-agent") // as if nothing had been done yet
			w.MustExec(t, "systemctl", "start", "soe-agent")
			w.until(t, "all is in line but what has to be in /run", func() bool {
				r := w.report(t).Report
				return len(r.Resources) > 10 && !slices.ContainsFunc(r.Resources, func(r converge.Resource) bool {
					return !r.State.InLine() && (r.ID != "dconf/profile" || !strings.Contains(r.Reason, "no space left on device"))
				})
			})
			w.strayIsMended(t)
			for name, want := range map[string]string{"/etc/modprobe.d/soe-room.conf": "# managed\n", "/etc/profile.d/soe-room.sh": "# room\n"} {
				if got := w.MustReadFile(t, name); got != want {
					t.Errorf("%s has %q", name, got)
				}
			}
			s, _ := w.status(t)
			shown, err := w.ExecAs(t.Context(), box.DesktopUser, "soe-agent", "status")
			if err != nil || !strings.Contains(shown.Stdout, "/run is full") || !strings.Contains(s.Room, "/run is full") {
				t.Errorf("%v: the status says %q\n%s", err, s.Room, shown.Stdout)
			}
			if log := w.journal(t); !strings.Contains(log, "the file system of /run is full") {
				t.Errorf("the journal has:\n%s", log)
			}
		})
	}
}

const drifted = policy.ID("dropin/etc/modprobe.d/soe-room.conf")

func TestWhenRunFillsUpWhileTheAgentRunsNothingIsSaidThatIsNoLongerTrue(t *testing.T) {
	t.Parallel()
	for how, fill := range fills() {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := alone(t, lifePolicy+roomPolicy)
			w.boot(t)
			w.converged(t, 0)
			w.MustExec(t, "sh", "-ec", fill)
			w.strayIsMended(t)
			since := time.Now()
			mended := func(o outcome) bool {
				r := o.resource(drifted)
				return r.State == converge.Corrected && r.Since.After(since)
			}
			w.MustWriteFile(t, "/etc/modprobe.d/soe-room.conf", box.File{Content: "drift\n"})
			w.until(t, "the drift is mended, and that is said on the bus and in the file", func() bool {
				content, err := w.ReadFile(agent.ReportFile)
				var r report.Report
				return err == nil && json.Unmarshal([]byte(content), &r) == nil && mended(outcome{Report: r}) && mended(w.report(t))
			})
			if got := w.MustReadFile(t, "/etc/modprobe.d/soe-room.conf"); got != "# managed\n" {
				t.Errorf("there is %q", got)
			}
		})
	}
}
