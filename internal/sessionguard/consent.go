package sessionguard

import (
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Consent is the policy's to a step that ends or disturbs the session of somebody
// at the desktop, while the maintenance window is open. The zero Consent is none.
type Consent struct {
	to     policy.ID // of what the policy says so; "" without consent
	window schedule.Window
}

// ConsentTo is what the rules of a policy (disrupt) say of a step that several
// resources may need. One that may disrupt is enough: the others go along.
func ConsentTo(p *policy.Policy, window schedule.Window, ids ...policy.ID) Consent {
	i := slices.IndexFunc(ids, func(id policy.ID) bool { return p.Ruling(id, time.Time{}).Disrupt == policy.DisruptInWindow })
	if i < 0 {
		return Consent{}
	}
	return Consent{to: ids[i], window: window}
}

// Now says whether the policy consents to the step at this moment.
func (c Consent) Now(s *system.System) bool {
	return c.to != "" && c.window.Open(system.Here(s.Clock))
}

// Hold returns a Held error when a step has to wait for the sake of person, "" being
// nobody, who is logged in; how says what would become of that session.
func (c Consent) Hold(s *system.System, person, how string) error {
	if person == "" || c.Now(s) {
		return nil
	}
	held := &Held{converge.NextSession, person + " is logged in, " + how}
	switch {
	case c.to == "":
	case c.window.IsSet():
		held.Until = converge.Maintenance
		held.Reason += "; in the maintenance window " + c.window.String() + " that no longer counts"
	default:
		held.Reason += "; the policy has it done in the maintenance window all the same, and none is set: say window in [schedule] of agent.toml"
	}
	return held
}
