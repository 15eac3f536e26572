package converge_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// urgentKind is a kind that does not wait for the repair of another one.
type urgentKind struct{ *kind }

func (urgentKind) Urgent() {}

// A detached kind takes along everything found of it: its pass ends as if nothing had taken long.
func TestAPassGoesOnWithoutARepairThatTakesLongAndItsRestIsHandedOver(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "package/a", "service/b", "sudo/allow", "user/c")
	users, packages, services, sudo := newKind(p, "user"), newKind(p, "package"), newKind(p, "service"), newKind(p, "sudo")
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		packages.repair = func(r converge.Resource) *converge.Outcome {
			<-release
			packages.set(r.ID)
			return nil
		}
		e := m.engine(p, users, packages, services, urgentKind{sudo})
		e.DetachAfter = time.Second
		var left []string
		var rest func() converge.Result
		e.Detach = func(_ context.Context, kinds []string, r func() converge.Result) { left, rest = kinds, r }
		result := e.Pass(t.Context())
		wantStates(t, result, map[policy.ID]converge.State{"user/c": converge.Corrected, "sudo/allow": converge.Corrected})
		if !slices.Equal(left, []string{"package", "service"}) || len(services.repairs) > 0 {
			t.Fatalf("to %q it comes later, and repaired is already %q", left, services.repairs)
		}
		close(release)
		wantStates(t, rest(), map[policy.ID]converge.State{"package/a": converge.Corrected, "service/b": converge.Corrected})
		if len(packages.repairs) != 1 || len(services.repairs) != 1 || len(sudo.repairs) != 1 {
			t.Errorf("repaired are %q, %q, %q", packages.repairs, services.repairs, sudo.repairs)
		}
	})
}

func TestAPassGoesOnWithoutACheckThatTakesLongAndItsRestIsHandedOver(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "package/a", "sudo/allow")
	packages, sudo := newKind(p, "package"), newKind(p, "sudo")
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		packages.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			<-release
			return found, nil
		}
		e := m.engine(p, packages, sudo)
		e.DetachAfter = time.Second
		var rest func() converge.Result
		e.Detach = func(_ context.Context, _ []string, r func() converge.Result) { rest = r }
		wantStates(t, e.Pass(t.Context()), map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		close(release)
		wantStates(t, rest(), map[policy.ID]converge.State{"package/a": converge.Corrected})
	})
}

func TestARepairThatPanicsFailsEachOfItsResourcesAndTheJournalSaysThatItIsABug(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "sudo/a", "sudo/b")
	k := newKind(p, "sudo")
	k.repair = func(converge.Resource) *converge.Outcome { panic("index out of range") }
	result := m.engine(p, k).Pass(t.Context())
	for _, id := range []policy.ID{"sudo/a", "sudo/b"} {
		if r := the(t, result, id); r.State != converge.Failed || r.Reason != "cannot repair "+string(id)+": a bug of the agent: index out of range" {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	if log := m.log.String(); !strings.Contains(log, "a repair panicked; this is a bug of the agent") || !strings.Contains(log, "repair_test.go") {
		t.Errorf("the journal says %s", log)
	}
	if len(k.repairs) != 1 {
		t.Errorf("it was tried %d times", len(k.repairs))
	}
}

func TestACheckThatPanicsIsInTheJournalAsABug(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "sudo/a")
	k := newKind(p, "sudo")
	k.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) { panic("nil map") }
	m.engine(p, k).Pass(t.Context())
	if log := m.log.String(); !strings.Contains(log, "a check panicked; this is a bug of the agent") || !strings.Contains(log, "repair_test.go") {
		t.Errorf("the journal says %s", log)
	}
}

// A right whose repair fails and that has not changed is tried again by the next pass only.
func TestARightWhoseRepairFailsIsTriedOnceAPass(t *testing.T) {
	p := wants("x", "sudo/allow")
	k := newKind(p, "sudo")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		found[0].GuardsRights()
		return found, nil
	}
	k.repair = func(converge.Resource) *converge.Outcome { return &converge.Outcome{Err: errors.New("nobody answers")} }
	e := newMachine(t).engine(p, k)
	for n := range 2 {
		if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Failed || r.Reason != "nobody answers" || len(k.repairs) != n+1 {
			t.Errorf("after pass %d and %d attempts it is %s: %s", n+1, len(k.repairs), r.State, r.Reason)
		}
	}
}

