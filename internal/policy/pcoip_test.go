package policy

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// Only what AWS or the vendor documents for the agent on Linux may be called verified: see
// PCoIPDirective.
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

// A number that is interpreted the wrong way round opens what should be closed.
func TestEachNumberOfADirectiveHasItsMeaningAndAWord(t *testing.T) {
	manual := Manual()
	for _, name := range PCoIPNames() {
		d, _ := LookupPCoIP(name)
		if d.Forbidden != "" {
			continue
		}
		if d.Means == "" || !strings.Contains(manual, d.Means) {
			t.Errorf("what %s is, the reference does not say", name)
		}
		for _, w := range d.Words {
			if number := strconv.Itoa(w.Number); d.Number(w.Word) != number || d.Word(number) != w.Word || d.Check(w.Word) != "" || d.Check(number) != "" {
				t.Errorf("%s: %+v", name, w)
			}
		}
		if few := !d.Text && d.Max-d.Min <= 4; few && len(d.Words) == 0 && !strings.Contains(d.Means, "is not known") {
			t.Errorf("what each number of %s means nobody is told", name)
		}
	}
	clipboard, _ := LookupPCoIP("server_clipboard_state")
	for number, want := range map[string]string{
		"0": "disabled, neither way", "1": "enabled, both ways",
		"2": "paste-only, from the client to the desktop", "3": "copy-only, from the desktop to the client",
	} {
		if got := clipboard.Meaning(number); got != want {
			t.Errorf("%s is %q, and AWS says %q", number, got, want)
		}
	}
	if row := "| `server_clipboard_state` | a number from 0 to 3, or a word | copying and pasting between the client and the desktop; 0 `disabled`: neither way; 1 `enabled`: both ways; 2 `paste-only`: from the client to the desktop; 3 `copy-only`: from the desktop to the client; heeded when the agent is restarted |"; !strings.Contains(manual, row) {
		t.Error("the reference does not have it")
	}
}

func TestAWordIsItsNumberAndANumberIsExplained(t *testing.T) {
	parse := func(line string) Fragment {
		f, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[pcoip]\n" + line + "\n"})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	word, number := parse(`server_clipboard_state = "copy-only"`), parse(`server_clipboard_state = 3`)
	if !reflect.DeepEqual(word.Settings, number.Settings) || word.Settings[0].Spec.(PCoIP).Value != "3" {
		t.Errorf("%+v and %+v", word.Settings, number.Settings)
	}
	p, err := Merge([]Fragment{word}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "server_clipboard_state = 3  # copy-only, from the desktop to the client\n"; !strings.Contains(p.Text(), want) {
		t.Errorf("%s does not hold %s", p.Text(), want)
	}
	byReference, err := Merge([]Fragment{parse(`server_clipboard_state = "{{resolve:ssm:/c}}"`)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for value, fits := range map[string]bool{"copy-only": true, "3": true, "copy": false} {
		r := byReference.Expand(func(Reference) (string, bool) { return value, true }).Resources[0]
		if (r.Unusable == "") != fits || fits && Meaning(r.ID, r.Spec.(PCoIP).Value) != "copy-only, from the desktop to the client" {
			t.Errorf("%s: %+v", value, r)
		}
	}
	if len(word.Advice) > 0 || len(number.Advice) != 1 {
		t.Fatalf("%v, %v", word.Advice, number.Advice)
	}
	if got := number.Advice[0]; got.Gravity != Notice || got.Line != 3 || got.Message != "pcoip.server_clipboard_state = 3 is copy-only, from the desktop to the client" {
		t.Errorf("%+v", got)
	}
	for _, line := range []string{"enable_audio = true", "enable_audio = 1", "enable_audio = \"on\"", "maximum_frame_rate = 30", "event_filter_mode = \"debug\""} {
		if f := parse(line); len(f.Advice) > 0 {
			t.Errorf("%s: %v", line, f.Advice)
		}
	}
	if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[pcoip]\nserver_clipboard_state = \"copy\"\n"}); err == nil || !strings.Contains(err.Error(), `"copy" is not a number between 0 and 3`) {
		t.Error(err)
	}
}

func TestAPolicyThatCutsTheMachineOffIsRefused(t *testing.T) {
	for _, line := range []string{
		`"lightdm.service" = { running = false }`, `"gdm.service" = { masked = true }`, `"dbus.socket" = { enabled = false }`,
		`"systemd-logind.service" = { masked = true }`, `"NetworkManager.service" = { enabled = false }`,
		`"winbind.service" = { running = false }`, `"amazon-ssm-agent.service" = { masked = true }`,
		`"gdm3.service" = { enabled = false }`, `"dbus-broker.service" = { masked = true }`, `"user@.service" = { masked = true }`,
		`"realmd.service" = { masked = true }`, `"oddjobd.service" = { running = false }`, `"sssd-kcm.socket" = { masked = true }`,
		`"dcvserver.service" = { running = false }`, `"dcvsessionlauncher.service" = { masked = true }`, `"wspdcvhostadapter.service" = { enabled = false }`,
		`"xdcv-console.path" = { masked = true }`, `"xdcv-console-update.service" = { enabled = false }`, `"systemd-resolved.service" = { running = false }`,
		`"systemd-networkd.socket" = { masked = true }`, `"snap.amazon-ssm-agent.amazon-ssm-agent.service" = { enabled = false }`,
		`'snap-amazon\x2dssm\x2dagent-7993.mount' = { running = false }`, `"systemd-udevd-kernel.socket" = { masked = true }`,
		`"graphical.target" = { masked = true }`, `"reboot.target" = { running = true }`,
	} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n[services]\n" + line + "\n"}); err == nil {
			t.Errorf("accepted: %s", line)
		}
	}
}

