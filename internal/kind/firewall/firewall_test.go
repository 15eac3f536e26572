package firewall

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	closed = "[firewall.inbound]\naction = \"deny\"\n"
	ssh    = "[firewall.ssh]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"22\"]\n"
	syslog = "[firewall.syslog]\naction = \"deny\"\ndirection = \"out\"\nprotocol = \"udp\"\nports = [\"514\"]\n"
)

// holds fails the test unless each resource is in the given state.
func holds(t *testing.T, when string, found map[string]converge.Resource, states map[string]converge.State) {
	t.Helper()
	for name, want := range states {
		if r := found[name]; r.State != want {
			t.Errorf("%s: %s is %q and not %q: %s %v", when, name, r.State, want, r.Reason, r.Diff)
		}
	}
	for name, r := range found {
		if _, told := states[name]; !told {
			t.Errorf("%s: %s is %s: %s %v", when, name, r.State, r.Reason, r.Diff)
		}
	}
}

func all(state converge.State) map[string]converge.State {
	return map[string]converge.State{"inbound": state, "ssh": state, "syslog": state}
}

// tools returns the tools, with the texts by which others disturb the rules in force.
func tools() map[string]map[string]string {
	return map[string]map[string]string{"nft": withNft, "iptables": withIptables}
}

func TestRulesAreLoadedKeptForTheBootAndTakenAwayAgain(t *testing.T) {
	for tool, files := range tools() {
		t.Run(tool, func(t *testing.T) {
			m := newMachine(t, files)
			empty := m.kernel.state()
			holds(t, "at first", m.pass(t, closed+ssh+syslog), all(converge.Corrected))
			loaded := m.kernel.state()
			for _, says := range []string{"soe: inbound", "soe: ssh", "soe: syslog"} {
				if !strings.Contains(loaded, says) {
					t.Errorf("there is nothing of %s in force:\n%s", says, loaded)
				}
			}
			holds(t, "again", m.pass(t, closed+ssh+syslog), all(converge.Compliant))
			if m.kernel.state() != loaded {
				t.Error("the second pass has changed it")
			}
			if unit := kindtest.Read(t, m.root, unitFile); !strings.Contains(unit, "Before=network-pre.target") || !strings.Contains(unit, bootDir) {
				t.Errorf("the unit is\n%s", unit)
			}
			if target, err := os.Readlink(filepath.Join(m.root, wantsLink)); err != nil || target != unitFile {
				t.Errorf("%q %v", target, err)
			}

			holds(t, "without one", m.pass(t, closed+syslog), map[string]converge.State{"inbound": converge.Compliant, "syslog": converge.Compliant, "ssh": converge.Corrected})
			if strings.Contains(m.kernel.state(), "soe: ssh") {
				t.Error("it is in force still")
			}
			holds(t, "without any", m.pass(t, ""), map[string]converge.State{"inbound": converge.Corrected, "syslog": converge.Corrected})
			if m.kernel.state() != empty {
				t.Errorf("there is left\n%s", m.kernel.state())
			}
			for _, name := range append(bootFiles(), unitFile, wantsLink) {
				if _, err := os.Lstat(filepath.Join(m.root, name)); err == nil {
					t.Errorf("%s is left", name)
				}
			}
			holds(t, "at last", m.pass(t, ""), nil)
		})
	}
}

func TestARuleThatIsAddedOrChangedIsNoDriftOfTheOthers(t *testing.T) {
	for tool, files := range tools() {
		m := newMachine(t, files)
		m.pass(t, closed+ssh)
		holds(t, tool+", one more", m.pass(t, closed+ssh+syslog), map[string]converge.State{"inbound": converge.Compliant, "ssh": converge.Compliant, "syslog": converge.Corrected})
		holds(t, tool+", another port", m.pass(t, closed+strings.Replace(ssh, "22", "2222", 1)+syslog), map[string]converge.State{"inbound": converge.Compliant, "ssh": converge.Corrected, "syslog": converge.Compliant})
	}
}