// The outcome of the first attempt is not that of the last one.
func TestWhatAnEarlierAttemptSaidIsNotSaidOfALaterOne(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "group/a", "user/b")
	groups, users := newKind(p, "group"), newKind(p, "user")
	users.repair = func(converge.Resource) *converge.Outcome {
		if len(users.repairs) == 1 {
			return &converge.Outcome{Err: errors.New("there is no such group")}
		}
		return nil // although it is still not in line
	}
	groups.repair = func(r converge.Resource) *converge.Outcome {
		if len(groups.repairs) > 1 {
			groups.set(r.ID)
		}
		return nil
	}
	if r := the(t, m.engine(p, groups, users).Pass(t.Context()), "user/b"); r.State != converge.Failed || strings.Contains(r.Reason, "no such group") {
		t.Errorf("after %d attempts it is %s: %s", len(users.repairs), r.State, r.Reason)
	}
}

func TestWhatIsAboutToBeBroughtIntoLineIsTold(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b", "dropin/c")
	k := newKind(p, "dropin")
	k.set("dropin/a")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		for i := range found {
			if found[i].ID == "dropin/c" {
				found[i].Note("it is another name of d")
			}
		}
		return found, nil
	}
	e := m.engine(p, k)
	said := map[policy.ID]string{}
	e.Repairing = func(kind string, drifted []converge.Resource) {
		if len(k.repairs) > 0 && len(drifted) > 0 {
			t.Errorf("of %d it is told when one has been repaired", len(drifted))
		}
		for _, r := range drifted {
			said[r.ID] = r.Public().Reason
			if r.Since.IsZero() || kind != "dropin" {
				t.Errorf("%s of %s has drifted since %s", r.ID, kind, r.Since)
			}
		}
	}
	e.Pass(t.Context())
	if len(said) != 2 || said["dropin/b"] != "it is being brought into line" || said["dropin/c"] != "it is another name of d" {
		t.Errorf("it is told %q", said)
	}
}

// A step that only the policy asked for was postponed because of a session. When the session has ended
// it is carried out and counts as intentional, also if the agent was restarted meanwhile.
func TestAStepThatWasPutOffStaysIntended(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "service/a")
	k := newKind(p, "service")
	loggedIn := true
	k.repair = func(r converge.Resource) *converge.Outcome {
		if loggedIn {
			return &converge.Outcome{Postponed: converge.NextSession, Reason: "somebody works"}
		}
		k.set(r.ID)
		return nil
	}
	for range 3 {
		if r := the(t, m.engine(p, k).Pass(t.Context()), "service/a"); r.State != converge.Pending || r.Cause != converge.Intentional {
			t.Errorf("it is %s, cause %s", r.State, r.Cause)
		}
		m.ledger = openLedger(t, m.root, nil)
	}
	loggedIn = false
	if r := the(t, m.engine(p, k).Pass(t.Context()), "service/a"); r.State != converge.Corrected || r.Cause != converge.Intentional {
		t.Errorf("then it is %s, cause %s", r.State, r.Cause)
	}
	// but what somebody changes later is corrective
	k.values["service/a"] = "theirs"
	loggedIn = true
	if r := the(t, m.engine(p, k).Pass(t.Context()), "service/a"); r.State != converge.Pending || r.Cause != converge.Corrective {
		t.Errorf("when somebody has changed it, it is %s, cause %s", r.State, r.Cause)
	}
}

func TestWhoTakesARightBackFasterThanAPassIsNamed(t *testing.T) {
	p := wants("x", "sudo/allow")
	k := newKind(p, "sudo")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		found[0].GuardsRights()
		return found, nil
	}
	k.repair = func(r converge.Resource) *converge.Outcome {
		k.values[r.ID] += "." // a different value each time
		return nil
	}
	e := newMachine(t).engine(p, k)
	e.Writer = func(policy.ID) string { return "crond.service (pid 812)" }
	if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Contested || !strings.Contains(r.Reason, "crond.service (pid 812)") || len(k.repairs) != 3 {
		t.Errorf("after %d attempts it is %s: %s", len(k.repairs), r.State, r.Reason)
	}
}
