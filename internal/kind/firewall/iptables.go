package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// iptables keeps the rules in chains of its own. The first rules of INPUT and OUTPUT jump to them.
type iptables struct {
	system   *system.System
	families []iptablesFamily
}

// An iptablesFamily is the tools for one version of IP.
type iptablesFamily struct {
	family        family
	save, restore string
	file          string // the file that has the rules for the boot
}

const (
	ip4File = bootDir + "/firewall.v4"
	ip6File = bootDir + "/firewall.v6"
)

func jumpChain(d protected.Direction) (chain, from string) {
	if d == protected.In {
		return "SOE-INPUT", "INPUT"
	}
	return "SOE-OUTPUT", "OUTPUT"
}

func (i iptables) files(p plan) map[string]string {
	files := map[string]string{}
	for _, f := range i.families {
		files[f.file] = f.text(p, view{})
	}
	return files
}

func (i iptables) commands() (commands []string) {
	for _, f := range i.families {
		commands = append(commands, f.restore+" -w 5 --noflush "+f.file)
	}
	return commands
}

// text returns the input of iptables-restore that replaces the chains, and all jumps to them, in
// one transaction.
func (f iptablesFamily) text(p plan, now view) string {
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, d := range directions() {
		chain, _ := jumpChain(d)
		fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
	}
	for _, d := range directions() {
		chain, from := jumpChain(d)
		for range now.jumps[d] {
			fmt.Fprintf(&b, "-D %s -j %s\n", from, chain)
		}
		fmt.Fprintf(&b, "-I %s 1 -j %s\n", from, chain)
		for _, l := range p[f.family][d] {
			fmt.Fprintf(&b, "-A %s %s\n", chain, f.rule(d, l))
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func (f iptablesFamily) rule(d protected.Direction, l line) string {
	var words []string
	say := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	side, device := "-s", "-i"
	if d == protected.Out {
		side, device = "-d", "-o"
	}
	if l.peer.IsValid() {
		say(true, "%s %s", side, l.peer)
	}
	say(l.loopback, "%s lo", device)
	say(l.midstream, "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN")
	say(l.protocol != "", "-p %s", l.protocol)
	say(l.low != 0 && l.low == l.high, "-m %s --dport %d", l.protocol, l.low)
	say(l.low != l.high, "-m %s --dport %d:%d", l.protocol, l.low, l.high)
	say(l.state != "", "-m conntrack --ctstate %s", strings.ToUpper(l.state))
	say(true, `-m comment --comment "%s%s"`, commentMark, l.owner)
	switch l.verdict {
	case "":
		say(true, "-j RETURN")
	case reject:
		say(true, "-j REJECT --reject-with %s", f.prohibited())
	default:
		say(true, "-j %s", strings.ToUpper(l.verdict))
	}
	return strings.Join(words, " ")
}

func (f iptablesFamily) prohibited() string {
	if f.family == ip6 {
		return "icmp6-adm-prohibited"
	}
	return "icmp-admin-prohibited"
}

// load loads one family after the other. Each is a transaction of its own, and the second is tried
// even if the first failed.
func (i iptables) load(ctx context.Context, p plan, now []view) (err error) {
	for n, f := range i.families {
		err = errors.Join(err, i.run(ctx, f, f.text(p, now[n])))
	}
	return err
}

func (i iptables) unload(ctx context.Context, now []view) (err error) {
	for n, f := range i.families {
		if !now[n].left {
			continue
		}
		var b strings.Builder
		b.WriteString("*filter\n")
		for _, d := range directions() {
			chain, from := jumpChain(d)
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
			for range now[n].jumps[d] {
				fmt.Fprintf(&b, "-D %s -j %s\n", from, chain)
			}
			fmt.Fprintf(&b, "-X %s\n", chain)
		}
		b.WriteString("COMMIT\n")
		err = errors.Join(err, i.run(ctx, f, b.String()))
	}
	return err
}

func (i iptables) run(ctx context.Context, f iptablesFamily, text string) error {
	out, err := i.system.Runner.Run(ctx, system.Command{Argv: []string{f.restore, "-w", "5", "--noflush"}, Stdin: []byte(text)})
	return ended(f.restore, out, err)
}

// look reads the filter table of each family.
func (i iptables) look(ctx context.Context) (views []view, err error) {
	for _, f := range i.families {
		out, err := i.system.Runner.Run(ctx, system.Command{Argv: []string{f.save, "-t", "filter"}, ReadOnly: true})
		if err := ended(f.save, out, err); err != nil {
			return nil, fmt.Errorf("cannot read the rules of iptables: %w", err)
		}
		v, err := f.parse(string(out.Stdout))
		if err != nil {
			return nil, fmt.Errorf("cannot read the rules of iptables: the output of %s cannot be parsed: %w", f.save, err)
		}
		views = append(views, v)
	}
	return views, nil
}

func (f iptablesFamily) parse(text string) (view, error) {
	v := newView(f.family)
	for _, d := range directions() {
		v.unhooked[d] = "no rule leads to its chain"
	}
	seen := map[string]int{} // number of rules read so far, by chain
	ended := true
	for raw := range strings.Lines(text) {
		words, err := shellWords(strings.TrimSpace(raw))
		if err != nil {
			return v, err
		}
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case words[0] == "*filter":
			ended = false
		case words[0] == "COMMIT":
			ended = true
		case strings.HasPrefix(words[0], ":"):
			for _, d := range directions() {
				if chain, _ := jumpChain(d); words[0] == ":"+chain {
					v.left = true
				}
			}
		case words[0] == "-A" && len(words) > 1:
			f.take(&v, words[1], words[2:], seen[words[1]] == 0)
			seen[words[1]]++
		default:
			return v, fmt.Errorf("%.80q", raw)
		}
	}
	if !ended {
		return v, errors.New("it does not end")
	}
	return v, nil
}

// take adds a rule of a chain to the view.
func (f iptablesFamily) take(v *view, chain string, words []string, first bool) {
	for _, d := range directions() {
		ours, from := jumpChain(d)
		switch {
		case chain == ours:
			v.chains[d] = append(v.chains[d], f.lineOf(d, words))
		case slices.Equal(words, []string{"-j", ours}) && chain == from:
			v.jumps[d]++
			if first {
				v.unhooked[d] = ""
			} else if v.unhooked[d] != "" {
				v.unhooked[d] = "another rule stands before the one that leads to its chain"
			}
		}
	}
}

// lineOf parses a rule as iptables-save prints it.
func (f iptablesFamily) lineOf(d protected.Direction, words []string) (l line) {
	all := strings.Join(words, " ")
	side, device := "-s", "-i"
	if d == protected.Out {
		side, device = "-d", "-o"
	}
	for len(words) > 0 {
		n := 2
		value := ""
		if len(words) > 1 {
			value = words[1]
		}
		ok := true
		switch words[0] {
		case side:
			l.peer, ok = network(value)
		case device:
			l.loopback = value == "lo"
			ok = l.loopback
		case "-p":
			l.protocol = value
		case "-m":
			ok = slices.Contains([]string{"tcp", "udp", "comment", "conntrack"}, value)
		case "!":
			n = 4
			l.midstream = strings.Join(words[:min(n, len(words))], " ") == "! --tcp-flags FIN,SYN,RST,ACK SYN" && l.protocol == "tcp"
			l.protocol, ok = "", l.midstream
		case "--dport":
			l.low, l.high, ok = ports(value)
		case "--ctstate":
			l.state = strings.ToLower(value)
			ok = l.state == "established" || l.state == "related"
		case "--comment":
			l.owner = strings.TrimPrefix(value, commentMark)
		case "-j":
			l.verdict, ok = target(value)
		case "--reject-with":
			ok = value == f.prohibited()
		default:
			ok = false
		}
		if !ok || n > len(words) {
			return line{raw: all}
		}
		words = words[n:]
	}
	return l
}

func target(name string) (verdict string, known bool) {
	switch name {
	case "ACCEPT", "DROP", "REJECT":
		return strings.ToLower(name), true
	case "RETURN":
		return "", true
	}
	return "", false
}

func network(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

func ports(text string) (low, high uint16, is bool) {
	first, last, several := strings.Cut(text, ":")
	if !several {
		last = first
	}
	one, err := strconv.ParseUint(first, 10, 16)
	other, also := strconv.ParseUint(last, 10, 16)
	return uint16(one), uint16(other), errors.Join(err, also) == nil && one > 0 && one <= other
}

// shellWords splits a line of iptables-save, where texts are in double quotes.
func shellWords(text string) (words []string, err error) {
	var word strings.Builder
	quoted, inside := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted && i+1 < len(text):
			i++
			word.WriteByte(text[i])
		case c == '"':
			quoted, inside = !quoted, true
		case c == ' ' && !quoted:
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("%.80q", text)
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}
