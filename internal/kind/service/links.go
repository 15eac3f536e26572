package service

import (
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// tell sets what the links say for certain of a unit's file, and says whether that is
// enough to judge the unit by. They tell most of what UnitFileState does, and systemd takes
// a millisecond to work that out for each unit: it reads these directories anew every time.
func tell(links unitfiles.Links, want policy.Service, u *system.Unit) bool {
	switch {
	case u.LoadState != "loaded", strings.Contains(u.Name, "@"):
		return want.Enabled == nil && want.Masked == nil && u.LoadState != "masked"
	case want.Enabled == nil:
		return true // what is loaded is not masked
	case *want.Enabled && links.Enable(u.Name):
		u.UnitFileState = "enabled"
		return true
	case !*want.Enabled && len(links.Of(u.Name)) == 0:
		u.UnitFileState = "disabled"
		return true
	}
	return false
}

// left are the links by which a unit would be enabled if it had a file, or were not masked.
// systemd says nothing of them.
func left(links unitfiles.Links, u system.Unit) []string {
	if u.LoadState != "not-found" && !masked(u) {
		return nil
	}
	return links.Of(u.Name)
}
