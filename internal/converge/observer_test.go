package converge_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// careless is a kind of which a look has failed, about which it says nothing by itself.
type careless struct {
	*kind
	failed []error
}

func (k *careless) Unanswered() []error {
	failed := k.failed
	k.failed = nil
	return failed
}

// Law 2, for a kind that has forgotten it: what a failed look leaves open is not said to be in line, and nothing is taken
// away because of it.
func TestNothingIsInLineThatWasJudgedWithoutALookThatFailedUnlessThatIsSaid(t *testing.T) {
	failure := errors.New("cannot read /etc/x: input/output error")
	p := wants("wanted", "package/a", "package/b", "package/c")
	for what, test := range map[string]struct {
		said error          // what the check itself says of it
		note string         // what the reason of a resource that it calls failed says
		want converge.State // of what it calls compliant
	}{
		"nothing says so":          {want: converge.Unknown},
		"a resource says so":       {note: fmt.Sprintf("it cannot be told: %v", failure), want: converge.Compliant},
		"the check itself says so": {said: fmt.Errorf("cannot check: %w", failure), want: converge.Compliant},
	} {
		m := newMachine(t)
		m.ledger.Own("package/gone")
		k := &careless{kind: newKind(p, "package")}
		for _, id := range []policy.ID{"package/a", "package/b", "package/c"} {
			k.set(id)
		}
		k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			k.failed = []error{failure}
			for i := range found {
				switch found[i].ID {
				case "package/b":
					found[i].SetPending(converge.Reboot, "it waits")
				case "package/c":
					found[i].SetFailed("it is broken; " + test.note)
				}
			}
			return append(found, converge.Unwanted("package/gone", "the policy no longer names it")), test.said
		}
		states, gone := map[policy.ID]converge.State{}, false
		for _, r := range converge.New(p, []converge.Kind{k}, m.ledger, m.clock, nil).Check(t.Context()).Resources {
			states[r.ID] = r.State
			gone = gone || r.ID == "package/gone" && r.State != converge.Unknown
		}
		if states["package/a"] != test.want || test.want == converge.Unknown && (states["package/b"] != converge.Unknown || gone) || states["package/c"] != converge.Failed {
			t.Errorf("%s: %v, and that something is to go: %v", what, states, gone)
		}
	}
}
