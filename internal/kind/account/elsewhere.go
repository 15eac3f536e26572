package account

import (
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
