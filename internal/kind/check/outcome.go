package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// An outcome is the result of running a check: what is wrong, if anything. It holds no secret of the
// policy.
type outcome struct {
	Exit    *exit      `json:"exit,omitempty"`    // if it is not as wanted
	Printed []printing `json:"printed,omitempty"` // only what is not as wanted
	OfUser  bool       `json:"of_user,omitempty"` // the process ran as another user
	// Unanswered is why there is no result, and Public whether everybody may read that.
	Unanswered string `json:"unanswered,omitempty"`
	Public     bool   `json:"public,omitempty"`

	at time.Time // when it ran, for a check with an interval
}

type exit struct {
	Code int    `json:"code"`
	Said string `json:"said"`
}

type printing struct {
	Name    string `json:"name"` // "stdout" or "stderr"
	Pattern string `json:"pattern"`
	Shown   string `json:"shown"`
}

// resource is the state of a check by an outcome.
func (o outcome) resource(want policy.Want[policy.Check]) converge.Resource {
	r := converge.Wanted(want.Resource)
	if !o.at.IsZero() {
		r.AsOf, r.StaleAt = o.at, o.at.Add(want.Spec.StaleAfter())
	}
	if o.OfUser {
		r.WordOf = want.Spec.User
	}
	if o.Unanswered != "" {
		r.SetUnknown(o.Unanswered)
		if o.Public {
			r.ReasonIsPublic()
		}
		return r
	}
	var broken []string
	if o.Exit != nil {
		r.AddPublicDrift("exit", strconv.Itoa(want.Spec.Exit), strconv.Itoa(o.Exit.Code))
		broken = append(broken, fmt.Sprintf("%s exited with %d: %s", want.Spec.Run[0], o.Exit.Code, o.Exit.Said))
	}
	for _, p := range o.Printed {
		r.AddDrift(p.Name, "/"+p.Pattern+"/", p.Shown)
		broken = append(broken, fmt.Sprintf("its %s is %s", p.Name, p.Shown))
	}
	if len(broken) > 0 {
		r.SetFailedErr(public.Because("the check does not hold", errors.New(strings.Join(broken, "; "))))
	}
	return r
}

// triesAgain divides the interval of a check that had no result: it is tried again that much sooner.
const triesAgain = 4

// due is the time when a check is to run again.
func (o outcome) due(spec policy.Check) time.Time {
	if o.Unanswered != "" {
		return o.at.Add(spec.Every / triesAgain)
	}
	return o.at.Add(spec.Every)
}

// last is the previous outcome of a check with an interval, if it still counts: the policy wanted the
// same, and it is not due again.
func (k *Kind) last(want policy.Want[policy.Check]) (o outcome, counts bool) {
	o.at, counts = k.recall(want.ID, want.Digest(), &o)
	return o, counts && k.system.Clock.Now().Round(0).Before(o.due(want.Spec))
}

// recall reads the last answer, if the same was wanted then. A time in the future comes from a wrong
// clock and does not count.
func (k *Kind) recall(id policy.ID, digest string, found any) (at time.Time, counts bool) {
	answer, known := k.ledger.Answer(id)
	if !known || answer.Digest != digest || json.Unmarshal(answer.Found, found) != nil {
		return time.Time{}, false
	}
	return answer.At, !k.system.Clock.Now().Round(0).Before(answer.At)
}

func (k *Kind) keep(want policy.Want[policy.Check], o outcome) {
	k.remember(want.ID, want.Digest(), o.at, o)
}

func (k *Kind) remember(id policy.ID, digest string, at time.Time, found any) {
	raw, _ := json.Marshal(found) // plain data always marshals
	k.ledger.KeepAnswer(id, converge.Answer{Digest: digest, At: at, Found: raw})
}

// forget drops the outcomes of checks that the policy no longer names, and how far searches have come
// of which none is left.
func (k *Kind) forget() {
	if k.policy.Partial {
		return
	}
	k.ledger.DropAnswers(k.Name(), func(id policy.ID) bool {
		_, named := k.policy.Lookup(id)
		return named || slices.ContainsFunc(k.expeditions(), func(e *expedition) bool { return e.id == id && len(e.wants) > 0 })
	})
}

// NextLook implements converge.Timed.
func (k *Kind) NextLook() time.Time {
	var next time.Time
	earlier := func(due time.Time) {
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	retry := k.system.Clock.Now().Round(0).Add(mostOften) // it has just been tried without a result
	for _, want := range policy.Of[policy.Check](k.policy) {
		if want.Spec.Every == 0 {
			continue
		}
		due := retry
		if o, counts := k.last(want); counts {
			due = o.due(want.Spec)
		}
		earlier(due)
	}
	for _, e := range k.expeditions() {
		for _, want := range e.wants {
			due := retry
			if s, counts := k.lastSearched(want); counts {
				due = s.due(want.Spec)
			}
			earlier(due)
		}
	}
	return next
}

// mostOften is the shortest time to the next pass if no outcome was kept, for example because the
// clock went back.
const mostOften = time.Minute