func TestWhateverBecomesOfTheRulesInForceIsDriftAndCorrected(t *testing.T) {
	nft := func(old, now string) func(k *kernel) {
		return func(k *kernel) {
			spoilt := strings.Replace(k.nft, old, now, 1)
			if spoilt == k.nft {
				panic("there is no " + old)
			}
			k.nft = spoilt
		}
	}
	chain := func(name string, change func([]string) []string) func(k *kernel) {
		return func(k *kernel) { k.chains[name] = change(k.chains[name]) }
	}
	first := func(rule string) func([]string) []string {
		return func(rules []string) []string { return append([]string{rule}, rules...) }
	}
	for name, c := range map[string]struct {
		files  map[string]string
		change func(*kernel)
	}{
		"flush ruleset":                     {withNft, func(k *kernel) { k.nft = "" }},
		"flush table":                       {withNft, func(k *kernel) { k.nft = strings.Split(k.nft, "\t\tiifname")[0] + "\t}\n}\n" }},
		"a rule before all":                 {withNft, nft("\t\tiifname", "\t\taccept comment \"mine\"\n\t\tiifname")},
		"a rule before all, signed as ours": {withNft, nft("\t\tiifname", "\t\taccept comment \"soe: ssh\"\n\t\tiifname")},
		"a rule that is gone":               {withNft, nft("\t\tdrop comment \"soe: inbound\"\n", "")},
		"another port":                      {withNft, nft("dport 22 ", "dport 23 ")},
		"accept for drop":                   {withNft, nft("\t\tdrop ", "\t\taccept ")},
		"another order":                     {withNft, nft("\t\ttcp dport 4172 accept comment \"soe: *\"\n\t\tudp dport 4172 accept comment \"soe: *\"", "\t\tudp dport 4172 accept comment \"soe: *\"\n\t\ttcp dport 4172 accept comment \"soe: *\"")},
		"what stays open closed":            {withNft, nft("\t\ttcp dport 4172 accept comment \"soe: *\"\n", "")},
		"another policy":                    {withNft, nft("policy accept", "policy drop")},
		"another hook":                      {withNft, nft("hook input", "hook forward")},
		"a chain of somebody's in ours":     {withNft, nft("\tchain output", "\tchain mine {\n\t\ttype filter hook prerouting priority 0; policy accept;\n\t}\n\tchain output")},
		"iptables -F":                       {withIptables, func(k *kernel) { k.chains = newKernel().chains }},
		"iptables -F of one chain":          {withIptables, chain("SOE-INPUT", func([]string) []string { return []string{} })},
		"no jump":                           {withIptables, chain("INPUT", func([]string) []string { return nil })},
		"no jump of IPv6":                   {withIptables, chain("6 OUTPUT", func([]string) []string { return nil })},
		"a rule before the jump":            {withIptables, chain("INPUT", first("-j ACCEPT"))},
		"a rule before ours":                {withIptables, chain("SOE-INPUT", first("-j ACCEPT"))},
		"a rule before ours, of a module":   {withIptables, chain("SOE-INPUT", first("-m limit --limit 3/min -j ACCEPT"))},
		"a rule that is gone, of IPv6":      {withIptables, chain("6 SOE-INPUT", func(rules []string) []string { return rules[:len(rules)-1] })},
		"another target": {withIptables, chain("SOE-INPUT", func(rules []string) []string {
			return append(rules[:len(rules)-1:len(rules)-1], `-m comment --comment "soe: inbound" -j ACCEPT`)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.files)
			m.pass(t, closed+ssh+syslog)
			loaded := m.kernel.state()
			c.change(m.kernel)
			found := m.pass(t, closed+ssh+syslog)
			corrected := 0
			for _, r := range found {
				if r.State == converge.Corrected {
					corrected++
				} else if r.State != converge.Compliant {
					t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
				}
			}
			if corrected == 0 {
				t.Errorf("nobody has seen it")
			}
			if now := m.kernel.state(); now != loaded && !strings.Contains(now, "-A INPUT -j ACCEPT") {
				t.Errorf("there is in force\n%s", now)
			}
			holds(t, "afterwards", m.pass(t, closed+ssh+syslog), all(converge.Compliant))
		})
	}
}

