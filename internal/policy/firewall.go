package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func firewallSection() section {
	return section{
		"firewall", named("which connections are let in and out: rules by their names, and `inbound` and `outbound`, which say what becomes of all others", "NAME", firewallName.String(), firewallForm()), (*decoder).firewall,
		`[firewall.inbound]
action = "deny"

[firewall.ssh]
action = "allow"
protocol = "tcp"
ports = ["22"]
from = ["10.0.0.0/8"]

[firewall.telnet]
action = "deny"
direction = "out"
protocol = "tcp"
ports = ["23", "992"]
to = ["192.0.2.0/24", "2001:db8::/32"]
`,
		[]Spec{Firewall{}},
	}
}

// Firewall is a rule about new connections or, with the names Inbound and Outbound, the default for
// those that no rule matches. The first rule that matches decides, in the order of their names.
type Firewall struct {
	Action    string              `json:"action"` // Allow or Deny
	Direction protected.Direction `json:"direction"`
	Protocol  string              `json:"protocol,omitempty"` // "": any
	Ports     []string            `json:"ports,omitempty"`    // local ports if inbound, ports of the peer if outbound; none: any
	Peers     []string            `json:"peers,omitempty"`    // addresses of the peer; none: any
}

// Values of Action.
const (
	Allow = "allow"
	Deny  = "deny"
)

// FirewallUnit is the unit that loads the rules at boot.
const FirewallUnit = "soe-firewall.service"

// Names of the defaults.
const (
	Inbound  = "inbound"
	Outbound = "outbound"
)

// Kind implements Spec.
func (Firewall) Kind() string { return "firewall" }

// Expand implements Spec.
func (f Firewall) Expand(func(string) string) Spec { return f }

// The name is part of a comment of each rule in the kernel.
var firewallName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func firewallForm() *form {
	return record("a rule about connections; those that are there already stay",
		key{name: "action", form: word("what becomes of them", Allow, Deny)},
		key{name: "direction", form: word("where they are opened from: into this machine, or out of it; left out: `in`", string(protected.In), string(protected.Out))},
		key{name: "protocol", form: word("left out: any", "tcp", "udp", "icmp")},
		key{name: "ports", form: texts("ports that are connected to, with their protocol; left out: any", like("a port, or the first and the last of several", `^[0-9]{1,5}(-[0-9]{1,5})?$`)).eg(`["22", "8000-8100"]`)},
		key{name: "from", form: texts("addresses, or networks, of those who connect; left out: anybody", text("")).eg(`["10.0.0.0/8"]`)},
		key{name: "to", form: texts("for what goes out: addresses, or networks, that are connected to; left out: any", text("")).eg(`["192.0.2.7"]`)},
	).needing([]string{"action"})
}

func (d *decoder) firewall(t *table) {
	d.each(t, func(name string, f *table) {
		rule := Firewall{Action: f.text("action"), Direction: protected.Direction(f.text("direction")), Protocol: f.text("protocol"), Ports: f.texts("ports")}
		from, to := f.texts("from"), f.texts("to")
		switch name {
		case Inbound, Outbound:
			if f.has("direction") || f.has("protocol") || f.has("ports") || f.has("from") || f.has("to") {
				t.problem(name, "it is the default for what no rule matches, and has only an action; give a rule another name")
			}
			rule = Firewall{Action: rule.Action, Direction: protected.In}
			if name == Outbound {
				rule.Direction = protected.Out
			}
		default:
			if rule.Direction == "" {
				rule.Direction = protected.In
			}
			rule.Peers = from
			if rule.Direction == protected.Out {
				rule.Peers = to
			}
			for _, key := range []string{"ports", "from", "to"} {
				if f.has(key) && f.isArray(key) && len(f.texts(key)) == 0 {
					f.problem(key, "it names none; leave it out to mean any")
				}
			}
			if rule.Direction == protected.Out && f.has("from") {
				f.problem("from", `what goes out comes from this machine; say to`)
			}
			if rule.Direction == protected.In && f.has("to") {
				f.problem("to", `what comes in goes to this machine; say from, or direction = "out"`)
			}
		}
		d.set(t, name, NewID("firewall", name), rule)
	})
}

// A Span is a range of ports, including both ends.
type Span struct{ Low, High uint16 }

