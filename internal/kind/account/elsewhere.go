package account

import (
	"fmt"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// elsewhere returns the accounts or groups that the agent created, and that the policy names for other
// machines only. A fragment that is not for this machine any more takes no account away.
func elsewhere(p *policy.Policy, l *converge.Ledger, kind string) []policy.ID {
	return slices.DeleteFunc(l.Owned(kind), func(id policy.ID) bool {
		_, is := p.Left[id]
		return !is
	})
}

// stays reports such an account or group, with the command that removes it.
func stays(p *policy.Policy, id policy.ID, command string) converge.Resource {
	left := p.Left[id]
	r := converge.Wanted(policy.Resource{ID: id, Origin: left.Origin})
	r.SetNotApplicable(fmt.Sprintf("left over: the agent created it, and the fragment that names it is not for this machine any more (%s); to remove it: %s %s", left.Why, command, id.Name()))
	return r
}
