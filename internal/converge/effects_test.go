package converge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// late is a kind whose repair is right on disk at once, and takes effect when nobody is logged in.
func late(p *policy.Policy, loggedIn *bool) *kind {
	k := newKind(p, "dropin")
	inEffect := map[policy.ID]string{}
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		for i := range found {
			switch r := &found[i]; {
			case r.State != converge.Compliant || inEffect[r.ID] == k.values[r.ID]:
			case *loggedIn:
				r.SetPending(converge.NextSession, "somebody works")
			default:
				r.AddDrift(converge.AspectEffect, "read", "not read")
			}
		}
		return found, nil
	}
	k.repair = func(r converge.Resource) *converge.Outcome {
		k.set(r.ID)
		if !*loggedIn {
			inEffect[r.ID] = k.values[r.ID]
		}
		return nil
	}
	return k
}

func TestWhatIsPendingKeepsItsCauseAndItsTimeWhoeverRestartsTheAgent(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	loggedIn := true
	k := late(p, &loggedIn)
	begun := m.clock.Now()
	for range 3 {
		if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.State != converge.Pending || !r.Since.Equal(begun) || r.Overdue {
			t.Errorf("%s since %s, overdue %v", r.State, r.Since, r.Overdue)
		}
		m.clock.pass(time.Hour)
		m.ledger = openLedger(t, m.root, nil)
	}
	loggedIn = false
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.State != converge.Corrected || r.Cause != converge.Intentional {
		t.Errorf("that it takes effect is %s, cause %s: nobody has changed the machine", r.State, r.Cause)
	}
}

func TestWhatHasBeenPendingForTooLongIsOverdueAsThePolicySays(t *testing.T) {
	m := newMachine(t)
	loggedIn := true
	p := wants("x", "dropin/a", "dropin/b")
	p.Rules = []policy.Rule{{Match: []string{"dropin/a"}, Pending: 2 * 24 * time.Hour}}
	k := late(p, &loggedIn)
	for _, test := range []struct {
		after time.Duration
		a, b  bool
	}{{0, false, false}, {48 * time.Hour, false, false}, {time.Minute, true, false}, {5 * 24 * time.Hour, true, true}} {
		m.clock.pass(test.after)
		result := m.engine(p, k).Pass(t.Context())
		for id, overdue := range map[policy.ID]bool{"dropin/a": test.a, "dropin/b": test.b} {
			r := the(t, result, id)
			if r.State != converge.Pending || r.Overdue != overdue || r.Tolerable() == overdue || strings.Contains(r.Reason, "overdue") != overdue {
				t.Errorf("%s after %s more: %s, overdue %v: %s", id, test.after, r.State, r.Overdue, r.Reason)
			}
		}
	}
	loggedIn = false
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.State != converge.Corrected || r.Overdue {
		t.Errorf("in effect it is %s, overdue %v", r.State, r.Overdue)
	}
}

func TestWhatTakesEffectAfterEachLogoutIsNoFightAndWhatIsChangedBackUnderASessionIs(t *testing.T) {
	m := newMachine(t)
	loggedIn := true
	k := late(nil, &loggedIn)
	var engine *converge.Engine
	for i := range 20 {
		p := wants([]string{"x", "y"}[i%2], "dropin/a")
		k.policy, loggedIn = p, true
		if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.State != converge.Pending {
			t.Fatalf("policy %d: %s %s", i, r.State, r.Reason)
		}
		loggedIn = false
		engine = m.engine(p, k)
		if r := the(t, engine.Pass(t.Context()), "dropin/a"); r.State != converge.Corrected || r.Cause != converge.Intentional {
			t.Fatalf("logout %d: %s %s", i, r.State, r.Cause)
		}
	}
	loggedIn = true
	for range 20 {
		k.values["dropin/a"] = "theirs"
		if r := the(t, engine.Pass(t.Context()), "dropin/a"); r.State == converge.Contested {
			return
		}
		m.clock.pass(time.Second)
	}
	t.Error("nobody notices that something else writes it while somebody is logged in")
}
