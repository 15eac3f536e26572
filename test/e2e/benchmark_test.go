package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

var (
	benchmarkDrifts = flag.Int("benchmark-drifts", 30, "how many random drifts of the benchmark's resources are mended")
	benchmarkSeed   = flag.Uint64("benchmark-seed", 1, "by which they are chosen")
)

// missingHere is what a benchmark for Amazon Linux 2 asks for and this machine has not, and why. All
// else of it must be in line.
var missingHere = map[string]string{
	"package/*":                            "no repository has it",
	"patch/*":                              "there is no repository",
	"service/*":                            "the package that brings it is not installed, or a container has no say in the clock",
	"dropin/etc/audit/*":                   "auditd is not installed",
	"file/etc/audit*":                      "auditd is not installed",
	"file/usr/sbin/au*":                    "auditd is not installed",
	"dropin/etc/sysconfig/chronyd":         "Debian's chronyd reads another file",
	"file/var/log/audit*":                  "auditd is not installed",
	"dropin/etc/systemd/coredump.conf.d/*": "systemd-coredump is not installed",
	"dropin/etc/sysctl.d/*":                "a container may not write all parameters of the kernel",
	"file/etc/security/pwquality.conf":     "pam_pwquality is not installed",
	"file/etc/yum.conf":                    "Debian's dnf has another",
	"check/*":                              "what is only checked is the machine's",
}

