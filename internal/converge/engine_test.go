package converge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const stateDir = "/var/lib/soe-agent"

// clock is a clock that only the test advances.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(context.Context, time.Duration) error { panic("the engine does not sleep") }

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// kind is a kind in memory: a resource is in line when its value is what the policy wants.
type kind struct {
	name    string
	policy  *policy.Policy
	values  map[policy.ID]string
	check   func(ctx context.Context, found []converge.Resource) ([]converge.Resource, error) // may alter what Check returns
	repair  func(r converge.Resource) *converge.Outcome                                       // nil: sets the value
	repairs []policy.ID
	checks  int
}

func newKind(p *policy.Policy, name string) *kind {
	return &kind{name: name, policy: p, values: map[policy.ID]string{}}
}

func (k *kind) Name() string { return k.name }

func want(r policy.Resource) string { return string(r.Spec.(policy.Package).Ensure) }

func (k *kind) Check(ctx context.Context) ([]converge.Resource, error) {
	k.checks++
	var found []converge.Resource
	for _, w := range k.policy.Resources {
		if w.ID.Kind() != k.name || len(w.Missing) > 0 {
			continue
		}
		r := converge.Wanted(w)
		if got := k.values[w.ID]; got != want(w) {
			r.AddDrift("value", want(w), got)
		}
		found = append(found, r)
	}
	slices.Reverse(found)
	if k.check != nil {
		return k.check(ctx, found)
	}
	return found, nil
}

func (k *kind) Repair(_ context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	for _, r := range drifted {
		k.repairs = append(k.repairs, r.ID)
		if k.repair != nil {
			if outcome := k.repair(r); outcome != nil {
				outcome.ID = r.ID
				outcomes = append(outcomes, *outcome)
			}
			continue
		}
		k.set(r.ID)
	}
	return outcomes
}

func (k *kind) set(id policy.ID) {
	w, _ := k.policy.Lookup(id)
	k.values[id] = want(w)
}

// wants is a policy with one value for each resource, in a spec without secrets.
func wants(value string, ids ...policy.ID) *policy.Policy {
	p := &policy.Policy{}
	slices.Sort(ids)
	for _, id := range ids {
		p.Resources = append(p.Resources, policy.Resource{ID: id, Spec: policy.Package{Ensure: policy.Ensure(value)}})
	}
	return p
}

type machine struct {
	root   string
	clock  *clock
	log    bytes.Buffer
	ledger *converge.Ledger
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), clock: newClock()}
	m.ledger = openLedger(t, m.root, nil)
	return m
}

