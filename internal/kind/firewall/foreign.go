package firewall

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// foreign are the chains of others, by table and name. In nftables a packet must pass all chains of
// its hook: one chain may deny what another accepts.
type foreign map[string]*foreignChain

type foreignChain struct {
	base   nftChain
	denies bool     // one of its rules may deny
	next   []string // chains that its rules jump to
}

func (f foreign) of(table, name string) *foreignChain {
	c := f[table+" "+name]
	if c == nil {
		c = &foreignChain{}
		f[table+" "+name] = c
	}
	return c
}

func (f foreign) chain(c nftChain) { f.of(c.Family+" "+c.Table, c.Name).base = c }

// rule records what a rule may do. Statements unknown to nft itself, such as targets of iptables,
// may deny.
func (f foreign) rule(table, chain string, expr []map[string]json.RawMessage) {
	c := f.of(table, chain)
	for _, e := range expr {
		for word, value := range e {
			var to struct{ Target, Type string }
			switch word {
			case drop, reject, "queue", "tproxy", "synproxy", "vmap":
				c.denies = true
			case "jump", "goto":
				_ = json.Unmarshal(value, &to) // an empty target leads nowhere
				c.next = append(c.next, table+" "+to.Target)
			case "xt":
				c.denies = c.denies || json.Unmarshal(value, &to) != nil || to.Type != "match"
			}
		}
	}
}

// denies returns the table of somebody else that may deny traffic in a direction, or "".
func (f foreign) denies(d protected.Direction) string {
	hooks := map[protected.Direction][]string{protected.In: {"prerouting", "input"}, protected.Out: {"output", "postrouting"}}[d]
	for _, id := range slices.Sorted(maps.Keys(f)) {
		c := f[id].base
		if !slices.Contains(hooks, c.Hook) || !slices.Contains([]string{"inet", "ip", "ip6"}, c.Family) {
			continue
		}
		if c.Policy == drop || f.reaches(id, map[string]bool{}) {
			return "table " + c.Family + " " + c.Table
		}
	}
	return ""
}

// reaches reports whether a chain, or one that it leads to, denies something.
func (f foreign) reaches(id string, seen map[string]bool) bool {
	c := f[id]
	if c == nil || seen[id] {
		return false
	}
	seen[id] = true
	return c.denies || slices.ContainsFunc(c.next, func(next string) bool { return f.reaches(next, seen) })
}