func TestAPolicyThatTakesAwayWhatADesktopOfAnyFamilyNeedsIsRefused(t *testing.T) {
	for toml, want := range map[string]string{
		`packages.gnome-shell = "absent"`:                              "gnome-shell must not be removed: the desktop cannot be reached without it",
		`packages."gnome-shell.x86_64" = "absent"`:                     "must not be removed",
		`packages.gdm3 = { ensure = "absent" }`:                        "must not be removed",
		`packages.libpam-sss = "absent"`:                               "must not be removed",
		`packages.nice-xdcv = "absent"`:                                "must not be removed",
		`packages.rocky-release = "absent"`:                            "must not be removed",
		`users.ubuntu = { ensure = "absent" }`:                         "ubuntu is protected: it is the account that the image is made with",
		`users.ubuntu = { shell = "/sbin/nologin" }`:                   "ubuntu is protected",
		`users.rocky = { ensure = "absent" }`:                          "rocky is protected",
		`users.gdm = { ensure = "absent" }`:                            "gdm is protected",
		`users.sssd = { shell = "/bin/bash" }`:                         "sssd is protected",
		`users._apt = { ensure = "absent" }`:                           "_apt is protected",
		`users.sshd = { ensure = "absent" }`:                           "sshd is protected: the machine does not work without it",
		`groups.sudo = { ensure = "absent" }`:                          "sudo is protected: the machine does not work without it",
		`groups.ubuntu = { gid = 4000 }`:                               "ubuntu is protected",
		`groups.gdm = { ensure = "absent" }`:                           "gdm is protected",
		`ids.uid.cloud-user = 1000`:                                    "cloud-user is protected",
		`dropins."/etc/gdm3/a.d/x" = { content = "" }`:                 "/etc/gdm3/a.d/x is protected: the session of everybody begins there",
		`dropins."/etc/network/interfaces.d/x" = { content = "" }`:     "is protected: the machine is reached by the network",
		`dropins."/etc/oddjobd.conf.d/x" = { content = "" }`:           "is protected",
		`dropins."/etc/systemd/system/gdm.service" = { content = "" }`: "is protected: nobody could log in without it",
		`dropins."/etc/systemd/system/graphical.target.wants/dcvserver.service" = { ensure = "absent", activate = [] }`: "is protected: it carries the streaming session",
		`dropins."/etc/tmpfiles.d/x.conf" = { content = "r /etc/systemd/system/*.wants/sssd.service\n" }`:               "WorkSpaces needs it to let people log in",
		`dropins."/etc/tmpfiles.d/x.conf" = { content = "L+ /usr/bin/Xorg - - - - /bin/true\n" }`:                       "the display of the stream is in its place",
		`dropins."/etc/sysusers.d/x.conf" = { content = "u ubuntu 4000\n" }`:                                            "the account ubuntu",
		`dropins."/etc/systemd/system/a.mount" = { content = "[Mount]\nWhere=/etc/gdm3\n" }`:                            "mount something over /etc/gdm3",
		`dropins."/etc/x.d/a" = { content = "", activate = ["/usr/bin/systemctl", "mask", "--now", "oddjobd"] }`:        "oddjobd is protected",
		`directories."/etc/network/interfaces.d" = { purge = true }`:                                                    "is protected",
		`directories."/etc/oddjobd.conf.d" = { purge = true }`:                                                          "is protected",
		`files."/etc/skylight.conf" = { mode = "0600" }`:                                                                "it is protected",
		`files."/etc/gdm/custom.conf" = { mode = "0600" }`:                                                              "it is protected",
		`files."/etc/sssd/pki/sssd_auth_ca_db.pem" = { content = "" }`:                                                  "it is protected",
	} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n" + toml + "\n"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", toml, err)
		}
	}
	for _, toml := range []string{
		`packages.gnome-shell = "latest"`, `packages.dconf-editor = "absent"`, `groups.wheel = {}`, `ids.uid.sssd = 373`, `ids.gid.gdm = 42`,
		`services."oddjobd.service" = { enabled = true, running = true }`, `services."ssh.socket" = { masked = true }`, `services."snapd.service" = { running = false }`,
		`dropins."/etc/x.d/a" = { content = "", activate = ["/usr/bin/systemctl", "restart", "systemd-resolved"] }`,
	} {
		if _, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n" + toml + "\n"}); err != nil {
			t.Errorf("%s: %v", toml, err)
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