func openLedger(t *testing.T, root string, gate system.Gate) *converge.Ledger {
	t.Helper()
	l, err := converge.OpenLedger(files(t, root, gate, nil), stateDir, facts.Identity{MachineID: "machine-1"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func files(t *testing.T, root string, gate system.Gate, keeper system.BackupStore) system.FS {
	t.Helper()
	s, err := system.Open(system.Options{Root: root, Gate: gate, Backups: keeper})
	if err != nil {
		t.Fatal(err)
	}
	return s.FS
}

func (m *machine) engine(p *policy.Policy, kinds ...converge.Kind) *converge.Engine {
	engine := converge.New(p, kinds, m.ledger, m.clock, slog.New(slog.NewTextHandler(&m.log, nil)))
	engine.Affects = func(kind string) []string {
		return map[string][]string{
			"group": {"user"}, "user": {"group"}, "repository": {"package", "patch"}, "package": policy.Kinds(), "patch": policy.Kinds(),
		}[kind]
	}
	return engine
}

func states(result converge.Result) map[policy.ID]converge.State {
	found := map[policy.ID]converge.State{}
	for _, r := range result.Resources {
		found[r.ID] = r.State
	}
	return found
}

func the(t *testing.T, result converge.Result, id policy.ID) converge.Resource {
	t.Helper()
	for _, r := range result.Resources {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("nothing is said of %s", id)
	return converge.Resource{}
}

func wantStates(t *testing.T, result converge.Result, want map[policy.ID]converge.State) {
	t.Helper()
	if diff := cmp.Diff(want, states(result)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestWhatIsSaidOfAResourceThatIsInLineIsSaidOfOneThatHasJustBeenCorrectedToo(t *testing.T) {
	for _, test := range []struct{ before, after, first string }{
		{"", "another file has no effect", "another file has no effect"},
		{"its files follow", "", "its files follow"},
		{"its files follow", "another file has no effect", "its files follow; another file has no effect"},
		{"it is another name of b", "it is another name of b", "it is another name of b"},
	} {
		m := newMachine(t)
		p := wants("x", "dropin/a")
		k := newKind(p, "dropin")
		k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			found[0].Note(map[bool]string{false: test.before, true: test.after}[found[0].State == converge.Compliant])
			return found, nil
		}
		first, second := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"), the(t, m.engine(p, k).Pass(t.Context()), "dropin/a")
		if first.State != converge.Corrected || first.Reason != test.first || first.Public().Reason != test.first {
			t.Errorf("it is %s: %q, and for everybody %q; wanted is %q", first.State, first.Reason, first.Public().Reason, test.first)
		}
		if second.State != converge.Compliant || second.Reason != test.after {
			t.Errorf("then it is %s: %q", second.State, second.Reason)
		}
	}
}

func TestOnlyTheSecondCheckMakesAResourceCorrected(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b", "dropin/c")
	k := newKind(p, "dropin")
	k.set("dropin/c")
	k.repair = func(r converge.Resource) *converge.Outcome { // returns no outcome for b, and does not repair it
		if r.ID == "dropin/a" {
			k.set(r.ID)
		}
		return nil
	}
	result := m.engine(p, k).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"dropin/a": converge.Corrected, "dropin/b": converge.Failed, "dropin/c": converge.Compliant})
	if diff := cmp.Diff([]policy.ID{"dropin/b", "dropin/a", "dropin/b", "dropin/b"}, k.repairs); diff != "" {
		t.Errorf("repairs (-want +got):\n%s", diff)
	}
	if r := the(t, result, "dropin/a"); len(r.Diff) != 1 || r.Diff[0].Want != "x" || r.Cause != converge.Intentional {
		t.Errorf("what was corrected is told as %+v", r)
	}
	if r := the(t, result, "dropin/b"); result.Rounds != 3 || !strings.Contains(r.Reason, "repaired 3 times") {
		t.Errorf("after %d rounds: %q", result.Rounds, r.Reason)
	}
}

func TestAPassThatFindsNothingRepairsNothing(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	k.set("dropin/a")
	result := m.engine(p, k).Pass(t.Context())
	if k.checks != 1 || result.Rounds != 0 || len(k.repairs) != 0 {
		t.Errorf("%d checks, %d rounds, repaired %v", k.checks, result.Rounds, k.repairs)
	}
}

func TestCheckChangesNothing(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	wantStates(t, m.engine(p, k).Check(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Drifted})
	if _, err := files(t, m.root, nil, nil).Stat(stateDir); len(k.repairs) > 0 || err == nil {
		t.Errorf("repaired %v; wrote the ledger: %v", k.repairs, err == nil)
	}
}

func TestAFailureIsTriedAgainOnlyWhenSomethingHasBeenMendedSince(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dconf/a", "package/b", "dropin/c")
	dconf, packages, dropin := newKind(p, "dconf"), newKind(p, "package"), newKind(p, "dropin")
	dconf.repair = func(r converge.Resource) *converge.Outcome {
		if packages.values["package/b"] == "" {
			return &converge.Outcome{Err: errors.New("there is no schema")}
		}
		dconf.set(r.ID)
		return nil
	}
	dropin.repair = func(converge.Resource) *converge.Outcome {
		return &converge.Outcome{Err: errors.New("its checker refuses it")}
	}
	result := m.engine(p, dconf, packages, dropin).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"dconf/a": converge.Corrected, "package/b": converge.Corrected, "dropin/c": converge.Failed})
	if r := the(t, result, "dropin/c"); r.Reason != "its checker refuses it" || len(dropin.repairs) != 2 { // dconf/a came after the first
		t.Errorf("%q after %d tries", r.Reason, len(dropin.repairs))
	}
	if !strings.Contains(m.log.String(), "resource=dropin/c") {
		t.Errorf("the journal says: %s", &m.log)
	}
}

// Somebody grants a right while the repair of another one fails. The check after the repair sees it;
// nothing else reports it again.
func TestARightThatComesDuringARepairThatFailsIsTakenBackInTheSamePass(t *testing.T) {
	for _, guards := range []bool{true, false} {
		p := wants("x", "package/a")
		k := newKind(p, "package")
		k.values["package/a"] = "first"
		k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			if guards {
				found[0].GuardsRights()
			}
			return found, nil
		}
		k.repair = func(r converge.Resource) *converge.Outcome {
			if k.values[r.ID] == "first" {
				k.values[r.ID] = "second"
				return &converge.Outcome{ID: r.ID, Err: errors.New("nobody answers")}
			}
			k.set(r.ID)
			return nil
		}
		r := the(t, newMachine(t).engine(p, k).Pass(t.Context()), "package/a")
		if wanted := map[bool]converge.State{true: converge.Corrected, false: converge.Failed}[guards]; r.State != wanted {
			t.Errorf("of what guards rights (%t) it is %s: %s %v", guards, r.State, r.Reason, r.Diff)
		}
	}
}

func TestAPackageRepairHasAllKindsLookedAtAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "sudo/allow", "package/a")
	sudo, packages := newKind(p, "sudo"), newKind(p, "package")
	sudo.set("sudo/allow")
	packages.repair = func(r converge.Resource) *converge.Outcome {
		packages.set(r.ID)
		sudo.values["sudo/allow"] = "everybody" // a package installed a sudoers file
		return nil
	}
	result := m.engine(p, sudo, packages).Pass(t.Context())
	if sudo.values["sudo/allow"] != "x" || result.Rounds != 2 {
		t.Errorf("sudo is %q after %d rounds", sudo.values["sudo/allow"], result.Rounds)
	}
	// It was in line when the pass began, and it is when the pass ends.
	wantStates(t, result, map[policy.ID]converge.State{"sudo/allow": converge.Compliant, "package/a": converge.Corrected})
}

// The members of a group are known only after its repair; until then nothing is reclaimed.
func TestWhatIsUnwantedOnlyAfterARepairIsReportedWhenItGoes(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "package/a")
	k := newKind(p, "package")
	there := true
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		if there && k.values["package/a"] == "x" {
			found = append(found, converge.Unwanted("package/old", "nobody names it"))
		}
		return found, nil
	}
	k.repair = func(r converge.Resource) *converge.Outcome {
		if r.ID == "package/old" {
			there = false
			return nil
		}
		k.set(r.ID)
		return nil
	}
	wantStates(t, m.engine(p, k).Pass(t.Context()), map[policy.ID]converge.State{"package/a": converge.Corrected, "package/old": converge.Corrected})
}

