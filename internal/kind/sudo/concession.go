package sudo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// A concession is a command that the policy grants to somebody who is not an administrator
// ([sudo.commands]).
type concession struct {
	subject string
	command sudotext.Command
}

// concessionsOf returns the concessions of the policy, in the order of the policy.
func concessionsOf(want policy.Sudo) (all []concession, err error) {
	for _, subject := range slices.Sorted(maps.Keys(want.Commands)) {
		for _, text := range want.Commands[subject] {
			command, err := sudotext.ParseCommand(text)
			if err != nil {
				return nil, fmt.Errorf("cannot grant %s the command %q: %w", subject, text, err)
			}
			all = append(all, concession{subject, command})
		}
	}
	return all, nil
}

// conceded is what sudo should list for somebody who is not an administrator. Each version of sudo
// prints commands differently, so sudo itself is asked how it lists them.
func (k *Kind) conceded(ctx context.Context, p *plan, name string, allowed bool) ([]sudoers.Entry, error) {
	var commands []sudotext.Command
	for _, c := range p.concessions {
		if allowed {
			break
		}
		meant, err := p.judge.isMeant(name, c.subject)
		if err != nil {
			return nil, err
		}
		if meant {
			commands = append(commands, c.command)
		}
	}
	if len(commands) == 0 {
		return nil, nil
	}
	var key strings.Builder
	for _, c := range commands {
		if key.WriteString(c.String() + "\n"); len(c.As) == 0 {
			key.WriteString(name) // it is run as the caller
		}
	}
	if entries, asked := p.listed[key.String()]; asked {
		return entries, nil
	}
	entries, err := sudoers.Conceded(ctx, k.system, name, commands)
	if err == nil {
		p.listed[key.String()] = entries
	}
	return entries, err
}
