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

// A value that the agent does not start with leaves nobody a way to the desktop. So
// a directive is on trial from its change until the agent has run with it for a
// while; of an agent that fails meanwhile, having been seen to run before, it is
// put back to what it was before the policy, and that agent never gets it again.
const trial = 2 * time.Minute

const aspectStart = "start"

// onTrial says whether a directive may be why the agent has failed.
func (k *Kind) onTrial(id policy.ID, noted notes) bool {
	c, changed := noted.Changes[id]
	if _, named := k.policy.Lookup(id); !named || !changed || !k.seenUp {
		return false
	}
	return system.Uptime(k.system.Clock)-max(c.At, k.read[id]) < trial
}

// follow notices when the agent has begun to run with a directive for another reason
// than that it was restarted for it: the trial begins then.
func (k *Kind) follow(id policy.ID, unread bool) {
	if k.waits[id] && !unread {
		k.read[id] = system.Uptime(k.system.Clock)
	}
	k.waits[id] = unread
}

// refusal notes that this agent does not start with a value; another one may.
func (k *Kind) refusal(id policy.ID) policy.ID {
	want, _ := k.policy.Lookup(id)
	spec, _ := want.Spec.(policy.PCoIP)
	program, _ := k.system.FS.Stat("/usr/sbin/pcoip-agent")
	return policy.NewID("pcoip-refused", fmt.Sprintf("%s=%s/%d", id.Name(), strings.TrimSpace(spec.Value), program.ModTime.Unix()))
}

// failedTrial says whether a resource has drifted for the agent having failed.
func failedTrial(r converge.Resource) bool {
	return slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return d.Aspect == aspectStart })
}

// putBack makes the directives of failed trials what they were before the policy,
// and starts the agent again.
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

// startAgain starts an agent that has failed, and has read what it fails with. The
// programs of a session that has lost its stream may be open: they come first, and
// the start is owed until they have ended.
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

// judgeOwed judges a directive that was put back under a session, whether the agent
// can be started now. Whoever has started it meanwhile has paid.
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

// refusedBefore says why a value is not tried again, or "".
func (k *Kind) refusedBefore(id policy.ID, original keyed.File) string {
	if !k.ledger.Owns(k.refusal(id)) {
		return ""
	}
	return fmt.Sprintf("the installed PCoIP agent failed with it, so it was put back to what it was before (%s)", said(original.Lines(directive(id))))
}