// Whether there are updates is known only after the same pass has added a repository.
func TestWhatIsToldOnlyAfterAnotherRepairIsRepairedToo(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "package/a", "patch/updates", "repository/corp")
	repositories, packages, patches := newKind(p, "repository"), newKind(p, "package"), newKind(p, "patch")
	packages.set("package/a")
	patches.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) {
		return nil, errors.New("there are no repositories")
	}
	repositories.repair = func(r converge.Resource) *converge.Outcome {
		repositories.set(r.ID)
		patches.check = nil
		return nil
	}
	wantStates(t, m.engine(p, repositories, packages, patches).Pass(t.Context()), map[policy.ID]converge.State{
		"repository/corp": converge.Corrected, "package/a": converge.Compliant, "patch/updates": converge.Corrected,
	})
}

func TestWhatDriftsWhileAnotherIsBeingMendedIsToldOfToo(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b")
	k := newKind(p, "dropin")
	k.set("dropin/b")
	k.repair = func(r converge.Resource) *converge.Outcome {
		if k.set(r.ID); r.ID == "dropin/a" {
			k.values["dropin/b"] = "gone"
		}
		return nil
	}
	wantStates(t, m.engine(p, k).Pass(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Corrected, "dropin/b": converge.Corrected})
}

func TestWhatDriftsWhileAnotherKindIsRepairedInVainIsToldOfToo(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "group/a", "user/a")
	groups, users := newKind(p, "group"), newKind(p, "user")
	users.set("user/a")
	groups.repair = func(converge.Resource) *converge.Outcome {
		if users.values["user/a"] == "x" && groups.values["group/a"] == "" {
			groups.values["group/a"], users.values["user/a"] = "still not", "theirs"
		}
		return nil
	}
	result := m.engine(p, groups, users).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"group/a": converge.Failed, "user/a": converge.Corrected})
}

func TestGroupsAndUsersAreLookedAtAgainTogether(t *testing.T) {
	for touched, other := range map[policy.ID]policy.ID{"user/a": "group/a", "group/a": "user/a"} {
		m := newMachine(t)
		p := wants("x", touched, other)
		groups, users := newKind(p, "group"), newKind(p, "user")
		for _, k := range []*kind{groups, users} {
			if k.name == other.Kind() {
				k.set(other)
				continue
			}
			k.repair = func(r converge.Resource) *converge.Outcome {
				k.set(r.ID)
				groups.values[other], users.values[other] = "gone", "gone" // userdel removes a group as well
				return nil
			}
		}
		result := m.engine(p, groups, users).Pass(t.Context())
		wantStates(t, result, map[policy.ID]converge.State{touched: converge.Corrected, other: converge.Compliant})
		if result.Rounds != 2 {
			t.Errorf("%s was seen to in %d rounds", touched, result.Rounds)
		}
	}
}

// Round 2 touches one kind only. What round 1 did in the other must neither be forgotten nor repeated.
func TestALaterRoundKeepsWhatAnEarlierOneFound(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "service/b")
	dropin, service := newKind(p, "dropin"), newKind(p, "service")
	tries := 0
	service.repair = func(r converge.Resource) *converge.Outcome {
		if tries++; tries == 2 {
			service.set(r.ID)
		}
		return nil
	}
	result := m.engine(p, dropin, service).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"dropin/a": converge.Corrected, "service/b": converge.Corrected})
	if len(dropin.repairs) != 1 || dropin.checks != 2 {
		t.Errorf("dropin was repaired %d times and checked %d times", len(dropin.repairs), dropin.checks)
	}
}

func TestAPanicInOneKindLeavesTheOthersAlone(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "user/a", "sudo/b", "dropin/c")
	user, sudo, dropin := newKind(p, "user"), newKind(p, "sudo"), newKind(p, "dropin")
	user.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) { panic("nil map") }
	sudo.repair = func(converge.Resource) *converge.Outcome { panic("index out of range") }
	result := m.engine(p, user, sudo, dropin).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"user/a": converge.Unknown, "sudo/b": converge.Failed, "dropin/c": converge.Corrected})
	for id, cause := range map[policy.ID]string{"user/a": "nil map", "sudo/b": "index out of range"} {
		if r := the(t, result, id); !strings.Contains(r.Reason, cause) || !strings.Contains(m.log.String(), cause) {
			t.Errorf("%s: %q", id, r.Reason)
		}
	}
	if !strings.Contains(m.log.String(), "engine_test.go") {
		t.Error("the journal does not say where it happened")
	}
}

func TestNothingThatIsWantedGoesUnreported(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b", "dropin/c", "user/d")
	p.Resources[2].Missing = []policy.Reference{{Service: "ssm", Name: "/host"}}
	dropin, user := newKind(p, "dropin"), newKind(p, "user")
	dropin.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) { return found[1:], nil }
	unreadable := errors.New("cannot read /etc/passwd")
	user.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		return found, unreadable
	}
	user.set("user/d")
	dropin.set("dropin/a")
	result := m.engine(p, dropin, user).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{
		"dropin/a": converge.Compliant, "dropin/b": converge.Unknown, "dropin/c": converge.Unknown,
		"user/d": converge.Compliant, "user": converge.Unknown,
	})
	for id, reason := range map[policy.ID]string{
		"dropin/b": "its check said nothing about it", "dropin/c": "left as it is: the value of {{resolve:ssm:/host}} is not known yet", "user": unreadable.Error(),
	} {
		if r := the(t, result, id); r.Reason != reason {
			t.Errorf("%s: %q", id, r.Reason)
		}
	}
}

