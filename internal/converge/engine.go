package converge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// maxRounds is how many rounds of repair one pass makes.
const maxRounds = 3

// An Engine keeps one machine as one policy wants it. Check and Pass must not run
// for the same kind at the same time.
type Engine struct {
	policy *policy.Policy
	kinds  []Kind
	ledger *Ledger
	clock  system.Clock
	log    *slog.Logger

	secrets Secrets

	// Affects, if set, names the kinds that may drift when a kind is repaired. They are checked
	// again together with it.
	Affects func(kind string) []string
	// BeforeCheck, if set, is called before each check with the kinds that are about to be checked.
	// The check sees every change made before it returns.
	BeforeCheck func(ctx context.Context, kinds []string)
	// Writer, if set, names the other program that was seen to change a contested resource, or
	// returns "".
	Writer func(id policy.ID) string
	// CheckTimeout is how long a pass waits for one kind's Check. After that the kind is set aside
	// and the pass goes on without it. 0 means no limit.
	CheckTimeout time.Duration
	// HangEnded, if set, is called when the Check of a kind that was set aside has returned.
	HangEnded func(kind string)
	// Hangs are the kinds that were set aside. The engines of successive policies share them, so
	// that a check that hangs under one policy is not started again under the next.
	Hangs *Hangs
	// Detach, if set, takes over the kinds that a pass does not wait for because their Check or
	// Repair takes longer than DetachAfter. It must have rest called from another goroutine. The
	// result of rest covers these kinds, and the result of the pass leaves them out. The context
	// is that of the pass.
	Detach      func(ctx context.Context, kinds []string, rest func() Result)
	DetachAfter time.Duration
	// Changed, if set, is called with the changes of a pass.
	Changed func(changes []Change)
	// Repairing, if set, is called for each kind of a pass before each round of repair, with the
	// resources that are about to be repaired. A repair may take long; these resources are not in
	// line until the kind's pass has ended.
	Repairing func(kind string, drifted []Resource)
}

// New returns an engine for a policy. Kinds are repaired in the order given.
func New(p *policy.Policy, kinds []Kind, ledger *Ledger, clock system.Clock, log *slog.Logger) *Engine {
	return &Engine{policy: p, kinds: kinds, ledger: ledger, clock: clock, log: log, secrets: SecretsOf(p), Hangs: &Hangs{}}
}

// A Result is what a pass found and did.
type Result struct {
	Policy    *policy.Policy           `json:"-"` // the policy it was found under
	Started   time.Time                `json:"started"`
	Took      time.Duration            `json:"took"`
	Rounds    int                      `json:"rounds"` // rounds of repair; 0 when nothing had drifted
	Resources []Resource               `json:"resources"`
	Kinds     []string                 `json:"kinds"` // the kinds that were checked
	Timing    map[string]time.Duration `json:"timing"`
}

// Check checks the kinds named, or all if none is named, and changes nothing.
func (e *Engine) Check(ctx context.Context, only ...string) Result {
	p := e.begin(only)
	p.check(ctx, p.kinds)
	return p.end()
}

// Pass checks the kinds named, or all if none is named, repairs what drifted and checks again.
// When ctx ends it stops early and returns what it has.
func (e *Engine) Pass(ctx context.Context, only ...string) Result {
	p := e.begin(only)
	p.check(ctx, p.kinds)
	return p.goOn(ctx)
}

// goOn repairs what the first check found, checks again, and ends the pass.
func (p *pass) goOn(ctx context.Context) Result {
	if p.first == nil {
		p.first = p.notInLine()
	}
	for p.rounds < maxRounds && ctx.Err() == nil {
		p.earlier = maps.Clone(p.found)
		p.tellRepairing()
		touched := p.repair(ctx)
		if len(touched) == 0 {
			break
		}
		p.checkAgain(ctx, touched)
	}
	p.settle(p.first)
	result := p.end()
	p.record(result, ctx.Err() != nil)
	p.log.Debug("pass ended", "kinds", result.Kinds, "rounds", result.Rounds, "took", result.Took)
	return result
}

