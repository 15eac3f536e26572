package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// confidences are what only root may read on a machine, each a mark, in places from which
// a kind quotes; open is what everybody may.
var (
	confidences = []string{"M4RKsudoers", "M4RKwanted", "M4RKcheck", "M4RKuser", "M4RKrepo", "M4RKactivate", "M4RKdconf", "M4RKdir", "M4RKrules", "M4RKwaiver"}
	idle        = "M4RKidle" // which is about no resource
	openMarks   = []string{"M0PENwanted", "M0PENfound"}
)

const confidential = onlyDomainAdmins + `
[dropins."/etc/profile.d/soe-open.sh"]
content = "# M0PENwanted\n"
[dropins."/etc/modprobe.d/soe-closed.conf"]
content = "# M4RKwanted\n"
mode    = "0600"
[dropins."/etc/soe-closed.d/inside.conf"]
content = "# wanted\n"
[dropins."/etc/soe-tell.d/tell.conf"]
content  = "tells\n"
activate = ["/bin/sh", "-c", "echo M4RKactivate >&2; exit 3"]
[checks.tells]
run    = ["/bin/cat", "/root/confidence"]
stdout = "^nothing"
[checks.exits]
run = ["/bin/sh", "-c", "cat /root/confidence >&2; exit 3"]
[checks.of-a-user]
run    = ["/bin/cat", "/home/user/confidence"]
user   = "user"
stdout = "^nothing"
[packages]
soe-none-such = "present"
[dconf."org/mate/power-manager"]
sleep-computer-ac = 0
[[rules]]
match = ["sudo/*", "dconf/*", "dropin/etc/profile.d/*", "dropin/etc/soe-closed.d/*"]
mode  = "audit"
[[rules]]
match  = ["dropin/etc/modprobe.d/*"]
mode   = "audit"
until  = 2099-12-31
reason = "M4RKwaiver"
[[rules]]
match    = ["service/M4RKidle*"]
severity = "low"
`

