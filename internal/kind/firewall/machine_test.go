package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A kernel is a fake of a machine's rule sets and of the tools that load and show them. It answers
// as the real tools were recorded to: TestTheStandInAnswersAsTheRealToolsWereRecordedTo.
type kernel struct {
	nft       string              // the text that was last loaded; "": no such table
	others    []any               // others' entries of nft's list
	chains    map[string][]string // chains of iptables by name, and of ip6tables by "6 NAME"
	gate      system.Gate         // nil: every change passes
	firewalld string              // its state; "": not installed
}

func newKernel() *kernel {
	return &kernel{chains: map[string][]string{"INPUT": nil, "OUTPUT": nil, "6 INPUT": nil, "6 OUTPUT": nil}}
}

func (k *kernel) Run(_ context.Context, c system.Command) (system.Output, error) {
	if !c.ReadOnly && k.gate != nil {
		if err := k.gate(system.Change{Op: "run", Target: c.String()}); err != nil {
			return system.Output{}, err
		}
	}
	switch name := filepath.Base(c.Argv[0]); {
	case name == "nft" && c.Argv[1] == "-f":
		k.nft = string(c.Stdin)
		if !strings.Contains(k.nft, "chain") {
			k.nft = ""
		}
		return system.Output{}, nil
	case name == "nft":
		return system.Output{Stdout: k.list()}, nil
	case strings.HasSuffix(name, "-restore"):
		return k.restore(strings.HasPrefix(name, "ip6"), string(c.Stdin)), nil
	case strings.HasSuffix(name, "-save"):
		return system.Output{Stdout: []byte(k.save(strings.HasPrefix(name, "ip6")))}, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

// object is an object of JSON.
type object map[string]any

// list returns what nft -j list ruleset prints, without handles.
func (k *kernel) list() []byte {
	all := []any{object{"metainfo": object{"version": "1.0.6", "json_schema_version": 1}}}
	all = append(all, k.others...)
	if k.nft != "" {
		all = append(all, listed(k.nft)...)
	}
	raw, err := json.Marshal(object{"nftables": all})
	if err != nil {
		panic(err)
	}
	return raw
}

// listed returns the entries for the table in a text. nft lists the chains before all rules.
func listed(text string) (objects []any) {
	in := object{"family": "inet", "table": "soe_agent"}
	with := func(more object) object {
		o := object{}
		for _, m := range []object{in, more} {
			for key, value := range m {
				o[key] = value
			}
		}
		return o
	}
	objects = []any{object{"table": object{"family": "inet", "name": "soe_agent"}}}
	var rules []any
	chain := ""
	for text := range strings.Lines(text) {
		text = strings.TrimSpace(text)
		switch {
		case strings.HasPrefix(text, "chain "):
			chain = strings.Fields(text)[1]
		case strings.HasPrefix(text, "type "):
			objects = append(objects, object{"chain": with(object{"name": chain, "type": "filter", "hook": strings.Fields(text)[3], "prio": 0, "policy": strings.TrimSuffix(strings.Fields(text)[7], ";")})})
		case strings.Contains(text, "comment"):
			rule, comment, _ := strings.Cut(text, ` comment "`)
			rules = append(rules, object{"rule": with(object{"chain": chain, "comment": strings.TrimSuffix(comment, `"`), "expr": expressions(rule)})})
		}
	}
	return append(objects, rules...)
}

var ruleWords = regexp.MustCompile(`^(?:([io]ifname) "lo"|ct state (\w+)|(tcp flags & \(fin \| syn \| rst \| ack\) != syn)|(ip6?) ([sd]addr) (\S+)|meta l4proto (\S+)|(tcp|udp) dport (\d+)(?:-(\d+))?|(accept|drop|return)|(reject with icmpx type admin-prohibited))(?: |$)`)

func expressions(text string) (all []any) {
	match := func(op string, left, right any) {
		all = append(all, object{"match": object{"op": op, "left": left, "right": right}})
	}
	payload := func(protocol, field string) object {
		return object{"payload": object{"protocol": protocol, "field": field}}
	}
	for text != "" {
		m := ruleWords.FindStringSubmatch(text)
		if m == nil {
			panic("no rule: " + text)
		}
		text = text[len(m[0]):]
		switch {
		case m[1] != "":
			match("==", object{"meta": object{"key": m[1]}}, "lo")
		case m[2] != "":
			match("in", object{"ct": object{"key": "state"}}, m[2])
		case m[3] != "":
			match("!=", object{"&": []any{payload("tcp", "flags"), []string{"fin", "syn", "rst", "ack"}}}, "syn")
		case m[4] != "":
			var right any = m[6]
			if addr, bits, is := strings.Cut(m[6], "/"); is {
				n, _ := strconv.Atoi(bits)
				right = object{"prefix": object{"addr": addr, "len": n}}
			}
			match("==", payload(m[4], m[5]), right)
		case m[7] != "":
			match("==", object{"meta": object{"key": "l4proto"}}, m[7])
		case m[8] != "":
			low, _ := strconv.Atoi(m[9])
			var right any = low
			if high, err := strconv.Atoi(m[10]); err == nil {
				right = object{"range": []int{low, high}}
			}
			match("==", payload(m[8], "dport"), right)
		case m[11] != "":
			all = append(all, object{m[11]: nil})
		default:
			all = append(all, object{"reject": object{"type": "icmpx", "expr": "admin-prohibited"}})
		}
	}
	return all
}

// restore acts as iptables-restore --noflush does, all or nothing.
func (k *kernel) restore(six bool, text string) system.Output {
	chains := map[string][]string{}
	for name, rules := range k.chains {
		chains[name] = slices.Clone(rules)
	}
	of := func(name string) string {
		if six {
			return "6 " + name
		}
		return name
	}
	for text := range strings.Lines(text) {
		text = strings.TrimSpace(text)
		words := strings.SplitN(text, " ", 3)
		switch {
		case strings.HasPrefix(text, ":"):
			chains[of(words[0][1:])] = []string{}
		case words[0] == "-X":
			delete(chains, of(words[1]))
		case words[0] == "-D":
			rules := chains[of(words[1])]
			i := slices.Index(rules, words[2])
			if i < 0 {
				return system.Output{ExitCode: 1, Stderr: []byte("iptables-restore: Bad rule (does a matching rule exist in that chain?)\n")}
			}
			chains[of(words[1])] = slices.Delete(rules, i, i+1)
		case words[0] == "-I":
			chains[of(words[1])] = slices.Insert(chains[of(words[1])], 0, strings.TrimPrefix(words[2], "1 "))
		case words[0] == "-A":
			chains[of(words[1])] = append(chains[of(words[1])], words[2])
		}
	}
	k.chains = chains
	return system.Output{}
}

func (k *kernel) save(six bool) string {
	var b strings.Builder
	b.WriteString("# Generated by iptables-save\n*filter\n")
	var rules strings.Builder
	for _, name := range []string{"INPUT", "OUTPUT", "SOE-INPUT", "SOE-OUTPUT"} {
		key, policy := name, "-"
		if six {
			key = "6 " + name
		}
		if !strings.HasPrefix(name, "SOE-") {
			policy = "ACCEPT"
		}
		chain, is := k.chains[key]
		if !is {
			continue
		}
		fmt.Fprintf(&b, ":%s %s [0:0]\n", name, policy)
		for _, rule := range chain {
			fmt.Fprintf(&rules, "-A %s %s\n", name, rule)
		}
	}
	return b.String() + rules.String() + "COMMIT\n# Completed\n"
}

// state returns all rules in force.
func (k *kernel) state() string {
	return k.nft + "\n" + k.save(false) + k.save(true)
}

// units is a fake systemd that knows at most firewalld.
type units struct {
	system.UnitStates
	k *kernel
}

func (u units) States(_ context.Context, names []string) (all []system.Unit, _ error) {
	for _, name := range names {
		unit := system.Unit{Name: name, LoadState: "not-found", ActiveState: "inactive"}
		if u.k.firewalld != "" {
			unit.LoadState, unit.ActiveState = "loaded", u.k.firewalld
		}
		all = append(all, unit)
	}
	return all, nil
}

// A machine has the files and the kernel of a running machine.
type machine struct {
	root   string
	kernel *kernel
	ledger *converge.Ledger
	gate   system.Gate
}

var (
	withNft      = map[string]string{"/usr/sbin/nft": "", "/proc/sys/net/ipv6/conf": ""}
	withIptables = map[string]string{
		"/usr/sbin/iptables-save": "", "/usr/sbin/iptables-restore": "", "/usr/sbin/ip6tables-save": "", "/usr/sbin/ip6tables-restore": "", "/proc/sys/net/ipv6/conf": "",
	}
)

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	root := kindtest.Root(t, files)
	return &machine{root: root, kernel: newKernel(), ledger: kindtest.Ledger(t, root)}
}

func (m *machine) kind(t *testing.T, toml string) *Kind {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: m.root, Gate: m.gate})
	s.Root = "/"
	m.kernel.gate = m.gate
	s.Runner = m.kernel
	s.Units = system.Units{UnitStates: units{k: m.kernel}}
	return New(kindtest.Policy(t, toml), s, m.ledger)
}

func (m *machine) pass(t *testing.T, toml string) map[string]converge.Resource {
	t.Helper()
	p := kindtest.Policy(t, toml)
	k := m.kind(t, toml)
	found := map[string]converge.Resource{}
	for _, r := range kindtest.Engine(p, k, m.ledger, k.system.Clock).Pass(t.Context()).Resources {
		found[r.ID.Name()] = r
	}
	return found
}
