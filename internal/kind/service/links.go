package service

import (
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// tell sets the parts of a unit's file state that follow from links, and reports whether they are
// enough to judge the unit. They cover most of UnitFileState, for which systemd needs a millisecond
// per unit, because it reads these directories each time.
func tell(links unitfiles.Links, want policy.Service, u *system.Unit) bool {
	switch {
	case u.LoadState != "loaded", strings.Contains(u.Name, "@"):
		return want.Enabled == nil && want.Masked == nil && u.LoadState != "masked"
	case want.Enabled == nil:
		return true // a loaded unit is not masked
	case *want.Enabled && links.Enable(u.Name):
		u.UnitFileState = "enabled"
		return true
	case !*want.Enabled && len(links.Of(u.Name)) == 0:
		u.UnitFileState = "disabled"
		return true
	}
	return false
}

// left are links that would enable a unit if it had a file, or were unmasked. systemd does not report
// them.
func left(links unitfiles.Links, u system.Unit) []string {
	if u.LoadState != "not-found" && !masked(u) {
		return nil
	}
	return links.Of(u.Name)
}
