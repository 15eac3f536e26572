package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// look opens the machine only to read what the daemon has written.
func (a *app) look() (*system.System, error) {
	return system.Open(system.Options{Root: a.rootDir, Gate: system.ReadOnly, Log: slog.Default()})
}

// document asks the daemon for one of its documents. there is false when it cannot be
// asked, or does not answer: then its files say what it wrote last.
func (a *app) document(ctx context.Context, ask func(*bus.Client, context.Context) ([]byte, error), into any) (there bool) {
	if a.rootDir != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	client, err := bus.Dial(ctx)
	if err != nil {
		return false
	}
	defer client.Close()
	content, err := ask(client, ctx)
	return err == nil && json.Unmarshal(content, into) == nil
}

// answerTimeout is for a daemon that hangs.
const answerTimeout = 3 * time.Second

func (a *app) status(ctx context.Context) (agent.Status, error) {
	var status agent.Status
	if a.document(ctx, (*bus.Client).Status, &status) {
		return status, nil
	}
	s, err := a.look()
	if err != nil {
		return status, err
	}
	status, err = agent.ReadStatus(ctx, s)
	if errors.Is(err, agent.ErrNotUp) {
		if r, noReport := agent.LastReport(s); noReport == nil {
			return status, fmt.Errorf("cannot tell the status: %w; what was found last is of %s: soe-agent report", err, r.Time.Format(time.RFC3339))
		}
	}
	if err != nil {
		return status, fmt.Errorf("cannot tell the status: %w", err)
	}
	if r, err := agent.LastReport(s); err == nil && !r.Public { // which the file that everybody may read has not
		status.Refused, status.Doubts, status.Awaited = r.Policy.Refused, r.Policy.Doubts, r.Awaited
	}
	return status, nil
}

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say what the daemon is doing, and what it waits for",
		Long: `Status says at a glance where the machine stands: compliant, not compliant, or converging
as long as not everything has been checked yet, what is not in line
or pending and until when, what the daemon does and waits for, which policy is in force
and for how long, and when AWS was reached last. With --watch it says it again when
something changes, until it is interrupted; with --json too, one document a line.

Exit code: 0 when everything is in line or pending, 2 when something is not, 1 when
the daemon is not running.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if watch {
				return a.watch(c.Context())
			}
			status, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(status)
			} else {
				a.printStatus(c.Context(), status, time.Now())
			}
			if err == nil && !status.Compliant {
				return errNotCompliant
			}
			return err
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "go on, and say what changes")
	return c
}

// atAGlance is how many resources a status names.
const atAGlance = 6

func (a *app) printStatus(ctx context.Context, s agent.Status, now time.Time) {
	row := func(name, value string) {
		if value != "" {
			a.printf("%-12s %s\n", name, value)
		}
	}
	verdict := s.Verdict.Or(s.Compliant).String()
	if counts := report.Counts(s.Summary); counts != "" {
		verdict += ": " + counts
	}
	row("compliance", verdict)
	a.printMatters(ctx, now)
	row("daemon", fmt.Sprintf("%s, pid %d, up %s, version %s", s.Phase, s.PID, report.Age(now.Sub(s.Started)), s.Version))
	row("busy with", strings.Join(s.Busy, ", "))
	row("packages", s.Packages)
	row("trouble", s.SafeMode)
	row("trouble", s.Room)
	row("trouble", s.Memory)
	if s.Waiting != "" {
		row("trouble", s.Waiting+upTo(now, "; next attempt in ", s.NextAttempt))
	}
	published := "none published to this machine yet: the seed is in force"
	if s.Serial > 0 {
		published = fmt.Sprintf("serial %d%s, %s", s.Serial, since(now, ", here for ", s.PolicySince), s.Digest)
	}
	row("policy", published)
	row("rollout", s.Rollout)
	row("personas", strings.Join(s.Personas, ", "))
	for _, what := range s.Awaited {
		row("awaited", what)
	}
	for i, doubt := range append(slices.Clone(s.Doubts), s.PersonaDoubts...) {
		if i < len(s.Doubts) || !slices.Contains(s.Doubts, doubt) {
			row("not known", doubt)
		}
	}
	if s.Unwatched != "" {
		row("not watched", fmt.Sprintf("%s; drift of that is found by the periodic verify alone, every %s or so", s.Unwatched, s.Verify))
	}
	for _, problem := range s.Refused {
		row("refused", problem)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Retries)) {
		row("failed", fmt.Sprintf("of %s: tried again in %s", kind, report.Age(s.Retries[kind].Sub(now))))
	}
	if !s.LastContact.IsZero() {
		row("last contact", ago(now, s.LastContact))
	}
	if !s.LastReport.IsZero() {
		row("reported", ago(now, s.LastReport))
	}
	if s.ReportError != "" {
		row("report", "not delivered: "+s.ReportError)
	}
	if s.LineError != "" {
		row("inventory", "not delivered: "+s.LineError)
	}
}

// printMatters says which resources are not in line, or wait for what. A daemon that is
// too busy for a report has said how many there are.
func (a *app) printMatters(ctx context.Context, now time.Time) {
	r, err := a.lastReport(ctx)
	if err != nil {
		return
	}
	var lines strings.Builder
	if r.Glance(&lines, a.style(), atAGlance, now) != nil {
		return
	}
	for line := range strings.Lines(lines.String()) {
		fmt.Fprintf(a.stdout, "%13s%s", "", line)
	}
}

// ago says how long ago something was.
func ago(now, then time.Time) string {
	if then.After(now.Add(time.Minute)) {
		return "at " + then.In(now.Location()).Format(time.DateTime) + ", by a clock that was ahead"
	}
	return report.Age(now.Sub(then)) + " ago"
}

// since and upTo say how long ago, or how far away, a time is; nothing of one that is
// not known, or over.
func since(now time.Time, before string, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return before + report.Age(now.Sub(then))
}

func upTo(now time.Time, before string, then time.Time) string {
	if !then.After(now) {
		return ""
	}
	return before + report.Age(then.Sub(now))
}

// lastReport is the report that was made last: root has the whole one.
func (a *app) lastReport(ctx context.Context) (report.Report, error) {
	var r report.Report
	if a.document(ctx, (*bus.Client).Report, &r) {
		return r, nil
	}
	s, err := a.look()
	if err != nil {
		return r, err
	}
	r, err = agent.LastReport(s)
	if errors.Is(err, agent.ErrNoReport) {
		return r, fmt.Errorf("cannot show the last report: %w; the daemon writes one, and so does soe-agent apply: systemctl start soe-agent; without them soe-agent plan says where the machine stands", err)
	}
	return r, err
}
