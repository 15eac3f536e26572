package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// nft keeps the rules in a table of nftables that belongs to the agent.
type nft struct {
	system  *system.System
	program string
}

const (
	table       = "soe_agent"
	commentMark = "soe: " // followed by the owner of a line
	nftFile     = bootDir + "/firewall.nft"
)

func chainOf(d protected.Direction) string {
	if d == protected.In {
		return "input"
	}
	return "output"
}

func (n nft) files(p plan) map[string]string { return map[string]string{nftFile: n.text(p)} }

func (n nft) commands() []string { return []string{n.program + " -f " + nftFile} }

// text returns the whole table. It replaces the existing one in one transaction. The policy of the
// chains is to accept, and the last rule decides the rest, so that flushing the rules does not
// close the machine.
func (nft) text(p plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table)
	for _, d := range directions() {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype filter hook %s priority 0; policy accept;\n", chainOf(d), chainOf(d))
		for _, l := range p[both][d] {
			fmt.Fprintf(&b, "\t\t%s\n", nftRule(d, l))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func nftRule(d protected.Direction, l line) string {
	var words []string
	say := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	side, device := "saddr", "iifname"
	if d == protected.Out {
		side, device = "daddr", "oifname"
	}
	say(l.loopback, `%s "lo"`, device)
	say(l.state != "", "ct state %s", l.state)
	say(l.midstream, "tcp flags & (fin | syn | rst | ack) != syn")
	if l.peer.IsValid() {
		version := "ip"
		if l.peer.Addr().Is6() {
			version = "ip6"
		}
		say(true, "%s %s %s", version, side, short(l.peer))
	}
	say(l.protocol != "" && l.low == 0, "meta l4proto %s", l.protocol)
	say(l.low != 0 && l.low == l.high, "%s dport %d", l.protocol, l.low)
	say(l.low != l.high, "%s dport %d-%d", l.protocol, l.low, l.high)
	switch l.verdict {
	case "":
		say(true, "return")
	case reject:
		say(true, "reject with icmpx type admin-prohibited")
	default:
		say(true, "%s", l.verdict)
	}
	say(true, `comment "%s%s"`, commentMark, l.owner)
	return strings.Join(words, " ")
}

// short returns a network, or the address of a single host.
func short(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (n nft) load(ctx context.Context, p plan, _ []view) error {
	return n.run(ctx, n.text(p))
}

func (n nft) unload(ctx context.Context, _ []view) error {
	return n.run(ctx, fmt.Sprintf("table inet %s\ndelete table inet %s\n", table, table))
}

func (n nft) run(ctx context.Context, text string) error {
	out, err := n.system.Runner.Run(ctx, system.Command{Argv: []string{n.program, "-f", "-"}, Stdin: []byte(text)})
	return ended("nft", out, err)
}

func ended(tool string, out system.Output, err error) error {
	switch {
	case err != nil:
		return err
	case out.ExitCode != 0:
		return fmt.Errorf("%s exits with %d: %s", tool, out.ExitCode, out.LastLine())
	}
	return nil
}

// look reads all rules in force, including those of others.
func (n nft) look(ctx context.Context) ([]view, error) {
	out, err := n.system.Runner.Run(ctx, system.Command{Argv: []string{n.program, "-j", "list", "ruleset"}, ReadOnly: true})
	if err := ended("nft", out, err); err != nil {
		return nil, fmt.Errorf("cannot read the rules of nftables: %w", err)
	}
	v, err := parseNft(out.Stdout)
	if err != nil {
		return nil, fmt.Errorf("cannot read the rules of nftables: the output of nft cannot be parsed: %w", err)
	}
	return []view{v}, nil
}

type nftChain struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    int
}

type nftRuleset struct {
	Nftables []struct {
		Metainfo *struct{ Version string }
		Table    *struct {
			Family, Name string
			Flags        json.RawMessage
		}
		Chain *nftChain
		Rule  *struct {
			Family, Table, Chain, Comment string
			Expr                          []map[string]json.RawMessage
		}
		Set, Map *struct{ Family, Table string }
	}
}

func parseNft(raw []byte) (view, error) {
	v := newView(both)
	var all nftRuleset
	if err := json.Unmarshal(raw, &all); err != nil {
		return v, err
	}
	told := false
	for _, d := range directions() {
		v.unhooked[d] = "its chain is not there"
	}
	others := foreign{}
	flags := ""
	for _, o := range all.Nftables {
		switch {
		case o.Metainfo != nil:
			told = true
		case o.Table != nil && o.Table.Family == string(both) && o.Table.Name == table:
			v.left = true
			if len(o.Table.Flags) > 0 && string(o.Table.Flags) != "null" {
				flags = "its table has the flag " + strings.Trim(string(o.Table.Flags), `"[]`)
			}
		case o.Chain != nil && o.Chain.Family == string(both) && o.Chain.Table == table:
			v.chain(*o.Chain)
		case o.Chain != nil:
			others.chain(*o.Chain)
		case o.Rule != nil && o.Rule.Family == string(both) && o.Rule.Table == table:
			v.rule(o.Rule.Chain, o.Rule.Comment, o.Rule.Expr)
		case o.Rule != nil:
			others.rule(o.Rule.Family+" "+o.Rule.Table, o.Rule.Chain, o.Rule.Expr)
		}
	}
	if !told {
		return v, errors.New("it has no version")
	}
	for _, d := range directions() {
		if flags != "" {
			v.unhooked[d] = flags
		}
		v.others[d] = others.denies(d)
	}
	return v, nil
}

// chain records a chain of the agent's table.
func (v *view) chain(c nftChain) {
	for _, d := range directions() {
		if c.Name != chainOf(d) {
			continue
		}
		switch {
		case c.Type != "filter" || c.Hook != chainOf(d) || c.Prio != 0:
			v.unhooked[d] = "its chain is not asked of what comes " + string(d)
		case c.Policy != accept:
			v.unhooked[d] = "the policy of its chain is " + c.Policy
		default:
			v.unhooked[d] = ""
		}
		return
	}
	for _, d := range directions() {
		v.chains[d] = append(v.chains[d], line{raw: "chain " + c.Name})
	}
}

func (v *view) rule(chain, comment string, expr []map[string]json.RawMessage) {
	for _, d := range directions() {
		if chain == chainOf(d) {
			l := lineOf(d, expr)
			if owner, marked := strings.CutPrefix(comment, commentMark); marked {
				l.owner = owner
			}
			v.chains[d] = append(v.chains[d], l)
		}
	}
}

// lineOf parses a rule as nft prints it.
func lineOf(d protected.Direction, expr []map[string]json.RawMessage) (l line) {
	for _, e := range expr {
		for word, value := range e {
			if !l.learn(d, word, value) {
				raw, _ := json.Marshal(expr) // plain data always marshals
				return line{raw: string(raw)}
			}
		}
	}
	return l
}

// learn adds one expression of a rule to the line. It returns false for an expression that the
// agent never writes.
func (l *line) learn(d protected.Direction, word string, value json.RawMessage) bool {
	switch word {
	case "match":
		var m struct {
			Op          string
			Left, Right any
		}
		return json.Unmarshal(value, &m) == nil && l.matches(d, m.Op, m.Left, m.Right)
	case accept, drop:
		l.verdict = word
		return true
	case "return":
		return l.verdict == ""
	case reject:
		var r struct{ Type, Expr string }
		l.verdict = reject
		return json.Unmarshal(value, &r) == nil && r.Type == "icmpx" && r.Expr == "admin-prohibited"
	}
	return false
}

func (l *line) matches(d protected.Direction, op string, left, right any) bool {
	what, is := left.(map[string]any)
	if !is || len(what) != 1 {
		return false
	}
	text, _ := right.(string)
	field := func(of, key string) string {
		m, _ := what[of].(map[string]any)
		s, _ := m[key].(string)
		return s
	}
	side, device := "saddr", "iifname"
	if d == protected.Out {
		side, device = "daddr", "oifname"
	}
	equal := op == "=="
	switch {
	case equal && field("meta", "key") == device && text == "lo":
		l.loopback = true
	case (op == "in" || equal) && field("ct", "key") == "state" && (text == "established" || text == "related"):
		l.state = text
	case op == "!=" && what["&"] != nil:
		l.midstream = isMask(what["&"]) && text == "syn"
		return l.midstream
	case equal && field("meta", "key") == "l4proto":
		return l.protocolIs(right)
	case equal && field("payload", "field") == "dport" && l.protocol == "":
		l.protocol = field("payload", "protocol")
		return (l.protocol == "tcp" || l.protocol == "udp") && l.portsAre(right)
	case equal && field("payload", "field") == side && (field("payload", "protocol") == "ip" || field("payload", "protocol") == "ip6"):
		return l.peerIs(right)
	default:
		return false
	}
	return true
}

// isMask reports whether a value is the TCP flags that tell whether a packet opens a connection.
// Since 0.9, nft has printed them in several ways.
func isMask(value any) bool {
	sides, _ := value.([]any)
	if len(sides) != 2 {
		return false
	}
	payload, _ := sides[0].(map[string]any)
	of, _ := payload["payload"].(map[string]any)
	var flags []string
	var flatten func(any)
	flatten = func(v any) {
		switch v := v.(type) {
		case string:
			flags = append(flags, v)
		case []any:
			for _, e := range v {
				flatten(e)
			}
		case map[string]any:
			flatten(v["|"])
		}
	}
	flatten(sides[1])
	slices.Sort(flags)
	return of["protocol"] == "tcp" && of["field"] == "flags" && slices.Equal(flags, []string{"ack", "fin", "rst", "syn"})
}

func (l *line) protocolIs(right any) bool {
	switch right {
	case "tcp", 6.0:
		l.protocol = "tcp"
	case "udp", 17.0:
		l.protocol = "udp"
	case "icmp", 1.0:
		l.protocol = "icmp"
	case "ipv6-icmp", "icmpv6", 58.0:
		l.protocol = "ipv6-icmp"
	default:
		return false
	}
	return true
}

func (l *line) portsAre(right any) bool {
	port := func(v any) (uint16, bool) {
		n, is := v.(float64)
		return uint16(n), is && n >= 1 && n <= 65535 && n == float64(uint16(n))
	}
	if low, is := port(right); is {
		l.low, l.high = low, low
		return true
	}
	m, _ := right.(map[string]any)
	ends, _ := m["range"].([]any)
	if len(ends) != 2 {
		return false
	}
	low, isLow := port(ends[0])
	high, isHigh := port(ends[1])
	l.low, l.high = low, high
	return isLow && isHigh && low < high
}

func (l *line) peerIs(right any) bool {
	if text, is := right.(string); is {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return false
		}
		l.peer = netip.PrefixFrom(addr, addr.BitLen())
		return true
	}
	m, _ := right.(map[string]any)
	prefix, _ := m["prefix"].(map[string]any)
	text, _ := prefix["addr"].(string)
	bits, _ := prefix["len"].(float64)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	l.peer = netip.PrefixFrom(addr, int(bits))
	return l.peer.IsValid()
}