// checkAgain checks the kinds that a round of repair touched, and counts the round.
func (p *pass) checkAgain(ctx context.Context, touched []Kind) {
	p.rounds++
	if ctx.Err() != nil {
		p.setUnchecked(touched)
		return
	}
	p.check(ctx, touched)
	p.noteCorrected(touched, p.earlier)
	p.addFound(p.first)
}

// pass is the state of one pass.
type pass struct {
	*Engine
	kinds      []Kind
	started    time.Time
	rounds     int
	found      map[string][]Resource // by kind
	outcomes   map[policy.ID]Outcome
	tried      map[policy.ID]attempt // the last attempt to repair each resource
	corrected  map[string]bool       // kinds of which the last round corrected something
	timing     map[string]time.Duration
	incomplete map[string]bool // kinds whose last check returned an error: it may have missed something
	ours       map[string]bool // kinds that may have drifted because this pass repaired another kind

	first    map[policy.ID]Resource // what was not in line at the first check; nil before it
	earlier  map[string][]Resource  // what was found before this round, by kind
	detached bool                   // split from another pass: it waits for slow checks and repairs
}

func (e *Engine) begin(only []string) *pass {
	p := &pass{
		Engine: e, started: e.clock.Now(),
		found: map[string][]Resource{}, outcomes: map[policy.ID]Outcome{}, tried: map[policy.ID]attempt{}, timing: map[string]time.Duration{},
		incomplete: map[string]bool{}, ours: map[string]bool{},
	}
	for _, k := range e.kinds {
		if len(only) == 0 || slices.Contains(only, k.Name()) {
			p.kinds = append(p.kinds, k)
		}
	}
	return p
}

// check checks kinds concurrently and replaces what was found of them.
func (p *pass) check(ctx context.Context, kinds []Kind) {
	// A step was postponed, and it may wait for just what changes now. Such a change has to start
	// another pass, so this pass must not swallow it.
	if p.BeforeCheck != nil && !p.postponed() {
		p.BeforeCheck(ctx, namesOf(kinds))
	}
	ctx = system.WithSharedSessionList(ctx)
	answers := make([]chan checked, len(kinds))
	for i, kind := range kinds {
		answers[i] = make(chan checked, 1)
		go func() { answers[i] <- p.checkKind(ctx, kind) }()
	}
	detach, cancel := p.detachContext()
	defer cancel()
	for i, kind := range kinds {
		select {
		case a := <-answers[i]:
			p.setFound(kind, a)
			continue
		default:
		}
		select {
		case a := <-answers[i]:
			p.setFound(kind, a)
		case <-detach.Done():
			p.detachCheck(ctx, kind, answers[i])
		}
	}
}

// checked is the result of one check of one kind.
type checked struct {
	resources []Resource
	half      bool // the check returned an error
	took      time.Duration
}

func (p *pass) checkKind(ctx context.Context, kind Kind) checked {
	start := p.clock.Now()
	resources, err := p.checkWithTimeout(ctx, kind)
	resources = slices.DeleteFunc(resources, p.mayBeWanted)
	resources = append(resources, p.unaccounted(kind.Name(), resources, err)...)
	for i := range resources {
		p.rule(&resources[i])
		p.secrets.hideIn(&resources[i])
	}
	return checked{resources, err != nil, p.clock.Now().Sub(start)}
}

func (p *pass) setFound(kind Kind, a checked) {
	name := kind.Name()
	p.found[name], p.incomplete[name] = a.resources, a.half
	p.timing[name] += a.took
}

// postponed says whether the pass has postponed a step.
func (p *pass) postponed() bool {
	for _, outcome := range p.outcomes {
		if outcome.Postponed != "" {
			return true
		}
	}
	return false
}

