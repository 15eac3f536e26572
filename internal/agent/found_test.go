package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/report"
)

// everyKind returns a policy with a resource of every kind.
func everyKind(serial int64) *policy.Policy {
	p := &policy.Policy{Serial: serial}
	for _, kind := range policy.Kinds() {
		p.Resources = append(p.Resources, policy.Resource{ID: policy.ID(kind + "/x")})
	}
	slices.SortFunc(p.Resources, func(a, b policy.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return p
}

// looked returns the result of a pass over kinds of a policy, with every resource in one state.
func looked(p *policy.Policy, state converge.State, kinds ...string) converge.Result {
	result := converge.Result{Policy: p, Started: time.Now(), Kinds: kinds}
	for _, want := range p.Resources {
		if slices.Contains(kinds, want.ID.Kind()) {
			r := converge.Wanted(want)
			r.State = state
			result.Resources = append(result.Resources, r)
		}
	}
	return result
}

// written returns what a daemon has written for everybody to read.
func written(t *testing.T, d *daemon) (r report.Report, s Status) {
	t.Helper()
	for name, into := range map[string]any{ReportFile: &r, StatusFile: &s} {
		content, err := d.System.FS.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(content, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r, s
}

// agrees fails the test unless every output about the machine's state has this verdict.
func agrees(t *testing.T, when string, d *daemon, want report.Verdict) report.Report {
	t.Helper()
	d.publish()
	r, s := written(t, d)
	good := want == report.Compliant
	if r.Verdict != want || r.Compliant != good || s.Verdict != want || s.Compliant != good {
		t.Errorf("%s the report says %q, %v and the status %q, %v; want %q", when, r.Verdict, r.Compliant, s.Verdict, s.Compliant, want)
	}
	if state := (served{d}).State(); state.Verdict != string(want) || state.Compliant != good {
		t.Errorf("%s the bus says %q, %v", when, state.Verdict, state.Compliant)
	}
	var junit, text, html bytes.Buffer
	if err := errors.Join(r.JUnit(&junit), r.Text(&text, report.Style{}), r.HTML(&html, nil)); err != nil {
		t.Fatal(err)
	}
	if red := strings.Contains(junit.String(), "<error") || strings.Contains(junit.String(), "<failure"); red == good {
		t.Errorf("%s JUnit is red: %v", when, red)
	}
	if !strings.Contains(text.String(), want.String()+"  ") || !strings.Contains(html.String(), "<h1>"+want.String()[:3]) {
		t.Errorf("%s the text says %s", when, text.String())
	}
	items, _ := r.ComplianceItems(report.Room)
	bad := slices.ContainsFunc(items.Items, func(item types.ComplianceItemEntry) bool { return item.Status != "COMPLIANT" })
	if bad == good {
		t.Errorf("%s SSM Compliance has findings: %v", when, bad)
	}
	line, _ := r.Inventory(time.Time{})
	if said := line.Items[0].Content[0]; said["Verdict"] != string(want) || (said["Compliant"] == "true") != good {
		t.Errorf("%s the inventory says %v", when, said)
	}
	return r
}

// Law 1: what has not been checked is not compliant, whatever its kind, at any time since the agent's start.
func TestNothingIsCompliantThatHasNotBeenLookedAtUnderThePolicyInForceInThisLife(t *testing.T) {
	for _, last := range policy.Kinds() {
		others := slices.DeleteFunc(policy.Kinds(), func(kind string) bool { return kind == last })
		t.Run(last, func(t *testing.T) {
			root := t.TempDir()
			unseen := func(when string, d *daemon) {
				t.Helper()
				r := agrees(t, when, d, report.Converging)
				if !slices.ContainsFunc(r.Resources, func(r converge.Resource) bool {
					return r.ID == policy.ID(last+"/x") && r.State == converge.Unknown && r.Unseen && r.Reason != "" && !r.Since.IsZero() && r.Severity != ""
				}) {
					t.Errorf("%s the report does not say that %s has not been looked at", when, last)
				}
				if d.settle(); d.startup.announced {
					t.Errorf("%s the machine is announced to be configured", when)
				}
			}
			born := func(p *policy.Policy) *daemon {
				d := newTestDaemon(t, root, "1.0")
				d.findings.policy, d.startup.announced, d.status.Serial = nil, false, p.Serial
				d.crashes.markHealthy()
				d.findings.hold(p, d.System.Clock.Now())
				return d
			}
			p := everyKind(1)
			d := born(p)
			unseen("at boot", d)
			d.record(looked(p, converge.Compliant, others...))
			unseen("with the other kinds looked at", d)
			d.quick.mu.Lock()
			d.quick.busy = []string{last}
			d.quick.mu.Unlock()
			unseen("while it is under way", d)
			d.quick.mu.Lock()
			d.quick.busy = nil
			d.quick.mu.Unlock()
			d.record(looked(p, converge.Compliant, last))
			agrees(t, "when all has been looked at", d, report.Compliant)

			d.slow.repairing[last] = looked(p, converge.Drifted, last).Resources
			agrees(t, "while what is missing of it is brought back by a tool that hangs", d, report.NotCompliant)
			delete(d.slow.repairing, last)
			d.record(looked(p, converge.Unknown, last))
			agrees(t, "when a look has failed", d, report.NotCompliant)
			d.record(looked(p, converge.Compliant, last))

			d.refusals.config = []public.Line{public.All("agent.toml:1: no")}
			agrees(t, "when something is refused", d, report.NotCompliant)
			d.refusals.config = nil
			agrees(t, "when all is well again", d, report.Compliant)

			newer := everyKind(2)
			d.findings.hold(newer, d.System.Clock.Now())
			d.status.Serial = 2
			unseen("under a new serial", d)
			d.record(looked(p, converge.Compliant, policy.Kinds()...))
			unseen("with all looked at under the older one", d)
			d.record(looked(newer, converge.Compliant, others...))
			unseen("with the others looked at under the new one", d)
			d.record(looked(newer, converge.Corrected, last))
			agrees(t, "when all has been looked at again", d, report.Compliant)

			d = born(newer)
			unseen("after a restart", d)
			d.record(looked(newer, converge.Compliant, others...))
			unseen("after a restart with the others looked at", d)
		})
	}
}

func TestAKindThatThePolicyWantsNothingOfIsLookedAtAllTheSameBeforeTheMachineIsCompliant(t *testing.T) {
	p := &policy.Policy{Serial: 1, Resources: []policy.Resource{{ID: "sudo/allow"}}}
	d := newTestDaemon(t, t.TempDir(), "1.0")
	d.findings.policy = p
	d.findings.reset(p, d.System.Clock.Now())
	d.record(looked(p, converge.Compliant, "sudo"))
	agrees(t, "when only sudo has been looked at", d, report.Converging) // it is not known what the other kinds have to remove
	d.record(looked(p, converge.Compliant, policy.Kinds()...))
	if r := agrees(t, "when all has been", d, report.Compliant); len(r.Resources) != 1 {
		t.Errorf("the report has %v", r.Resources)
	}
}

func TestEveryKindOfThePolicyIsOneOfTheEngineAndOfOneWorker(t *testing.T) {
	d := newTestDaemon(t, t.TempDir(), "1.0")
	p := &policy.Policy{Serial: 1}
	result := d.Engine(p).Check(t.Context())
	want := slices.Sorted(slices.Values(policy.Kinds()))
	if got := slices.Sorted(slices.Values(result.Kinds)); !slices.Equal(got, want) {
		t.Errorf("the engine has %q, and the policy %q", got, want)
	}
	d.enforce(p, nil)
	var walked []string
	for _, w := range d.workers() {
		for _, kind := range w.given() {
			walked = append(walked, kind.Name())
		}
	}
	if slices.Sort(walked); !slices.Equal(walked, want) {
		t.Errorf("the workers walk %q, and the policy has %q", walked, want)
	}
}

func TestWhatIsOfAKindThatNothingLooksAtIsUnknownForEver(t *testing.T) {
	for _, lost := range policy.Kinds() {
		p := everyKind(1)
		d := newTestDaemon(t, t.TempDir(), "1.0")
		d.findings.policy = p
		d.findings.reset(p, d.System.Clock.Now())
		var kinds []converge.Kind
		var names []string
		for _, kind := range policy.Kinds() {
			if kind != lost {
				kinds, names = append(kinds, named(kind)), append(names, kind)
			}
		}
		d.reportUnassigned(kinds)
		d.record(looked(p, converge.Compliant, names...))
		r := agrees(t, "without "+lost, d, report.NotCompliant)
		if r.Summary[converge.Unknown] != 1 || r.Summary[converge.Compliant] != len(names) {
			t.Errorf("without %s the report has %v", lost, r.Summary)
		}
	}
}

func TestInSafeModeWhatIsLeftAloneIsUnknownAndTheMachineIsNotCompliant(t *testing.T) {
	p := everyKind(1)
	d := newTestDaemon(t, t.TempDir(), "1.0")
	d.findings.policy, d.status.SafeMode = p, "safe mode since today"
	d.findings.reset(p, d.System.Clock.Now())
	for _, kind := range policy.Kinds() {
		found, err := suspended{kind, p, d.status.SafeMode}.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.record(converge.Result{Policy: p, Kinds: []string{kind}, Resources: found})
	}
	agrees(t, "in safe mode", d, report.NotCompliant)
}

func TestUntilAPolicyHasBeenHadFromWhereItIsPublishedTheMachineConverges(t *testing.T) {
	p := &policy.Policy{}
	d := newTestDaemon(t, t.TempDir(), "1.0")
	d.findings.policy = p
	d.findings.reset(p, d.System.Clock.Now())
	d.config.AWS.Path = "/soe/prod"
	d.record(looked(p, converge.Compliant, policy.Kinds()...))
	if r := agrees(t, "with the seed", d, report.Converging); len(r.Awaited) != 1 {
		t.Errorf("it waits for %q", r.Awaited)
	}
	d.refusals.policy = []public.Line{public.All("10-base:1: no")}
	agrees(t, "when what is published is refused", d, report.NotCompliant)
	d.refusals.policy, d.status.Serial = nil, 7
	agrees(t, "with a published policy", d, report.Compliant)
}

func TestAPolicyOfWhichNotAllIsKnownIsAwaitedAtFirstAndADoubtThen(t *testing.T) {
	p := &policy.Policy{Serial: 7, Partial: true, Doubts: []public.Line{public.All("cannot tell whether persona kiosk applies")}}
	d := newTestDaemon(t, t.TempDir(), "1.0")
	d.findings.policy = p
	d.findings.reset(p, d.System.Clock.Now())
	d.config.AWS.Path, d.status.Serial = "/soe/prod", 7
	d.record(looked(p, converge.Compliant, policy.Kinds()...))
	agrees(t, "before anything was heard", d, report.Converging)
	d.waits(errors.New("no network"), time.Now())
	agrees(t, "when nothing can be heard", d, report.NotCompliant)
}

func TestWhatWasCorrectedIsCalledSoUnderTheNextPolicyThatWantsTheSameOfItOnceItIsLookedAt(t *testing.T) {
	const same, other = "dropin/etc/a.d/same", "dropin/etc/a.d/other"
	wants := func(serial int64, content string) *policy.Policy {
		return &policy.Policy{Serial: serial, Resources: []policy.Resource{
			{ID: other, Spec: policy.Dropin{Content: content}}, {ID: same, Spec: policy.Dropin{Content: "same"}},
		}}
	}
	d := newTestDaemon(t, t.TempDir(), "1.0")
	look := func(p *policy.Policy, state converge.State) {
		d.record(converge.Result{Policy: p, Kinds: []string{"dropin"}, Resources: []converge.Resource{{ID: same, State: state}, {ID: other, State: state}}})
	}
	d.findings.policy = wants(1, "one")
	d.findings.reset(d.findings.policy, d.System.Clock.Now())
	look(d.findings.policy, converge.Corrected)
	newer := wants(2, "two")
	d.findings.reset(newer, d.System.Clock.Now())
	d.findings.policy = newer
	for _, r := range d.findings.resources["dropin"] {
		if !r.Unseen {
			t.Errorf("%s has not been looked at and is %s", r.ID, r.State)
		}
	}
	called := func(when string) {
		t.Helper()
		look(newer, converge.Compliant)
		for _, r := range d.findings.resources["dropin"] {
			if want := map[policy.ID]converge.State{same: converge.Corrected, other: converge.Compliant}[r.ID]; r.State != want {
				t.Errorf("%s %s is %s, and not %s", when, r.ID, r.State, want)
			}
		}
	}
	called("corrected before the newer policy was in force")
	d.findings.corrected = map[policy.ID]converge.Resource{}
	look(wants(1, "one"), converge.Corrected)
	called("corrected by a walk that ended when it was")
}