func TestRulesOfOthersStayAsTheyAre(t *testing.T) {
	m := newMachine(t, withIptables)
	m.kernel.chains["INPUT"] = []string{"-p gre -j ACCEPT"}
	m.pass(t, closed)
	m.kernel.chains["INPUT"] = append([]string{"-p esp -j ACCEPT"}, m.kernel.chains["INPUT"]...)
	m.pass(t, closed)
	if got := strings.Join(m.kernel.chains["INPUT"], "; "); got != "-j SOE-INPUT; -p esp -j ACCEPT; -p gre -j ACCEPT" {
		t.Errorf("INPUT has %s", got)
	}
	m.pass(t, "")
	if got := strings.Join(m.kernel.chains["INPUT"], "; "); got != "-p esp -j ACCEPT; -p gre -j ACCEPT" {
		t.Errorf("in the end INPUT has %s", got)
	}
}

func TestAnAllowedConnectionThatSomebodyElsesRulesMayDenyIsUnknownAndADenialIsNot(t *testing.T) {
	rule := func(chain string, expr ...any) any {
		return object{"rule": object{"family": "inet", "table": "filter", "chain": chain, "expr": expr}}
	}
	base := func(policy string) any {
		return object{"chain": object{"family": "inet", "table": "filter", "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": policy}}
	}
	verdict := func(word string) any { return object{word: nil} }
	for name, c := range map[string]struct {
		others []any
		state  converge.State
	}{
		"a policy that drops":                  {[]any{base("drop")}, converge.Unknown},
		"a rule that drops":                    {[]any{base("accept"), rule("in", verdict("drop"))}, converge.Unknown},
		"a rule of iptables'":                  {[]any{base("accept"), rule("in", object{"xt": object{"type": "target", "name": "REJECT"}})}, converge.Unknown},
		"a chain further on":                   {[]any{base("accept"), rule("in", object{"jump": object{"target": "more"}}), rule("more", verdict("drop"))}, converge.Unknown},
		"only rules that accept":               {[]any{base("accept"), rule("in", verdict("accept"))}, converge.Compliant},
		"a chain to which nothing leads":       {[]any{base("accept"), rule("more", verdict("drop"))}, converge.Compliant},
		"a chain of what is forwarded, docker": {[]any{object{"chain": object{"family": "inet", "table": "filter", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}}, converge.Compliant},
	} {
		m := newMachine(t, withNft)
		m.pass(t, closed+ssh)
		m.kernel.others = c.others
		found := m.pass(t, closed+ssh)
		if found["ssh"].State != c.state || found["inbound"].State != converge.Compliant {
			t.Errorf("%s: %s %s, %s %s", name, found["ssh"].State, found["ssh"].Reason, found["inbound"].State, found["inbound"].Reason)
		}
	}
}

func TestWithoutAToolOrWithFirewalldARuleIsAFailureThatSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		files     map[string]string
		firewalld string
		says      string
	}{
		"no tool":           {nil, "", "install nftables"},
		"no ip6tables":      {map[string]string{"/usr/sbin/iptables-save": "", "/usr/sbin/iptables-restore": "", "/proc/sys/net/ipv6/conf": ""}, "", "ip6tables"},
		"firewalld":         {withNft, "active", "firewalld"},
		"firewalld, almost": {withIptables, "activating", "firewalld"},
	} {
		m := newMachine(t, c.files)
		m.kernel.firewalld = c.firewalld
		before := m.kernel.state()
		if r := m.pass(t, closed)["inbound"]; r.State != converge.Failed || !strings.Contains(r.Reason, c.says) {
			t.Errorf("%s: %s %s", name, r.State, r.Reason)
		}
		if m.kernel.state() != before {
			t.Errorf("%s: something was loaded", name)
		}
	}
}

