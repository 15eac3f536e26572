package policy

import (
	"strings"
	"testing"
)

// What AWS or the vendor documents for the agent on Linux, and nothing else, may
// be called verified: see PCoIPDirective.
func TestNothingIsCalledVerifiedThatIsNotDocumented(t *testing.T) {
	documented := map[string]bool{
		"server_clipboard_state": true, "enable_audio": true, "enable_timezone_redirect": true,
		"enable_build_to_lossless": true, "enable_disclaimer_auth": true, "desktop_session": true,
	}
	for _, name := range PCoIPNames() {
		d, _ := LookupPCoIP(name)
		if d.Verified != documented[name] {
			t.Errorf("%s is verified: %v", name, d.Verified)
		}
		if d.Applies == "" || !d.Text && d.Min >= d.Max {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for _, name := range []string{"license_server_path", "license_proxy_server", "ssl_cert_type", "ssl_cert_min_key_length", "tcpport", "udpport_range", "connection_address"} {
		if d, known := LookupPCoIP(name); !known || d.Forbidden == "" {
			t.Errorf("%s is AWS's, and not forbidden", name)
		}
	}
	if len(PCoIPNames()) < 50 {
		t.Errorf("the catalogue has only %d directives", len(PCoIPNames()))
	}
}

func TestWhatIsNotKnownIsRefusedUnlessThePolicyAllowsIt(t *testing.T) {
	for _, test := range []struct{ line, problem string }{
		{"server_clipboard_state = 3", ""},
		{"server_clipboard_state = 4", "is not a number between 0 and 3"},
		{"max_link_rate = 50", "as far as is known"},
		{"shiny_new = 1", "no such directive is known"},
		{"license_server_path = \"x\"", "AWS brings the licence"},
		{"encryption = \"aes256\"", ""},
		{"encryption = \"aes128\"", "is not \"aes256\""},
		{"desktop_session = \"a\\nb\"", "line break"},
		{"allow_unknown = true\nshiny_new = 1", ""},
		{"allow_unknown = true\nmax_link_rate = 50", ""},
		{"allow_unknown = true\nserver_clipboard_state = 4", "is not a number between 0 and 3"},
		{"allow_unknown = true\nlicense_server_path = \"x\"", "AWS brings the licence"},
		{"allow_unknown = true\n\"a b\" = 1", "is not the name of a directive"},
		{"allow_unknown = 1", "true or false"},
	} {
		_, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[pcoip]\n" + test.line + "\n"})
		if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%q: %v", test.line, err)
		}
	}
}

func TestAPolicyThatCutsTheMachineOffIsRefused(t *testing.T) {
	for _, line := range []string{
		`"lightdm.service" = { running = false }`, `"gdm.service" = { masked = true }`, `"dbus.socket" = { enabled = false }`,
		`"systemd-logind.service" = { masked = true }`, `"NetworkManager.service" = { enabled = false }`,
		`"winbind.service" = { running = false }`, `"amazon-ssm-agent.service" = { masked = true }`,
		`"graphical.target" = { masked = true }`, `"reboot.target" = { running = true }`,
	} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[services]\n" + line + "\n"}); err == nil {
			t.Errorf("accepted: %s", line)
		}
	}
}

func TestAServiceThatCannotBeAsItIsWantedIsRefused(t *testing.T) {
	for line, want := range map[string]string{
		`"getty@.service" = { running = true }`:               "say running of one, such as getty@NAME.service",
		`"a.b@.socket" = { enabled = true, running = false }`: "a.b@NAME.socket",
		`"x.service" = { masked = true, running = true }`:     "neither enabled nor running",
		`"messagebus.service" = { running = false }`:          "nobody could log in without it",
	} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[services]\n" + line + "\n"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{`"getty@.service" = { enabled = false, masked = true }`, `"getty@tty2.service" = { running = false }`} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[services]\n" + line + "\n"}); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTheNameOfTheMachineIsNotThePolicys(t *testing.T) {
	_, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[system]\nhostname = \"x\"\nlocale = \"de_DE.UTF-8\"\n"})
	for _, want := range []string{"system.hostname: it is not kept: AWS gives", "{{fact:hostname}}", "system.locale: it is not kept"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
