package persona

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/target"
)

// A kind is what a condition tests.
type kind string

const (
	hostname kind = "host name"
	fact     kind = "fact"
	tag      kind = "tag"
	group    kind = "group"
)

// A condition is one condition of a rule.
type condition struct {
	kind   kind
	key    string // name of the tag or fact
	values []string
}

func (c condition) String() string {
	if c.key == "" {
		return string(c.kind)
	}
	return string(c.kind) + " " + c.key
}

// inOrder returns the conditions, the cheap ones first: those that can be answered on the machine
// itself.
func (c Conditions) inOrder() []condition {
	var all []condition
	if c.Hostname != nil {
		all = append(all, condition{hostname, "", c.Hostname})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fact)) {
		all = append(all, condition{fact, name, c.Fact[name]})
	}
	for _, key := range slices.Sorted(maps.Keys(c.Tag)) {
		all = append(all, condition{tag, key, c.Tag[key]})
	}
	if c.Group != nil {
		all = append(all, condition{group, "", c.Group})
	}
	return all
}

// An answer is whether a condition holds, and why, for people. The zero value means that it does
// not hold.
type answer struct {
	verdict verdict
	why     string
}

type verdict int

const (
	no verdict = iota
	yes
	unknown // it cannot be determined now
)

func holds(format string, args ...any) answer { return answer{yes, fmt.Sprintf(format, args...)} }

func untellable(format string, args ...any) answer {
	return answer{unknown, fmt.Sprintf(format, args...)}
}

// ask determines whether a condition holds.
func (l *look) ask(ctx context.Context, c condition) answer {
	switch c.kind {
	case hostname:
		return l.named(c)
	case fact:
		switch a, why := (target.Conditions{c.key: c.values}).Hold(l.facts.Target()); a {
		case target.Yes:
			return holds("fact %s", why)
		case target.Unknown:
			return untellable("%s is not known yet", c)
		}
	case tag:
		tags, err := l.tags()
		if err != nil {
			return untellable("%s: %v", c, err)
		}
		if value, tagged := tags[c.key]; tagged && slices.Contains(c.values, value) {
			return holds("%s is %s", c, value)
		}
	case group:
		return l.member(ctx, c.values)
	}
	return answer{}
}

// named matches the host name. Until a machine gets its own name, it has a generic one that says
// nothing about it.
func (l *look) named(c condition) answer {
	for _, pattern := range c.values {
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(l.facts.Hostname)); ok {
			return holds("%s %s is as in %s", c, l.facts.Hostname, pattern)
		}
	}
	if l.facts.Identity().Hostname == "" {
		return untellable("%s: the machine has none of its own yet", c)
	}
	return answer{}
}
