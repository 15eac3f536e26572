package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const (
	// answers is a service that says back what it is told, on some ports.
	answers = `
import selectors, socket
waiting = selectors.DefaultSelector()
for port in 22, 2222, 4172, 4195, 8200, 9000:
    listener = socket.create_server(("", port), reuse_port=True)
    waiting.register(listener, selectors.EVENT_READ, True)
while True:
    for key, _ in waiting.select():
        if key.data:
            waiting.register(key.fileobj.accept()[0], selectors.EVENT_READ, False)
            continue
        said = key.fileobj.recv(100)
        if said:
            key.fileobj.sendall(said)
        else:
            waiting.unregister(key.fileobj)
            key.fileobj.close()
`
	firewalled = `
[firewall.inbound]
action = "deny"
[firewall.admins]
action = "allow"
protocol = "tcp"
ports = ["2222"]
from = ["198.18.0.0/15"]
[firewall.outbound]
action = "allow"
[firewall.mail]
action = "deny"
direction = "out"
protocol = "tcp"
ports = ["25"]
`
)

func newFirewalled(t *testing.T) *desktop {
	t.Helper()
	d := newDesktop(t, box.WithNetwork())
	d.MustWriteFile(t, "/root/answers.py", box.File{Content: answers})
	d.MustExec(t, "systemd-run", "--quiet", "--unit=answers", "/usr/bin/python3", "/root/answers.py")
	d.untilAnswers(t, 9000)
	return d
}

func (d *desktop) untilAnswers(t *testing.T, port int) {
	t.Helper()
	if !await(t, func() bool { return d.connects(port, time.Second) }) {
		t.Fatalf("nobody answers on %d", port)
	}
}

// connects says whether somebody who connects is answered. What is dropped is never answered: patience
// is how long that is waited for.
func (d *desktop) connects(port int, patience time.Duration) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", d.Addr, port), patience)
	if err != nil {
		return false
	}
	defer c.Close()
	return echoes(c)
}

func echoes(c net.Conn) bool {
	said := make([]byte, 5)
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		return false
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		return false
	}
	_, err := io.ReadFull(c, said)
	return err == nil && string(said) == "hello"
}

// lets fails the test unless packets are let through as they should be.
func (d *desktop) lets(t *testing.T, when string, closed bool) {
	t.Helper()
	for port, open := range map[int]bool{4172: true, 4195: true, 8200: true, 2222: true, 9000: !closed, 22: !closed} {
		patience := soon
		if !open {
			patience = 300 * time.Millisecond
		}
		if d.connects(port, patience) != open {
			t.Errorf("%s: a connection to %d: %v", when, port, !open)
		}
	}
	// Nobody listens on the host: what gets there is refused by the host, and what does not by the machine.
	for port, open := range map[int]bool{25: !closed, 26: true, 443: true} {
		script := fmt.Sprintf("import socket\ntry:\n  socket.create_connection((%q, %d), 5)\nexcept OSError as e:\n  print(e.errno)", d.HostAddr.String(), port)
		const refused = "111\n"
		if said := d.MustExec(t, "/usr/bin/python3", "-c", script); (said == refused) != open {
			t.Errorf("%s: out to %d: %s", when, port, said)
		}
	}
	if !d.fails(t.Context(), "/usr/bin/python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 9001), 2)") ||
		d.fails(t.Context(), "/usr/bin/python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 9000), 2)") {
		t.Errorf("%s: loopback is closed", when)
	}
}

func firewallStates(state converge.State) map[policy.ID]converge.State {
	return map[policy.ID]converge.State{"firewall/inbound": state, "firewall/admins": state, "firewall/outbound": state, "firewall/mail": state}
}

