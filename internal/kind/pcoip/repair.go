package pcoip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Repair implements converge.Kind. It writes the file once for all directives, and restarts the
// agent at most once.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	failed := slices.DeleteFunc(slices.Clone(drifted), func(r converge.Resource) bool { return !failedTrial(r) })
	drifted = slices.DeleteFunc(slices.Clone(drifted), failedTrial)
	var outcomes []converge.Outcome
	if len(failed) > 0 {
		if err := k.putBack(ctx, failed); err != nil {
			for _, r := range failed {
				outcomes = append(outcomes, sessionguard.Outcome(r.ID, public.Because(fmt.Sprintf("cannot put %s back", directive(r.ID)), err)))
			}
		}
	}
	return append(outcomes, k.set(ctx, drifted)...)
}

func (k *Kind) set(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	if len(drifted) == 0 {
		return nil
	}
	unread, err := k.repair(ctx, drifted)
	if err == nil && (unread || slices.ContainsFunc(drifted, waitsForRestart)) {
		err = k.restart(ctx, k.consentTo(drifted))
	}
	if err == nil {
		return nil
	}
	outcomes := make([]converge.Outcome, len(drifted))
	for i, r := range drifted {
		outcomes[i] = sessionguard.Outcome(r.ID, public.Because("cannot set "+directive(r.ID), err))
	}
	return outcomes
}

// waitsForRestart reports whether the file is already right and only the restart is missing.
func waitsForRestart(r converge.Resource) bool {
	return slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return d.Aspect == converge.AspectEffect })
}

// repair writes the file. unread reports whether the agent must be restarted to read a change.
func (k *Kind) repair(ctx context.Context, drifted []converge.Resource) (unread bool, err error) {
	f, err := k.look()
	if err != nil {
		return false, err
	}
	m, err := readManual(k.system.FS)
	if err != nil {
		return false, err
	}
	original, err := k.original()
	if err != nil {
		return false, err
	}
	w := k.wishes(m)
	before := f.String()
	var changed []policy.ID
	for _, r := range drifted {
		unchanged := f.String()
		k.amend(&f.File, r.ID, w, original)
		if f.String() != unchanged {
			changed = append(changed, r.ID)
			unread = unread || applies(r.ID, m) != policy.Immediately
			k.ledger.MarkChanged(r.ID, k.system.Clock.Now())
		} else if !waitsForRestart(r) && !k.wanted(r.ID, w) && r.ID != encryption() {
			k.ledger.Disown(r.ID)
		}
	}
	switch {
	case f.absent != "":
		if slices.ContainsFunc(drifted, func(r converge.Resource) bool { return k.wanted(r.ID, w) }) {
			return false, errors.New(f.absent)
		}
		return false, k.ledger.Flush()
	case len(changed) == 0 && !f.missing:
		if f.info.Attr == (system.Attr{Mode: confMode}) {
			return false, k.ledger.Flush()
		}
		return false, k.system.FS.SetAttr(confPath, system.Attr{Mode: confMode})
	}
	after := f.String()
	if after == before {
		return false, k.ledger.Flush()
	}
	// Flush first, so that a crash after the write does not hide what is pending.
	if err := k.ledger.Flush(); err != nil {
		return false, err
	}
	return unread, k.write(ctx, after, changed)
}

// write writes the file, and records the agent's start before the write. If the agent was started
// during the write, it records the later start.
func (k *Kind) write(ctx context.Context, content string, changed []policy.ID) error {
	agent, err := k.agent(ctx)
	if err != nil {
		return err
	}
	if err := k.noteChanges(changed, agent.starts); err != nil {
		return err
	}
	if err := k.system.FS.WriteFile(confPath, []byte(content), system.Attr{Mode: confMode}); err != nil {
		return err
	}
	later, err := k.agent(ctx)
	if err != nil || maps.Equal(agent.starts, later.starts) {
		return err
	}
	return k.noteChanges(changed, later.starts)
}

// amend sets the directives of a resource to what the policy wants, or back to their previous
// values.
func (k *Kind) amend(c *keyed.File, id policy.ID, w wishes, original keyed.File) {
	if k.wanted(id, w) {
		for _, name := range sorted(w.values[id]) {
			k.ledger.Own(policy.NewID("pcoip", strings.TrimPrefix(name, "pcoip.")))
			c.Set(name, w.values[id][name])
		}
		return
	}
	c.Put(directive(id), original.Lines(directive(id)))
}