func namesOf(kinds []Kind) []string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = kind.Name()
	}
	return names
}

// mayBeWanted says whether the policy may want a resource that its kind calls unwanted, because a part
// of the policy, or of this resource's spec, is not known yet.
func (p *pass) mayBeWanted(r Resource) bool {
	if !r.unwanted {
		return false
	}
	_, named := p.policy.Lookup(r.ID)
	return named || p.policy.Partial
}

// callCheck calls a kind's Check. A panic becomes an error, so that the other kinds are still checked.
// For an Observer it also makes sure that no failed read goes unmentioned.
func (p *pass) callCheck(ctx context.Context, kind Kind) (resources []Resource, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p.log.Error("a check panicked; this is a bug of the agent: please report it", "kind", kind.Name(), "err", cause, "stack", string(debug.Stack()))
			resources, err = nil, fmt.Errorf("cannot check %s: a bug of the agent: %v", kind.Name(), cause)
		}
	}()
	observer, observes := kind.(Observer)
	if !observes {
		return kind.Check(ctx)
	}
	_ = observer.Unanswered() // left over from a repair, which this check judges
	resources, err = kind.Check(ctx)
	for _, failure := range observer.Unanswered() {
		if !mentioned(failure, resources, err) {
			return unproven(resources, failure), errors.Join(err, failure)
		}
	}
	return resources, err
}

// mentioned says whether a failed read is mentioned in the error of a Check, or in the reason of an
// unknown or failed resource.
func mentioned(failure error, resources []Resource, err error) bool {
	text := failure.Error()
	return err != nil && strings.Contains(err.Error(), text) || slices.ContainsFunc(resources, func(r Resource) bool {
		return (r.State == Unknown || r.State == Failed) && strings.Contains(r.Reason, text)
	})
}

// unproven handles a failed read that no reason mentions: any resource may have been judged without it.
// Compliant and pending resources become unknown. Unwanted ones are dropped, so that nothing is
// taken away.
func unproven(resources []Resource, why error) []Resource {
	resources = slices.DeleteFunc(resources, func(r Resource) bool { return r.unwanted })
	for i := range resources {
		if resources[i].Tolerable() {
			resources[i].SetUnknown(why.Error())
		}
	}
	return resources
}

// unaccounted returns an entry for each resource that the policy wants of a kind and that its check
// did not return, so that nothing wanted goes unreported.
func (p *pass) unaccounted(kind string, resources []Resource, err error) []Resource {
	returned := make(map[policy.ID]bool, len(resources))
	for _, r := range resources {
		returned[r.ID] = true
	}
	var rest []Resource
	told := err == nil
	for _, want := range p.policy.Resources {
		if want.ID.Kind() != kind || returned[want.ID] {
			continue
		}
		r := Wanted(want)
		switch {
		case want.NotApplicable != "":
			r.SetNotApplicable(want.NotApplicable)
		case want.Undecided != "":
			r.SetUnknown("left as it is, for it cannot be told whether it is for this machine: " + want.Undecided).ReasonIsPublic()
		case want.Unusable != "":
			r.SetFailed(want.Unusable)
		case len(want.Missing) > 0:
			r.SetUnknown(p.unresolved(want.Missing[0])).ReasonIsPublic()
		case err != nil:
			r.SetUnknownErr(err)
			told = true
		default:
			r.SetUnknown("its check said nothing about it").ReasonIsPublic()
		}
		rest = append(rest, r)
	}
	if !told {
		r := Resource{ID: policy.ID(kind)}
		r.SetUnknownErr(err)
		rest = append(rest, r)
	}
	return rest
}

// unresolved is the reason of a resource that is left as it is because a value is not known yet.
func (p *pass) unresolved(missing policy.Reference) string {
	text := fmt.Sprintf("left as it is: the value of %s is not known yet", missing)
	if why := p.policy.Why[missing.String()]; why != "" {
		text += ": " + why
	}
	return text
}

