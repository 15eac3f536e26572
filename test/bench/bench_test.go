package bench

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

const binary = "../../dist/soe-agent"

// machine boots a machine that is in line with the workload.
func machine(b *testing.B, dropins int, options ...box.Option) *box.Box {
	b.Helper()
	repo, err := rpmrepo.Open()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		b.Fatalf("cannot measure what is not built; run: make bench (%v)", err)
	}
	policy := Workload(dropins).Policy() + fmt.Sprintf("[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n",
		rpmrepo.BaseURL, rpmrepo.KeyURL, repo.Fingerprint)
	options = append(options, box.ThinImage(), box.WithBind(repo.Dir, rpmrepo.MountPoint), box.WithFiles(map[string]box.File{
		"/usr/bin/soe-agent":                            {Content: string(content), Mode: 0o755},
		"/etc/soe-agent/policy.d/50-bench.toml":         {Content: policy},
		"/usr/lib/systemd/system/soe-agent.service":     {Content: read(b, "../../systemd/soe-agent.service")},
		"/usr/lib/systemd/system/soe-configured.target": {Content: read(b, "../../systemd/soe-configured.target")},

		"/usr/share/dbus-1/system.d/org.soeagent.Agent1.conf":    {Content: read(b, "../../systemd/org.soeagent.Agent1.conf")},
		"/usr/share/polkit-1/actions/org.soeagent.agent1.policy": {Content: read(b, "../../systemd/org.soeagent.agent1.policy")},
	}))
	m := box.New(b, options...)
	start := time.Now()
	result, err := m.Exec(b.Context(), "soe-agent", "apply")
	if err != nil || result.Code != 0 {
		b.Fatalf("cannot apply the workload: %v\n%s%s", err, result.Stdout, result.Stderr)
	}
	b.Logf("first apply: %s", time.Since(start).Round(time.Millisecond))
	m.MustExec(b, "systemctl", "restart", "pcoip.service")
	return m
}

func read(b *testing.B, name string) string {
	b.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	return string(content)
}

// BenchmarkNoChange measures a whole run of soe-agent apply that finds everything
// in line: process start, policy, all checks.
func BenchmarkNoChange(b *testing.B) {
	m := machine(b, 200)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		result, err := m.Exec(b.Context(), "soe-agent", "apply")
		took = append(took, time.Since(start))
		if err != nil || result.Code != 0 {
			b.Fatalf("%v %s%s", err, result.Stdout, result.Stderr)
		}
	}
	distribution(b, took)
}

// daemon boots a machine in line with the daemon running and idle.
func daemon(b *testing.B, dropins int, options ...box.Option) *box.Box {
	b.Helper()
	m := machine(b, dropins, options...)
	m.MustExec(b, "systemctl", "start", "soe-agent.service")
	for deadline := time.Now().Add(time.Minute); ; {
		result, err := m.Exec(b.Context(), "systemctl", "is-active", "soe-configured.target")
		if err == nil && result.Code == 0 {
			return m
		}
		if time.Now().After(deadline) {
			status, _ := m.Exec(b.Context(), "soe-agent", "status")
			b.Fatalf("the daemon does not settle: %s%s", status.Stdout, status.Stderr)
		}
		time.Sleep(10 * time.Millisecond) // settled is what is waited for, not measured
	}
}

// BenchmarkSize reports the size of the binary.
func BenchmarkSize(b *testing.B) {
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatalf("cannot measure what is not built; run: make bench (%v)", err)
	}
	for b.Loop() {
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStart measures the start of the process alone.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		if err := exec.Command(binary, "version").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// report adds the distribution to the average that the benchmark prints.
func distribution(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[min(len(took)-1, int(p*float64(len(took))))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0), "ms-min")
	b.ReportMetric(at(0.5), "ms-median")
	b.ReportMetric(at(0.99), "ms-p99")
	b.ReportMetric(at(1), "ms-max")
	b.ReportMetric(float64(len(took)), "runs")
}
