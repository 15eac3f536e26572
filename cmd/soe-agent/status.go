package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// look opens the machine only to read what the daemon has written.
func (a *app) look() (*system.System, error) {
	return system.Open(system.Options{Root: a.rootDir, Gate: system.ReadOnly})
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
	if err != nil {
		return status, fmt.Errorf("cannot tell the status: %w", err)
	}
	return status, nil
}

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say what the daemon is doing, and what it waits for",
		Long: `Status says at a glance where the machine stands: compliant or not, what is pending,
what the daemon waits for, which policy is in force. With --watch it says it again when
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
				a.printStatus(status, time.Now())
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

func (a *app) printStatus(s agent.Status, now time.Time) {
	verdict := "compliant"
	switch {
	case s.LastPass.IsZero():
		verdict = "not known yet"
	case !s.Compliant:
		verdict = "not compliant: soe-agent report says why"
	}
	row := func(name, value string) { a.printf("%-12s %s\n", name, value) }
	row("compliance", verdict)
	row("daemon", fmt.Sprintf("%s, pid %d, up %s, version %s", s.Phase, s.PID, ago(now, s.Started), s.Version))
	if len(s.Busy) > 0 {
		row("busy with", strings.Join(s.Busy, ", "))
	}
	if s.Packages != "" {
		row("packages", s.Packages)
	}
	if s.SafeMode != "" {
		row("trouble", s.SafeMode)
	}
	if s.Waiting != "" {
		next := ""
		if s.NextAttempt.After(now) {
			next = fmt.Sprintf("; next attempt in %s", s.NextAttempt.Sub(now).Round(time.Second))
		}
		row("trouble", s.Waiting+next)
	}
	published := "none published to this machine yet: the seed is in force"
	if s.Serial > 0 {
		published = fmt.Sprintf("serial %d, %s", s.Serial, s.Digest)
	}
	row("policy", published)
	if s.Rollout != "" {
		row("rollout", s.Rollout)
	}
	row("personas", strings.Join(s.Personas, ", "))
	for _, doubt := range s.PersonaDoubts {
		row("not known", doubt)
	}
	for _, problem := range s.Refused {
		row("refused", problem)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Retries)) {
		row("failed", fmt.Sprintf("of %s: tried again in %s", kind, max(0, s.Retries[kind].Sub(now)).Round(time.Second)))
	}
	if !s.LastContact.IsZero() {
		row("last contact", ago(now, s.LastContact)+" ago")
	}
	if !s.LastReport.IsZero() {
		row("reported", ago(now, s.LastReport)+" ago")
	}
	if s.ReportError != "" {
		row("report", "not delivered: "+s.ReportError)
	}
	if s.LineError != "" {
		row("inventory", "not delivered: "+s.LineError)
	}
	if n := s.Summary[converge.Pending]; n > 0 {
		row("pending", fmt.Sprintf("%d: soe-agent report says until when", n))
	}
}

func ago(now, then time.Time) string { return now.Sub(then).Round(time.Second).String() }

// lastReport is the report that the daemon made last.
func (a *app) lastReport(ctx context.Context) (report.Report, error) {
	var r report.Report
	if a.document(ctx, (*bus.Client).Report, &r) {
		return r, nil
	}
	r = report.Report{}
	s, err := a.look()
	if err != nil {
		return r, err
	}
	content, err := s.FS.ReadFile(agent.ReportFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, errors.New("cannot show the last report: there is none yet; the daemon writes one, and so does: soe-agent apply")
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("cannot read the report in %s: %w", agent.ReportFile, err)
	}
	return r, nil
}
