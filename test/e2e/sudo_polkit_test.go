package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// whoIsAsked is what polkit's own agent says to the desktop user who wants to do
// what only administrators may: whose password it takes.
func (d *desktop) whoIsAsked(t *testing.T) string {
	t.Helper()
	return d.sh(t, `said=$(mktemp -u); rm -f $said
setpriv --reuid=1000 --regid=1000 --init-groups script -qfec 'pkcheck --enable-internal-agent --allow-user-interaction -a org.freedesktop.systemd1.manage-units -p $$' $said </dev/null >/dev/null 2>&1 & p=$!
for i in $(seq 3000); do ! grep -qs 'Password:\|Choose identity\|Done' $said || break; sleep 0.02; done
kill $p || :; cat $said`)
}

// mayManageUnits asks polkit whether a process of the user's may, without a
// password.
func (d *desktop) mayManageUnits(t *testing.T, user string) bool {
	t.Helper()
	result, err := d.ExecAs(t.Context(), user, "sh", "-c", "pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$")
	if err != nil {
		t.Fatal(err)
	}
	return result.Code == 0
}

func TestPolkitTakesTheAdministratorsPasswordAndNotTheUsers(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	if got := d.whoIsAsked(t); !strings.Contains(got, "Authenticating as: user") {
		t.Fatalf("the desktop user is no administrator to begin with: %s", got)
	}
	const early = "/etc/polkit-1/rules.d/00-a.rules"
	d.MustWriteFile(t, early, box.File{Content: "polkit.addAdminRule(function(action, subject) {\n    return [\"unix-user:user\"];\n});\n"})
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	got := d.whoIsAsked(t)
	if !strings.Contains(got, "root") || !strings.Contains(got, "dadmin") || strings.Contains(got, "Authenticating as: user") {
		t.Errorf("polkit asks: %s", got)
	}
	for line := range strings.Lines(d.MustReadFile(t, early)) {
		if !strings.HasPrefix(line, "// soe-agent: ") {
			t.Errorf("a line of the rival is in force: %s", line)
		}
	}
	d.converged(t)
}

func TestAPolkitRuleThatMakesTheUserAnAdministratorIsTakenOutOfForce(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	const dir = "/etc/polkit-1/rules.d/"
	narrow := `polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.timedate1.set-timezone") return polkit.Result.YES;
});
`
	forAdmins := `polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.isInGroup("domain-admins")) return polkit.Result.YES;
});
`
	oneUnit := `polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && action.lookup("unit") == "pcoip.service") return polkit.Result.YES;
});
`
	for name, content := range map[string]string{"20-narrow": narrow, "21-admins": forAdmins, "22-unit": oneUnit} {
		d.MustWriteFile(t, dir+name+".rules", box.File{Content: content})
	}
	d.converged(t)
	for name, rule := range map[string]string{
		"everything":         `polkit.addRule(function(action, subject) { return polkit.Result.YES; });`,
		"everything of hers": `polkit.addRule(function(a, s) { if (s.user == "user") return "yes"; });`,
		"a family":           `polkit.addRule(function(action, subject) { if (action.id.indexOf("org.freedesktop.systemd1.") == 0) return polkit.Result.YES; });`,
		"one by one":         `polkit.addRule(function(action, subject) { if (action.id == "org.freedesktop.policykit.exec" || action.id == 'org.freedesktop.systemd1.manage-units') { return polkit.Result.YES; } });`,
	} {
		t.Run(name, func(t *testing.T) {
			d.MustWriteFile(t, dir+"50-rival.rules", box.File{Content: rule + "\n"})
			d.sh(t, `for i in $(seq 3000); do ! runuser -u user -- sh -c 'pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$' || break; sleep 0.02; done`)
			if !d.mayManageUnits(t, box.DesktopUser) {
				t.Fatal("it gives nothing to begin with")
			}
			o := d.apply(t, onlyDomainAdmins)
			o.wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
			if diff := o.resource("sudo/polkit").Diff; len(diff) == 0 || diff[0].Aspect != dir+"50-rival.rules" {
				t.Errorf("the report says %v", diff)
			}
			if d.mayManageUnits(t, box.DesktopUser) {
				t.Error("the desktop user may still manage units")
			}
			if !d.mayManageUnits(t, box.DomainAdmin) {
				t.Error("the administrator lost what the site's own rule gives")
			}
			d.converged(t)
		})
	}
	if d.MustReadFile(t, dir+"20-narrow.rules") != narrow || d.MustReadFile(t, dir+"21-admins.rules") != forAdmins {
		t.Error("a rule that makes nobody an administrator was changed")
	}
}
