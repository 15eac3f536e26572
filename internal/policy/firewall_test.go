package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func TestARuleThatWouldCloseWhatStaysOpenIsRefusedWithTheReason(t *testing.T) {
	for _, p := range protected.Ports() {
		ports := fmt.Sprintf("%d", p.Low)
		rule := fmt.Sprintf("[firewall.x]\naction = \"deny\"\ndirection = %q\nprotocol = %q\nports = [%q]\n", p.Direction, p.Protocol, ports)
		if p.Peer.IsValid() {
			rule += fmt.Sprintf("to = [%q]\n", p.Peer)
		}
		if got := fileProblemsOf(rule); !strings.Contains(got, "stays open: ") {
			t.Errorf("%s is taken: %q", rule, got)
		}
		if got := fileProblemsOf(strings.Replace(rule, "deny", "allow", 1)); got != "" {
			t.Errorf("%s is refused: %q", rule, got)
		}
	}
	for _, c := range []struct{ says, want string }{
		{`action = "deny"` + "\nprotocol = \"tcp\"\nports = [\"4000-5000\"]", "PCoIP"},
		{`action = "deny"` + "\nprotocol = \"tcp\"\nports = [\"22\", \"8250\"]\nfrom = [\"192.0.2.0/24\"]", "DCV"},
		{`action = "deny"` + "\nprotocol = \"udp\"\nports = [\"22\", \"161\"]", ""},
		{`action = "deny"` + "\nfrom = [\"192.0.2.0/24\"]", ""},
		{`action = "deny"`, ""},
		{`action = "deny"` + "\ndirection = \"out\"\nto = [\"169.254.0.0/16\"]", "metadata"},
		{`action = "deny"` + "\ndirection = \"out\"\nto = [\"169.254.169.254\"]", "metadata"},
		{`action = "deny"` + "\ndirection = \"out\"\nprotocol = \"tcp\"\nports = [\"80\"]\nto = [\"169.254.169.254\"]", "metadata"},
		{`action = "deny"` + "\ndirection = \"out\"\nprotocol = \"tcp\"\nports = [\"80\"]", ""},
		{`action = "deny"` + "\ndirection = \"out\"\nprotocol = \"tcp\"\nports = [\"443\"]\nto = [\"192.0.2.7\"]", "Systems Manager"},
		{`action = "deny"` + "\ndirection = \"out\"\nto = [\"2001:db8::/32\"]", ""},
	} {
		got := fileProblemsOf("[firewall.x]\n" + c.says + "\n")
		if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.says, got)
		}
	}
}

func TestARuleThatMeansNothingOrNotWhatItSaysIsRefused(t *testing.T) {
	for says, want := range map[string]string{
		"[firewall.x]\n":                                                                     "action is",
		"[firewall.x]\naction = \"drop\"\n":                                                  "action is",
		"[firewall.x]\naction = \"deny\"\nports = [\"22\"]\n":                                "say which it is",
		"[firewall.x]\naction = \"deny\"\nprotocol = \"icmp\"\nports = [\"22\"]\n":           "say which it is",
		"[firewall.x]\naction = \"deny\"\nprotocol = \"sctp\"\n":                             "none of tcp, udp, icmp",
		"[firewall.x]\naction = \"deny\"\nprotocol = \"icmp\"\nfrom = [\"2001:db8::1\"]\n":   "that of IPv4",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"0\"]\n":            "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"022\"]\n":          "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"65536\"]\n":        "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"30-20\"]\n":        "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"20-20\"]\n":        "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = [\"ssh\"]\n":          "not a port",
		"[firewall.x]\naction = \"allow\"\nprotocol = \"tcp\"\nports = []\n":                 "leave it out",
		"[firewall.x]\naction = \"allow\"\nfrom = []\n":                                      "leave it out",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"10.0.0.1/8\"]\n":                        "10.0.0.0/8 would be one",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"0.0.0.0/0\"]\n":                         "leave it out",
		"[firewall.x]\naction = \"deny\"\nfrom = [\"127.0.0.0/8\"]\n":                        "loopback",
		"[firewall.x]\naction = \"deny\"\nfrom = [\"::1\"]\n":                                "loopback",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"::ffff:10.0.0.1\"]\n":                   "not an address",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"fe80::1%eth0\"]\n":                      "not an address",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"example.com\"]\n":                       "not an address",
		"[firewall.x]\naction = \"allow\"\nto = [\"10.0.0.1\"]\n":                            "say from",
		"[firewall.x]\naction = \"allow\"\ndirection = \"out\"\nfrom = [\"10.0.0.1\"]\n":     "say to",
		"[firewall.x]\naction = \"allow\"\ndirection = \"both\"\n":                           "direction is",
		"[firewall.inbound]\naction = \"deny\"\nports = [\"22\"]\n":                          "another name",
		"[firewall.X]\naction = \"deny\"\n":                                                  "is not a name",
		"[firewall.\"*\"]\naction = \"deny\"\n":                                              "is not a name",
		"[firewall.x]\naction = \"allow\"\nfrom = [\"{{resolve:ssm:/x}}\"]\n":                "not an address",
		"[services.\"soe-firewall.service\"]\nmasked = true\n":                               "protected",
		"[dropins.\"/etc/systemd/system/soe-firewall.service.d/x.conf\"]\ncontent = \"x\"\n": "agent's own",
	} {
		if got := fileProblemsOf(says); !strings.Contains(got, want) {
			t.Errorf("%s: %q", says, got)
		}
	}
	many := strings.Repeat(`"192.0.2.1",`, MostFirewallLines)
	if got := fileProblemsOf("[firewall.x]\naction = \"allow\"\nfrom = [" + many + "]\n"); got != "" {
		t.Errorf("%.200q", got)
	}
	if got := fileProblemsOf("[firewall.inbound]\naction = \"deny\"\n[firewall.x]\naction = \"allow\"\nfrom = [" + many + "]\n"); !strings.Contains(got, "more than 2000 rules") {
		t.Errorf("%.200q", got)
	}
}