// A missing value must not hide that the kind could not be checked at all.
func TestAnErrorIsReportedThoughAValueIsMissingToo(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b")
	p.Resources[0].Missing = []policy.Reference{{Service: "fact", Name: "f"}}
	k := newKind(p, "dropin")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		return found, errors.New("no access")
	}
	k.set("dropin/b")
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin"); r.State != converge.Unknown || r.Reason != "no access" {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsAuditedOrWaivedIsReportedAndNotTouched(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/audited", "dropin/waived", "dropin/fine", "dropin/free")
	end := m.clock.Now().Add(24 * time.Hour)
	p.Rules = []policy.Rule{
		{Match: []string{"*/audited"}, Audit: true, Severity: policy.Critical, Controls: []string{"CIS-1"}},
		{Match: []string{"*/waived", "*/fine"}, Audit: true, Until: end, Reason: "TICKET-1"},
	}
	k := newKind(p, "dropin")
	k.set("dropin/fine")
	e := m.engine(p, k)
	result := e.Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{
		"dropin/audited": converge.Drifted, "dropin/waived": converge.Waived, "dropin/fine": converge.Compliant, "dropin/free": converge.Corrected,
	})
	if diff := cmp.Diff([]policy.ID{"dropin/free"}, k.repairs); diff != "" {
		t.Errorf("repairs (-want +got):\n%s", diff)
	}
	if r := the(t, result, "dropin/waived"); !strings.Contains(r.Reason, "TICKET-1") || len(r.Diff) != 1 {
		t.Errorf("%+v", r)
	}
	if r := the(t, result, "dropin/audited"); !strings.Contains(r.Reason, "audited") || r.Severity != policy.Critical || !slices.Equal(r.Controls, []string{"CIS-1"}) {
		t.Errorf("%+v", r)
	}

	m.clock.pass(24 * time.Hour)
	result = e.Pass(t.Context())
	if r := the(t, result, "dropin/waived"); r.State != converge.Corrected || !strings.Contains(r.Reason, "its waiver ended") {
		t.Errorf("after its last day: %s, %q", r.State, r.Reason)
	}
}

func TestAStepThatWouldDisruptASessionIsPendingAndNotTriedAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "service/a", "package/b")
	service, packages := newKind(p, "service"), newKind(p, "package")
	service.repair = func(converge.Resource) *converge.Outcome {
		return &converge.Outcome{Postponed: converge.NextSession, Reason: "somebody works"}
	}
	result := m.engine(p, service, packages).Pass(t.Context())
	r := the(t, result, "service/a")
	if r.State != converge.Pending || r.Effect != converge.NextSession || r.Reason != "somebody works" || len(r.Diff) != 1 || len(service.repairs) != 1 {
		t.Errorf("%+v after %d repairs", r, len(service.repairs))
	}
}

func TestAFightIsNoticedLeftAloneAndTakenUpAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	e := m.engine(p, k)
	fight := func() (corrections int) {
		for range 50 {
			m.clock.pass(time.Second)
			k.values["dropin/a"] = "theirs"
			result := e.Pass(t.Context())
			if r := the(t, result, "dropin/a"); r.State == converge.Contested {
				if r.Reason == "" || len(r.Diff) == 0 || k.values["dropin/a"] != "theirs" {
					t.Errorf("%+v", r)
				}
				return corrections
			}
			corrections++
		}
		t.Fatal("it fights for ever")
		return 0
	}
	e.Pass(t.Context()) // intentional: not counted as contested
	if n := fight(); n != 8 {
		t.Errorf("it gave way after %d corrections", n)
	}
	pause := func() (seconds int) {
		for ; k.values["dropin/a"] == "theirs"; seconds++ {
			m.clock.pass(time.Second)
			e.Pass(t.Context())
		}
		return seconds
	}
	first := pause()
	if n := fight(); n != 1 { // the one correction that ended the pause
		t.Errorf("changed back after the pause, it gave way after %d corrections more", n)
	}
	if second := pause(); first < 8 || first > 12 || second < 2*first-5 {
		t.Errorf("the pauses are %d s and %d s", first, second)
	}
	for range 10 {
		fight()
		if long := pause(); long > 5*60 {
			t.Fatalf("it is mended only %d s after the other side has stopped", long)
		}
	}
	m.clock.pass(10 * time.Minute)
	if n := fight(); n != 8 {
		t.Errorf("after minutes of peace it gave way after %d corrections", n)
	}
	if third := pause(); third > 12 {
		t.Errorf("after minutes of peace the pause is %d s", third)
	}
}