// A machine has the benchmark that is shipped as its policy. What drifts, whatever it is, is mended and
// is told of under its control.
func TestEachDriftOfABenchmarkIsMendedAndToldOfUnderItsControl(t *testing.T) {
	t.Parallel()
	w := alone(t, "", box.WithNetwork())
	files, err := filepath.Glob("../../policies/cis-al2/*.toml")
	if err != nil || len(files) < 5 {
		t.Fatal(err, files)
	}
	specs := map[policy.ID]policy.Spec{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(content), `"ssm-user"]`, `"ssm-user", "dadmin"]`, 1) // there is one
		fragment, err := policy.Parse(policy.Source{Name: file, Text: text})
		if err != nil {
			t.Fatal(err)
		}
		for _, setting := range fragment.Settings {
			specs[setting.ID] = setting.Spec
		}
		w.MustWriteFile(t, "/etc/soe-agent/policy.d/"+filepath.Base(file), box.File{Content: text})
	}
	w.MustExec(t, "sh", "-c", "ssh-keygen -q -A && systemctl enable ssh.service")
	w.boot(t)
	var first report.Report
	inTime := []policy.ID{"file/etc/ssh/sshd_config", "sudo/polkit"} // sshd has to run, and polkit to answer
	w.until(t, "everything has been looked at", func() bool {
		first = w.report(t).Report
		return len(first.Resources) > 100 && !slices.ContainsFunc(first.Resources, func(r converge.Resource) bool {
			return r.Unseen || slices.Contains(inTime, r.ID) && !r.State.InLine()
		})
	})
	var kept []converge.Resource
	for _, r := range first.Resources {
		if r.State.InLine() && len(r.Controls) > 0 && harmsOf(specs[r.ID]) != nil && (isAbsent(specs[r.ID]) || r.ID.Kind() == "firewall" || !w.fails(t, "test", "-e", "/"+r.ID.Name())) && (r.ID.Kind() != "mount" || !w.fails(t, "mountpoint", "-q", "/"+r.ID.Name())) {
			kept = append(kept, r)
		}
		if !r.Tolerable() && !slices.ContainsFunc(slices.Collect(maps.Keys(missingHere)), func(glob string) bool {
			return (policy.Rule{Match: []string{glob}}).Matches(r.ID)
		}) {
			t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	if len(kept) < 25 {
		t.Fatalf("only %d files, mounts and rules of the firewall are kept here", len(kept))
	}
	slices.SortFunc(kept, func(a, b converge.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
	random := rand.New(rand.NewPCG(*benchmarkSeed, 0))
	controls := map[string]bool{}
	for i := range *benchmarkDrifts {
		r := kept[random.IntN(len(kept))]
		name := "/" + r.ID.Name()
		harms := harmsOf(specs[r.ID])
		harm := fmt.Sprintf(harms[random.IntN(len(harms))], name)
		before := w.seen(t, name)
		began := time.Now()
		w.MustExec(t, "sh", "-c", harm)
		w.until(t, string(r.ID)+" is mended after "+harm, func() bool {
			changes := w.remembered(t, string(r.ID))
			return len(changes) > 0 && changes[len(changes)-1].Time.After(began) && changes[len(changes)-1].Cause == converge.Corrective
		})
		if after := w.seen(t, name); after != before {
			t.Errorf("drift %d, %s: it was %s, and is %s", i, harm, before, after)
		}
		mended := w.report(t).resource(r.ID)
		if !mended.State.InLine() || !slices.Equal(mended.Controls, r.Controls) {
			t.Errorf("drift %d, %s: it is told of as %+v", i, harm, mended)
		}
		for _, c := range mended.Controls {
			controls[c] = true
		}
	}
	var byControl report.Report
	if err := json.Unmarshal([]byte(w.MustExec(t, "sh", "-c", "soe-agent report --by control --json || true")), &byControl); err != nil {
		t.Fatal(err)
	}
	if len(byControl.Controls) < 280 {
		t.Errorf("the report has %d controls", len(byControl.Controls))
	}
	for _, c := range byControl.Controls {
		if controls[c.ID] && c.State != converge.Corrected && c.State != converge.Compliant && len(c.Resources) == 1 {
			t.Errorf("%s is %s", c.ID, c.State)
		}
	}
	t.Logf("%d drifts of %d files, mounts and rules of the firewall were mended, under %d controls", *benchmarkDrifts, len(kept), len(controls))
}

func isAbsent(spec policy.Spec) bool {
	file, is := spec.(policy.File)
	return is && file.Ensure == policy.Absent
}

// seen is what is at a path, if anything is.
func (w *workspace) seen(t *testing.T, name string) string {
	t.Helper()
	return w.MustExec(t, "sh", "-c", "stat -c '%a %u %g %F' "+name+" 2>/dev/null || echo nothing")
}

// harmsOf are commands that bring a file, or a mount, %[1]s, out of line with what is wanted of it.
func harmsOf(spec policy.Spec) []string {
	switch spec := spec.(type) {
	case policy.Dropin:
		return []string{
			"chmod 666 %[1]s", "chown user %[1]s", "chgrp user %[1]s", "echo '# more' >> %[1]s", "rm %[1]s", ": > %[1]s",
			"cp %[1]s %[1]s~ && echo '# x' >> %[1]s~ && mv %[1]s~ %[1]s",
		}
	case policy.File:
		if spec.Ensure == policy.Absent {
			return []string{"echo x > %[1]s", "ln -s /etc/passwd %[1]s"}
		}
		var harms []string
		if spec.Content != nil {
			harms = append(harms, "echo x >> %[1]s", "rm %[1]s", ": > %[1]s", "cp %[1]s %[1]s~ && echo x >> %[1]s~ && mv %[1]s~ %[1]s", "ln -sf /etc/passwd %[1]s", "chown user %[1]s")
		}
		for _, line := range spec.AbsentLines {
			harms = append(harms, "echo "+line+" >> %[1]s")
		}
		if spec.Mode != nil {
			harms = append(harms, "chmod a+w %[1]s")
		}
		if spec.Owner != "" {
			harms = append(harms, "chown user %[1]s")
		}
		if spec.Group != "" {
			harms = append(harms, "chgrp user %[1]s")
		}
		for key := range spec.Keys {
			harms = append(harms, fmt.Sprintf("sed -i 's/^%s/# &/' %%[1]s", key))
		}
		slices.Sort(harms)
		return harms
	case policy.Firewall:
		return []string{"nft flush ruleset; : %[1]s"}
	case policy.Mount:
		return []string{"mount -o remount,bind,exec %[1]s", "mount -o remount,bind,suid,dev,exec %[1]s"}
	}
	return nil
}
