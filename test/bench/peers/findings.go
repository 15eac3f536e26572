package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/test/bench"
)

// findings are all samples of a run.
type findings struct {
	sizes    []bench.Workload
	samples  map[finding][]sample
	versions []string // of the other tools
}

type finding struct {
	workload bench.Workload
	tool     string
	what     string // first, apply, plan; of the daemon idle, peak, pass
}

func (f *findings) add(w bench.Workload, tool, what string, s sample) {
	if f.samples == nil {
		f.samples = map[finding][]sample{}
	}
	key := finding{w, tool, what}
	f.samples[key] = append(f.samples[key], s)
}

// took are the times of a finding, sorted.
func (f *findings) took(w bench.Workload, tool, what string) []time.Duration {
	var all []time.Duration
	for _, s := range f.samples[finding{w, tool, what}] {
		all = append(all, s.Took)
	}
	slices.Sort(all)
	return all
}

// peak is the most memory of a finding, in MiB.
func (f *findings) peak(w bench.Workload, tool, what string) float64 {
	var most int64
	for _, s := range f.samples[finding{w, tool, what}] {
		most = max(most, s.Peak)
	}
	return float64(most) / 1024
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// spread is minimum and median, and how many there are.
func spread(sorted []time.Duration) string {
	switch len(sorted) {
	case 0:
		return "–"
	case 1:
		return short(sorted[0])
	}
	return fmt.Sprintf("%s / %s (%d)", short(sorted[0]), short(median(sorted)), len(sorted))
}

// short is a time in three digits.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3g ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// ratio is how many times as long as ours theirs took, by minimum and by median.
func ratio(theirs, ours []time.Duration) string {
	if len(theirs) == 0 || len(ours) == 0 {
		return "–"
	}
	times := func(a, b time.Duration) string {
		r := float64(a) / float64(b)
		if r < 10 {
			return fmt.Sprintf("%.1f", r)
		}
		return fmt.Sprintf("%.0f", r)
	}
	return times(theirs[0], ours[0]) + " / " + times(median(theirs), median(ours))
}

// heading begins the section that is this program's.
const heading = "## Side by side"

func (f *findings) section(tools []tool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nTaken in one run by `sudo make bench-peers` on %s:\n%s;\nDebian 12 in systemd-nspawn; %s.\n",
		heading, began.Format(time.DateOnly), host(), strings.Join(f.versions, ", "))
	b.WriteString("Times are minimum / median (runs); a single figure is of one run. What divides two of them says how\nmany times as long the other tool took, by minimum / by median.\n")
	f.compare(&b, tools, "With nothing to change, process start included", "apply")
	f.compare(&b, tools, "First apply, on a machine of which nothing is in line", "first")
	f.memory(&b, tools)
	f.alone(&b)
	return b.String()
}

// compare is a table of what all tools did.
func (f *findings) compare(b *strings.Builder, tools []tool, title, what string) {
	fmt.Fprintf(b, "\n%s:\n\n| drop-ins |", title)
	for _, t := range tools {
		fmt.Fprintf(b, " %s |", t.name)
	}
	for _, t := range tools[1:] {
		fmt.Fprintf(b, " %s ÷ %s |", t.name, tools[0].name)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", 2*len(tools)-1))
	for _, w := range f.sizes {
		fmt.Fprintf(b, "| %d |", w)
		for _, t := range tools {
			fmt.Fprintf(b, " %s |", spread(f.took(w, t.name, what)))
		}
		for _, t := range tools[1:] {
			fmt.Fprintf(b, " %s |", ratio(f.took(w, t.name, what), f.took(w, tools[0].name, what)))
		}
		b.WriteString("\n")
	}
}

func (f *findings) memory(b *strings.Builder, tools []tool) {
	b.WriteString("\nMost memory resident in a run with nothing to change, in MiB, of the largest process:\n\n| drop-ins |")
	for _, t := range tools {
		fmt.Fprintf(b, " %s |", t.name)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(tools)))
	for _, w := range f.sizes {
		fmt.Fprintf(b, "| %d |", w)
		for _, t := range tools {
			fmt.Fprintf(b, " %.1f |", f.peak(w, t.name, "apply"))
		}
		b.WriteString("\n")
	}
}

