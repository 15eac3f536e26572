package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Rule is a rule of the policy, by what it is about and where it is written.
type Rule struct {
	Match  []string      `json:"match"` // globs over IDs
	Origin policy.Origin `json:"origin"`
}

// A Waiver is a rule that lets resources be out of line for a time. One that has
// expired, and is in the policy still, is a finding: somebody has to end it or to
// renew it. The resources that it held are kept in line again.
type Waiver struct {
	Rule
	Until   string `json:"until"` // the last day on which it holds, in UTC: 2026-12-31
	Reason  string `json:"reason"`
	Expired bool   `json:"expired"`
	Holds   int    `json:"holds"` // so many resources are out of line and waived by it
}

// waivers are those of the policy, in its order.
func waivers(p *policy.Policy, at time.Time, resources []converge.Resource) []Waiver {
	holds := make([]int, len(p.Rules))
	for _, r := range resources {
		if r.State != converge.Waived {
			continue
		}
		if i := p.Auditing(r.ID); i >= 0 {
			holds[i]++
		}
	}
	var all []Waiver
	for i, rule := range p.Rules {
		if rule.Audit && !rule.Until.IsZero() {
			all = append(all, Waiver{
				Rule: Rule{Match: rule.Match, Origin: rule.Origin}, Reason: rule.Reason, Holds: holds[i],
				Until: rule.Until.AddDate(0, 0, -1).Format(time.DateOnly), Expired: !at.Before(rule.Until),
			})
		}
	}
	return all
}

// idleRules are about none of the resources. While a part of the policy is not known
// nobody can tell.
func idleRules(p *policy.Policy, resources []converge.Resource) []Rule {
	if p.Partial {
		return nil
	}
	var ids []policy.ID
	for _, r := range p.Resources {
		ids = append(ids, r.ID)
	}
	for _, r := range resources {
		ids = append(ids, r.ID)
	}
	var idle []Rule
	for _, i := range p.Idle(ids) {
		idle = append(idle, Rule{Match: p.Rules[i].Match, Origin: p.Rules[i].Origin})
	}
	return idle
}

// String is what the waiver is about, and why.
func (w Waiver) String() string {
	about := fmt.Sprintf("until %s", w.Until)
	if w.Expired {
		about = fmt.Sprintf("ended after %s", w.Until)
	}
	return fmt.Sprintf("%s, %s: %s", strings.Join(w.Match, ", "), about, w.Reason)
}
