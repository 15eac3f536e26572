package firewall

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// everyForm has each form of rule that a policy can produce.
const everyForm = `
[firewall.inbound]
action = "deny"
[firewall.outbound]
action = "allow"
[firewall.a]
action = "allow"
protocol = "tcp"
ports = ["22", "8000-8100"]
from = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "fe80::1"]
[firewall.b]
action = "deny"
protocol = "icmp"
from = ["198.51.100.0/24"]
[firewall.c]
action = "allow"
protocol = "icmp"
[firewall.d]
action = "deny"
direction = "out"
protocol = "udp"
ports = ["514"]
[firewall.e]
action = "deny"
direction = "out"
to = ["203.0.113.0/24", "2001:db8:1::/48"]
[firewall.f]
action = "allow"
protocol = "udp"
`

// recorded returns a recorded file: the texts that the kind loads, and the real tools' output for
// them. A test in test/e2e records them anew and compares.
func recorded(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func planOf(t *testing.T, toml string, families ...family) plan {
	t.Helper()
	var views []view
	for _, f := range families {
		views = append(views, newView(f))
	}
	p, err := newMachine(t, nil).kind(t, toml).planned(views, func(policy.ID) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func texts(t *testing.T) map[string]string {
	t.Helper()
	four, six := iptablesFamily{family: ip4}, iptablesFamily{family: ip6}
	p := planOf(t, everyForm, both, ip4, ip6)
	return map[string]string{"rules.nft": nft{}.text(p), "rules.v4": four.text(p, view{}), "rules.v6": six.text(p, view{})}
}

func TestTheTextsThatAreLoadedAreThoseThatWereRecorded(t *testing.T) {
	for name, text := range texts(t) {
		if os.Getenv("SOE_RECORD") != "" {
			if err := os.WriteFile(filepath.Join("testdata", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want := recorded(t, name); text != want {
			t.Errorf("%s is now\n%s", name, text)
		}
	}
}

func TestWhatTheRealToolsSayOfTheRulesIsReadAsTheRulesThatWereLoaded(t *testing.T) {
	p := planOf(t, everyForm, both, ip4, ip6)
	four, six := iptablesFamily{family: ip4}, iptablesFamily{family: ip6}
	fromNft, err := parseNft([]byte(recorded(t, "nft.json")))
	views := []view{fromNft}
	for _, f := range []struct {
		iptablesFamily
		name string
	}{{four, "save.v4"}, {six, "save.v6"}} {
		v, parseErr := f.parse(recorded(t, f.name))
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		views = append(views, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		for _, d := range directions() {
			if v.unhooked[d] != "" || v.others[d] != "" || !v.left {
				t.Errorf("%s %s: %q, and besides %q, left %v", v.family, d, v.unhooked[d], v.others[d], v.left)
			}
			if !slices.Equal(v.chains[d], p[v.family][d]) {
				t.Errorf("%s %s is read as\n%v\nand is\n%v", v.family, d, v.chains[d], p[v.family][d])
			}
		}
	}
}

// withoutHandles removes from nft's output what differs each time.
func withoutHandles(t *testing.T, raw []byte) any {
	t.Helper()
	var all map[string][]map[string]map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, o := range all["nftables"] {
		for _, fields := range o {
			for _, name := range []string{"handle", "version", "release_name"} {
				delete(fields, name)
			}
		}
	}
	return all
}

func TestTheStandInAnswersAsTheRealToolsWereRecordedTo(t *testing.T) {
	k := newKernel()
	k.nft = recorded(t, "rules.nft")
	if is, was := withoutHandles(t, k.list()), withoutHandles(t, []byte(recorded(t, "nft.json"))); !reflect.DeepEqual(is, was) {
		t.Errorf("it says\n%s", k.list())
	}
	for name, six := range map[string]bool{"v4": false, "v6": true} {
		k.restore(six, recorded(t, "rules."+name))
		if is, was := rulesIn(k.save(six)), rulesIn(recorded(t, "save."+name)); !bytes.Equal(is, was) {
			t.Errorf("of %s it says\n%s\nand not\n%s", name, is, was)
		}
	}
}

// rulesIn returns the rules in the output of iptables-save.
func rulesIn(text string) []byte {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "-A ") {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}
