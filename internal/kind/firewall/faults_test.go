package firewall

import (
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

func sickScene(name, toml, before string, files map[string]string, change func(*kernel)) faultwalk.Scene {
	return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
		m := newMachine(t, files)
		if before != "" {
			m.pass(t, before)
		}
		if change != nil {
			change(m.kernel)
		}
		s := kindtest.Open(t, system.Options{Root: m.root, Look: look})
		s.Root = "/"
		s.Runner = faultwalk.Runner(m.kernel, look)
		s.Units = faultwalk.Units(system.Units{UnitStates: units{k: m.kernel}}, look)
		p := kindtest.Policy(t, toml)
		k := New(p, s, m.ledger)
		return faultwalk.Machine{Kind: k, Root: m.root, Engine: kindtest.Engine(p, k, m.ledger, s.Clock), State: m.kernel.state}
	}}
}

func TestNoRuleIsJudgedByALookThatFailed(t *testing.T) {
	const wanted = closed + ssh + syslog
	flush := func(k *kernel) { k.nft, k.chains = "", newKernel().chains }
	var scenes []faultwalk.Scene
	for tool, files := range tools() {
		scenes = append(scenes,
			sickScene(tool+", in line", wanted, wanted, files, nil),
			sickScene(tool+", flushed", wanted, wanted, files, flush),
			sickScene(tool+", there though wanted no more", "", wanted, files, nil),
		)
	}
	scenes = append(scenes, sickScene("new", wanted, "", withNft, nil), sickScene("one wanted no more", closed, wanted, withNft, nil))
	faultwalk.Walk(t, "firewall", scenes...)
}

func TestAnAnswerThatIsCutShortOrOfNothingIsUnknown(t *testing.T) {
	for _, text := range []string{"", "{}", `{"nftables": []}`, `{"nftables": [{"metainfo": {}}`, "null", "[]"} {
		if v, err := parseNft([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, v)
		}
	}
	f := iptablesFamily{family: ip4}
	for _, text := range []string{"*filter\n", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT", "x", `-A INPUT -m comment --comment "x`} {
		if v, err := f.parse(text); err == nil {
			t.Errorf("%q is read as %+v", text, v)
		}
	}
}
