// Package pcoip keeps directives of pcoip-agent.conf, the configuration of the
// agent that streams the desktop by PCoIP.
//
// The file is AWS's and the policy's together: what the policy does not name
// stays as it is, comments, order and blanks included. A wrong file can make the
// desktop unreachable, so it is replaced whole or not at all.
//
// The agent reads the file when it starts, and to restart it ends the session and
// the window manager with it (WorkSpaces Administration Guide, "Manage your Amazon
// Linux 2 WorkSpaces"). So it is never restarted: a directive that a running agent
// has not read yet is pending until the reboot.
package pcoip

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	confDir  = "/etc/pcoip-agent"
	confPath = confDir + "/pcoip-agent.conf"
	confMode = 0o644
)

// agentUnits are the units that a WorkSpace may have the agent in. Which of them
// reads the file is not documented.
func agentUnits() []string { return []string{"pcoip.service", "pcoip-agent.service"} }

// Kind keeps pcoip/… resources.
type Kind struct {
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
}

// New returns the kind for a policy.
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	return &Kind{policy: p, system: s, ledger: l}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return "pcoip" }

// Watches implements converge.Watcher.
func (*Kind) Watches() []converge.Watch {
	watches := []converge.Watch{{Dir: confDir}}
	for _, unit := range agentUnits() {
		watches = append(watches, converge.Watch{Unit: unit})
	}
	return watches
}

func key(id policy.ID) string { return "pcoip." + id.Name() }

// found is the file as it is on the machine.
type found struct {
	conf
	info system.Info
	// absent is why there is no file and can be none.
	absent  string
	missing bool // there is no file, and can be one
}

func (k *Kind) look() (found, error) {
	info, err := k.system.FS.Stat(confPath)
	if errors.Is(err, fs.ErrNotExist) {
		if dir, err := k.system.FS.Stat(confDir); err != nil || !dir.IsDir() {
			return found{absent: "the PCoIP agent is not installed, so that nothing here heeds the directive; " +
				"where another protocol streams the desktop, leave it to the personas that use PCoIP"}, nil
		}
		return found{missing: true}, nil
	}
	if err != nil {
		return found{}, err
	}
	if !info.IsRegular() {
		return found{absent: confPath + " is not a regular file; remove it by hand if that is right"}, nil
	}
	content, err := k.system.FS.ReadFile(confPath)
	if err != nil {
		return found{}, err
	}
	return found{conf: parse(string(content)), info: info}, nil
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.PCoIP](k.policy)
	if len(wants) == 0 {
		return nil, nil
	}
	f, err := k.look()
	if err != nil {
		return nil, err
	}
	resources := make([]converge.Resource, len(wants))
	for i, want := range wants {
		r := converge.Wanted(want.Resource)
		if f.absent != "" {
			r.Fail(fmt.Sprintf("cannot set %s: %s", key(r.ID), f.absent))
		} else {
			checkDirective(&r, want.Spec.Value, f)
		}
		resources[i] = r
	}
	return resources, k.checkEffect(ctx, resources)
}

func checkDirective(r *converge.Resource, want string, f found) {
	switch got := f.values(key(r.ID)); {
	case len(got) == 0:
		r.Differs("value", want, "not set")
	case len(got) > 1:
		r.Differs("value", want, strings.Join(got, " and ")+", of which one counts")
	case got[0] != want:
		r.Differs("value", want, got[0])
	}
	if wanted := (system.Attr{Mode: confMode}); !f.missing && f.info.Attr != wanted {
		r.Differs("mode", describe(wanted), describe(f.info.Attr))
	}
}

func describe(a system.Attr) string { return fmt.Sprintf("%04o %d:%d", a.Mode, a.UID, a.GID) }

// checkEffect finds the directives that are right in the file and that a running
// agent has not read since they were changed.
func (k *Kind) checkEffect(ctx context.Context, resources []converge.Resource) error {
	var running time.Time // since when, or zero
	asked := false
	for i := range resources {
		r := &resources[i]
		changed := k.ledger.Changed(r.ID)
		directive, _ := policy.LookupPCoIP(r.ID.Name())
		if r.State != converge.Compliant || changed.IsZero() || directive.Immediate {
			continue
		}
		if !asked {
			var err error
			if running, err = k.runningSince(ctx); err != nil {
				return fmt.Errorf("cannot tell whether the PCoIP agent has read its configuration: %w", err)
			}
			asked = true
		}
		if !running.IsZero() && running.Before(changed) {
			r.Wait(converge.Reboot, fmt.Sprintf("the PCoIP agent, which has been running since %s, reads it only when it starts: "+
				"it takes effect when the WorkSpace is rebooted (to restart the agent would end the session)",
				running.Local().Format("2006-01-02 15:04")))
		}
	}
	return nil
}

// runningSince is when the agent was started, or the zero time when it does not
// run. Of two units the earlier one counts.
func (k *Kind) runningSince(ctx context.Context) (time.Time, error) {
	var since time.Time
	for _, name := range agentUnits() {
		unit, err := k.system.Units.Unit(ctx, name)
		if errors.Is(err, system.ErrNotRunning) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		if unit.ActiveState == "active" && (since.IsZero() || unit.ActiveSince.Before(since)) {
			since = unit.ActiveSince
		}
	}
	return since, nil
}

// Repair implements converge.Kind. The file is written once for all directives.
func (k *Kind) Repair(_ context.Context, drifted []converge.Resource) []converge.Outcome {
	err := k.repair(drifted)
	if err == nil {
		return nil
	}
	outcomes := make([]converge.Outcome, len(drifted))
	for i, r := range drifted {
		outcomes[i] = converge.Outcome{ID: r.ID, Err: fmt.Errorf("cannot set %s: %w", key(r.ID), err)}
	}
	return outcomes
}

func (k *Kind) repair(drifted []converge.Resource) error {
	f, err := k.look()
	if err != nil {
		return err
	}
	if f.absent != "" {
		return errors.New(f.absent)
	}
	before := f.String()
	for _, r := range drifted {
		want, ok := k.policy.Lookup(r.ID)
		spec, isPCoIP := want.Spec.(policy.PCoIP)
		if !ok || !isPCoIP {
			continue
		}
		unchanged := f.String()
		if f.set(key(r.ID), spec.Value); f.String() != unchanged {
			k.ledger.MarkChanged(r.ID, k.system.Clock.Now())
		}
	}
	after := f.String()
	if after == before && !f.missing {
		return k.system.FS.SetAttr(confPath, system.Attr{Mode: confMode})
	}
	// First, so that a crash after the write does not hide what is pending.
	if err := k.ledger.Flush(); err != nil {
		return err
	}
	return k.system.FS.WriteFile(confPath, []byte(after), system.Attr{Mode: confMode})
}
