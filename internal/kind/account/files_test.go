package account_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// disk fakes the walk over the disk. Only root may really change owners; the tests of package
// system do that.
type disk struct {
	system.Homes
	asked []system.Reown
	found []system.Reowned // the result of each walk; empty after the last
	err   error
}

func (d *disk) Reown(_ context.Context, r system.Reown) (system.Reowned, error) {
	d.asked = append(d.asked, r)
	if len(d.found) == 0 {
		return system.Reowned{}, d.err
	}
	found := d.found[0]
	d.found = d.found[1:]
	return found, d.err
}

// renumbered returns a desk where alice and the group docker get other ids.
func renumbered(t *testing.T, toml string) (*desk, *disk) {
	t.Helper()
	d := newDesk(t, toml)
	walks := &disk{Homes: d.system.FS.Homes}
	d.system.FS.Homes = walks
	d.tools.does = func(tool string) {
		switch tool {
		case "usermod":
			d.put(t, "passwd", strings.Replace(passwd, "alice:x:1001", "alice:x:5200", 1))
		case "groupmod":
			d.put(t, "group", strings.Replace(group, "docker:x:372", "docker:x:5300", 1))
		}
	}
	return d, walks
}

func (d *desk) put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.system.Root, "etc", name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// again returns the desk after a restart of the agent.
func (d *desk) again(t *testing.T) *desk {
	t.Helper()
	l := kindtest.LedgerIn(t, d.system.FS)
	return &desk{d.system, d.policy, l, d.tools}
}

const aliceAndDocker = "users.alice = { uid = 5200 }\ngroups.docker = { gid = 5300 }"

