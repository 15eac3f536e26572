package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

const binary = "../../dist/soe-agent"

// machine boots a machine that is in line with the workload.
func machine(b *testing.B) *box.Box {
	b.Helper()
	repo, err := rpmrepo.Open()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		b.Fatalf("cannot measure what is not built; run: make bench (%v)", err)
	}
	policy := Workload(200).Policy() + fmt.Sprintf("[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n",
		rpmrepo.BaseURL, rpmrepo.KeyURL, repo.Fingerprint)
	m := box.New(b, box.ThinImage(), box.WithBind(repo.Dir, rpmrepo.MountPoint), box.WithFiles(map[string]box.File{
		"/usr/bin/soe-agent":                            {Content: string(content), Mode: 0o755},
		"/etc/soe-agent/policy.d/50-bench.toml":         {Content: policy},
		"/usr/lib/systemd/system/soe-agent.service":     {Content: read(b, "../../systemd/soe-agent.service")},
		"/usr/lib/systemd/system/soe-configured.target": {Content: read(b, "../../systemd/soe-configured.target")},
	}))
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
	m := machine(b)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		result, err := m.Exec(b.Context(), "soe-agent", "apply")
		took = append(took, time.Since(start))
		if err != nil || result.Code != 0 {
			b.Fatalf("%v %s%s", err, result.Stdout, result.Stderr)
		}
	}
	report(b, took)
}

// BenchmarkDriftOfAFile measures from the moment a file among 200 has been
// changed until it has its content back, the daemon running.
func BenchmarkDriftOfAFile(b *testing.B) {
	m := daemon(b)
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		i := n % 200
		name := filepath.Join(m.Root, dropinPath(i))
		if err := os.WriteFile(name, []byte("drifted\n"), 0o644); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		for {
			content, err := os.ReadFile(name)
			if err == nil && string(content) == dropinContent(i) {
				break
			}
			if time.Since(start) > 10*time.Second {
				journal, _ := m.Exec(b.Context(), "journalctl", "-u", "soe-agent", "--no-pager", "-n", "30")
				b.Fatalf("%s is not mended\n%s", name, journal.Stdout)
			}
			time.Sleep(100 * time.Microsecond) // the resolution of the measurement
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
}

// daemon boots a machine in line with the daemon running and idle.
func daemon(b *testing.B) *box.Box {
	b.Helper()
	m := machine(b)
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

// BenchmarkIdle measures what the daemon costs while nothing happens: resident
// memory, and CPU over ten seconds.
func BenchmarkIdle(b *testing.B) {
	const watched = 10 * time.Second
	m := daemon(b)
	pid := strings.TrimSpace(m.MustExec(b, "systemctl", "show", "-p", "MainPID", "--value", "soe-agent"))
	status := m.MustExec(b, "cat", "/proc/"+pid+"/status")
	before := cpu(b, m, pid)
	for b.Loop() {
		time.Sleep(watched) // that nothing happens is what is measured
	}
	// Whatever is reported before the loop, the loop forgets.
	b.ReportMetric(field(b, status, "VmRSS:")/1024, "MiB-resident")
	b.ReportMetric(1000*(cpu(b, m, pid)-before)/(watched.Seconds()*float64(b.N)), "ms-cpu/s")
	b.ReportMetric(0, "ns/op")
}

func field(b *testing.B, text, key string) float64 {
	b.Helper()
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			n, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s in %s", key, text)
	return 0
}

// cpu is the time, in seconds, that a process has had (proc(5): in ticks of 10 ms).
func cpu(b *testing.B, m *box.Box, pid string) float64 {
	b.Helper()
	fields := strings.Fields(m.MustExec(b, "cat", "/proc/"+pid+"/stat"))
	user, err1 := strconv.ParseFloat(fields[13], 64)
	system, err2 := strconv.ParseFloat(fields[14], 64)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return (user + system) / 100
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
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[min(len(took)-1, int(p*float64(len(took))))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0), "ms-min")
	b.ReportMetric(at(0.5), "ms-median")
	b.ReportMetric(at(0.99), "ms-p99")
	b.ReportMetric(float64(len(took)), "runs")
}