func TestWhatNotEverybodyMayReadIsInRootsReportAlone(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.activate(t)
	if err := w.aws.PublishPolicy(policyPath, 1, map[string]string{"10-base": "schema = 1\n" + confidential}); err != nil {
		t.Fatal(err)
	}
	w.boot(t)
	w.until(t, "the policy is in force", func() bool { s, _ := w.status(t); return s.Serial == 1 })
	w.MustExec(t, "sh", "-c", "echo M4RKuser >/home/user/confidence; chown user: /home/user/confidence; chmod 600 /home/user/confidence")
	w.MustExec(t, "mkdir", "-m", "0700", "/etc/soe-closed.d")
	w.MustWriteFile(t, "/root/confidence", box.File{Content: "M4RKcheck\n", Mode: 0o600})
	w.MustWriteFile(t, "/etc/yum.repos.d/stray.repo", box.File{Content: "[stray]\nname=stray\nbaseurl=http://user:M4RKrepo@127.0.0.1:9/\nenabled=1\nretries=1\ntimeout=1\n", Mode: 0o600})
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	var roots outcome
	w.until(t, "everything was looked at, and fails as it should", func() bool {
		roots = w.report(t)
		return roots.Verdict == report.NotCompliant && roots.resource("package/soe-none-such").State == converge.Failed &&
			roots.resource("dropin/etc/soe-tell.d/tell.conf").State == converge.Failed && strings.Contains(fmt.Sprint(roots.resource("check/of-a-user")), "M4RKuser")
	})
	// What is corrected by the watch is reported as corrected until the next verify.
	for name, file := range map[string]box.File{
		"/etc/sudoers.d/90-stray":                   {Content: "user ALL=(ALL) NOPASSWD: /opt/M4RKsudoers\n", Mode: 0o440},
		"/etc/profile.d/soe-open.sh":                {Content: "# M0PENfound\n", Mode: 0o644},
		"/etc/modprobe.d/soe-closed.conf":           {Content: "# found\n", Mode: 0o600},
		"/etc/soe-closed.d/inside.conf":             {Content: "# M4RKdir\n", Mode: 0o644},
		"/etc/dconf/db/soe.d/50-soe":                {Content: "[org/mate/power-manager]\nsleep-computer-ac='M4RKdconf'\n", Mode: 0o600},
		"/etc/polkit-1/rules.d/00-0soe-admin.rules": {Content: "// M4RKrules\n", Mode: 0o600},
	} {
		w.MustWriteFile(t, name, file)
	}
	told := func(text string) (missing []string) {
		for _, mark := range slices.Concat(confidences, openMarks) {
			if mark != "M4RKrepo" && !strings.Contains(text, mark) { // the package manager may say less
				missing = append(missing, mark)
			}
		}
		return missing
	}
	w.until(t, "root is told of everything by the bus", func() bool {
		roots = w.report(t)
		return len(told(fmt.Sprint(roots.Resources))) == 0
	})

	// Root is told all of it by the file too.
	const whole = "/var/lib/soe-agent/report.json"
	if got := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%a %U", whole)); got != "600 root" {
		t.Errorf("the whole report is %s", got)
	}
	w.until(t, "root is told of everything by the file", func() bool { return len(told(w.MustReadFile(t, whole))) == 0 })

	// Everybody else is told the same, without that.
	var theirs report.Report
	w.until(t, "the report for everybody is of the same moment", func() bool {
		roots = w.report(t)
		text := w.MustReadFile(t, "/run/soe-agent/report.json")
		if err := json.Unmarshal([]byte(text), &theirs); err != nil {
			t.Fatal(err)
		}
		return standings(theirs) == standings(roots.Report)
	})
	if !theirs.Public || roots.Public {
		t.Errorf("public: theirs %v, root's %v", theirs.Public, roots.Public)
	}
	said := map[string]string{}
	for _, command := range []string{
		"cat /run/soe-agent/report.json", "cat /run/soe-agent/status.json", "cat /run/soe-agent/*", "soe-agent report --json", "soe-agent report --verbose",
		"soe-agent report --format html", "soe-agent report --format junit", "soe-agent report --format xccdf", "soe-agent status", "soe-agent status --json", "systemctl status soe-agent",
		"soe-agent history", "soe-agent history --json", "soe-agent __complete explain ''", "soe-agent __complete history ''", "soe-agent report --json --verbose",
		"soe-agent explain check/tells --json", "soe-agent support-bundle", "systemctl show soe-agent", "soe-agent plan",
		"busctl introspect org.soeagent.Agent1 /org/soeagent/Agent1",
		"soe-agent explain check/tells", "soe-agent explain sudo/allow", "soe-agent explain dropin/etc/soe-tell.d/tell.conf",
		"busctl call org.soeagent.Agent1 /org/soeagent/Agent1 org.soeagent.Agent1 Report", "busctl call org.soeagent.Agent1 /org/soeagent/Agent1 org.soeagent.Agent1 Status",
		"grep -r M4RK /run/soe-agent /var/lib/soe-agent", "journalctl --no-pager -u soe-agent",
	} {
		result, err := w.ExecAs(t.Context(), box.DesktopUser, "sh", "-c", command)
		if err != nil || result.Stdout+result.Stderr == "" && !strings.HasPrefix(command, "grep") {
			t.Errorf("%s was not tried: %v %+v", command, err, result)
		}
		said[command] = result.Stdout + result.Stderr
	}
	w.until(t, "AWS was told", func() bool {
		stored, _ := w.aws.Compliance(nodeID, report.ComplianceType)
		said["SSM Compliance"] = fmt.Sprintf("%+v", stored)
		return strings.Contains(said["SSM Compliance"], "check/of-a-user") && strings.Contains(said["SSM Compliance"], openMarks[1])
	})
	line, _ := w.aws.Inventory(nodeID, report.ComplianceType)
	said["SSM Inventory"] = fmt.Sprintf("%+v", line)
	for where, text := range said {
		for _, mark := range append(slices.Clone(confidences), idle) {
			if slices.ContainsFunc(forms(mark), func(form []byte) bool { return strings.Contains(text, string(form)) }) {
				t.Errorf("%s tells of %s:\n%s", where, mark, text)
			}
		}
		for _, mark := range openMarks {
			if (strings.Contains(where, "report") || strings.Contains(where, "Compliance")) && !strings.Contains(text, mark) {
				t.Errorf("%s does not tell of %s, which everybody may read", where, mark)
			}
		}
	}

	// Without the daemon it is the same.
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	if text := fmt.Sprint(w.report(t).Resources); !strings.Contains(text, "M4RKsudoers") {
		t.Error("without the daemon root is not told what is in the file of sudo")
	}
}

// standings are where the resources of a report stand.
func standings(r report.Report) string {
	var all []string
	for _, resource := range r.Resources {
		all = append(all, fmt.Sprint(resource.ID, resource.State, resource.Since.UTC(), resource.Severity, resource.Origin.Fragment, resource.Origin.Line))
	}
	return fmt.Sprint(r.Compliant, r.Verdict, r.Summary, r.Policy.Digest, all)
}
