package check_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A desk is a machine on which each run of a check is counted, and what it answers is told.
type desk struct {
	t      *testing.T
	root   string
	now    time.Time
	answer system.Output
	err    error
	runs   int
	last   system.Command

	policy *policy.Policy
	kind   *check.Kind
	ledger *converge.Ledger
}

func (d *desk) Now() time.Time { return d.now }

func (d *desk) Sleep(context.Context, time.Duration) error { panic("nobody sleeps here") }

func (d *desk) Run(_ context.Context, c system.Command) (system.Output, error) {
	d.runs++
	d.last = c
	return d.answer, d.err
}

func newDesk(t *testing.T, keys string) *desk {
	t.Helper()
	d := &desk{t: t, root: kindtest.Dir(t), now: time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)}
	d.start(keys)
	return d
}

// start is a start of the agent under a policy of one check.
func (d *desk) start(keys string) {
	d.t.Helper()
	s := kindtest.Open(d.t, system.Options{Root: d.root})
	s.Clock, s.Runner = d, d
	kindtest.Put(d.t, d.root, "bin/walk", "")
	d.ledger = kindtest.LedgerIn(d.t, s.FS)
	d.policy = kindtest.Policy(d.t, "[checks.x]\nrun = [\"/bin/walk\"]\n"+keys)
	d.kind = check.New(d.policy, s, d.ledger)
}

// pass is what a pass finds, of which the end makes it last.
func (d *desk) pass() converge.Resource {
	d.t.Helper()
	r := kindtest.CheckOne(d.t, d.kind)
	if err := d.ledger.Flush(); err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *desk) wants(what string, runs int, state converge.State) {
	d.t.Helper()
	before := d.runs
	r := d.pass()
	if d.runs-before != runs || r.State != state {
		d.t.Errorf("%s: it ran %d times and is %s: %s; want %d and %s", what, d.runs-before, r.State, r.Reason, runs, state)
	}
}

const everySixHours = "every = \"6h\"\n"

func TestACheckWithATimeOfItsOwnIsRunWhenThatHasPassedAndByNoOtherPass(t *testing.T) {
	d := newDesk(t, everySixHours)
	d.wants("first", 1, converge.Compliant)
	if !d.last.Confined.Background || d.last.Timeout != 5*time.Minute {
		t.Errorf("it runs as %+v %+v", d.last, d.last.Confined)
	}
	began := d.now
	for range 11 { // verifies
		d.now = d.now.Add(30 * time.Minute)
		d.wants("a pass", 0, converge.Compliant)
	}
	r := d.pass()
	if !r.AsOf.Equal(began) || !r.StaleAt.Equal(began.Add(12*time.Hour)) || !d.kind.NextLook().Equal(began.Add(6*time.Hour)) {
		t.Errorf("as of %s, stale at %s, the next look at %s", r.AsOf, r.StaleAt, d.kind.NextLook())
	}
	d.now = began.Add(6 * time.Hour)
	d.answer.ExitCode = 3
	d.wants("due", 1, converge.Failed)
	d.wants("and then", 0, converge.Failed)
	if d.answer = (system.Output{}); d.pass().Diff[0].Got != "3" {
		t.Error("what is kept does not say what was amiss")
	}
	d = newDesk(t, "")
	for range 3 {
		d.wants("without a time of its own", 1, converge.Compliant)
	}
	if d.last.Confined.Background || !d.kind.NextLook().IsZero() || !d.pass().AsOf.IsZero() {
		t.Errorf("a check that each pass runs is told of as one in its own time")
	}
}

func TestAnAnswerThatWasGivenBeforeWhatThePolicyBringsIsAskedForAgain(t *testing.T) {
	d := newDesk(t, everySixHours)
	d.answer.ExitCode = 1
	d.wants("while the machine becomes what the policy wants", 1, converge.Failed)
	d.answer.ExitCode = 0
	d.kind.LookAgain()
	d.wants("after that", 1, converge.Compliant)
	d.wants("and then", 0, converge.Compliant)
	d.start(everySixHours)
	d.kind.LookAgain()
	d.wants("an answer of before this policy was held", 0, converge.Compliant)
}

