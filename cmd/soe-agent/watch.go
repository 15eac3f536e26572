package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
)

// notRunning is the phase of a daemon that is not there.
const notRunning agent.Phase = "not running"

// watch says where the machine stands whenever that changes, until ctx is done.
func (a *app) watch(ctx context.Context) error {
	if a.rootDir != "" {
		return fmt.Errorf("cannot watch what is below --root: it does not run")
	}
	said := ""
	for ctx.Err() == nil {
		if client, err := bus.Dial(ctx); err == nil {
			said = a.follow(ctx, client, said)
			client.Close()
		}
		if ctx.Err() == nil {
			said = a.say(ctx, agent.Status{Phase: notRunning}, said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // it is being restarted, as a rule
		}
	}
	return nil
}

// follow watches one run of the daemon, and returns what it said last.
func (a *app) follow(ctx context.Context, client *bus.Client, said string) string {
	changes, err := client.Changes(ctx)
	if err != nil {
		return said
	}
	for {
		var status agent.Status
		content, err := client.Status(ctx)
		if err == nil && json.Unmarshal(content, &status) == nil {
			said = a.say(ctx, status, said)
		}
		select {
		case <-ctx.Done():
			return said
		case _, up := <-changes:
			if !up {
				return said
			}
		}
	}
}

// say shows a status: anew on a terminal, and elsewhere as one line if that differs
// from what was said before. It returns what was said.
func (a *app) say(ctx context.Context, s agent.Status, before string) string {
	line := oneLine(s)
	if a.json {
		document, err := json.Marshal(s)
		if err != nil {
			return before
		}
		line = string(document)
	}
	switch {
	case a.json && line != before:
		fmt.Fprintln(a.stdout, line)
	case a.json:
	case a.onTerminal():
		const home, clear = "\x1b[H", "\x1b[J"
		fmt.Fprint(a.stdout, home+clear)
		if s.Phase == notRunning {
			a.printf("%s\n", line)
		} else {
			a.printStatus(ctx, s, time.Now())
		}
	case line != before:
		a.printf("%s %s\n", time.Now().Format(time.TimeOnly), line)
	}
	return line
}

// oneLine is what matters of a status.
func oneLine(s agent.Status) string {
	if s.Phase == notRunning {
		return "the daemon is not running"
	}
	parts := []string{string(s.Phase)}
	add := func(there bool, format string, args ...any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	verdict := string(s.Verdict.Or(s.Compliant))
	add(verdict != string(s.Phase), "%s", verdict)
	for _, state := range []converge.State{converge.Failed, converge.Contested, converge.Drifted, converge.Pending, converge.Corrected, converge.Unknown} {
		add(s.Summary[state] > 0, "%d %s", s.Summary[state], state)
	}
	add(s.Serial > 0, "serial %d", s.Serial)
	add(len(s.Busy) > 0, "busy with %s", strings.Join(s.Busy, ", "))
	add(s.Packages != "", "packages: %s", s.Packages)
	add(s.Waiting != "", "waiting: %s", s.Waiting)
	add(len(s.Refused) > 0, "%d problems with a policy or configuration that is refused", len(s.Refused))
	return strings.Join(parts, "; ")
}
