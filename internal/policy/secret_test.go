package policy

import (
	"strings"
	"testing"
)

func TestASecretIsRefusedWhereEverybodyReads(t *testing.T) {
	const reference = "{{resolve:secretsmanager:app:SecretString:password}}"
	dropin := func(file string) string {
		return "[dropins.\"" + file + "\"]\ncontent = \"" + reference + "\\n\"\nactivate = []\n"
	}
	for name, text := range map[string]string{
		"the shells of all people":    dropin("/etc/profile.d/proxy.sh"),
		"environment of sessions":     dropin("/etc/environment.d/60-proxy.conf"),
		"programs that start":         dropin("/etc/xdg/autostart/a.desktop"),
		"what new users get":          dropin("/etc/skel/netrc"),
		"the kernel":                  dropin("/etc/sysctl.d/60-x.conf"),
		"modules":                     dropin("/etc/modprobe.d/x.conf"),
		"a unit":                      dropin("/etc/systemd/system/x.service"),
		"a drop-in of a unit":         dropin("/etc/systemd/system/x.service.d/10.conf"),
		"a setting of systemd":        dropin("/etc/systemd/system.conf.d/10.conf"),
		"a job of cron":               dropin("/etc/cron.d/x"),
		"a browser":                   dropin("/etc/opt/chrome/policies/managed/x.json"),
		"polkit":                      dropin("/etc/polkit-1/rules.d/10-x.rules"),
		"sshd":                        dropin("/etc/ssh/sshd_config.d/10-x.conf"),
		"sudo":                        dropin("/etc/sudoers.d/x"),
		"dconf":                       "[dconf.\"org/mate/x\"]\nkey = \"" + reference + "\"\n",
		"PCoIP":                       "[pcoip]\nallow_unknown = true\nx = \"" + reference + "\"\n",
		"the address of a repository": "[repositories.corp]\nbaseurl = \"https://me:" + reference + "@rpm.example.com/\"\ngpgkey = \"https://rpm.example.com/KEY\"\nfingerprint = \"" + strings.Repeat("A", 40) + "\"\n",
		"the command of a check":      "[checks.x]\nrun = [\"/usr/bin/curl\", \"" + reference + "\"]\n",
		"a drop-in with a mode that lets everybody in": strings.Replace(dropin("/etc/soe.d/x"), "activate", "mode = \"0604\"\nactivate", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseAll([]Source{{Name: "10.toml", Text: "schema = 1\n" + text}})
			if err == nil {
				t.Fatal("the secret is accepted")
			}
			if message := err.Error(); !strings.Contains(message, whereSecretsGo) && !strings.Contains(message, "lets everybody see the secret") {
				t.Errorf("it does not say where the secret may go: %s", message)
			}
		})
	}
	for _, file := range []string{"/etc/rsyslog.d/60-x.conf", "/etc/soe-scan.d/token", "/etc/yum.repos.d/x.repo", "/etc/cron.daily/x", "/opt/scan/token"} {
		if _, err := ParseAll([]Source{{Name: "10.toml", Text: "schema = 1\n" + dropin(file)}}); err != nil {
			t.Errorf("a secret in %s: %v", file, err)
		}
	}
}