func TestTheLastAnswerOfACheckOutlivesTheAgentAndNotWhatWasWanted(t *testing.T) {
	d := newDesk(t, everySixHours)
	d.answer = system.Output{ExitCode: 1, Stdout: []byte("three files\n")}
	fresh := d.pass()
	d.now = d.now.Add(time.Hour)
	d.start(everySixHours)
	d.wants("after a restart", 0, converge.Failed)
	if kept := d.pass(); fmt.Sprint(kept) != fmt.Sprint(fresh) || fmt.Sprint(kept.Public()) != fmt.Sprint(fresh.Public()) || kept.Reason == "" {
		t.Errorf("what is kept says\n%v\nand it said\n%v", kept, fresh)
	}
	d.start(everySixHours + "exit = 1\n")
	d.wants("something else is wanted", 1, converge.Compliant)
	d.start(everySixHours)
	d.wants("and again", 1, converge.Failed)
	raw, err := os.ReadFile(filepath.Join(d.root, "var/lib/soe-agent/ledger.jsonl"))
	if err != nil || !strings.Contains(string(raw), "three files") {
		t.Errorf("%v: %s", err, raw)
	}
	d.policy.Resources = nil
	kindtest.Check(t, d.kind)
	if err := d.ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	d.start(everySixHours)
	d.wants("it had left the policy", 1, converge.Failed)
}

func TestACheckThatComesToNoAnswerIsUnknownAndTriedAgainSooner(t *testing.T) {
	d := newDesk(t, everySixHours)
	d.wants("first", 1, converge.Compliant)
	d.now, d.err = d.now.Add(6*time.Hour), fmt.Errorf("it did not end within 5m0s")
	d.wants("no answer", 1, converge.Unknown)
	d.now = d.now.Add(time.Hour)
	d.wants("the retries of the worker", 0, converge.Unknown)
	d.now, d.err = d.now.Add(30*time.Minute), nil
	d.wants("a quarter of its time", 1, converge.Compliant)
}

func TestAnAnswerOfAClockThatWasAheadCountsForNothing(t *testing.T) {
	d := newDesk(t, everySixHours)
	d.now = d.now.AddDate(1, 0, 0)
	d.wants("ahead", 1, converge.Compliant)
	d.now = d.now.AddDate(-1, 0, 0)
	d.wants("right again", 1, converge.Compliant)
	d.wants("and then", 0, converge.Compliant)
}

func TestAnAnswerThatIsOlderThanTwiceItsTimeIsUnknownInEveryReport(t *testing.T) {
	d := newDesk(t, everySixHours)
	found := d.pass()
	for after, want := range map[time.Duration]converge.State{
		0: converge.Compliant, 12*time.Hour - time.Second: converge.Compliant, 12 * time.Hour: converge.Unknown, 240 * time.Hour: converge.Unknown,
	} {
		r := report.New("0", facts.Facts{}, d.policy, nil, d.now.Add(after), []converge.Resource{found}, nil)
		if got := r.Resources[0]; got.State != want || r.Compliant != (want == converge.Compliant) || r.Summary[want] != 1 || (want == converge.Unknown) != strings.Contains(got.Reason, "2026-11-21 06:00:00 UTC, which is too long ago") {
			t.Errorf("after %s it is %s: %s", after, got.State, got.Reason)
		}
		if got := r.ForEverybody().Resources[0]; got.Reason != r.Resources[0].Reason {
			t.Errorf("everybody reads %q", got.Reason)
		}
	}
	if found.State != converge.Compliant {
		t.Error("a report changes what was found")
	}
}

func TestACheckInItsOwnTimeRunsBehindEverybodyElse(t *testing.T) {
	found := results(t, `
[checks]
of-the-processor = { run = ["/usr/bin/nice"], stdout = "^19$", every = "1h" }
of-the-disk      = { run = ["/usr/bin/ionice"], stdout = "^best-effort: prio 7$", every = "1h" }
of-a-user        = { run = ["/usr/bin/nice"], stdout = "^19$", every = "1h", user = "nobody" }
of-each-pass     = { run = ["/usr/bin/nice"], stdout = "^0$" }
`)
	for name, r := range found {
		if r.State != converge.Compliant {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
}
