// Peers measures the agent side by side with other configuration management: the
// same workload, on machines of the same kind, in one run. The tools take turns, so
// that what else the host does disturbs them alike; each has machines of its own.
//
// It is called by "make bench-peers", which prepares what it needs. It writes what
// it found as one section of the file that it is told.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/soe-agent/soe-agent/test/bench"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == measureArg {
		measure(os.Args[2:])
	}
	agent := flag.String("agent", "dist/soe-agent", "the agent's `BINARY`")
	results := flag.String("results", "", "write the section into `FILE`, not to standard output")
	sizes := flag.String("sizes", "200,2000,10000", "measure with so many drop-ins")
	names := flag.String("tools", "soe-agent,cfengine,puppet", "measure these `TOOLS`, the agent first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *agent, *sizes, *names, *results); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, agent, sizes, names, results string) error {
	all, err := findTools(agent)
	if err != nil {
		return err
	}
	tools := slices.DeleteFunc(all, func(t tool) bool { return !slices.Contains(strings.Split(names, ","), t.name) })
	var found findings
	for _, size := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return fmt.Errorf("cannot measure with %q drop-ins: it is no number", size)
		}
		if err := found.measure(ctx, tools, bench.Workload(n)); err != nil {
			return err
		}
	}
	text := found.section(tools)
	if results == "" {
		fmt.Print(text)
		return nil
	}
	return replaceSection(results, text)
}

// effort is how often something is measured: less often where it takes long.
func effort(w bench.Workload) (firsts, rounds int) {
	switch {
	case w <= 200:
		return 3, 10
	case w <= 2000:
		return 1, 5
	}
	return 1, 3
}

// measure measures all tools on one workload.
func (f *findings) measure(ctx context.Context, tools []tool, w bench.Workload) error {
	f.sizes = append(f.sizes, w)
	firsts, rounds := effort(w)
	machines := make([]*machine, len(tools))
	closeAll := func() {
		for i, m := range machines {
			if m != nil {
				_ = m.Close() // it is thrown away in any case
				machines[i] = nil
			}
		}
	}
	defer closeAll()
	for range firsts {
		closeAll()
		for i, t := range tools {
			progress("%s, %d drop-ins: first apply", t.name, w)
			var err error
			if machines[i], err = boot(ctx, t, w); err != nil {
				return err
			}
			first, err := machines[i].first(ctx)
			if err != nil {
				return err
			}
			f.add(w, t.name, "first", first)
		}
	}
	if err := f.nothingToChange(ctx, machines, rounds); err != nil {
		return err
	}
	if tools[0].name != agentName {
		return nil
	}
	progress("%s, %d drop-ins: the daemon", agentName, w)
	return f.daemon(ctx, machines[0])
}

// nothingToChange measures runs that find everything in line.
func (f *findings) nothingToChange(ctx context.Context, machines []*machine, rounds int) error {
	before := make([]state, len(machines))
	for i, m := range machines {
		version, err := m.version(ctx)
		if err != nil {
			return err
		}
		if version != "" && !slices.Contains(f.versions, version) {
			f.versions = append(f.versions, version)
		}
		if before[i], err = m.state(ctx); err != nil {
			return err
		}
	}
	for round := range rounds {
		for _, m := range machines {
			progress("%s, %d drop-ins: nothing to change, round %d of %d", m.tool.name, m.workload, round+1, rounds)
			for range m.tool.turns {
				s, err := m.run(ctx, m.tool.apply...)
				if err != nil {
					return err
				}
				f.add(m.workload, m.tool.name, "apply", s)
				if m.tool.plan == nil {
					continue
				}
				if s, err = m.run(ctx, m.tool.plan...); err != nil {
					return err
				}
				f.add(m.workload, m.tool.name, "plan", s)
			}
		}
	}
	for i, m := range machines {
		after, err := m.state(ctx)
		if err != nil {
			return err
		}
		if changed := before[i].differs(after); len(changed) > 0 {
			return fmt.Errorf("cannot compare: %s changed what was in line: %s", m.tool.name, strings.Join(changed, ", "))
		}
	}
	return nil
}

var began = time.Now()

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}