// setUnchecked makes drifted resources unknown in kinds that were repaired but not checked again.
func (p *pass) setUnchecked(touched []Kind) {
	for _, kind := range touched {
		resources := slices.Clone(p.found[kind.Name()])
		for i := range resources {
			if resources[i].repairable() {
				resources[i].SetUnknown("the pass was ended before its effect was seen").ReasonIsPublic()
			}
		}
		p.found[kind.Name()] = resources
	}
}

// noteCorrected notes the kinds of which the last round of repair corrected something.
func (p *pass) noteCorrected(touched []Kind, last map[string][]Resource) {
	p.corrected = map[string]bool{}
	for _, kind := range touched {
		drifted := map[policy.ID]bool{}
		for _, r := range last[kind.Name()] {
			drifted[r.ID] = r.State == Drifted
		}
		p.corrected[kind.Name()] = slices.ContainsFunc(p.found[kind.Name()], func(r Resource) bool {
			return r.State == Compliant && drifted[r.ID]
		})
		for _, other := range p.affects(kind.Name()) {
			p.ours[other] = p.ours[other] || p.corrected[kind.Name()]
		}
	}
}

func (p *pass) end() Result {
	now, zone := p.clock.Now(), system.Here(p.clock).Location()
	result := Result{Policy: p.policy, Started: p.started, Took: now.Sub(p.started), Rounds: p.rounds, Timing: p.timing}
	n := 0
	for _, resources := range p.found {
		n += len(resources)
	}
	result.Resources = make([]Resource, 0, n)
	for _, kind := range p.kinds {
		resources := p.found[kind.Name()]
		slices.SortFunc(resources, func(a, b Resource) int { return cmp.Compare(a.ID, b.ID) })
		for i := range resources {
			resources[i].Since = p.ledger.Since(resources[i].ID, resources[i].State, now)
			resources[i].age(now, zone, p.policy.Ruling(resources[i].ID, now).Pending)
		}
		result.Resources = append(result.Resources, resources...)
		result.Kinds = append(result.Kinds, kind.Name())
	}
	return result
}

// recordUnwanted marks in the ledger the resources that the policy no longer wants and that are no
// longer there. It skips kinds that have an unknown resource.
func (e *Engine) recordUnwanted(result Result) {
	found, doubtful := map[policy.ID]bool{}, map[string]bool{}
	for _, r := range result.Resources {
		found[r.ID] = true
		if r.State == Unknown {
			doubtful[r.ID.Kind()] = true
		}
	}
	for _, kind := range result.Kinds {
		if doubtful[kind] {
			continue
		}
		e.ledger.left(kind, func(id policy.ID) bool {
			_, named := e.policy.Lookup(id)
			return named || found[id]
		})
	}
}

// record writes the states to the ledger and passes the changes on. If the pass was interrupted,
// unknown resources are left out.
func (e *Engine) record(result Result, interrupted bool) {
	now := e.clock.Now()
	var changes []Change
	for _, r := range result.Resources {
		took := result.Timing[r.ID.Kind()]
		switch {
		case r.mended && r.Cause == Corrective:
			e.ledger.contests.corrected(r.ID, now, took)
		case r.unsettled:
			for range maxRounds {
				e.ledger.contests.corrected(r.ID, now, took)
			}
		}
		if r.State != Unknown || !interrupted {
			if change, changed := changeOf(r, e.ledger.stands(r)); changed {
				changes = append(changes, change)
			}
		}
	}
	if !interrupted && !e.policy.Partial {
		e.recordUnwanted(result)
	}
	if e.Changed != nil && len(changes) > 0 {
		e.Changed(changes)
	}
	before := e.ledger.Unwritten()
	if err := e.ledger.Flush(); err != nil && (before == nil || before.Error() != err.Error()) {
		e.log.Error("cannot write the ledger", "err", err)
	}
}
