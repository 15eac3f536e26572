package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/test/box"
)

// passes is how many walks of the running daemon are measured.
const passes = 10

// daemon measures the agent's daemon on a machine that is in line: what it holds
// while it is idle, and what a walk takes that finds nothing to do.
func (f *findings) daemon(ctx context.Context, m *machine) error {
	if err := m.settle(ctx, "start"); err != nil {
		return err
	}
	select {
	case <-time.After(3 * time.Second): // idle is what it is measured as
	case <-ctx.Done():
		return ctx.Err()
	}
	_, status, err := m.process(ctx)
	if err != nil {
		return err
	}
	f.add(m.workload, agentName, "idle", sample{Peak: field(status, "VmRSS:")})
	f.add(m.workload, agentName, "peak", sample{Peak: field(status, "VmHWM:")})

	// It walks all the time, and tells of it.
	if err := m.WriteFiles(map[string]box.File{
		"/etc/soe-agent/agent.toml":                         {Content: "[schedule]\nverify = \"1s\"\n"},
		"/etc/systemd/system/soe-agent.service.d/tell.conf": {Content: "[Service]\nExecStart=\nExecStart=/usr/bin/soe-agent --verbose run\n"},
	}); err != nil {
		return err
	}
	if _, err := m.must(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if err := m.settle(ctx, "restart"); err != nil {
		return err
	}
	walks, err := m.walks(ctx)
	if err != nil {
		return err
	}
	for _, took := range walks {
		f.add(m.workload, agentName, "pass", sample{Took: took})
	}
	return nil
}

// settle starts the daemon and waits until it has checked everything.
func (m *machine) settle(ctx context.Context, how string) error {
	if _, err := m.must(ctx, "systemctl", "stop", "soe-configured.target"); err != nil {
		return err
	}
	if _, err := m.must(ctx, "systemctl", how, "soe-agent.service"); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		r, err := m.Exec(ctx, "systemctl", "is-active", "soe-configured.target")
		if err != nil || r.Code == 0 {
			return err
		}
		if time.Now().After(deadline) {
			status, _ := m.Exec(ctx, "soe-agent", "status")
			return fmt.Errorf("cannot measure the daemon: it does not settle: %s%s", status.Stdout, status.Stderr)
		}
		time.Sleep(20 * time.Millisecond) // settled is what is waited for, not measured
	}
}

// process is the daemon's PID, and its status as in proc(5).
func (m *machine) process(ctx context.Context) (pid, status string, err error) {
	out, err := m.must(ctx, "systemctl", "show", "-p", "MainPID", "--value", "soe-agent.service")
	if err != nil {
		return "", "", err
	}
	pid = strings.TrimSpace(out)
	status, err = m.must(ctx, "cat", "/proc/"+pid+"/status")
	return pid, status, err
}

// walks are what walks of everything took in the running daemon. It has two workers,
// one for what is quick and one for packages, that walk at the same time: the longer
// walk counts.
func (m *machine) walks(ctx context.Context) ([]time.Duration, error) {
	pid, _, err := m.process(ctx)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(time.Second) {
		journal, err := m.must(ctx, "journalctl", "--no-pager", "-o", "cat", "_PID="+pid)
		if err != nil {
			return nil, err
		}
		var quick, slow []time.Duration
		for line := range strings.Lines(journal) {
			if !strings.HasPrefix(line, "pass ended ") {
				continue
			}
			_, value, _ := strings.Cut(line, " took=")
			took, err := time.ParseDuration(strings.TrimSpace(value))
			if err != nil {
				return nil, fmt.Errorf("cannot read what the daemon tells of a pass: %w: %s", err, line)
			}
			if strings.Contains(line, "dropin") {
				quick = append(quick, took)
			} else {
				slow = append(slow, took)
			}
		}
		// The first pass of each is that after the start.
		if n := min(len(quick), len(slow)); n > passes {
			var walks []time.Duration
			for i := n - passes; i < n; i++ {
				walks = append(walks, max(quick[i], slow[i]))
			}
			return walks, nil
		}
	}
	return nil, fmt.Errorf("cannot measure a pass of the daemon: it makes none: %w", context.Cause(ctx))
}

// field is a number in a text such as /proc/PID/status, 0 if it is not there.
func field(text, key string) int64 {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			n, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}