// target is what a finding of the agent should not exceed: by its median if it is a
// time, at its most if it is memory.
var targets = []struct {
	what, title string
	time        map[bench.Workload]time.Duration
	memory      float64 // MiB at any size; 0: it is a time
}{
	{what: "plan", title: "`plan`, cold, nothing to change", time: map[bench.Workload]time.Duration{200: 60 * time.Millisecond, 10000: 400 * time.Millisecond}},
	{what: "pass", title: "a pass of the running daemon, nothing to change", time: map[bench.Workload]time.Duration{200: 10 * time.Millisecond}},
	{what: "first", title: "first `apply`", time: map[bench.Workload]time.Duration{200: 2 * time.Second}},
	{what: "plan", title: "memory of `plan`", memory: 40},
	{what: "apply", title: "memory of `apply`", memory: 40},
	{what: "idle", title: "memory of the idle daemon", memory: 40},
	{what: "peak", title: "memory of the daemon at its most, the start included", memory: 40},
}

// alone is the table of the agent and its targets.
func (f *findings) alone(b *strings.Builder) {
	b.WriteString("\nThe agent alone:\n\n| what | drop-ins | target | measured | |\n|---|---|---|---|---|\n")
	row := func(title string, w bench.Workload, target, measured string, met bool) {
		verdict := ""
		if target != "" {
			verdict = map[bool]string{true: "met", false: "**missed**"}[met]
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s |\n", title, w, target, measured, verdict)
	}
	for _, t := range targets {
		for _, w := range f.sizes {
			if t.memory > 0 {
				peak := f.peak(w, agentName, t.what)
				row(t.title, w, fmt.Sprintf("≤ %.0f MiB", t.memory), fmt.Sprintf("%.1f MiB", peak), peak <= t.memory)
				continue
			}
			took := f.took(w, agentName, t.what)
			if len(took) == 0 {
				continue
			}
			target := ""
			if limit, has := t.time[w]; has {
				target = "≤ " + short(limit)
			}
			row(t.title, w, target, spread(took), median(took) <= t.time[w])
		}
	}
	f.growth(b)
}

// growth says what one drop-in more costs, from each size to the next.
func (f *findings) growth(b *strings.Builder) {
	var steps []string
	for i := 1; i < len(f.sizes); i++ {
		less, more := f.took(f.sizes[i-1], agentName, "plan"), f.took(f.sizes[i], agentName, "plan")
		if len(less) == 0 || len(more) == 0 {
			return
		}
		each := float64((more[0] - less[0]).Microseconds()) / float64(f.sizes[i]-f.sizes[i-1])
		steps = append(steps, fmt.Sprintf("%.1f µs from %d to %d", each, f.sizes[i-1], f.sizes[i]))
	}
	if len(steps) > 0 {
		fmt.Fprintf(b, "\nOne drop-in more costs `plan`, by its minima, %s.\n", strings.Join(steps, ", "))
	}
}

func host() string {
	model, memory := "unknown processor", int64(0)
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		memory = (field(string(text), "MemTotal:") + 1<<19) >> 20
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease") // it is always there
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _, _ := strings.Cut(string(release), "-")
	busy, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d cores of %s, %d GiB, Linux %s, %s, load %s at the end", runtime.NumCPU(), model, memory, strings.TrimSpace(kernel), runtime.Version(), busy)
}

// replaceSection puts the section into a file, in place of the one that is there or
// at the end.
func replaceSection(name, text string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(content), heading+"\n")
	if !found {
		before = strings.TrimRight(before, "\n") + "\n\n"
	}
	if next := strings.Index(rest, "\n## "); next >= 0 {
		text += rest[next:]
	}
	return os.WriteFile(name, []byte(before+text), 0o644)
}
