package check

import (
	"encoding/json"
	"errors"
	"fmt"
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
// same, and it is not due again. A time in the future comes from a wrong clock and does not count.
func (k *Kind) last(want policy.Want[policy.Check]) (o outcome, counts bool) {
	answer, known := k.ledger.Answer(want.ID)
	if !known || answer.Digest != want.Digest() || json.Unmarshal(answer.Found, &o) != nil {
		return outcome{}, false
	}
	o.at = answer.At
	now := k.system.Clock.Now().Round(0)
	return o, !now.Before(o.at) && now.Before(o.due(want.Spec))
}

func (k *Kind) keep(want policy.Want[policy.Check], o outcome) {
	found, _ := json.Marshal(o) // plain data always marshals
	k.ledger.KeepAnswer(want.ID, converge.Answer{Digest: want.Digest(), At: o.at, Found: found})
}

// forget drops the outcomes of checks that the policy no longer names.
func (k *Kind) forget() {
	if k.policy.Partial {
		return
	}
	k.ledger.DropAnswers(k.Name(), func(id policy.ID) bool {
		_, named := k.policy.Lookup(id)
		return named
	})
}

// NextLook implements converge.Timed.
func (k *Kind) NextLook() time.Time {
	var next time.Time
	for _, want := range policy.Of[policy.Check](k.policy) {
		if want.Spec.Every == 0 {
			continue
		}
		due := k.system.Clock.Now().Round(0).Add(mostOften) // it has just been tried without a result
		if o, counts := k.last(want); counts {
			due = o.due(want.Spec)
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// mostOften is the shortest time to the next pass if no outcome was kept, for example because the
// clock went back.
const mostOften = time.Minute