func TestARuleThatIsOnlyReportedIsNeitherLoadedNorTakenAway(t *testing.T) {
	const audit = "[[rules]]\nmatch = [\"firewall/ssh\"]\nmode = \"audit\"\n"
	for tool, files := range tools() {
		m := newMachine(t, files)
		holds(t, tool, m.pass(t, closed+ssh+audit), map[string]converge.State{"inbound": converge.Corrected, "ssh": converge.Drifted})
		if strings.Contains(m.kernel.state(), "soe: ssh") {
			t.Errorf("%s: it is in force", tool)
		}
		m.pass(t, closed+ssh)
		m.pass(t, closed+strings.Replace(ssh, "22", "2222", 1)+syslog+audit)
		if state := m.kernel.state(); !strings.Contains(state, "dport 22 ") || strings.Contains(state, "2222") || !strings.Contains(state, "soe: syslog") {
			t.Errorf("%s: there is in force\n%s", tool, state)
		}
	}
}

func TestWhileAPartOfThePolicyIsNotKnownItsRulesStayThoughOthersAreLoaded(t *testing.T) {
	for tool, files := range tools() {
		m := newMachine(t, files)
		m.pass(t, closed+ssh)
		p := kindtest.Policy(t, closed+syslog)
		p.Partial = true
		k := m.kind(t, "")
		k.policy = p
		kindtest.Engine(p, k, m.ledger, k.system.Clock).Pass(t.Context())
		if state := m.kernel.state(); !strings.Contains(state, "soe: ssh") || !strings.Contains(state, "soe: syslog") {
			t.Errorf("%s: there is in force\n%s", tool, state)
		}
	}
}

// Whatever fails: what must stay open is open, no rule set is incomplete, and the next pass repairs
// everything.
func TestAFaultAtAnyStepLeavesNoHalfRuleSetAndNothingClosedThatStaysOpen(t *testing.T) {
	t.Parallel()
	steps := 0
	for tool, files := range tools() {
		for way, fails := range map[string]func(int) system.Gate{"one": system.FailNth, "all from": system.FailFrom} {
			for _, change := range []struct{ from, to string }{{"", closed + ssh + syslog}, {closed + ssh, closed + syslog}, {closed + ssh, ""}} {
				reference := newMachine(t, files)
				reference.pass(t, change.from)
				reference.pass(t, change.to)
				after := []string{reference.kernel.nft, reference.kernel.save(false), reference.kernel.save(true)}
				for n := 1; ; n++ {
					m := newMachine(t, files)
					m.pass(t, change.from)
					before := []string{m.kernel.nft, m.kernel.save(false), m.kernel.save(true)}
					count := 0
					gate := fails(n)
					m.gate = func(c system.Change) error { count++; return gate(c) }
					m.pass(t, change.to)
					struck := count >= n
					for i, now := range []string{m.kernel.nft, m.kernel.save(false), m.kernel.save(true)} {
						if now != before[i] && now != after[i] {
							t.Errorf("%s, %s %d: there is in force\n%s", tool, way, n, now)
						}
						if strings.Contains(now, "soe: inbound") && !strings.Contains(now, "4172") {
							t.Errorf("%s, %s %d: the stream is closed", tool, way, n)
						}
					}
					m.gate = nil
					m.pass(t, change.to)
					if m.kernel.state() != reference.kernel.state() {
						t.Errorf("%s, %s %d: in the end there is\n%s", tool, way, n, m.kernel.state())
					}
					for _, name := range append(bootFiles(), unitFile) {
						is, _ := os.ReadFile(filepath.Join(m.root, name))
						if want, _ := os.ReadFile(filepath.Join(reference.root, name)); string(is) != string(want) {
							t.Errorf("%s, %s %d: in the end %s is\n%s", tool, way, n, name, is)
						}
					}
					if !struck {
						break
					}
					steps++
				}
			}
		}
	}
	if steps < 50 {
		t.Errorf("there were %d steps", steps)
	}
}

