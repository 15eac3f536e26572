package converge_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// changesOf collects the changes that an engine reports, as text.
func (m *machine) changesOf(p *policy.Policy, kinds ...converge.Kind) (e *converge.Engine, told func() []string) {
	e = m.engine(p, kinds...)
	var all []string
	begun := newClock().Now()
	e.Changed = func(changes []converge.Change) {
		for _, c := range changes {
			all = append(all, fmt.Sprintf("%s %s %s: noticed after %s, %s after %s", c.ID, c.Event, c.Cause, c.Noticed.Sub(begun), c.State, c.At.Sub(begun)))
		}
	}
	return e, func() []string {
		defer func() { all = nil }()
		return all
	}
}

func expect(t *testing.T, told []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestAPassTellsWhatItHasChangedWhenThatWasNoticedAndWhenMended(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b")
	k := newKind(p, "dropin")
	k.set("dropin/b")
	k.repair = func(r converge.Resource) *converge.Outcome {
		m.clock.pass(time.Second)
		k.set(r.ID)
		return nil
	}
	e, told := m.changesOf(p, k)
	e.Pass(t.Context())
	expect(t, told(), "dropin/a corrected intentional: noticed after 0s, corrected after 1s")
	e.Pass(t.Context())
	expect(t, told())
	m.clock.pass(time.Minute)
	k.values["dropin/b"] = "y"
	e.Check(t.Context())
	expect(t, told())
	e.Pass(t.Context())
	expect(t, told(), "dropin/b corrected corrective: noticed after 1m1s, corrected after 1m2s")
}

func TestWhatFailsIsToldOnceAndHowLongItTookWhenItIsMendedAtLast(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	k.repair = func(converge.Resource) *converge.Outcome { return &converge.Outcome{Err: errors.New("cannot")} }
	e, told := m.changesOf(p, k)
	for range 3 {
		e.Pass(t.Context())
		m.clock.pass(time.Minute)
	}
	expect(t, told(), "dropin/a failed intentional: noticed after 0s, failed after 0s")
	m.ledger = openLedger(t, m.root, nil) // the agent starts again
	k.repair = nil
	e, told = m.changesOf(p, k)
	e.Pass(t.Context())
	expect(t, told(), "dropin/a corrected intentional: noticed after 0s, corrected after 3m0s")
}

func TestWhatSomethingElseMendedIsInLineAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "check/a")
	k := newKind(p, "check")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		if k.values["check/a"] == "unknown" {
			found[0].SetUnknown("it cannot be told")
		} else if found[0].State == converge.Drifted {
			found[0].SetFailed("it does not hold")
		}
		return found, nil
	}
	e, told := m.changesOf(p, k)
	for _, value := range []string{"x", "y", "unknown", "x", "unknown", "x"} {
		k.values["check/a"] = value
		e.Pass(t.Context())
		m.clock.pass(time.Minute)
	}
	expect(t, told(),
		"check/a failed corrective: noticed after 1m0s, failed after 1m0s",
		"check/a in line again : noticed after 1m0s, compliant after 3m0s")
}

func TestWhatWasPendingIsCarriedOut(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	loggedIn := true
	e, told := m.changesOf(p, late(p, &loggedIn))
	for range 2 {
		e.Pass(t.Context())
		m.clock.pass(time.Hour)
	}
	expect(t, told(), "dropin/a pending intentional: noticed after 0s, pending after 0s")
	loggedIn = false
	e.Pass(t.Context())
	expect(t, told(), "dropin/a carried out intentional: noticed after 0s, corrected after 2h0m0s")
}

func TestWhatThePolicyDoesNotWantIsReclaimed(t *testing.T) {
	m := newMachine(t)
	p := &policy.Policy{}
	k := newKind(p, "dropin")
	there := true
	k.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) {
		if !there {
			return nil, nil
		}
		return []converge.Resource{converge.Unwanted("dropin/stray", "the policy wanted it once")}, nil
	}
	k.repair = func(converge.Resource) *converge.Outcome { there = false; return nil }
	e, told := m.changesOf(p, k)
	for range 2 {
		e.Pass(t.Context())
	}
	expect(t, told(), "dropin/stray reclaimed intentional: noticed after 0s, corrected after 0s")
}

func TestAFightIsToldBlowByBlowAndThenAsOne(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	k.set("dropin/a")
	e, told := m.changesOf(p, k)
	e.Pass(t.Context())
	for range 20 {
		k.values["dropin/a"] = "y"
		e.Pass(t.Context())
	}
	all := told()
	if len(all) != 9 || all[8] != "dropin/a contested corrective: noticed after 0s, contested after 0s" {
		t.Errorf("%q", all)
	}
}

// The clock was days ahead when a resource drifted, and is right when it is repaired.
func TestWhatWasNoticedAtATimeThatHasNotComeYetWasNoticedWhenItWasSeenAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	k.repair = func(r converge.Resource) *converge.Outcome {
		return &converge.Outcome{ID: r.ID, Err: errors.New("not now")}
	}
	e, told := m.changesOf(p, k)
	m.clock.pass(48 * time.Hour)
	e.Pass(t.Context())
	told()
	m.clock.pass(-47 * time.Hour)
	k.repair = nil
	e.Pass(t.Context())
	expect(t, told(), "dropin/a corrected intentional: noticed after 1h0m0s, corrected after 1h0m0s")
}