func TestWhatGuardsRightsIsTakenBackEachTimeAndCalledContested(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "sudo/allow")
	k := newKind(p, "sudo")
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		for i := range found {
			found[i].GuardsRights()
		}
		return found, nil
	}
	e := m.engine(p, k)
	var told []converge.Change
	e.Changed = func(changes []converge.Change) { told = append(told, changes...) }
	e.Pass(t.Context())
	told = nil
	for i := range 300 {
		m.clock.pass(300 * time.Millisecond)
		k.values["sudo/allow"] = "theirs"
		r := the(t, e.Pass(t.Context()), "sudo/allow")
		if want := map[bool]converge.State{true: converge.Corrected, false: converge.Contested}[i < 8]; r.State != want || k.values["sudo/allow"] != "x" || len(r.Diff) == 0 || r.Cause != converge.Corrective {
			t.Fatalf("round %d: it is %+v", i, r)
		}
	}
	if len(told) != 9 {
		t.Errorf("of 300 rounds %d are told: not each correction of a fight is news", len(told))
	}
	repairs := 0
	k.repair = func(converge.Resource) *converge.Outcome { // changed back before the second check
		repairs++
		k.values["sudo/allow"] = fmt.Sprint("theirs ", repairs)
		return nil
	}
	k.values["sudo/allow"] = "theirs"
	if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Contested || !r.Unfinished() {
		t.Errorf("when it is changed back faster than a pass repairs it, it is %+v", r)
	}
	if repairs != 1 {
		t.Errorf("one pass repairs %d times what is contested already", repairs)
	}
	k.repair = nil
	m.clock.pass(time.Second)
	if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Contested || r.Unfinished() || !strings.Contains(r.Reason, "taken back each time") {
		t.Errorf("a second later it is %+v", r)
	}
	m.clock.pass(6 * time.Minute)
	if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Compliant {
		t.Errorf("after minutes of peace it is %+v", r)
	}
}

func TestAFightGoesOnUnderAnotherPolicyAndItsEndIsKnown(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	m.engine(p, k).Pass(t.Context())
	corrections := 0
	for contested := false; !contested; corrections++ {
		m.clock.pass(time.Second)
		k.values["dropin/a"] = "theirs"
		// Each pass runs under a policy that has just been read again.
		contested = states(m.engine(p, k).Pass(t.Context()))["dropin/a"] == converge.Contested
		if fought := m.ledger.Contested(m.clock.Now()); (corrections >= 3) != (len(fought) == 1) {
			t.Errorf("after %d corrections fought over is %v", corrections+1, fought)
		}
		if corrections > 20 {
			t.Fatal("it fights for ever")
		}
	}
	if until := m.ledger.ContestedUntil("dropin/a", m.clock.Now()); until.Sub(m.clock.Now()) < 8*time.Second {
		t.Errorf("it is tried again at %s", until)
	}
	e := m.engine(p, k)
	e.Writer = func(policy.ID) string { return "crond.service (pid 812, /usr/bin/cp)" }
	if r := the(t, e.Pass(t.Context()), "dropin/a"); !strings.HasPrefix(r.Reason, "something else keeps changing it back: crond.service (pid 812, /usr/bin/cp); ") {
		t.Errorf("the reason is %q", r.Reason)
	}
	m.clock.pass(10 * time.Minute)
	if fought := m.ledger.Contested(m.clock.Now()); len(fought) > 0 {
		t.Errorf("after minutes of peace fought over is %v", fought)
	}
}

// AWS writes the user's sudo file when it sets up a machine, when it joins it to the domain,
// and when it restores it.
func TestWhatIsGrantedAFewTimesWithinMinutesIsTakenAwayEachTime(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "sudo/allow")
	k := newKind(p, "sudo")
	e := m.engine(p, k)
	e.Pass(t.Context())
	for n := range 6 {
		m.clock.pass(20 * time.Second)
		k.values["sudo/allow"] = "granted again"
		if r := the(t, e.Pass(t.Context()), "sudo/allow"); r.State != converge.Corrected {
			t.Errorf("at grant %d it is %s: %s", n+1, r.State, r.Reason)
		}
	}
}

func TestARepairThatTakesMinutesIsTriedSeldomWhenItIsInVain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "package/a")
	k := newKind(p, "package")
	k.repair = func(converge.Resource) *converge.Outcome {
		m.clock.pass(time.Minute)
		return nil
	}
	e := m.engine(p, k)
	start := m.clock.Now()
	for m.clock.Now().Sub(start) < 24*time.Hour {
		e.Pass(t.Context())
		m.clock.pass(time.Second)
	}
	if n := len(k.repairs); n > 120 {
		t.Errorf("it was tried %d times in a day", n)
	}
}

// userdel(8) removes the user first, and then the user's group.
func TestWhatWasTriedBeforeSomethingThatItNeedsWasFoundMissingIsTriedAgain(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "group/scan", "user/scan")
	groups, users := newKind(p, "group"), newKind(p, "user")
	groups.values["group/scan"] = "x"
	users.repair = func(converge.Resource) *converge.Outcome {
		if len(users.repairs) == 1 {
			delete(groups.values, "group/scan") // by somebody else, after the check
		}
		if groups.values["group/scan"] != "x" {
			return &converge.Outcome{Err: errors.New("there is no such group")}
		}
		users.values["user/scan"] = "x"
		return nil
	}
	if got := states(m.engine(p, groups, users).Pass(t.Context())); got["user/scan"] != converge.Corrected || !got["group/scan"].InLine() {
		t.Errorf("it ends with %v after %d attempts", got, len(users.repairs))
	}
}

func TestAnOpponentThatIsFasterThanAPassIsAFightToo(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	k.repair = func(converge.Resource) *converge.Outcome { return nil } // undone at once
	e := m.engine(p, k)
	for range 20 {
		if states(e.Pass(t.Context()))["dropin/a"] == converge.Contested {
			if len(k.repairs) > 12 {
				t.Errorf("it gave way after %d repairs", len(k.repairs))
			}
			return
		}
		m.clock.pass(time.Second)
	}
	t.Error("it fights for ever")
}

