package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const (
	anEntry   = "/etc/polkit-1/localauthority/50-local.d/x.pkla"
	unitsID   = "org.freedesktop.systemd1.manage-units"
	execID    = "org.freedesktop.policykit.exec"
	pklaGone  = "# soe-agent: "
	rulesGone = "// soe-agent: "
)

// withPKLA is a desktop whose polkit reads .pkla files beside the rules, as those of Debian and
// Ubuntu with the package polkitd-pkla do.
func withPKLA(t *testing.T) *desktop {
	t.Helper()
	d := newDesktop(t)
	d.sh(t, `cp -a /opt/polkitd-pkla/. /; for dir in /var/lib/polkit-1 /etc/polkit-1/localauthority; do chgrp polkitd $dir; chmod 750 $dir; done; systemctl restart polkit`)
	return d
}

// entry is one of a .pkla file.
func entry(identity, actions, anybody, inactive, active string) string {
	return "[x]\nIdentity=" + identity + "\nAction=" + actions + "\nResultAny=" + anybody + "\nResultInactive=" + inactive + "\nResultActive=" + active + "\n"
}

func (d *desktop) takesBackPolkit(t *testing.T) {
	t.Helper()
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
	for _, question := range []string{unitsID, execID, execID + " --detail program /usr/bin/bash"} {
		if d.may(t, "user", question) {
			t.Errorf("the user may still do %s", question)
		}
	}
	d.converged(t)
}

func TestWhatAnEntryOfTheLocalAuthorityGivesBesideRulesIsTakenBack(t *testing.T) {
	t.Parallel()
	d := withPKLA(t)
	for name, test := range map[string]struct {
		files    map[string]string
		setup    string
		question string
		gone     []string // of whose lines comments are made
	}{
		"an entry": {map[string]string{anEntry: entry("unix-user:user", unitsID, "yes", "yes", "yes")}, "", unitsID, []string{anEntry}},
		"without a directory of authorities": {
			map[string]string{anEntry: entry("unix-group:sudo", "org.freedesktop.*", "yes", "yes", "yes")}, "rm -rf /etc/polkit-1/localauthority.conf.d", execID, []string{anEntry},
		},
		"of a package": {
			map[string]string{"/var/lib/polkit-1/localauthority/10-vendor.d/x.pkla": entry("unix-user:*", "*", "yes", "no", "no")}, "", execID, []string{"/var/lib/polkit-1/localauthority/10-vendor.d/x.pkla"},
		},
		"an entry and a rule": {
			map[string]string{anEntry: entry("unix-user:user", unitsID, "yes", "yes", "yes"), polkitRules + "50-x.rules": rule(`action.id == "` + execID + `"`)},
			"", execID,
			[]string{anEntry, polkitRules + "50-x.rules"},
		},
		"an entry for an action that only this machine has": {
			map[string]string{
				anEntry:    entry("unix-user:user", "org.example.open", "yes", "yes", "yes"),
				actionOpen: anAction("org.example.open", defaults("auth_admin", "auth_admin", "auth_admin"), `<annotate key="org.freedesktop.policykit.exec.path">/usr/bin/bash</annotate>`),
			}, "", "org.example.open", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d.sh(t, "rm -f "+ownRules+"; mkdir -p /etc/polkit-1/localauthority.conf.d; "+test.setup)
			d.apply(t, onlyDomainAdmins)
			for file, content := range test.files {
				d.MustWriteFile(t, file, box.File{Content: content})
			}
			d.untilPolkit(t, "user", test.question, true)
			d.takesBackPolkit(t)
			if d.may(t, "user", test.question) {
				t.Error("the user may still do it")
			}
			for _, file := range test.gone {
				if got := d.MustReadFile(t, file); !strings.Contains(got, pklaGone) && !strings.HasPrefix(got, rulesGone) {
					t.Errorf("%s is in force: %s", file, got)
				}
			}
			for file := range test.files {
				d.sh(t, "rm "+file)
			}
		})
	}
}

// An entry has an answer of its own for who is here with a session in front, with another one, and
// for everybody else; polkit may be started anew meanwhile.
func TestWhatAnEntryOfTheLocalAuthorityGivesToASessionIsTakenBack(t *testing.T) {
	t.Parallel()
	d := withPKLA(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.sh(t, "test -e /etc/pam.d/sshd || cp /etc/pam.d/login /etc/pam.d/sshd")
	for name, test := range map[string]struct {
		service string // by which there is a session; "": there is none
		entry   string
		rule    string // beside it
	}{
		"without a session":              {"", entry("unix-user:user", execID, "yes", "no", "no"), ""},
		"in a local session, and a rule": {"login", entry("unix-user:user", execID, "no", "no", "yes"), rule(`subject.active && action.id == "` + unitsID + `"`)},
		"in a remote one, and a rule":    {"sshd", entry("unix-user:user", execID, "yes", "no", "no"), rule(`subject.session && !subject.local && action.id == "` + unitsID + `"`)},
	} {
		t.Run(name, func(t *testing.T) {
			if test.service != "" {
				session, err := d.LoginBy(t.Context(), test.service, box.DesktopUser, map[string][]string{
					"login": {"XDG_SESSION_TYPE=x11", "XDG_SEAT=seat0"}, "sshd": {"XDG_SESSION_TYPE=tty"},
				}[test.service]...)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := session.Logout(t.Context()); err != nil {
						t.Error(err)
					}
				}()
			}
			d.MustWriteFile(t, anEntry, box.File{Content: test.entry})
			if test.rule != "" {
				d.MustWriteFile(t, polkitRules+"50-x.rules", box.File{Content: test.rule})
			}
			d.sh(t, `systemd-run --quiet --unit=restarter sh -c 'for i in 1 2 3; do sleep 0.2; systemctl restart polkit; systemctl reset-failed polkit; done'`)
			d.apply(t, onlyDomainAdmins)
			d.sh(t, "while systemctl is-active --quiet restarter; do sleep 0.05; done")
			d.apply(t, onlyDomainAdmins)
			if got := d.MustReadFile(t, anEntry); !strings.HasPrefix(got, pklaGone) {
				t.Errorf("the entry is in force: %s", got)
			}
			if test.rule != "" {
				if got := d.MustReadFile(t, polkitRules+"50-x.rules"); !strings.HasPrefix(got, rulesGone) {
					t.Errorf("the rule is in force: %s", got)
				}
			}
			d.converged(t)
			d.sh(t, "rm -f "+polkitRules+"50-x.rules")
		})
	}
	// What gives nothing that makes root, or gives it to the allowed, stays.
	harmless := entry("unix-user:user", "org.freedesktop.timedate1.set-timezone", "yes", "yes", "yes") + strings.Replace(entry("unix-group:domain-admins", "*", "yes", "yes", "yes"), "[x]", "[y]", 1)
	d.MustWriteFile(t, anEntry, box.File{Content: harmless})
	d.converged(t)
	if d.MustReadFile(t, anEntry) != harmless {
		t.Error("what makes nobody root was changed")
	}
}
