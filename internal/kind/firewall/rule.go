package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
)

// A line is one rule in the kernel: what it matches, its verdict, and its owner.
type line struct {
	loopback  bool
	state     string // state of the connection: "established", "related"; "": any
	midstream bool   // TCP packets that do not open a connection
	protocol  string // "tcp", "udp", "icmp", "ipv6-icmp"; "": any
	low, high uint16 // destination ports; 0: any
	peer      netip.Prefix
	verdict   string // accept, drop or reject; "": left to the rules of others
	owner     string // the name of its resource, or always
	raw       string // the text of a rule that has no such form
}

// always is the owner of the lines that are there whatever the policy says. No resource has this
// name.
const always = "*"

const (
	accept = "accept"
	drop   = "drop"
	reject = "reject"
)

func (l line) String() string {
	if l.raw != "" {
		return l.raw
	}
	var words []string
	say := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(l.loopback, "loopback")
	say(l.state != "", "%s", l.state)
	say(l.midstream, "tcp that opens no connection")
	say(l.protocol != "", "%s", l.protocol)
	say(l.low != 0 && l.low == l.high, "%d", l.low)
	say(l.low != l.high, "%d-%d", l.low, l.high)
	say(l.peer.IsValid(), "%s", l.peer)
	say(len(words) == 0, "all else")
	say(true, "%s", cmp.Or(l.verdict, "left to others"))
	return strings.Join(words, " ")
}

// A family is the protocols that a rule set is about.
type family string

const (
	both family = "inet"
	ip4  family = "ip"
	ip6  family = "ip6"
)

// has reports whether a line is about the family.
func (f family) has(l line) bool {
	switch {
	case f == both:
		return true
	case l.peer.IsValid():
		return l.peer.Addr().Is4() == (f == ip4)
	case l.protocol == "icmp":
		return f == ip4
	case l.protocol == "ipv6-icmp":
		return f == ip6
	}
	return true
}

func directions() []protected.Direction {
	return []protected.Direction{protected.In, protected.Out}
}

// open returns the lines that come before all others. Existing connections come first, so that none
// is cut, including TCP connections that the kernel has not tracked from their beginning, for
// example because it did not track any before. A packet that opens no connection does not let
// anybody in.
func open(d protected.Direction) []line {
	lines := []line{
		{loopback: true},
		{state: "established"},
		{state: "related"},
		{midstream: true},
		{protocol: "ipv6-icmp"},
	}
	for _, p := range protected.Ports() {
		if p.Direction == d {
			lines = append(lines, line{protocol: p.Protocol, low: p.Low, high: p.High, peer: p.Peer})
		}
	}
	for i := range lines {
		lines[i].verdict, lines[i].owner = accept, always
	}
	return lines
}

// refusal returns the verdict for denied traffic. Connections from outside get no answer; local
// programs get an error at once.
func refusal(d protected.Direction) string {
	if d == protected.In {
		return drop
	}
	return reject
}

// compiled returns the lines of one resource.
func compiled(name string, f policy.Firewall) (lines []line, err error) {
	l := line{protocol: f.Protocol, verdict: accept, owner: name}
	if f.Action == policy.Deny {
		l.verdict = refusal(f.Direction)
	} else if isDefault(name) {
		l.verdict = ""
	}
	spans, err := f.Spans()
	if err != nil {
		return nil, err
	}
	networks, err := f.Networks()
	if err != nil {
		return nil, err
	}
	if len(spans) == 0 {
		spans = []policy.Span{{}}
	}
	if len(networks) == 0 {
		networks = []netip.Prefix{{}}
	}
	for _, network := range networks {
		for _, span := range spans {
			l := l
			l.peer, l.low, l.high = network, span.Low, span.High
			lines = append(lines, l)
		}
	}
	return lines, nil
}

func isDefault(name string) bool { return name == policy.Inbound || name == policy.Outbound }

// sorted sorts lines in order of evaluation: what is always open, the rules by their names, and the
// default.
func sorted(lines []line) []line {
	rank := func(l line) int {
		switch {
		case l.owner == always:
			return 0
		case isDefault(l.owner):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.owner, b.owner))
	})
	return lines
}

// A view is one rule set in force.
type view struct {
	family family
	chains map[protected.Direction][]line
	// unhooked says why the chain of a direction does not decide, or not first; "": it does.
	unhooked map[protected.Direction]string
	// others names who else denies in a direction, so that traffic accepted here may be denied
	// there; "": nobody.
	others map[protected.Direction]string
	jumps  map[protected.Direction]int // number of jumps in others' chains to the chains here
	left   bool                        // something of the agent exists
}

func newView(f family) view {
	return view{
		family: f, chains: map[protected.Direction][]line{}, jumps: map[protected.Direction]int{},
		unhooked: map[protected.Direction]string{}, others: map[protected.Direction]string{},
	}
}

// A plan is the wanted rule sets, by family and direction.
type plan map[family]map[protected.Direction][]line

// without returns lines minus others, as multisets.
func without(lines, others []line) (rest []line) {
	count := map[line]int{}
	for _, l := range others {
		count[l]++
	}
	for _, l := range lines {
		if count[l] > 0 {
			count[l]--
			continue
		}
		rest = append(rest, l)
	}
	return rest
}
