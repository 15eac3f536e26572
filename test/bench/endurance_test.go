package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// usage is what the daemon takes of the machine.
type usage struct {
	CPU         time.Duration
	Switches    int // that it made of itself, when it waited: as often it was woken
	Resident    float64
	MostEver    float64 // resident, in MiB
	Threads     int
	Descriptors int
	Watches     int // of inotify
	Goroutines  int
	Heap        float64 // of objects, in MiB
}

// pid is the daemon's.
func (k kept) pid(b *testing.B) string {
	b.Helper()
	return strings.TrimSpace(k.MustExec(b, "systemctl", "show", "-p", "MainPID", "--value", "soe-agent"))
}

// usage reads proc(5) of the machine from here.
func (k kept) usage(b *testing.B, pid string) (u usage) {
	b.Helper()
	proc := fmt.Sprintf("/proc/%d/root/proc/%s", k.Leader(), pid)
	threads, err := os.ReadDir(proc + "/task")
	if err != nil {
		b.Fatal(err)
	}
	u.Threads = len(threads)
	for _, thread := range threads {
		stat := strings.Fields(read(b, filepath.Join(proc, "task", thread.Name(), "schedstat")))
		ns, err := strconv.ParseInt(stat[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		u.CPU += time.Duration(ns)
		u.Switches += int(field(b, read(b, filepath.Join(proc, "task", thread.Name(), "status")), "voluntary_ctxt_switches:"))
	}
	status := read(b, proc+"/status")
	u.Resident, u.MostEver = field(b, status, "VmRSS:")/1024, field(b, status, "VmHWM:")/1024
	descriptors, err := os.ReadDir(proc + "/fd")
	if err != nil {
		b.Fatal(err)
	}
	u.Descriptors = len(descriptors)
	for _, fd := range descriptors {
		if info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name())); err == nil {
			u.Watches += strings.Count(string(info), "inotify wd:")
		}
	}
	var said agent.Status
	if err := json.Unmarshal([]byte(read(b, fmt.Sprintf("/proc/%d/root%s", k.Leader(), agent.StatusFile))), &said); err != nil {
		b.Fatal(err)
	}
	u.Goroutines, u.Heap = int(said.Upkeep.Goroutines), float64(said.Upkeep.Heap)/(1<<20)
	return u
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

// BenchmarkIdle measures what the daemon costs while nothing happens, for a minute.
func BenchmarkIdle(b *testing.B) {
	const watched = time.Minute
	k := kept{daemon(b, 200)}
	k.settled(b)
	pid := k.pid(b)
	var cpu time.Duration
	var switches int
	var after usage
	for b.Loop() {
		before := k.usage(b, pid)
		time.Sleep(watched) // that nothing happens is what is measured
		after = k.usage(b, pid)
		cpu, switches = after.CPU-before.CPU, after.Switches-before.Switches
	}
	b.ReportMetric(after.Resident, "MiB-resident")
	b.ReportMetric(cpu.Seconds()*float64(time.Hour/watched), "s-cpu/h")
	b.ReportMetric(float64(switches), "wakeups/min")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStorm breaks 10,000 files as fast as it can, all of them at once, and
// measures until all are mended: once with the daemon looking on, and once while it
// is held, so that the kernel has to drop events.
func BenchmarkStorm(b *testing.B) {
	const files = 10_000
	k := kept{daemon(b, files)}
	for _, held := range []bool{false, true} {
		b.Run(map[bool]string{false: "watched", true: "held"}[held], func(b *testing.B) {
			k.restart(b)
			pid := k.pid(b)
			before := k.usage(b, pid)
			var harm, took time.Duration
			for b.Loop() {
				if held {
					k.MustExec(b, "kill", "-STOP", pid)
				}
				start := time.Now()
				for i := range files {
					name := filepath.Join(k.Root, dropinPath(i))
					if err := os.WriteFile(name, []byte("drifted\n"), 0o644); err != nil {
						b.Fatal(err)
					}
					if err := os.Chmod(name, 0o666); err != nil {
						b.Fatal(err)
					}
				}
				if held {
					k.MustExec(b, "kill", "-CONT", pid)
				}
				harm = time.Since(start)
				k.allRight(b, files)
				took = time.Since(start)
			}
			k.settled(b)
			k.allRight(b, files)
			after := k.usage(b, pid)
			journal := k.MustExec(b, "journalctl", "-u", "soe-agent", "--no-pager", "-o", "cat", "_PID="+pid)
			b.ReportMetric(float64(strings.Count(journal, "inotify lost events")), "overflows-said")
			b.ReportMetric(harm.Seconds(), "s-breaking")
			b.ReportMetric(took.Seconds(), "s-until-mended")
			b.ReportMetric(before.Resident, "MiB-before")
			b.ReportMetric(after.MostEver, "MiB-most")
			b.ReportMetric(after.Resident, "MiB-after")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// allRight waits until all drop-ins are what they should be.
func (k kept) allRight(b *testing.B, files int) {
	b.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for i := 0; i < files; {
		name := filepath.Join(k.Root, dropinPath(i))
		content, err := os.ReadFile(name)
		info, err2 := os.Stat(name)
		if err == nil && err2 == nil && string(content) == dropinContent(i) && info.Mode().Perm() == 0o644 {
			i++
			continue
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s is not mended", name)
		}
		time.Sleep(time.Millisecond)
	}
}

// BenchmarkEndurance breaks four files a second for as long as it may, and compares
// the last tenth of that time with the first. It is of use with -benchtime 10m.
func BenchmarkEndurance(b *testing.B) {
	k := kept{daemon(b, 200)}
	k.restart(b)
	pid := k.pid(b)
	tick := time.NewTicker(250 * time.Millisecond) // no file more often than six times in five minutes
	defer tick.Stop()
	var samples []usage
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		<-tick.C
		start := time.Now()
		k.overwrite(b, dropinPath(n%200), "drifted\n")
		mended, _ := k.mended(b, policy.ID("dropin"+dropinPath(n%200)), start)
		took = append(took, mended.Sub(start))
		samples = append(samples, k.usage(b, pid))
	}
	distribution(b, took)
	b.Logf("%d drifts: %s", len(took), histogram(took))
	tenth := max(1, len(samples)/10)
	for name, of := range map[string]func(usage) float64{
		"MiB": func(u usage) float64 { return u.Resident }, "threads": func(u usage) float64 { return float64(u.Threads) },
		"descriptors": func(u usage) float64 { return float64(u.Descriptors) }, "watches": func(u usage) float64 { return float64(u.Watches) },
		"goroutines": func(u usage) float64 { return float64(u.Goroutines) }, "MiB of heap": func(u usage) float64 { return u.Heap },
	} {
		b.Logf("%s: %.1f in the first tenth of the time, %.1f in the last", name, median(samples[:tenth], of), median(samples[len(samples)-tenth:], of))
	}
	lines := strings.Count(k.MustExec(b, "journalctl", "-u", "soe-agent", "--no-pager", "-o", "cat", "_PID="+pid), "\n")
	b.Logf("lines in the journal for each drift: %.2f", float64(lines)/float64(len(took)))
}

func median(samples []usage, of func(usage) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