func TestFilesFollowAnIdThatChanges(t *testing.T) {
	d, walks := renumbered(t, aliceAndDocker)
	if _, outcomes := d.walk(t); len(outcomes) > 0 {
		t.Error(outcomes)
	}
	if len(walks.asked) != 2 {
		t.Fatalf("asked %+v", walks.asked)
	}
	for i, want := range []system.Reown{
		{Dir: "/", Group: true, IDs: map[int]int{372: 5300}},
		{Dir: "/", IDs: map[int]int{1001: 5200}},
	} {
		got := walks.asked[i]
		got.Limit, got.Skip = 0, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	found, _ := d.walk(t)
	for _, r := range found {
		if r.State != converge.Compliant {
			t.Errorf("%s is %s: %v", r.ID, r.State, r.Diff)
		}
	}
	if len(walks.asked) != 2 || len(d.tools.ran) != 2 {
		t.Errorf("a second pass ran %q and walked %d times", d.tools.ran, len(walks.asked)-2)
	}
}

func TestAWalkThatTheAgentDidNotSurviveIsFinishedLater(t *testing.T) {
	d, walks := renumbered(t, aliceAndDocker)
	walks.err = context.Canceled
	if _, outcomes := d.walk(t); len(outcomes) != 2 || !errors.Is(outcomes[0].Err, context.Canceled) {
		t.Error(outcomes)
	}
	walks.err, walks.asked = nil, nil
	d = d.again(t)
	found, outcomes := d.walk(t)
	if len(outcomes) > 0 || len(walks.asked) != 2 || len(d.tools.ran) != 2 {
		t.Errorf("%v; walked %+v; ran %q", outcomes, walks.asked, d.tools.ran)
	}
	for i, want := range []converge.Difference{
		{Aspect: "files", Want: "of gid 5300", Got: "some of gid 372"},
		{Aspect: "files", Want: "of uid 5200", Got: "some of uid 1001"},
	} {
		if diff := cmp.Diff([]converge.Difference{want}, found[i].Diff); diff != "" {
			t.Error(diff)
		}
	}
	if found, _ := d.walk(t); found[0].State != converge.Compliant || found[1].State != converge.Compliant {
		t.Errorf("%+v", found)
	}
}

func TestFilesFollowEvenWhenThePolicyNamesTheirAccountNoMore(t *testing.T) {
	d, walks := renumbered(t, aliceAndDocker)
	walks.err = context.Canceled
	d.walk(t)
	walks.err, walks.asked = nil, nil
	d = d.again(t)
	d.policy = &policy.Policy{}
	if found, outcomes := d.walk(t); len(found) != 2 || found[1].ID != "user/alice" || len(outcomes) > 0 || len(walks.asked) != 2 {
		t.Errorf("%+v, %v, %+v", found, outcomes, walks.asked)
	}
	if found, _ := d.walk(t); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}

func TestAnIdIsNobodyElsesUntilItsFilesHaveLeft(t *testing.T) {
	d, walks := renumbered(t, "users.alice = { uid = 5200 }\nusers.bob = { uid = 1001 }")
	walks.err = context.Canceled
	_, outcomes := d.walk(t)
	if len(outcomes) != 2 || outcomes[0].ID != "user/bob" || outcomes[0].Err.Error() != "cannot create user bob: uid 1001 is still held by files of alice" {
		t.Error(outcomes)
	}
	walks.err = nil
	d.walk(t)
	d.walk(t)
	if last := d.tools.ran[len(d.tools.ran)-1]; last != "useradd -u 1001 -U -m -K UMASK=077 bob" {
		t.Errorf("ran %q", d.tools.ran)
	}
}

func TestFilesOfAnIdThatSomebodyHasTakenAreLeftAlone(t *testing.T) {
	d, walks := renumbered(t, "users.alice = { uid = 5200 }")
	d.tools.directory = directory{"passwd 1001": `EXAMPLE\jane doe:*:1001:5200::/home/jane doe:/bin/bash`}
	_, outcomes := d.walk(t)
	const want = `cannot give the files of alice to uid 5200: it cannot be told whose files are whose: uid 1001 is held by EXAMPLE\jane doe of the directory`
	if len(outcomes) != 1 || outcomes[0].Err == nil || outcomes[0].Err.Error() != want || len(walks.asked) > 0 {
		t.Errorf("%v; walked %+v", outcomes, walks.asked)
	}
}

func TestAnIdOfTwoAccountsIsNotChanged(t *testing.T) {
	d, _ := renumbered(t, "users.alice = { uid = 5200 }")
	d.put(t, "passwd", passwd+"alias:x:1001:1001::/home/alice:/bin/bash\n")
	_, outcomes := d.walk(t)
	if len(outcomes) != 1 || !strings.Contains(outcomes[0].Err.Error(), "uid 1001 also belongs to alias") || len(d.tools.ran) > 0 {
		t.Errorf("%v, ran %q", outcomes, d.tools.ran)
	}
}

// leaps is a clock that advances two hours at each call of Now.
type leaps struct{ now time.Time }

func (l *leaps) Now() time.Time {
	l.now = l.now.Add(2 * time.Hour)
	return l.now
}

func (*leaps) Sleep(context.Context, time.Duration) error { return nil }

func TestALongWalkGoesOnInTheNextPass(t *testing.T) {
	d, walks := renumbered(t, "users.alice = { uid = 5200 }")
	d.system.Clock = &leaps{}
	walks.found = []system.Reowned{{Seen: 50_000, Changed: 12, Next: "srv/m"}, {Seen: 7, Changed: 1}}
	users := account.NewUsers(d.policy, d.system, d.ledger)
	pass := func() []converge.Outcome {
		found := kindtest.Check(t, users)
		return users.Repair(t.Context(), found)
	}
	want := []converge.Outcome{{
		ID: "user/alice", Postponed: converge.Now,
		Reason: "of its files 12 have the new id after 50000 were checked; a later pass goes on",
	}}
	if diff := cmp.Diff(want, pass()); diff != "" {
		t.Error(diff)
	}
	if outcomes := pass(); len(outcomes) > 0 || len(walks.asked) != 2 || walks.asked[1].After != "srv/m" {
		t.Errorf("%v, %+v", outcomes, walks.asked)
	}
}

// Walking the whole disk in every pass for one file would be useless.
func TestFilesThatCannotFollowAreNamedAndNotTriedInEveryPass(t *testing.T) {
	d, walks := renumbered(t, "users.alice = { uid = 5200 }")
	walks.found = []system.Reowned{{Failed: []system.ReownFailure{{ID: 1001, Err: errors.New("cannot change the owner of /srv/x: operation not permitted")}}}}
	users := account.NewUsers(d.policy, d.system, d.ledger)
	found, _ := users.Check(t.Context())
	if outcomes := users.Repair(t.Context(), found); len(outcomes) != 1 || outcomes[0].Err == nil {
		t.Error(outcomes)
	}
	found, _ = users.Check(t.Context())
	if found[0].State != converge.Failed || !strings.Contains(found[0].Reason, "some files keep uid 1001: cannot change the owner of /srv/x") {
		t.Errorf("%+v", found[0])
	}
	if found, outcomes := d.again(t).walk(t); found[0].State != converge.Drifted || len(outcomes) > 0 {
		t.Errorf("%+v, %v", found[0], outcomes)
	}
}
