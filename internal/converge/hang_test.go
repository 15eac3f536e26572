package converge_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestAKindWhoseCheckHangsHoldsUpNoOtherAndIsAskedAgainWhenItHasEnded(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "sudo/allow")
	hanging, other := newKind(p, "dropin"), newKind(p, "sudo")
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hanging.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			<-release // whatever the context says
			return found, nil
		}
		ended := make(chan string, 1)
		engine := m.engine(p, hanging, other)
		engine.CheckTimeout, engine.HangEnded = 5*time.Second, func(kind string) { ended <- kind }
		begun := time.Now()
		result := engine.Pass(t.Context())
		wantStates(t, result, map[policy.ID]converge.State{"dropin/a": converge.Unknown, "sudo/allow": converge.Corrected})
		if r := the(t, result, "dropin/a"); !strings.Contains(r.Reason, "cannot check dropin: its check has hung since") {
			t.Errorf("the reason is %q", r.Reason)
		}
		if log := m.log.String(); !strings.Contains(log, "a check hangs; its kind is skipped until it returns") || !strings.Contains(log, "kind=dropin") {
			t.Errorf("the journal says %s", log)
		}
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("the others waited for %s", took)
		}
		engine.Pass(t.Context())
		synctest.Wait() // until everything waits for the check that hangs
		if hanging.checks != 1 || time.Since(begun) != 7*time.Second || len(engine.Hanging()) != 1 {
			t.Errorf("it was asked %d times, and waited for until %s", hanging.checks, time.Since(begun))
		}
		close(release)
		if kind := <-ended; kind != "dropin" || len(engine.Hanging()) != 0 {
			t.Errorf("%s has ended, and %v hangs", kind, engine.Hanging())
		}
		wantStates(t, engine.Pass(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Corrected, "sudo/allow": converge.Compliant})
	})
}

func TestACheckThatHeedsItsContextIsHeardWhenPatienceEnds(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	slow := newKind(p, "dropin")
	slow.set("dropin/a")
	synctest.Test(t, func(t *testing.T) {
		slow.check = func(ctx context.Context, found []converge.Resource) ([]converge.Resource, error) {
			<-ctx.Done() // as a command does, which is then killed
			return found, nil
		}
		engine := m.engine(p, slow)
		engine.CheckTimeout = 5 * time.Second
		wantStates(t, engine.Pass(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Compliant})
		if len(engine.Hanging()) != 0 {
			t.Errorf("%v hangs", engine.Hanging())
		}
	})
}