func TestWhatIsLoadedAtBootIsKept(t *testing.T) {
	for tool, files := range tools() {
		m := newMachine(t, files)
		m.pass(t, closed)
		for _, spoil := range []func(name string) error{
			os.Remove,
			func(name string) error { return os.WriteFile(name, []byte("x"), 0o600) },
		} {
			for _, name := range []string{unitFile, wantsLink, map[string]string{"nft": nftFile, "iptables": ip6File}[tool]} {
				file := filepath.Join(m.root, name)
				was, _ := os.ReadFile(filepath.Join(m.root, strings.TrimPrefix(name, "/")))
				if name == wantsLink {
					if err := os.Remove(file); err != nil {
						t.Fatal(err)
					}
				} else if err := spoil(file); err != nil {
					t.Fatal(err)
				}
				holds(t, tool+" "+name, m.pass(t, closed), map[string]converge.State{"inbound": converge.Corrected})
				if now, _ := os.ReadFile(file); name != wantsLink && string(now) != string(was) {
					t.Errorf("%s is\n%s", name, now)
				}
			}
		}
		holds(t, tool, m.pass(t, closed), map[string]converge.State{"inbound": converge.Compliant})
	}
}

func TestWhenNftComesTheRulesOfIptablesGo(t *testing.T) {
	m := newMachine(t, withIptables)
	m.pass(t, closed)
	kindtest.Put(t, m.root, "/usr/sbin/nft", "")
	holds(t, "with nft", m.pass(t, closed), map[string]converge.State{"inbound": converge.Corrected})
	if m.kernel.nft == "" || strings.Contains(m.kernel.save(false)+m.kernel.save(true), "SOE") {
		t.Errorf("there is in force\n%s", m.kernel.state())
	}
	holds(t, "again", m.pass(t, closed), map[string]converge.State{"inbound": converge.Compliant})
}

func TestWhatAnAgentWithoutMemoryFindsAtBootIsTakenAway(t *testing.T) {
	m := newMachine(t, withNft)
	m.pass(t, closed)
	m.ledger = kindtest.Ledger(t, t.TempDir())
	holds(t, "another agent", m.pass(t, ""), map[string]converge.State{"rules": converge.Corrected})
	if m.kernel.nft != "" {
		t.Errorf("there is in force\n%s", m.kernel.nft)
	}
}

func TestInAnImageTheRulesAreKeptForTheBootAlone(t *testing.T) {
	root := kindtest.Root(t, withNft)
	s := kindtest.Open(t, system.Options{Root: root})
	p, ledger := kindtest.Policy(t, closed), kindtest.Ledger(t, root)
	k := New(p, s, ledger)
	for _, state := range []converge.State{converge.Corrected, converge.Compliant} {
		if r := kindtest.Engine(p, k, ledger, s.Clock).Pass(t.Context()).Resources; len(r) != 1 || r[0].State != state {
			t.Errorf("%+v", r)
		}
	}
	if text := kindtest.Read(t, root, nftFile); !strings.Contains(text, "soe: inbound") {
		t.Errorf("there is at boot\n%s", text)
	}
	if next := k.NextLook(); !next.IsZero() {
		t.Errorf("it is looked at again at %s", next)
	}
}

func TestTheRulesInForceAreReadAgainEveryHalfMinuteWhereThereAreAny(t *testing.T) {
	m := newMachine(t, withNft)
	k := m.kind(t, closed)
	if !k.NextLook().IsZero() {
		t.Error("it is due before it was looked at")
	}
	kindtest.Check(t, k)
	if left := time.Until(k.NextLook()); left <= 0 || left > Every {
		t.Errorf("the next look is in %s", left)
	}
	none := m.kind(t, "")
	kindtest.Check(t, none)
	if !none.NextLook().IsZero() || len(none.Watches()) != 0 {
		t.Errorf("without any it is looked at at %s, and watches %v", none.NextLook(), none.Watches())
	}
}

func TestEachRuleIsInForceWithThePortsThatStayOpenBeforeIt(t *testing.T) {
	p := planOf(t, everyForm, both, ip4, ip6)
	for f, chains := range p {
		for d, lines := range chains {
			for i, l := range open(d) {
				if f.has(l) && !func() bool {
					for _, is := range lines[:min(len(lines), i+1)] {
						if is == l {
							return true
						}
					}
					return false
				}() {
					t.Errorf("%s %s: %v does not stand before all rules", f, d, l)
				}
			}
		}
	}
}

