package pcoip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A value that the agent does not start with leaves nobody a way to the desktop. So
// a directive is on trial from its change until the agent has run with it for a
// while; of an agent that fails meanwhile, having been seen to run before, it is
// put back to what it was before the policy, and that agent never gets it again.
const trial = 2 * time.Minute

const aspectStart = "start"

// onTrial says whether a directive may be why the agent has failed.
func (k *Kind) onTrial(id policy.ID) bool {
	if _, named := k.policy.Lookup(id); !named || !k.seenUp {
		return false
	}
	now := k.system.Clock.Now()
	from := k.ledger.Since(id, converge.Compliant, now)
	if changed := k.ledger.Changed(id); changed.After(from) {
		from = changed
	}
	return now.Sub(from) < trial
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
	f, err := k.look()
	if err != nil {
		return err
	}
	m, err := readManual(k.system.FS)
	if err != nil {
		return err
	}
	w := k.wishes(m)
	for _, r := range failed {
		for _, name := range sorted(w.values[r.ID]) {
			f.put(name, k.original().lines(name))
		}
		k.ledger.Own(k.refusal(r.ID))
	}
	if err := k.ledger.Flush(); err != nil {
		return err
	}
	if f.absent != "" {
		return errors.New(f.absent)
	}
	if err := k.system.FS.WriteFile(confPath, []byte(f.String()), system.Attr{Mode: confMode}); err != nil {
		return err
	}
	agent, err := k.agent(ctx)
	k.failing = ""
	if err != nil || agent.failed == "" {
		return err
	}
	// Programs may be open in a session that has lost its stream.
	if person, err := facts.AtDesktop(ctx, k.system); err != nil || person != "" {
		return err
	}
	// After some failures systemd does not start a unit any more. Should that remain
	// so, the restart says it.
	_, _ = k.system.Runner.Run(ctx, system.Command{Argv: []string{"systemctl", "reset-failed", agent.failed}})
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	return k.system.Units.Restart(ctx, agent.failed)
}

// refusedBefore says why a value is not tried again, or "".
func (k *Kind) refusedBefore(id policy.ID) string {
	if !k.ledger.Owns(k.refusal(id)) {
		return ""
	}
	return fmt.Sprintf("the installed PCoIP agent failed with it, so it was put back to what it was before (%s)", said(k.original().lines(directive(id))))
}
