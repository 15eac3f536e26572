package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Repair implements converge.Kind. The rules in force change in one step for each rule set. The
// files for the boot are written after that, so that they never have rules that the kernel did not
// accept.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	err := k.repair(ctx, drifted)
	if err == nil {
		return nil
	}
	for _, r := range drifted {
		verb := "cannot put " + string(r.ID) + " in force"
		if _, named := k.policy.Lookup(r.ID); !named {
			verb = "cannot take " + string(r.ID) + " out of force"
		}
		outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because(verb, err)})
	}
	return outcomes
}

func (k *Kind) repair(ctx context.Context, drifted []converge.Resource) error {
	isDrifted := map[policy.ID]bool{}
	for _, r := range drifted {
		isDrifted[r.ID] = true
		if _, named := k.policy.Lookup(r.ID); named {
			k.ledger.Own(r.ID)
		}
	}
	if err := k.ledger.Flush(); err != nil {
		return fmt.Errorf("cannot record what is loaded: %w", err)
	}
	wanted := len(policy.Of[policy.Firewall](k.policy)) > 0
	if !wanted && len(k.unwantedBut(isDrifted)) == 0 {
		if err := k.dismantle(ctx); err != nil {
			return err
		}
	} else if err := k.replace(ctx, wanted, isDrifted); err != nil {
		return err
	}
	for _, r := range drifted {
		if _, named := k.policy.Lookup(r.ID); !named {
			k.ledger.Disown(r.ID)
		}
	}
	return nil
}

func (k *Kind) unwantedBut(isDrifted map[policy.ID]bool) []policy.ID {
	return slices.DeleteFunc(k.unwanted(), func(id policy.ID) bool { return isDrifted[id] })
}

// replace loads the rules of what has drifted, together with the other existing rules.
func (k *Kind) replace(ctx context.Context, wanted bool, isDrifted map[policy.ID]bool) error {
	found, err := k.observe(ctx, wanted)
	if err != nil {
		return err
	}
	p, err := k.planned(found.views, func(id policy.ID) bool {
		_, named := k.policy.Lookup(id)
		return isDrifted[id] || named && k.policy.Auditing(id) < 0
	})
	if err != nil {
		return err
	}
	if k.system.Running() && !inForce(found.views, p) {
		if err := found.backend.load(ctx, p, found.views); err != nil {
			return err
		}
	}
	if k.system.Running() {
		if err := k.leaveOther(ctx, found.backend); err != nil {
			return err
		}
	}
	return k.keepAtBoot(found.backend, p)
}

func inForce(views []view, p plan) bool {
	return !slices.ContainsFunc(views, func(v view) bool {
		for _, d := range directions() {
			if v.unhooked[d] != "" || !slices.Equal(v.chains[d], p[v.family][d]) {
				return true
			}
		}
		return false
	})
}

// dismantle removes everything. If no tool is installed any more, the rules stay in force until the
// next boot, which loads nothing; that is reported until then.
func (k *Kind) dismantle(ctx context.Context) error {
	found, err := k.observe(ctx, false)
	switch {
	case !k.system.Running():
		err = nil
	case isAnswer(err):
		err = errors.Join(k.noteLoaded(toolNft), k.noteLoaded(toolIptables))
	case err == nil:
		err = k.unload(ctx, found)
	}
	if err != nil {
		return err
	}
	return k.remove(append([]string{wantsLink, unitFile}, bootFiles()...))
}

func (k *Kind) unload(ctx context.Context, found observed) error {
	if slices.ContainsFunc(found.views, func(v view) bool { return v.left }) {
		if err := found.backend.unload(ctx, found.views); err != nil {
			return err
		}
	}
	return k.leaveOther(ctx, found.backend)
}

// write writes a file unless it has that content already.
func (k *Kind) write(name, content string, mode fs.FileMode) error {
	is, err := k.system.FS.ReadFile(name)
	if err == nil && bytes.Equal(is, []byte(content)) {
		return nil
	}
	return k.system.FS.WriteFile(name, []byte(content), system.Attr{Mode: mode})
}
