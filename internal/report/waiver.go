package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Rule is a rule of the policy: what it matches and where it is written.
type Rule struct {
	Match  []string      `json:"match"` // globs for IDs
	Origin policy.Origin `json:"origin"`
}

// A Waiver is a rule that lets resources be out of line until a date. One that has expired and is still in
// the policy is a finding: somebody has to remove or renew it. Its resources are repaired again.
type Waiver struct {
	Rule
	Until   string `json:"until"` // the last day on which it holds, in UTC: 2026-12-31
	Reason  string `json:"reason"`
	Expired bool   `json:"expired"`
	Holds   int    `json:"holds"` // how many resources are out of line and waived by it
}

// waivers returns the policy's waivers, in its order.
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

// idleRules returns the rules that match none of the resources. It returns none while a part of the policy is
// not known, because they may match there.
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

// String returns what the waiver matches, until when it holds, and why.
func (w Waiver) String() string {
	about := fmt.Sprintf("until %s", w.Until)
	if w.Expired {
		about = fmt.Sprintf("ended after %s", w.Until)
	}
	return fmt.Sprintf("%s, %s: %s", strings.Join(w.Match, ", "), about, w.Reason)
}
