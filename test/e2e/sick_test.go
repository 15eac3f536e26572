package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// An agent that can open but a few files says that it could not tell, or nothing at all:
// never that what has drifted is in line.
func TestAnAgentThatCanOpenTooFewFilesCallsNothingCompliantThatIsNot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "groupadd", "soe-admins")
	d.MustExec(t, "useradd", "-m", "-G", "soe-admins", "boss")
	d.MustExec(t, "useradd", "-m", "mallory")
	d.MustWriteFile(t, "/etc/sudoers.d/50-mallory", box.File{Content: "mallory ALL = (ALL) NOPASSWD: ALL\n", Mode: 0o440})
	d.MustWriteFile(t, "/etc/cron.d/gone", box.File{Content: "# x\n"})
	d.setPolicy(t, "system.timezone = \"Europe/Berlin\"\n[sudo]\nallow = [\"%soe-admins\"]\n"+
		"[dropins.\"/etc/cron.d/gone\"]\nensure = \"absent\"\n[dropins.\"/etc/profile.d/soe.sh\"]\ncontent = \"umask 027\\n\"\n"+
		"[services.\"cron.service\"]\nenabled = false\nrunning = false\n[groups.soe-admins]\nensure = \"absent\"\n")
	truth := map[policy.ID]converge.State{}
	for _, r := range d.plan(t).Resources {
		truth[r.ID] = r.State
	}
	if truth["sudo/allow"] != converge.Drifted || truth["system/timezone"] != converge.Drifted {
		t.Fatalf("without a limit it is %v", truth)
	}
	told := 0
	for limit := 8; limit <= 64; limit++ {
		result, err := d.Exec(t.Context(), "prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit), "soe-agent", "--json", "plan", "--policy", policyDir)
		if err != nil {
			t.Fatal(err)
		}
		var said report.Report
		if json.Unmarshal([]byte(result.Stdout), &said) != nil {
			if result.Code == 0 {
				t.Errorf("with %d files it exits with 0 and says %q", limit, result.Stdout)
			}
			continue
		}
		told++
		for _, r := range said.Resources {
			if r.State.InLine() && !truth[r.ID].InLine() {
				t.Errorf("with %d files %s is called %s (%s), and is %s", limit, r.ID, r.State, r.Reason, truth[r.ID])
			}
		}
		if result.Code == 0 {
			t.Errorf("with %d files it exits with 0", limit)
		}
	}
	if told == 0 {
		t.Error("with no limit it said anything")
	}
}

// rpm says of a database that it cannot use, or that has been cut short, that nothing is
// installed.
func TestAPackageIsNotCalledAbsentByADatabaseThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for backend, file := range map[string]string{"sqlite": "rpmdb.sqlite", "ndb": "Packages.db"} {
		t.Run(backend, func(t *testing.T) {
			d := newDesktop(t)
			d.MustWriteFile(t, "/etc/rpm/macros", box.File{Content: "%_db_backend " + backend + "\n"})
			d.MustExec(t, "sh", "-c", "rm -rf /var/lib/rpm/* && rpm --initdb && rpm -i --nodeps --nosignature $(ls /repo/x86_64/*.rpm /repo/*.rpm /repo/*/*.rpm 2>/dev/null | head -1)")
			name := strings.TrimSpace(d.MustExec(t, "rpm", "-qa", "--qf", "%{NAME}"))
			absent := fmt.Sprintf("[packages]\nabsent = [%q]\n", name)
			if name == "" {
				t.Fatal("nothing was installed")
			}
			id := policy.NewID("package", name)
			d.setPolicy(t, absent)
			d.plan(t).wants(t, map[policy.ID]converge.State{id: converge.Drifted})
			d.MustExec(t, "cp", "-a", "/var/lib/rpm", "/root/rpm")
			for what, harm := range map[string]string{
				"cut to nothing":  "truncate -s 0 /var/lib/rpm/" + file,
				"cut short":       "truncate -s 5000 /var/lib/rpm/" + file,
				"overwritten":     "dd if=/dev/urandom of=/var/lib/rpm/" + file + " bs=4096 count=4 conv=notrunc status=none",
				"a directory":     "rm /var/lib/rpm/" + file + " && mkdir /var/lib/rpm/" + file,
				"gone":            "rm /var/lib/rpm/" + file,
				"without its dir": "rm -r /var/lib/rpm",
			} {
				d.MustExec(t, "sh", "-c", "rm -f /var/lib/rpm/*-wal /var/lib/rpm/*-shm; "+harm)
				o := d.plan(t)
				if r := o.resource(id); r.State != converge.Unknown && r.State != converge.Drifted || o.Code == 0 {
					t.Errorf("%s: %s is %s (%s), and plan exits with %d", what, id, r.State, r.Reason, o.Code)
				}
				d.MustExec(t, "sh", "-c", "rm -rf /var/lib/rpm && cp -a /root/rpm /var/lib/rpm")
			}
		})
	}
}