func TestSeldomDriftIsNoFight(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	e := m.engine(p, k)
	for range 50 {
		m.clock.pass(time.Minute)
		k.values["dropin/a"] = "theirs"
		wantStates(t, e.Pass(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Corrected})
	}
}

func TestDriftIsIntentionalWhenThePolicyChangedAndCorrectiveWhenTheMachineDid(t *testing.T) {
	m := newMachine(t)
	cause := func(p *policy.Policy, k *kind) converge.Cause {
		t.Helper()
		r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a")
		if r.State != converge.Corrected {
			t.Fatalf("%+v", r)
		}
		m.ledger = openLedger(t, m.root, nil) // the agent restarts
		return r.Cause
	}
	p := wants("1", "dropin/a")
	k := newKind(p, "dropin")
	if c := cause(p, k); c != converge.Intentional {
		t.Errorf("a new policy: %s", c)
	}
	k.values["dropin/a"] = "theirs"
	if c := cause(p, k); c != converge.Corrective {
		t.Errorf("the machine changed: %s", c)
	}
	k.policy = wants("2", "dropin/a")
	if c := cause(k.policy, k); c != converge.Intentional {
		t.Errorf("the policy changed: %s", c)
	}
}

func TestWhatLeavesThePolicyAndComesBackIsIntentional(t *testing.T) {
	m := newMachine(t)
	p := wants("1", "dropin/a", "dropin/b")
	k := newKind(p, "dropin")
	m.engine(p, k).Pass(t.Context())
	k.policy = wants("1", "dropin/b")
	k.policy.Partial = true // whether it has left is not known
	m.engine(k.policy, k).Pass(t.Context())
	k.policy, k.values["dropin/a"] = p, "theirs"
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.Cause != converge.Corrective {
		t.Errorf("it had not left: %s", r.Cause)
	}
	k.policy = wants("1", "dropin/b")
	m.engine(k.policy, k).Pass(t.Context())
	m.ledger = openLedger(t, m.root, nil) // the agent restarts
	k.policy, k.values["dropin/a"], k.values["dropin/b"] = p, "theirs", "theirs"
	result := m.engine(p, k).Pass(t.Context())
	if r := the(t, result, "dropin/a"); r.State != converge.Corrected || r.Cause != converge.Intentional {
		t.Errorf("it came back: %+v", r)
	}
	if r := the(t, result, "dropin/b"); r.Cause != converge.Corrective {
		t.Errorf("it was there all the time: %+v", r)
	}
}

// Resources that a kind adds itself are in no policy and have no digest.
func TestDriftOfAResourceOfAKindsOwnIsCorrectiveOnceItWasInLine(t *testing.T) {
	m := newMachine(t)
	p := &policy.Policy{}
	k := newKind(p, "sudo")
	stray := true
	k.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) {
		r := converge.Resource{ID: "sudo/polkit", State: converge.Compliant}
		if stray {
			r.AddDrift("rule", "none", "wheel")
		}
		return []converge.Resource{r}, nil
	}
	k.repair = func(converge.Resource) *converge.Outcome { stray = false; return nil }
	for _, want := range []converge.Cause{converge.Intentional, converge.Corrective} {
		stray = true
		if r := the(t, m.engine(p, k).Pass(t.Context()), "sudo/polkit"); r.State != converge.Corrected || r.Cause != want {
			t.Errorf("%+v, want %s", r, want)
		}
	}
}

// What the policy no longer wants is in no policy, and is gone after its repair.
func TestWhatIsTakenAwayIsReportedOnceAndThenNoMore(t *testing.T) {
	m := newMachine(t)
	k := newKind(wants("1", "package/a"), "package")
	there, failing := true, false
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		switch {
		case failing:
			return nil, errors.New("the database is locked")
		case there:
			found = append(found, converge.Unwanted("package/licensed", "the policy no longer wants it"))
		}
		return found, nil
	}
	k.repair = func(r converge.Resource) *converge.Outcome {
		if r.ID == "package/licensed" {
			return &converge.Outcome{Err: errors.New("cannot remove licensed")}
		}
		k.set(r.ID)
		return nil
	}
	engine := m.engine(k.policy, k)
	wantStates(t, engine.Pass(t.Context()), map[policy.ID]converge.State{"package/a": converge.Corrected, "package/licensed": converge.Failed})

	k.repair = func(converge.Resource) *converge.Outcome { failing = true; return nil }
	wantStates(t, engine.Pass(t.Context()), map[policy.ID]converge.State{"package/a": converge.Unknown})

	failing = false
	k.repair = func(converge.Resource) *converge.Outcome { there = false; return nil }
	r := the(t, engine.Pass(t.Context()), "package/licensed")
	if r.State != converge.Corrected || r.Cause != converge.Intentional || len(r.Diff) != 1 || r.Reason != "the policy no longer wants it" {
		t.Errorf("%+v", r)
	}
	wantStates(t, engine.Pass(t.Context()), map[policy.ID]converge.State{"package/a": converge.Compliant})
}

