package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const onlyDomainAdmins = "[sudo]\nallow = [\"root\", \"%domain-admins\"]\n"

var sudoInLine = map[policy.ID]converge.State{"sudo/allow": converge.Corrected, "sudo/polkit": converge.Corrected}

// maySudo asks sudo itself.
func (d *desktop) maySudo(t *testing.T, user string) bool {
	t.Helper()
	return !d.fails(t.Context(), "sudo", "-n", "-l", "-U", user, "/usr/bin/id")
}

// wantsSudo fails the test unless the domain's administrator and root can use
// sudo and the desktop's user cannot.
func (d *desktop) wantsSudo(t *testing.T) {
	t.Helper()
	for user, want := range map[string]bool{"root": true, box.DomainAdmin: true, box.DesktopUser: false} {
		if got := d.maySudo(t, user); got != want {
			t.Errorf("sudo for %s: %v, want %v", user, got, want)
		}
	}
	if out, err := d.Exec(t.Context(), "visudo", "-c"); err != nil || out.Code != 0 {
		t.Errorf("visudo: %v %+v", err, out)
	}
}

func TestTheDesktopUserLosesSudoAndTheDomainAdministratorKeepsIt(t *testing.T) {
	d := newDesktop(t)
	if !d.maySudo(t, box.DesktopUser) {
		t.Fatal("the desktop user cannot use sudo to begin with")
	}
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.wantsSudo(t)
	d.converged(t)
	if got := d.MustReadFile(t, "/etc/sudoers.d/01-ws-admin-user"); !strings.HasPrefix(got, "# soe-agent: not in [sudo] allow: #1000") {
		t.Errorf("01-ws-admin-user holds %s", got)
	}
}

func TestAStraySudoersFileThatSortsLastIsNeutralised(t *testing.T) {
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	for _, grant := range []string{
		"user ALL=(ALL) NOPASSWD: ALL\n", "#1000 ALL=(ALL:ALL) ALL\n", "%sudo ALL=(ALL) ALL\n", "ALL ALL=(ALL) ALL\n",
		"User_Alias US = dadmin, user\nUS ALL=(ALL) ALL\n", "\"user\" ALL = \\\n  (ALL) \\\n  ALL", "u\\x73er ALL=(ALL) ALL\n",
		"#include /opt/more\n",
	} {
		d.MustWriteFile(t, "/opt/more", box.File{Content: "user ALL=(ALL) ALL\n", Mode: 0o440})
		d.MustWriteFile(t, "/etc/sudoers.d/zzz-stray", box.File{Content: grant, Mode: 0o440})
		if !d.maySudo(t, box.DesktopUser) {
			t.Errorf("%q gives nothing away to begin with", grant)
		}
		d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		d.wantsSudo(t)
	}
}

func TestWhatOthersGrantTheAllowedStays(t *testing.T) {
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/sudoers.d/50-site", box.File{Content: "dadmin ALL=(ALL) NOPASSWD: ALL\n", Mode: 0o440})
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	if out := d.MustExecAs(t, box.DomainAdmin, "sudo", "-n", "id", "-u"); strings.TrimSpace(out) != "0" {
		t.Errorf("sudo without a password says %s", out)
	}
}

func TestASudoersFileThatCannotBeReadDoesNotTakeSudoFromTheAdministrator(t *testing.T) {
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/sudoers.d/50-twice", box.File{Content: "User_Alias A = dadmin\nUser_Alias A = dadmin\n", Mode: 0o440})
	if !d.fails(t.Context(), "visudo", "-c") {
		t.Fatal("visudo takes no offence to begin with")
	}
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.wantsSudo(t)
}

func TestAPolicyThatLeavesNoAdministratorChangesNothing(t *testing.T) {
	d := newDesktop(t)
	before := d.MustExec(t, "sh", "-c", "ls -la --time-style=full-iso /etc/sudoers.d /etc/polkit-1/rules.d")
	o := d.apply(t, "[sudo]\nallow = [\"root\", \"%EXAMPLE\\\\Not Joined Yet\"]\n")
	o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Failed, "sudo/polkit": converge.Failed})
	if reason := o.resource("sudo/allow").Reason; !strings.Contains(reason, "no administrator") {
		t.Errorf("the reason is %q", reason)
	}
	if after := d.MustExec(t, "sh", "-c", "ls -la --time-style=full-iso /etc/sudoers.d /etc/polkit-1/rules.d"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestAGrantBehindTheIncludeIsReportedAndNotEdited(t *testing.T) {
	d := newDesktop(t)
	main := d.MustReadFile(t, "/etc/sudoers") + "\nuser ALL=(ALL) ALL\n"
	d.MustWriteFile(t, "/etc/sudoers", box.File{Content: main, Mode: 0o440})
	o := d.apply(t, onlyDomainAdmins)
	o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Failed})
	reason := o.resource("sudo/allow").Reason
	if !strings.Contains(reason, "user can still use sudo") || !strings.Contains(reason, "/etc/sudoers line") {
		t.Errorf("the reason is %q", reason)
	}
	if got := d.MustReadFile(t, "/etc/sudoers"); got != main {
		t.Error("the agent edited /etc/sudoers")
	}
}

// The names that the agent writes are those that sudo reads, by sudo's own word.
func TestSudoReadsBackTheNamesThatThePolicyHas(t *testing.T) {
	d := newDesktop(t)
	names := []string{`EXAMPLE\Linux Admins`, "BOB", "ops@example.com", "a#b", "x=y", "a,b", "c:d", "ünï", "-dash", "sha256", "sudoedit", `tail\`}
	allow := []string{`"root"`, `"%domain-admins"`}
	for _, name := range names {
		allow = append(allow, fmt.Sprintf("%q", name), fmt.Sprintf("%q", "%"+name))
	}
	d.apply(t, "[sudo]\nallow = ["+strings.Join(allow, ", ")+"]\n").wants(t, sudoInLine)
	d.wantsSudo(t)
	for _, file := range []string{"0-soe-sudo", "zz-soe-sudo"} {
		said := d.MustExec(t, "cvtsudoers", "-f", "json", "/etc/sudoers.d/"+file)
		for _, name := range names {
			quoted := strings.ReplaceAll(name, `\`, `\\`)
			for _, want := range []string{fmt.Sprintf(`"username": "%s"`, quoted), fmt.Sprintf(`"usergroup": "%s"`, quoted)} {
				if !strings.Contains(said, want) {
					t.Errorf("%s: sudo does not read back %s in\n%s", file, want, said)
				}
			}
		}
	}
}

func TestPolkitAsksTheAllowedForTheirPassword(t *testing.T) {
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	rule := d.MustReadFile(t, "/etc/polkit-1/rules.d/00-soe-admin.rules")
	if !strings.Contains(rule, `["unix-user:root", "unix-group:domain-admins"]`) {
		t.Errorf("the rule is %s", rule)
	}
	d.MustExec(t, "setpriv", "--reuid=polkitd", "--regid=polkitd", "--clear-groups", "cat", "/etc/polkit-1/rules.d/00-soe-admin.rules")
}
