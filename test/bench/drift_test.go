package bench

import (
	"encoding/json"
	"fmt"
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

// apart is how long after one drift was reported the next one comes. What comes at
// once is measured as a storm.
const apart = 20 * time.Millisecond

// resolution is how often it is looked whether drift is mended.
const resolution = 100 * time.Microsecond

// A kept machine is one that the daemon keeps.
type kept struct{ *box.Box }

// reportFile is the daemon's report, as it is seen from here.
func (k kept) reportFile() string {
	return fmt.Sprintf("/proc/%d/root/run/soe-agent/report.json", k.Leader())
}

// mended waits until the daemon says that it has corrected the resource since. It
// returns from when on that was so, written, safe from a power cut and looked at
// again, and when it was said.
func (k kept) mended(b *testing.B, id policy.ID, since time.Time) (mended, said time.Time) {
	b.Helper()
	var last os.FileInfo
	for time.Since(since) < 30*time.Second {
		info, err := os.Stat(k.reportFile())
		now := time.Now()
		if err != nil || last != nil && os.SameFile(info, last) {
			time.Sleep(resolution)
			continue
		}
		last = info
		content, err := os.ReadFile(k.reportFile())
		var r report.Report
		if err != nil || json.Unmarshal(content, &r) != nil {
			continue // it has just been replaced
		}
		for _, r := range r.Resources {
			if r.ID == id && r.State == converge.Corrected && r.Since.After(since) {
				return r.Since, now
			}
		}
	}
	status, _ := k.Exec(b.Context(), "soe-agent", "status")
	journal, _ := k.Exec(b.Context(), "journalctl", "-u", "soe-agent", "--no-pager", "-n", "30")
	b.Fatalf("%s is not mended\n%s%s", id, status.Stdout, journal.Stdout)
	return time.Time{}, time.Time{}
}

// restart has the daemon forget what it has mended: what is broken eight times
// within five minutes is contested, as it should be.
func (k kept) restart(b *testing.B) {
	b.Helper()
	k.MustExec(b, "systemctl", "restart", "soe-agent.service")
	k.settled(b)
}

// settled waits until the daemon has told nothing new for a while.
func (k kept) settled(b *testing.B) {
	b.Helper()
	var last os.FileInfo
	for same := 0; same < 5; same++ {
		time.Sleep(100 * time.Millisecond) // that nothing happens is what is waited for
		info, err := os.Stat(k.reportFile())
		if err != nil || last == nil || !os.SameFile(info, last) {
			same = 0
		}
		last = info
	}
}

// overwrite replaces the content of a file of the machine in place, and returns when
// it began to.
func (k kept) overwrite(b *testing.B, name, content string) (at time.Time) {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(k.Root, name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	at = time.Now()
	if _, err := f.WriteString(content); err != nil {
		b.Fatal(err)
	}
	f.Close()
	return at
}

// BenchmarkDrift measures, for the sorts of drift that people meet, from the moment
// when it is there until it is mended.
func BenchmarkDrift(b *testing.B) {
	k := kept{daemon(b, 200, box.WithFiles(map[string]box.File{
		"/etc/systemd/system/soe-bench@.service": {Content: "[Service]\nExecStart=/bin/sleep infinity\n"},
		"/etc/soe-agent/policy.d/60-drift.toml":  {Content: driftPolicy()},
	}))}
	for _, drift := range []struct {
		name     string
		distinct int // resources that are broken in turn
		harm     func(i int) (at time.Time)
		id       func(i int) policy.ID
	}{
		{
			"file", 100,
			func(i int) time.Time { return k.overwrite(b, dropinPath(unchecked(i)), "drifted\n") },
			func(i int) policy.ID { return policy.ID("dropin" + dropinPath(unchecked(i))) },
		},
		{
			"file-with-checker", 100,
			func(i int) time.Time { return k.overwrite(b, dropinPath(checked(i)), "drifted\n") },
			func(i int) policy.ID { return policy.ID("dropin" + dropinPath(checked(i))) },
		},
		{
			"sudo", 1,
			func(int) time.Time { return k.overwrite(b, userSudo, box.DesktopUser+" ALL=(ALL) NOPASSWD: ALL\n") },
			func(int) policy.ID { return "sudo/allow" },
		},
		{
			"dconf", 1,
			func(int) time.Time { return k.overwrite(b, "/etc/dconf/db/soe.d/50-soe", "[org/x]\ny=true\n") },
			func(int) policy.ID { return "dconf/database" },
		},
		{
			"service", instances,
			// Of a job that the agent is too fast for, systemctl says that it was cancelled.
			func(i int) time.Time {
				_, _ = k.Exec(b.Context(), "systemctl", "stop", fmt.Sprintf("soe-bench@%d.service", i))
				return time.Now()
			},
			func(i int) policy.ID { return policy.ID(fmt.Sprintf("service/soe-bench@%d.service", i)) },
		},
		{
			"package", packages,
			func(i int) time.Time {
				k.MustExec(b, "rpm", "-e", packageName(i))
				return time.Now()
			},
			func(i int) policy.ID { return policy.ID("package/" + packageName(i)) },
		},
	} {
		b.Run(drift.name, func(b *testing.B) {
			var took, toSay []time.Duration
			for n := 0; b.Loop(); n++ {
				if n%(6*drift.distinct) == 0 {
					b.StopTimer()
					k.restart(b)
					b.StartTimer()
				}
				time.Sleep(apart) // that another drift comes is no part of this one
				start := time.Now()
				there := drift.harm(n % drift.distinct)
				mended, said := k.mended(b, drift.id(n%drift.distinct), start)
				took, toSay = append(took, mended.Sub(there)), append(toSay, said.Sub(there))
			}
			distribution(b, took)
			slices.Sort(toSay)
			b.ReportMetric(float64(toSay[len(toSay)/2].Microseconds())/1000, "ms-reported-median")
			b.Logf("%s: %s", drift.name, histogram(took))
		})
	}
}

// checked and unchecked number the drop-ins that a shell looks over before they are
// put in their place, and the others. There are as many of each.
func checked(i int) int   { return i/2*4 + i%2 }
func unchecked(i int) int { return checked(i) + 2 }

// instances are how many services there are to stop.
const instances = 20

func driftPolicy() string {
	var b strings.Builder
	b.WriteString("schema = 1\n")
	for i := range instances {
		fmt.Fprintf(&b, "[services.\"soe-bench@%d.service\"]\nrunning = true\n", i)
	}
	return b.String()
}

// histogram counts in bounds that a person can read.
func histogram(took []time.Duration) string {
	bounds := []time.Duration{1, 2, 3, 5, 7, 10, 15, 25, 50, 100, 250, 500, 1000, 2500}
	counts := make([]int, len(bounds)+1)
	for _, d := range took {
		i, _ := slices.BinarySearch(bounds, d/time.Millisecond+1)
		counts[i]++
	}
	var parts []string
	for i, n := range counts {
		switch {
		case n == 0:
		case i == len(bounds):
			parts = append(parts, fmt.Sprintf("longer: %d", n))
		default:
			parts = append(parts, fmt.Sprintf("≤ %d ms: %d", bounds[i], n))
		}
	}
	return strings.Join(parts, ", ")
}