// Without AWS a machine may have only the seed, or a policy without its secrets.
func TestNothingIsTakenAwayWhileThePolicyIsNotKnownInFull(t *testing.T) {
	m := newMachine(t)
	p := wants("1", "package/a", "package/secret")
	p.Resources[1].Missing = []policy.Reference{{}}
	k := newKind(p, "package")
	k.values["package/a"] = "1"
	k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
		for _, id := range []policy.ID{"package/secret", "package/other"} {
			found = append(found, converge.Unwanted(id, "no longer wanted"))
		}
		return found, nil
	}
	wantStates(t, m.engine(p, k).Check(t.Context()), map[policy.ID]converge.State{
		"package/a": converge.Compliant, "package/secret": converge.Unknown, "package/other": converge.Drifted,
	})
	p.Partial = true
	wantStates(t, m.engine(p, k).Check(t.Context()), map[policy.ID]converge.State{
		"package/a": converge.Compliant, "package/secret": converge.Unknown,
	})
}

func TestSinceIsKeptWhileAStateLasts(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a", "dropin/b")
	k := newKind(p, "dropin")
	k.repair = func(r converge.Resource) *converge.Outcome {
		if r.ID == "dropin/b" {
			return &converge.Outcome{Err: errors.New("no")}
		}
		k.set(r.ID)
		return nil
	}
	begun := m.clock.Now()
	for range 3 {
		result := m.engine(p, k).Pass(t.Context())
		for _, id := range []policy.ID{"dropin/a", "dropin/b"} {
			if r := the(t, result, id); !r.Since.Equal(begun) {
				t.Errorf("%s is %s since %s", id, r.State, r.Since)
			}
		}
		m.clock.pass(time.Hour)
		m.ledger = openLedger(t, m.root, nil)
	}
	k.values["dropin/a"] = "theirs"
	later := m.clock.Now()
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); !r.Since.Equal(later) {
		t.Errorf("corrected since %s, and it is %s", r.Since, later)
	}
}

// At a boot where everything starts at once, a check may get no answer for a moment. If nothing has
// changed, AWS need not hear of it.
func TestABriefDoubtDoesNotEndSinceWhenAResourceIsInLine(t *testing.T) {
	for doubt, kept := range map[time.Duration]bool{5 * time.Second: true, 9 * time.Minute: true, 11 * time.Minute: false} {
		m := newMachine(t)
		p := wants("x", "dropin/a")
		k := newKind(p, "dropin")
		pass := func(want converge.State) converge.Resource {
			t.Helper()
			m.ledger = openLedger(t, m.root, nil)
			result := m.engine(p, k).Pass(t.Context())
			wantStates(t, result, map[policy.ID]converge.State{"dropin/a": want})
			return the(t, result, "dropin/a")
		}
		begun := m.clock.Now()
		pass(converge.Corrected)
		m.clock.pass(time.Hour)
		k.check = func(context.Context, []converge.Resource) ([]converge.Resource, error) {
			return nil, errors.New("silent")
		}
		began := m.clock.Now()
		for range 2 {
			if r := pass(converge.Unknown); !r.Since.Equal(began) {
				t.Errorf("unknown since %s, and that began at %s", r.Since, began)
			}
		}
		m.clock.pass(doubt)
		k.check = nil
		if r := pass(converge.Compliant); r.Since.Equal(begun) != kept {
			t.Errorf("after %s of doubt it is compliant since %s, and it began %s", doubt, r.Since, begun)
		}
	}
}

func TestASecondPassWritesNothing(t *testing.T) {
	m := newMachine(t)
	var recorder system.Recorder
	m.ledger = openLedger(t, m.root, recorder.Gate)
	p := wants("x", "dropin/a", "dropin/b", "user/c")
	dropin, user := newKind(p, "dropin"), newKind(p, "user")
	user.repair = func(converge.Resource) *converge.Outcome { return &converge.Outcome{Err: errors.New("no")} }
	e := m.engine(p, dropin, user)
	e.Pass(t.Context())
	if len(recorder.Changes()) == 0 {
		t.Fatal("the first pass wrote nothing")
	}
	m.clock.pass(time.Minute)
	e.Pass(t.Context())
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("wrote %v", changes)
	}
	m.ledger = openLedger(t, m.root, recorder.Gate)
	m.engine(p, dropin, user).Pass(t.Context())
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("after a restart it wrote %v", changes)
	}
}

func TestAPassThatIsCancelledEndsWithWhatItHas(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "user/a", "dropin/b", "dropin/c", "service/d")
	user, dropin, service := newKind(p, "user"), newKind(p, "dropin"), newKind(p, "service")
	user.set("user/a")
	dropin.set("dropin/c")
	e := m.engine(p, user, dropin, service)
	ctx, cancel := context.WithCancel(t.Context())
	dropin.repair = func(r converge.Resource) *converge.Outcome {
		dropin.set(r.ID)
		cancel()
		return nil
	}
	result := e.Pass(ctx)
	wantStates(t, result, map[policy.ID]converge.State{
		"user/a": converge.Compliant, "dropin/b": converge.Unknown, "dropin/c": converge.Compliant, "service/d": converge.Drifted,
	})
	if len(service.repairs) > 0 || dropin.checks != 1 {
		t.Errorf("after the end: repaired %v, checked %d times", service.repairs, dropin.checks)
	}
	wantStates(t, e.Pass(t.Context()), map[policy.ID]converge.State{
		"user/a": converge.Compliant, "dropin/b": converge.Compliant, "dropin/c": converge.Compliant, "service/d": converge.Corrected,
	})
}

