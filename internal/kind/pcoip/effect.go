package pcoip

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// agentUnits returns the units that may run the agent on a WorkSpace. It is not documented which of
// them reads the file.
func agentUnits() []string { return []string{"pcoip-agent.service", "pcoip.service"} }

// streaming is the state of the agent's units in systemd.
type streaming struct {
	// unit is the one to restart: the running one. If two run, it is the one that starts the
	// agent's program. It is empty if none runs, or if it cannot be told which.
	unit   string
	since  time.Time        // when it was started, for people; zero if it is not running
	failed string           // the unit that has failed, if none runs
	starts map[string]int64 // when each running unit was started, by systemd, in µs

	starting string // a unit that systemd is about to start
}

// agent finds the unit of the agent. In an image there is none.
func (k *Kind) agent(ctx context.Context) (streaming, error) {
	found := streaming{starts: map[string]int64{}}
	var running, ours []string
	units, err := k.system.Units.States(ctx, agentUnits())
	if errors.Is(err, system.ErrNotRunning) {
		return streaming{}, nil
	}
	if err != nil {
		return streaming{}, err
	}
	for _, unit := range units {
		name := unit.Name
		switch unit.ActiveState {
		case "failed":
			found.failed = name
		case "activating":
			found.starting = name
		case "active":
			running = append(running, name)
			found.starts[name] = unit.ActiveSince.UnixMicro()
			if k.runsTheAgent(name) {
				ours = append(ours, name)
			}
			// If two units run, the earlier start counts.
			if found.since.IsZero() || unit.ActiveSince.Before(found.since) {
				found.since = unit.ActiveSince.In(system.Here(k.system.Clock).Location())
			}
		}
	}
	if len(running) > 0 {
		found.failed = ""
	}
	if k.system.Clock.Now().Sub(k.restarted) < trial && k.failing != "" {
		found.failed = k.failing // it may be up at the moment, only to fail again
	}
	switch {
	case len(running) == 1:
		found.unit = running[0]
	case len(ours) == 1:
		found.unit = ours[0]
		found.since = units[slices.IndexFunc(units, func(u system.Unit) bool { return u.Name == found.unit })].ActiveSince.In(system.Here(k.system.Clock).Location())
	}
	return found, nil
}

// runsTheAgent reports whether a unit's file starts the agent's program.
func (k *Kind) runsTheAgent(unit string) bool {
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		content, err := k.system.FS.ReadFile(path.Join(dir, unit))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
				program, _, _ := strings.Cut(strings.TrimLeft(command, "-@+!: "), " ")
				return path.Base(program) == "pcoip-agent"
			}
		}
	}
	return false
}

// checkEffect checks the directives that are right in the file and take effect only when the agent
// starts. It marks those that the agent has not read since they were changed.
func (k *Kind) checkEffect(ctx context.Context, resources []converge.Resource, at map[policy.ID]policy.PCoIPEffect) error {
	noted, err := k.readNotes()
	if err != nil {
		return err
	}
	var agent *streaming
	person := ""
	for i := range resources {
		r := &resources[i]
		owed := len(noted.Owed) > 0 && r.State == converge.Failed && k.ledger.Owns(k.refusal(r.ID))
		if !owed && (r.State != converge.Compliant || k.ledger.Changed(r.ID).IsZero() || at[r.ID] == policy.Immediately) {
			continue
		}
		if agent == nil {
			k.seeWhetherItStays(ctx)
			found, err := k.agent(ctx)
			if err != nil {
				return fmt.Errorf("cannot tell whether the PCoIP agent has read its configuration: %w", err)
			}
			if person, err = facts.AtDesktop(ctx, k.system); err != nil {
				return err
			}
			agent = &found
			k.seenUp = k.seenUp || agent.failed == ""
		}
		consent := sessionguard.ConsentTo(k.policy, k.window, r.ID)
		if owed {
			if err := k.judgeOwed(ctx, r, noted, agent.failed, person, consent); err != nil {
				return err
			}
			continue
		}
		unread := agent.unread(noted.Changes[r.ID])
		k.follow(r.ID, unread)
		if agent.failed != "" && k.onTrial(r.ID, noted) {
			r.AddPublicDrift(aspectStart, "the PCoIP agent runs", agent.failed+" has failed since "+directive(r.ID)+" was changed")
			continue
		}
		agent.judge(r, unread, consent.Hold(k.system, person, "whose session would end with "+agent.unit))
	}
	return nil
}

func (a *streaming) judge(r *converge.Resource, unread bool, hold error) {
	since := a.since.Format("2006-01-02 15:04:05")
	held := (*sessionguard.Held)(nil)
	switch {
	case a.failed != "":
		r.SetFailed(fmt.Sprintf("it is set, but %s has failed, so that nobody can connect; see: journalctl -u %s", a.failed, a.failed)).ReasonIsPublic()
	case !unread:
	case a.unit == "":
		r.SetPending(converge.Reboot, fmt.Sprintf("the PCoIP agent, which has been running since %s, reads it only when it starts: "+
			"it takes effect when the WorkSpace is rebooted (which of %s is the agent cannot be told)", since, strings.Join(agentUnits(), " and "))).ReasonIsPublic()
	case errors.As(hold, &held):
		r.SetPending(held.Until, fmt.Sprintf("the PCoIP agent, which has been running since %s, reads it only when it starts: "+
			"%s is restarted when nobody is at the desktop, or the WorkSpace is rebooted; %s", since, a.unit, held.Reason)).ReasonIsPublic()
	default:
		r.AddPublicDrift(converge.AspectEffect, "read by the PCoIP agent", "it has been running since "+since)
	}
}

// consentTo returns the policy's consent to the restart that the resources wait for.
func (k *Kind) consentTo(resources []converge.Resource) sessionguard.Consent {
	ids := make([]policy.ID, len(resources))
	for i, r := range resources {
		ids[i] = r.ID
	}
	return sessionguard.ConsentTo(k.policy, k.window, ids...)
}

// restart restarts the agent so that it reads its file, unless that would end a session.
func (k *Kind) restart(ctx context.Context, consent sessionguard.Consent) error {
	agent, err := k.agent(ctx)
	if err != nil || agent.unit == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	if err := k.noteStart(agent); err != nil {
		return err
	}
	err = sessionguard.Restart(ctx, k.system, agent.unit, consent)
	if held := (*sessionguard.Held)(nil); errors.As(err, &held) {
		return err
	}
	k.seenUp = true
	k.restarted, k.failing, k.unsure = k.system.Clock.Now(), "", agent.unit
	if err != nil {
		if k.seeWhetherItStays(ctx); k.failing != "" {
			return nil // the next check finds the failure and what to put back
		}
	}
	return err
}

// settling is how long a newly started agent may take to read the file and fail. systemd may call
// it active before that.
const settling = time.Second

// seeWhetherItStays waits until the restarted agent has failed or has settled. The next check calls
// it, so that other work can be done in the meantime.
func (k *Kind) seeWhetherItStays(ctx context.Context) {
	unit := k.unsure
	k.unsure = ""
	for unit != "" {
		agent, err := k.agent(ctx)
		if err == nil && (agent.failed != "" || agent.starting == unit) { // a unit still activating has failed, because the restart waited for the start
			k.failing = unit
			return
		}
		if k.system.Clock.Now().Sub(k.restarted) >= settling || k.system.Clock.Sleep(ctx, settling/5) != nil {
			return
		}
	}
}
