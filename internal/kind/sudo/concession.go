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

// A concession is a command that somebody who is not allowed may run all the same.
type concession struct {
	subject string
	command sudotext.Command
}

// concessionsOf are those of the policy, in the order in which they are written down.
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

// conceded is what sudo is to list for somebody who is not allowed. How it lists a command is
// sudo's own word, asked for about the very command, for each version has its own.
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
			key.WriteString(name) // whoever runs it is whom it is run as
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