// Spans returns the ports.
func (f Firewall) Spans() (spans []Span, err error) {
	for _, text := range f.Ports {
		first, last, several := strings.Cut(text, "-")
		if !several {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		if err != nil || low == 0 || first[0] == '0' {
			return nil, fmt.Errorf("%q is not a port, such as 22, or several, such as 8000-8100", text)
		}
		high, err := strconv.ParseUint(last, 10, 16)
		if err != nil || last[0] == '0' || several && high <= low {
			return nil, fmt.Errorf("%q is not a port, such as 22, or several, such as 8000-8100", text)
		}
		spans = append(spans, Span{uint16(low), uint16(high)})
	}
	return spans, nil
}

// Networks returns the peers.
func (f Firewall) Networks() (networks []netip.Prefix, err error) {
	for _, text := range f.Peers {
		network, err := netip.ParsePrefix(text)
		if addr, notNetwork := netip.ParseAddr(text); notNetwork == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		addr := network.Addr()
		switch {
		case err != nil || addr.Is4In6():
			return nil, fmt.Errorf("%q is not an address, nor a network such as 10.0.0.0/8", text)
		case network.Masked() != network:
			return nil, fmt.Errorf("%q is no network: its address has bits beyond the prefix; %s would be one", text, network.Masked())
		case network.Bits() == 0:
			return nil, fmt.Errorf("%q is everybody: leave it out", text)
		case addr.IsLoopback() || addr.IsUnspecified():
			return nil, fmt.Errorf("%q is this machine, whose loopback interface always stays open", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func (f Firewall) validate(v *validator) {
	v.match(firewallName, v.name, "is not a name of small letters, digits and hyphens, of 63 at most")
	v.refuse(f.Action != Allow && f.Action != Deny, `action is "allow" or "deny", and not %q`, f.Action)
	v.refuse(f.Direction != protected.In && f.Direction != protected.Out, `direction is "in" or "out", and not %q`, f.Direction)
	v.refuse(f.Protocol != "" && !slices.Contains([]string{"tcp", "udp", "icmp"}, f.Protocol), `%q is none of tcp, udp, icmp`, f.Protocol)
	v.refuse(len(f.Ports) > 0 && f.Protocol != "tcp" && f.Protocol != "udp", "only tcp and udp have ports: say which it is")
	spans, err := f.Spans()
	if err != nil {
		v.wrong("%v", err)
	}
	networks, wrong := f.Networks()
	if wrong != nil {
		v.wrong("%v", wrong)
	}
	v.refuse(f.Protocol == "icmp" && slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Addr().Is6() }),
		"icmp is that of IPv4: without ICMPv6 there is no IPv6, and it stays open")
	if f.Action != Deny || err != nil || wrong != nil {
		return
	}
	if len(spans) == 0 {
		spans = []Span{{}}
	}
	for i, span := range spans {
		if why := protected.Closes(f.Direction, f.Protocol, span.Low, span.High, networks); why != "" {
			what := "it"
			if len(f.Ports) > 0 {
				what = f.Protocol + " " + f.Ports[i]
			}
			v.wrong("%s stays open: %s", what, why)
		}
	}
}

// MostFirewallLines is how many rules all of [firewall] may have in the kernel, each with one range
// of ports and one network. Reading back more would take longer than a check may.
const MostFirewallLines = 2000

func (f Firewall) lines() int { return max(1, len(f.Ports)) * max(1, len(f.Peers)) }

// firewallProblems reports that there are too many rules.
func (p *Policy) firewallProblems() Problems {
	total := 0
	for _, r := range p.Resources {
		if f, is := r.Spec.(Firewall); is {
			if total += f.lines(); total > MostFirewallLines {
				return Problems{{File: r.Origin.Fragment, Line: r.Origin.Line, Message: fmt.Sprintf("cannot merge %s: with it [firewall] comes to more than %d rules, one for each of its ports with each of its networks", r.ID, MostFirewallLines)}}
			}
		}
	}
	return nil
}

func (f Firewall) entry(name string) entry {
	if name == Inbound || name == Outbound {
		return ownTable("firewall", name, pair("action", f.Action))
	}
	direction, from, to := "", f.Peers, []string(nil)
	if f.Direction == protected.Out {
		direction, from, to = string(f.Direction), nil, f.Peers
	}
	return ownTable("firewall", name, pairs("action", f.Action, "direction", direction, "protocol", f.Protocol, "ports", f.Ports, "from", from, "to", to)...)
}
