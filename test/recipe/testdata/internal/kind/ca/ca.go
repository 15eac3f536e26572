// Package ca keeps certificates of authorities in the trust store of the machine: the
// kind "ca". It is the example of a new kind.
package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const anchors = "/etc/pki/ca-trust/source/anchors"

// Kind keeps the certificates.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
}

// New returns the kind "ca".
func New(p *policy.Policy, s *system.System, ledger *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: ledger}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return policy.CA{}.Kind() }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch { return []converge.Watch{{Dir: anchors}} }

func fileOf(id policy.ID) string { return anchors + "/soe-" + id.Name() + ".pem" }

// Check implements converge.Kind.
func (k *Kind) Check(context.Context) ([]converge.Resource, error) {
	var resources []converge.Resource
	for _, want := range policy.Of[policy.CA](k.policy) {
		r := converge.Wanted(want.Resource)
		content, err := k.system.FS.ReadFile(fileOf(want.ID))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.AddPublicDrift("pem", want.Spec.PEM, "")
		case err != nil:
			r.SetUnknownErr(err)
		case string(content) != want.Spec.PEM:
			r.AddPublicDrift("pem", want.Spec.PEM, string(content))
		}
		resources = append(resources, r)
	}
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named {
			resources = append(resources, converge.Unwanted(id, "the policy does not name it any more"))
		}
	}
	return resources, nil
}

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	for _, r := range drifted {
		if err := k.put(r.ID); err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: fmt.Errorf("cannot trust as wanted: %w", err)})
		}
	}
	if !k.system.Running() {
		return outcomes
	}
	if _, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"update-ca-trust", "extract"}}); err != nil {
		for _, r := range drifted {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: err})
		}
	}
	return outcomes
}

func (k *Kind) put(id policy.ID) error {
	want, named := k.policy.Lookup(id)
	spec, is := want.Spec.(policy.CA)
	if !named {
		err := k.system.FS.Remove(fileOf(id))
		if err == nil {
			k.ledger.Disown(id)
		}
		return err
	}
	if !is {
		return fmt.Errorf("%s is no certificate", id)
	}
	if err := k.system.FS.MkdirAll(anchors, 0o755); err != nil {
		return err
	}
	k.ledger.Own(id)
	return k.system.FS.WriteFile(fileOf(id), []byte(spec.PEM), system.Attr{Mode: 0o644})
}
