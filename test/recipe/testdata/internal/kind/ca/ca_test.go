package ca_test

import (
	"context"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/ca"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

type runner struct{}

func (runner) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{}, nil
}

func scene(name, toml string, files map[string]string) faultwalk.Scene {
	return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
		root := kindtest.Root(t, files)
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Runner = faultwalk.Runner(runner{}, look)
		p, ledger := kindtest.Policy(t, toml), kindtest.Ledger(t, root)
		k := ca.New(p, s, ledger)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
	}}
}

func TestNoCertificateIsJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[cas.corp]\npem = \"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n\"\n"
	const file = "etc/pki/ca-trust/source/anchors/soe-corp.pem"
	faultwalk.Walk(t, "ca",
		scene("in line", wanted, map[string]string{file: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}),
		scene("drifted", wanted, map[string]string{file: "another"}),
		scene("gone", wanted, nil),
	)
}
