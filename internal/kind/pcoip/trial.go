package pcoip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// With a value that keeps the agent from starting, nobody can reach the desktop. So a directive is
// on trial from its change until the agent has run with it for this long. If an agent that was seen
// running fails during the trial, the directive gets the value it had before the policy, and that
// version of the agent never gets the failed value again.
const trial = 2 * time.Minute

const aspectStart = "start"

// onTrial reports whether a directive may be why the agent has failed.
func (k *Kind) onTrial(id policy.ID, noted notes) bool {
	c, changed := noted.Changes[id]
	if _, named := k.policy.Lookup(id); !named || !changed || !k.seenUp {
		return false
	}
	return system.Uptime(k.system.Clock)-max(c.At, k.read[id]) < trial
}

// follow notices when the agent has read a directive without the kind having restarted it. The
// trial begins then.
func (k *Kind) follow(id policy.ID, unread bool) {
	if k.waits[id] && !unread {
		k.read[id] = system.Uptime(k.system.Clock)
	}
	k.waits[id] = unread
}

// refusal returns the ledger's entry for "this agent does not start with this value". Another
// version of the agent may.
func (k *Kind) refusal(id policy.ID) policy.ID {
	want, _ := k.policy.Lookup(id)
	spec, _ := want.Spec.(policy.PCoIP)
	program, _ := k.system.FS.Stat("/usr/sbin/pcoip-agent")
	return policy.NewID("pcoip-refused", fmt.Sprintf("%s=%s/%d", id.Name(), strings.TrimSpace(spec.Value), program.ModTime.Unix()))
}

// failedTrial reports whether a resource has drifted because the agent failed.
func failedTrial(r converge.Resource) bool {
	return slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return d.Aspect == aspectStart })
}

// putBack restores the previous values of directives whose trial failed, and starts the agent
// again.
func (k *Kind) putBack(ctx context.Context, failed []converge.Resource) error {
	mark := k.Mark()
	f, err := k.look()
	if err != nil {
		return err
	}
	m, err := readManual(k.system.FS)
	if err != nil {
		return err
	}
	original, err := k.original()
	if err != nil {
		return err
	}
	w, before := k.wishes(m), f.String()
	for _, r := range failed {
		for _, name := range sorted(w.values[r.ID]) {
			f.Put(name, original.Lines(name))
		}
		k.ledger.Own(k.refusal(r.ID))
	}
	if err := k.Since(mark); err != nil {
		return err
	}
	if err := k.ledger.Flush(); err != nil {
		return err
	}
	if f.absent != "" {
		return errors.New(f.absent)
	}
	if f.String() != before {
		if err := k.system.FS.WriteFile(confPath, []byte(f.String()), system.Attr{Mode: confMode}); err != nil {
			return err
		}
	}
	agent, err := k.agent(ctx)
	k.failing = ""
	if err != nil || agent.failed == "" {
		return err
	}
	return k.startAgain(ctx, agent.failed, k.consentTo(failed))
}

// startAgain starts an agent that failed after reading its file. If the programs of a session that
// lost its stream may still be open, the start is postponed until they have ended, and noted as
// owed.
func (k *Kind) startAgain(ctx context.Context, unit string, consent sessionguard.Consent) error {
	err := sessionguard.MayRestart(ctx, k.system, unit, consent)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, restartTimeout)
		defer cancel()
		err = sessionguard.Restart(ctx, k.system, unit, consent)
	}
	if held := (*sessionguard.Held)(nil); !errors.As(err, &held) {
		return errors.Join(err, k.noteOwed(nil))
	}
	failed, unsure := k.system.Units.Unit(ctx, unit)
	if unsure != nil {
		return unsure
	}
	return errors.Join(err, k.noteOwed(map[string]int64{unit: failed.ActiveSince.UnixMicro()}))
}

// judgeOwed reports whether the agent can be started now, for a directive that was put back during
// a session. If somebody has started the agent in the meantime, nothing is owed any more.
func (k *Kind) judgeOwed(ctx context.Context, r *converge.Resource, noted notes, failed, person string, consent sessionguard.Consent) error {
	at, owed := noted.Owed[failed]
	if !owed {
		return nil
	}
	unit, err := k.system.Units.Unit(ctx, failed)
	if err != nil || unit.ActiveSince.UnixMicro() != at {
		return err
	}
	if held := consent.Hold(k.system, person, "whose programs may be open: "+failed+" is started again when nobody is at the desktop"); held != nil {
		r.Note(r.Reason + "; " + held.Error())
		return nil
	}
	r.AddPublicDrift(aspectStart, "the PCoIP agent runs", failed+" has failed and was not started again yet")
	return nil
}

// refusedBefore returns why a value is not tried again, or "".
func (k *Kind) refusedBefore(id policy.ID, original keyed.File) string {
	if !k.ledger.Owns(k.refusal(id)) {
		return ""
	}
	return fmt.Sprintf("the installed PCoIP agent failed with it, so it was put back to what it was before (%s)", said(original.Lines(directive(id))))
}
