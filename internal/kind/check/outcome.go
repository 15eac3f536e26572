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

// An outcome is what came of a run of a check: nothing that is amiss, or what. It holds no
// secret of the policy.
type outcome struct {
	Exit    *exit      `json:"exit,omitempty"`    // when it is not as wanted
	Printed []printing `json:"printed,omitempty"` // that is not as wanted
	OfUser  bool       `json:"of_user,omitempty"` // another user's process said so
	// Unanswered is why it could not be told, and Public whether everybody may read that.
	Unanswered string `json:"unanswered,omitempty"`
	Public     bool   `json:"public,omitempty"`

	at time.Time // when, of one that runs in its own time
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

// resource is where a check stands by an outcome.
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

// triesAgain is how many times as soon a check that came to no answer is tried again.
const triesAgain = 4

// due is when a check is to run again.
func (o outcome) due(spec policy.Check) time.Time {
	if o.Unanswered != "" {
		return o.at.Add(spec.Every / triesAgain)
	}
	return o.at.Add(spec.Every)
}

// last is what came of the last run of a check that runs in its own time, if that counts still:
// the same was wanted, and it is not due again. A time that has not come yet is of a clock
// that was wrong.
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

// forget drops what came of checks that the policy does not name any more.
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
		due := k.system.Clock.Now().Round(0).Add(mostOften) // it has just been tried, in vain
		if o, counts := k.last(want); counts {
			due = o.due(want.Spec)
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// mostOften is how soon a pass follows one that has kept nothing of a check, as when the
// machine's clock went back.
const mostOften = time.Minute
