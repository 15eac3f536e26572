package protected_test

import (
	"os"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func TestOfThePCoIPAgentOnlyItsConfigurationFileMayBeChanged(t *testing.T) {
	for name, free := range map[string]bool{
		"/etc/pcoip-agent/pcoip-agent.conf":                true,
		"/etc/pcoip-agent/../pcoip-agent/pcoip-agent.conf": true,
		"/etc/pcoip-agent/ssl-certs/key.pem":               false,
		"/usr/lib/pcoip-agent/anything":                    false,
		"/etc/pcoip-agentry/x":                             true,
		"/etc/pam.d/sudo":                                  false,
		"/etc/sudoers":                                     false,
		"/etc/authselect/system-auth":                      false,
		"/etc/authselect/custom/soe/password-auth":         false,
		"/etc/authselect/nsswitch.conf":                    false,
		"/usr/share/authselect/default/sssd/system-auth":   false,
		"/var/lib/authselect/system-auth":                  false,
		"/usr/lib/pam.d/sshd":                              false,
		"/usr/share/pam-configs/unix":                      false,
		"/lib64/security/pam_unix.so":                      false,
		"/etc/security/limits.d/60-soe.conf":               true,
		"/etc/sudoers.d/50-soe":                            true,
		"/etc/udev/rules.d/70-persistent-net.rules":        false,
		"/etc/udev/rules.d/60-usb.rules":                   true,
		"/etc/sysctl.d/60-soe.conf":                        true,
		"/lib/skylight/x.d/y":                              false,
		"/lib64/security/pam_self.so":                      false,
		"/usr/lib/systemd/system/pcoip.service":            false,
		"/lib/systemd/system/pcoip-agent.service":          false,
		"/etc/systemd/system/pcoip.service.d/60-soe.conf":  false,
		"/etc/systemd/system/sssd.service":                 false,
		"/run/systemd/system/dcvserver.service.d/x.conf":   false,
		"/etc/systemd/system/chronyd.service.d/x.conf":     true,
		"/libexec/x.d/y":                                   true,
	} {
		if why := protected.Path(name); (why == "") != free {
			t.Errorf("Path(%q) = %q, want free: %v", name, why, free)
		}
	}
}

func TestWhatCarriesTheSessionIsProtectedAndDisruptive(t *testing.T) {
	for _, unit := range []string{"pcoip.service", "pcoip-agent.service", "dcvserver.service", "sssd.socket", "home.mount", "systemd-user-sessions.service"} {
		if protected.Unit(unit) == "" || !protected.Disruptive(unit) {
			t.Errorf("%s can be stopped", unit)
		}
	}
	for _, unit := range []string{"systemd-logind.service", "dbus.service", "user@1000.service", "lightdm.service", "dbus.socket", "user.slice", "graphical.target"} {
		if protected.Unit(unit) != "" || !protected.Disruptive(unit) {
			t.Errorf("%s: want disruptive, and not protected", unit)
		}
	}
	for _, unit := range []string{"lightdm.service", "dbus.socket", "systemd-logind.service", "NetworkManager.service", "winbind.service", "polkit.service", "amazon-ssm-agent.service", "graphical.target"} {
		if protected.Service(unit) == "" {
			t.Errorf("a policy may stop %s", unit)
		}
	}
	if why := protected.Path("/etc/systemd/system/amazon-ssm-agent.service.d/proxy.conf"); why != "" {
		t.Errorf("its proxy cannot be set: %s", why)
	}
	if protected.Service("sshd.service") != "" || protected.Service("cups.service") != "" {
		t.Error("what nobody needs to reach the desktop is protected")
	}
	if !protected.EndsAll("reboot.target") || !protected.EndsAll("systemd-poweroff.service") || protected.EndsAll("chronyd.service") {
		t.Error("which units end all that runs is not known")
	}
	if protected.Disruptive("chronyd.service") {
		t.Error("chronyd.service is held to disturb a session")
	}
}

func TestAccountsAndPackagesThatAreTheWayInAreProtected(t *testing.T) {
	for _, name := range []string{"root", "pcoip", "ssm-user"} {
		if protected.Account(name) == "" {
			t.Errorf("account %s is not protected", name)
		}
	}
	for _, name := range []string{"pcoip-agent-standard", "sssd-client", "systemd", "soe-agent"} {
		if protected.Package(name) == "" {
			t.Errorf("package %s is not protected", name)
		}
	}
	if protected.Package("firefox") != "" || protected.Account("soe-scan") != "" {
		t.Error("what is free is protected")
	}
}

// The vendor's list, which nobody may change, delete or block.
func TestEveryComponentThatWorkSpacesRequiresIsProtected(t *testing.T) {
	content, err := os.ReadFile("testdata/required.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(content)) {
		system, path, found := strings.Cut(strings.TrimSpace(line), " | ")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		count++
		if strings.HasSuffix(path, "/etc/pcoip-agent") {
			path += "/anything" // all in it but its one configuration file
		}
		if protected.Path(path) == "" || protected.Path(path+"/below") == "" {
			t.Errorf("on %s a policy may change %s", system, path)
		}
	}
	if count < 50 {
		t.Errorf("there are only %d in the list", count)
	}
}