// The ledger does not record as a change what a stopping agent could not check.
func TestAPassCancelledWhileCheckingForgetsNothing(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "dropin/a")
	k := newKind(p, "dropin")
	e := m.engine(p, k)
	begun := the(t, e.Pass(t.Context()), "dropin/a").Since
	m.clock.pass(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k.check = func(ctx context.Context, _ []converge.Resource) ([]converge.Resource, error) { return nil, ctx.Err() }
	if r := the(t, e.Pass(ctx), "dropin/a"); r.State != converge.Unknown {
		t.Errorf("%+v", r)
	}
	k.check = nil
	if r := the(t, e.Pass(t.Context()), "dropin/a"); r.State != converge.Compliant || !r.Since.Equal(begun) {
		t.Errorf("%s since %s, want %s", r.State, r.Since, begun)
	}
}

func TestKindsAreCheckedTogetherRepairedInOrderAndReportedInOrder(t *testing.T) {
	m := newMachine(t)
	var ids []policy.ID
	names := []string{"system", "group", "user", "sudo", "dropin", "service"}
	for _, name := range names {
		for i := range 5 {
			ids = append(ids, policy.ID(fmt.Sprintf("%s/%d", name, i)))
		}
	}
	p := wants("x", slices.Clone(ids)...)
	var kinds []converge.Kind
	var order []policy.ID
	together := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(len(names))
	go func() { waiting.Wait(); close(together) }()
	for _, name := range names {
		k := newKind(p, name)
		once := sync.OnceFunc(waiting.Done)
		k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			once()
			<-together // or the test hangs: every kind waits for all others
			return found, nil
		}
		k.repair = func(r converge.Resource) *converge.Outcome {
			order = append(order, r.ID)
			k.set(r.ID)
			return nil
		}
		kinds = append(kinds, k)
	}
	result := m.engine(p, kinds...).Pass(t.Context())
	var reported []policy.ID
	for _, r := range result.Resources {
		reported = append(reported, r.ID)
	}
	if diff := cmp.Diff(ids, reported); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(order, func(a, b policy.ID) int { return slices.Index(names, a.Kind()) - slices.Index(names, b.Kind()) }) {
		t.Errorf("repaired in the order %v", order)
	}
	if diff := cmp.Diff(names, result.Kinds); diff != "" || len(result.Timing) != len(names) {
		t.Errorf("kinds (-want +got):\n%s\ntiming %v", diff, result.Timing)
	}
}

func TestAPassOverSomeKindsLeavesTheOthersOut(t *testing.T) {
	m := newMachine(t)
	p := wants("x", "user/a", "dropin/b")
	user, dropin := newKind(p, "user"), newKind(p, "dropin")
	wantStates(t, m.engine(p, user, dropin).Pass(t.Context(), "dropin"), map[policy.ID]converge.State{"dropin/b": converge.Corrected})
	if user.checks > 0 {
		t.Error("user was checked")
	}
}

func TestALedgerThatCannotBeWrittenDoesNotStopAPass(t *testing.T) {
	p := wants("x", "dropin/a", "dropin/b")
	for n := 1; ; n++ {
		m := newMachine(t)
		refused := false
		gate := system.FailNth(n)
		m.ledger = openLedger(t, m.root, func(c system.Change) error {
			err := gate(c)
			refused = refused || err != nil
			return err
		})
		k := newKind(p, "dropin")
		e := m.engine(p, k)
		wantStates(t, e.Pass(t.Context()), map[policy.ID]converge.State{"dropin/a": converge.Corrected, "dropin/b": converge.Corrected})
		if refused && !strings.Contains(m.log.String(), "cannot write the ledger") {
			t.Errorf("fault %d: the journal says %s", n, &m.log)
		}
		k.values["dropin/b"] = "theirs"
		e.Pass(t.Context())
		later := m.clock.Now().Add(time.Hour)
		if l := openLedger(t, m.root, nil); l.Since("dropin/a", converge.Compliant, later).Equal(later) {
			t.Errorf("fault %d: after the next pass the ledger does not know dropin/a", n)
		}
		if !refused {
			break
		}
	}
}

// A kind is not asked about resources that are not for the machine, or of which that cannot be told.
func TestWhatIsNotForTheMachineIsNotTouchedAndSaidWithItsReason(t *testing.T) {
	m := newMachine(t)
	p := wants("1", "dropin/a", "dropin/b", "dropin/c")
	p.Resources[1].NotApplicable = "there is no use for it"
	p.Resources[2].Undecided = "os.family is not known"
	k := newKind(wants("1", "dropin/a"), "dropin")
	result := m.engine(p, k).Pass(t.Context())
	wantStates(t, result, map[policy.ID]converge.State{"dropin/a": converge.Corrected, "dropin/b": converge.NotApplicable, "dropin/c": converge.Unknown})
	for id, want := range map[policy.ID]string{
		"dropin/b": "there is no use for it",
		"dropin/c": "left as it is, for it cannot be told whether it is for this machine: os.family is not known",
	} {
		if r := the(t, result, id); r.Reason != want || r.Public().Reason != want {
			t.Errorf("%s: %q, for everybody %q", id, r.Reason, r.Public().Reason)
		}
	}
	if r := the(t, result, "dropin/b"); !r.Tolerable() || !r.State.InLine() {
		t.Error("what is not applicable is held against the machine")
	}
	if r := the(t, result, "dropin/c"); r.Tolerable() {
		t.Error("what cannot be told is compliant")
	}
}
