package credentials

import "github.com/soe-agent/soe-agent/internal/system"

// NewFor is New for a process of this user with this environment.
func NewFor(c Config, s *system.System, getenv func(string) string, uid int) *Provider {
	return newProvider(c, s, getenv, uid)
}

// Chosen is the source that p has.
func Chosen(p *Provider) string { return p.config.Source }

// The parsers, for their fuzz targets.
var (
	Section     = section
	Words       = words
	ParseAnswer = parseAnswer
)