// keptFirewall holds one tool to all that is promised of it: packets tell.
func (d *desktop) keptFirewall(t *testing.T, drifts []string) {
	t.Helper()
	d.lets(t, "at first", false)
	lived, err := net.Dial("tcp", fmt.Sprintf("%s:9000", d.Addr))
	if err != nil || !echoes(lived) {
		t.Fatal(err)
	}
	defer lived.Close()
	lives := func(when string) {
		t.Helper()
		if !echoes(lived) {
			t.Errorf("%s: a connection that was there has ended", when)
		}
	}
	before := d.MustExec(t, "sh", "-c", "nft list ruleset 2>/dev/null; iptables-save -t filter; ip6tables-save -t filter")
	d.apply(t, firewalled).wants(t, firewallStates(converge.Corrected))
	lives("with the rules")
	d.lets(t, "with the rules", true)
	d.converged(t)
	for _, drift := range drifts {
		d.MustExec(t, "sh", "-ec", drift)
		o := d.command(t, "apply", "--policy", policyDir)
		if o.Code != 0 || !strings.Contains(fmt.Sprint(o.Resources), string(converge.Corrected)) {
			t.Errorf("after %s: exit code %d: %+v %s", drift, o.Code, o.Resources, o.Stderr)
		}
		lives("after " + drift)
		d.converged(t)
	}
	d.lets(t, "after all drifts", true)
	// What an earlier boot has left in force is no help: the network is another one.
	d.MustExec(t, "systemctl", "start", "soe-firewall.service")
	d.apply(t, firewalled)
	d.apply(t, "").wants(t, firewallStates(converge.Corrected))
	lives("without the rules")
	d.lets(t, "without the rules", false)
	after := d.MustExec(t, "sh", "-c", "nft list ruleset 2>/dev/null; iptables-save -t filter; ip6tables-save -t filter")
	if strip := func(s string) string { return strings.Join(strings.Split(s, "#"), "") }; strings.Contains(strings.ToLower(strip(after)), "soe") {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
	if left := d.MustExec(t, "sh", "-c", "find /etc/systemd /etc/soe-agent | grep -i firewall || true"); left != "" {
		t.Errorf("there is left %s", left)
	}
}

func TestAFirewallOfNftablesLetsThroughWhatItShouldAndCutsNoConnection(t *testing.T) {
	t.Parallel()
	d := newFirewalled(t)
	d.keptFirewall(t, []string{
		"nft flush ruleset",
		"nft flush table inet soe_agent",
		"nft insert rule inet soe_agent input accept",
		"nft add chain inet soe_agent input '{ policy drop; }'",
		"nft delete rule inet soe_agent input handle $(nft -a list chain inet soe_agent input | sed -n 's/.*soe: inbound.*handle //p')",
		"nft add table inet soe_agent '{ flags dormant; }'",
		"rm /etc/systemd/system/multi-user.target.wants/soe-firewall.service",
		"conntrack -F 2>/dev/null || true; nft delete table inet soe_agent",
	})
}

func TestAFirewallOfIptablesLetsThroughWhatItShouldAndCutsNoConnection(t *testing.T) {
	t.Parallel()
	d := newFirewalled(t)
	d.MustExec(t, "mv", "/usr/sbin/nft", "/usr/sbin/nft.away")
	for _, variant := range []string{"legacy", "nft"} {
		d.MustExec(t, "sh", "-ec", "for v in iptables ip6tables; do update-alternatives --quiet --set $v /usr/sbin/$v-"+variant+"; done; iptables -A INPUT -p esp -j ACCEPT")
		d.keptFirewall(t, []string{
			"iptables -F",
			"iptables -P INPUT ACCEPT; iptables -F INPUT; iptables -A INPUT -p esp -j ACCEPT",
			"iptables -I INPUT -j ACCEPT; iptables -D INPUT -j SOE-INPUT; iptables -A INPUT -j SOE-INPUT",
			"iptables -D INPUT -j ACCEPT 2>/dev/null || true; ip6tables -I SOE-INPUT -p tcp -j ACCEPT",
			"iptables -D SOE-INPUT -j DROP -m comment --comment 'soe: inbound'",
		})
		if rules := d.MustExec(t, "iptables", "-S", "INPUT"); !strings.Contains(rules, "-p esp -j ACCEPT") {
			t.Errorf("%s: of somebody else's rules there is left %s", variant, rules)
		}
		d.MustExec(t, "iptables", "-F")
	}
}

// At boot the rules are in force before there is a network, and without the agent.
func TestTheRulesAreInForceAtBootBeforeThereIsANetwork(t *testing.T) {
	t.Parallel()
	d := newFirewalled(t)
	d.apply(t, firewalled).wants(t, firewallStates(converge.Corrected))
	if err := d.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "exec", d.Name, "nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := d.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if shown := d.MustExec(t, "systemctl", "show", "--property=ActiveState,Result", "soe-firewall.service"); shown != "Result=success\nActiveState=active\n" && shown != "ActiveState=active\nResult=success\n" {
		t.Errorf("it is %s", shown)
	}
	if order := d.MustExec(t, "systemctl", "show", "--property=Before", "--value", "soe-firewall.service"); !strings.Contains(order, "network-pre.target") {
		t.Errorf("it is started before %s", order)
	}
	d.MustExec(t, "systemd-run", "--quiet", "--unit=answers", "/usr/bin/python3", "/root/answers.py")
	d.untilAnswers(t, 2222)
	d.lets(t, "after the boot", true)
	d.converged(t)

	// The daemon finds by itself what nobody tells of.
	d.MustWriteFile(t, "/etc/soe-agent/policy.d/50-test.toml", box.File{Content: "schema = 1\n" + firewalled})
	d.MustWriteFile(t, "/etc/systemd/system/soe-agent.service", box.File{Content: "[Service]\nType=notify\nExecStart=/usr/bin/soe-agent run\n"})
	d.MustExec(t, "systemctl", "daemon-reload")
	d.MustExec(t, "systemctl", "start", "soe-agent.service")
	d.MustExec(t, "nft", "flush", "ruleset")
	if !await(t, func() bool { return !d.fails(t.Context(), "nft", "list", "table", "inet", "soe_agent") }) {
		t.Fatal("the daemon has not loaded them again")
	}
	d.lets(t, "after the daemon has loaded them again", true)
}

// The tests of the kind go by what the real tools were recorded to say.
func TestTheRealToolsSayOfTheRulesWhatTheyWereRecordedToSay(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithNetwork())
	recorded := func(name string) string {
		content, err := os.ReadFile(filepath.Join("../../internal/kind/firewall/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	for _, name := range []string{"rules.nft", "rules.v4", "rules.v6"} {
		d.MustWriteFile(t, "/root/"+name, box.File{Content: recorded(name)})
	}
	plain := func(text string) any {
		var all map[string][]map[string]map[string]any
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		for _, o := range all["nftables"] {
			for _, fields := range o {
				for _, differs := range []string{"handle", "version", "release_name"} {
					delete(fields, differs)
				}
			}
		}
		return all
	}
	if now := d.MustExec(t, "sh", "-ec", "nft flush ruleset; nft -f /root/rules.nft; nft -j list ruleset"); !reflect.DeepEqual(plain(now), plain(recorded("nft.json"))) {
		t.Errorf("nft says now\n%s", now)
	}
	for _, variant := range []string{"legacy", "nft"} {
		for tool, version := range map[string]string{"iptables": "v4", "ip6tables": "v6"} {
			now := d.MustExec(t, "sh", "-ec", fmt.Sprintf("%s-%s-restore --noflush /root/rules.%s; %s-%s-save -t filter | grep -v '^#'", tool, variant, version, tool, variant))
			if now != recorded("save."+version) {
				t.Errorf("%s-%s says now\n%s", tool, variant, now)
			}
		}
	}
}
