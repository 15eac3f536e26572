package check_test

import (
	"context"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// answers are what commands say.
type answers map[string]system.Output

func (a answers) Run(_ context.Context, c system.Command) (system.Output, error) {
	if out, known := a[c.Argv[0]]; known {
		return out, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

func TestNoCheckIsJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[checks.holds]\nrun = [\"/good\"]\nuser = \"scan\"\n[checks.fails]\nrun = [\"/bad\"]\n" +
		"[checks.holds-in-its-own-time]\nrun = [\"/good\"]\nuser = \"scan\"\nevery = \"6h\"\n[checks.fails-in-its-own-time]\nrun = [\"/bad\"]\nevery = \"6h\"\n"
	scene := faultwalk.Scene{
		Name: "one holds and one does not",
		Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			root := kindtest.Root(t, nil)
			s := kindtest.Open(t, system.Options{Root: root, Look: look})
			s.Runner = faultwalk.Runner(answers{
				"/good": {}, "/bad": {ExitCode: 3}, "getent": {Stdout: []byte("scan:x:510:510::/:/bin/sh\n")}, "id": {Stdout: []byte("510\n")},
			}, look)
			p := kindtest.Policy(t, wanted)
			ledger := kindtest.Ledger(t, root)
			k := check.New(p, s, ledger)
			return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
		},
		Believes: func(command string, _ system.Output) bool { return command == "/good" || command == "/bad" }, // it is the answer that is asked for
	}
	faultwalk.Walk(t, "check", scene)
}