func TestWhatNobodyCanTakeAwayAnyMoreIsSaidUntilTheReboot(t *testing.T) {
	m := newMachine(t, withNft)
	m.pass(t, closed)
	nft := filepath.Join(m.root, "/usr/sbin/nft")
	if err := os.Remove(nft); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := m.pass(t, "")["rules"]
		if r.State != converge.Pending || r.Effect != converge.Reboot || !strings.Contains(r.Reason, "in force until the reboot") {
			t.Errorf("it is %s: %s", r.State, r.Reason)
		}
	}
	for _, name := range append(bootFiles(), unitFile) {
		if _, err := os.Lstat(filepath.Join(m.root, name)); err == nil {
			t.Errorf("%s is loaded at the next boot", name)
		}
	}
	kindtest.Put(t, m.root, "/usr/sbin/nft", "")
	holds(t, "nft is back", m.pass(t, ""), map[string]converge.State{"rules": converge.Corrected})
	if m.kernel.nft != "" {
		t.Errorf("there is in force\n%s", m.kernel.nft)
	}
	holds(t, "afterwards", m.pass(t, ""), nil)
}

func TestWhenNftGoesItsRulesArePendingUntilTheRebootBesideThoseOfIptables(t *testing.T) {
	m := newMachine(t, withIptables)
	kindtest.Put(t, m.root, "/usr/sbin/nft", "")
	m.pass(t, closed)
	if err := os.Remove(filepath.Join(m.root, "/usr/sbin/nft")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		holds(t, "without nft", m.pass(t, closed), map[string]converge.State{"inbound": converge.Pending})
	}
	if !strings.Contains(m.kernel.save(true), "soe: inbound") {
		t.Errorf("there is in force\n%s", m.kernel.state())
	}
	if err := os.RemoveAll(filepath.Join(m.root, "/run")); err != nil { // as a reboot does
		t.Fatal(err)
	}
	holds(t, "after a reboot", m.pass(t, closed), map[string]converge.State{"inbound": converge.Compliant})
}

func TestWhenIptablesGoesAsNftComesItsRulesArePendingUntilItIsBack(t *testing.T) {
	m := newMachine(t, withIptables)
	m.pass(t, closed)
	kindtest.Put(t, m.root, "/usr/sbin/nft", "")
	save := filepath.Join(m.root, "/usr/sbin/ip6tables-save")
	if err := os.Remove(save); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		holds(t, "without iptables", m.pass(t, closed), map[string]converge.State{"inbound": converge.Pending})
	}
	found := m.pass(t, "")
	if found["rules"].State != converge.Pending {
		t.Errorf("without any rule it is %+v", found)
	}
	kindtest.Put(t, m.root, "/usr/sbin/ip6tables-save", "")
	holds(t, "with iptables", m.pass(t, ""), map[string]converge.State{"rules": converge.Corrected})
	if state := m.kernel.state(); strings.Contains(state, "SOE") {
		t.Errorf("there is in force\n%s", state)
	}
	holds(t, "afterwards", m.pass(t, ""), nil)
}

func TestWhatSomebodyAddsToTheUnitOfTheBootIsTakenAway(t *testing.T) {
	m := newMachine(t, withNft)
	m.pass(t, closed)
	kindtest.Put(t, m.root, dropinDir+"/override.conf", "[Service]\nExecStart=\n")
	holds(t, "with an override", m.pass(t, closed), map[string]converge.State{"inbound": converge.Corrected})
	if _, err := os.Lstat(filepath.Join(m.root, dropinDir, "override.conf")); err == nil {
		t.Error("it is there still")
	}
}

func TestARuleThatSomebodySignsAsThePolicysIsDriftOfAllOfItsDirection(t *testing.T) {
	for _, owner := range []string{"ssh", "syslog", "inbound", "*", "nobody"} {
		m := newMachine(t, withNft)
		m.pass(t, closed+ssh+syslog)
		m.kernel.nft = strings.Replace(m.kernel.nft, "\t\tiifname", "\t\taccept comment \"soe: "+owner+"\"\n\t\tiifname", 1)
		holds(t, owner, m.pass(t, closed+ssh+syslog), map[string]converge.State{"inbound": converge.Corrected, "ssh": converge.Corrected, "syslog": converge.Compliant})
	}
}
