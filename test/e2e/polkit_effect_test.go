package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const (
	polkitRules  = "/etc/polkit-1/rules.d/"
	vendorPolkit = "/usr/share/polkit-1/rules.d/"
	ownRules     = polkitRules + "00-0soe-admin.rules"
	actionOpen   = "/usr/share/polkit-1/actions/org.example.open.policy"
)

// helpDesk is a rule that gives one thing, and nobody root.
const helpDesk = `polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && action.lookup("unit") == "pcoip.service") return polkit.Result.YES;
    if (action.id == "org.freedesktop.policykit.exec" && action.lookup("program") == "/usr/local/bin/helper") return polkit.Result.YES;
});
`

func rule(condition string) string {
	return "polkit.addRule(function(action, subject) { if (" + condition + ") return polkit.Result.YES; });\n"
}

// anAction is an action's file with these defaults.
func anAction(id, implicit, annotation string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN" "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
<policyconfig><action id="` + id + `"><description>x</description><message>x</message>
<defaults>` + implicit + `</defaults>` + annotation + `</action></policyconfig>
`
}

func defaults(any, inactive, active string) string {
	return "<allow_any>" + any + "</allow_any><allow_inactive>" + inactive + "</allow_inactive><allow_active>" + active + "</allow_active>"
}

// may asks polkit as pkexec and systemd do, with a process of the user's.
func (d *desktop) may(t *testing.T, user, question string) bool {
	t.Helper()
	// Details are root's to pass, so a process of the user's is asked about.
	return strings.TrimSpace(d.sh(t, `setpriv --reuid=`+user+` --regid=`+user+` --init-groups sleep 60 & p=$!
while [ "$(stat -c %U /proc/$p)" != `+user+` ]; do sleep 0.01; done
pkcheck --process $p,$(cut -d' ' -f22 /proc/$p/stat),$(id -u `+user+`) --action-id `+question+` >/dev/null 2>&1 && echo yes || echo no
kill $p`)) == "yes"
}

// untilPolkit waits until polkit, which follows its files by inotify, says so.
func (d *desktop) untilPolkit(t *testing.T, user, question string, want bool) {
	t.Helper()
	if !await(t, func() bool { return d.may(t, user, question) == want }) {
		journal, _ := d.Exec(t.Context(), "journalctl", "--no-pager", "--unit=polkit", "--lines=30")
		t.Fatalf("polkit does not say %v of %s: %s", want, question, journal.Stdout)
	}
}

func TestWhatPolkitGivesByWhateverTextIsTakenBack(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, polkitRules+"30-helpdesk.rules", box.File{Content: helpDesk})
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.converged(t)
	d.sh(t, "useradd -r -m -s /bin/bash helper; touch /opt/fix; chmod 777 /opt/fix")
	const units, exec = "org.freedesktop.systemd1.manage-units", "org.freedesktop.policykit.exec"
	for name, test := range map[string]struct {
		file, content, question string
		stays                   bool // the file is a package's
	}{
		"a computed string":               {polkitRules + "50-x.rules", `polkit.addRule(function(a, s) { if (s.user == "us" + "er") return "y" + "es"; });`, units, false},
		"a computed action":               {polkitRules + "50-x.rules", `polkit.addRule(function(a, s) { if (a.id == "org.freedesktop.pol" + "icykit.exec") return "y" + "es"; });`, exec, false},
		"a package's rule":                {vendorPolkit + "50-x.rules", rule(`true`), units, true},
		"a package's, for a group":        {vendorPolkit + "50-x.rules", rule(`action.id == "` + units + `" && subject.isInGroup("sudo")`), units, true},
		"a shell":                         {polkitRules + "50-x.rules", rule(`action.id == "` + exec + `" && action.lookup("program") == "/usr/bin/bash"`), exec + " --detail program /usr/bin/bash", false},
		"an interpreter":                  {vendorPolkit + "50-x.rules", rule(`action.id == "` + exec + `" && action.lookup("program") == "/usr/bin/python3"`), exec + " --detail program /usr/bin/python3", true},
		"any unit to be started":          {polkitRules + "50-x.rules", rule(`action.id == "` + units + `" && action.lookup("verb") == "start"`), units + " --detail verb start --detail unit x.service", false},
		"an action file for anyone":       {actionOpen, anAction("org.example.open", defaults("yes", "yes", "yes"), `<annotate key="org.freedesktop.policykit.exec.path">/usr/bin/bash</annotate>`), "org.example.open", true},
		"an action of no package's":       {actionOpen, anAction("com.example.any", defaults("yes", "yes", "yes"), ""), "com.example.any", true},
		"a listed action opened":          {actionOpen, anAction("org.freedesktop.home1.update-home", defaults("yes", "yes", "yes"), ""), "org.freedesktop.home1.update-home", true},
		"an action that implies":          {actionOpen, anAction("org.example.open", defaults("yes", "no", "no"), `<annotate key="org.freedesktop.policykit.imply">`+units+`</annotate>`), units, true},
		"a verb that is not start":        {polkitRules + "50-x.rules", rule(`action.id == "` + units + `" && action.lookup("verb") == "restart"`), units + " --detail verb restart --detail unit x.service", false},
		"a unit without a file":           {polkitRules + "50-x.rules", rule(`action.id == "` + units + `" && action.lookup("unit") == "desk.service"`), units + " --detail verb start --detail unit desk.service", false},
		"as another administrator":        {polkitRules + "50-x.rules", rule(`action.id == "` + exec + `" && action.lookup("user") == "dadmin"`), exec + " --detail program /usr/bin/bash --detail command_line /usr/bin/bash --detail user dadmin", false},
		"a program that others write":     {polkitRules + "50-x.rules", rule(`action.id == "` + exec + `" && action.lookup("program") == "/opt/fix"`), exec + " --detail program /opt/fix", false},
		"programs by a pattern":           {polkitRules + "50-x.rules", rule(`action.id == "` + exec + `" && /^\/home\//.test(action.lookup("program"))`), exec + " --detail program /home/user/x", true},
		"a command line by its start":     {polkitRules + "50-x.rules", rule(`action.id == "` + exec + `" && action.lookup("command_line").indexOf("/usr/bin/bash -c ") == 0`), exec + " --detail command_line '/usr/bin/bash -c id'", false},
		"what a program says":             {polkitRules + "50-x.rules", `polkit.addRule(function(a, s) { try { polkit.spawn(["/usr/bin/test", "-e", "/root"]); return "yes"; } catch (e) { return null; } });`, exec, false},
		"a process that is not the first": {polkitRules + "50-x.rules", rule(`subject.pid != 1`), exec, true},
		"what reads the rules":            {polkitRules + "50-x.rules", `polkit.addRule = function() {}; polkit._runRules = function(a, s) { return "yes"; };`, units, false},
		"the account of a service":        {polkitRules + "50-x.rules", rule(`subject.user == "helper"`), exec, false},
		"set-environment":                 {polkitRules + "50-x.rules", rule(`action.id == "org.freedesktop.systemd1.set-environment"`), "org.freedesktop.systemd1.set-environment", false},
	} {
		t.Run(name, func(t *testing.T) {
			d.MustWriteFile(t, test.file, box.File{Content: test.content + "\n"})
			who := "user"
			if strings.Contains(test.content, "helper") {
				who = "helper"
			}
			d.untilPolkit(t, who, test.question, true)
			o := d.apply(t, onlyDomainAdmins)
			o.wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
			if d.may(t, who, test.question) {
				t.Error("the user may still do it")
			}
			if got := d.MustReadFile(t, test.file); test.stays != (got == test.content+"\n") {
				t.Errorf("%s holds\n%s", test.file, got)
			}
			d.converged(t)
			if d.MustReadFile(t, polkitRules+"30-helpdesk.rules") != helpDesk {
				t.Error("the help desk's rule was changed")
			}
			// What was taken back stays so, and gives nobody more when the reason is gone.
			d.sh(t, "rm -f "+test.file+" "+ownRules)
			d.untilPolkit(t, "user", "org.freedesktop.policykit.exec", false)
			d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
			d.converged(t)
		})
	}
	if !d.may(t, "user", "org.freedesktop.policykit.exec --detail program /usr/local/bin/helper") {
		t.Error("the help desk's program is gone")
	}
}

// An action that is allowed to whoever has the session in front gives root to whoever may
// get one; a package's helpers that only set a lamp do not.
func TestWhatAnActionsFileGivesToASessionCountsForThoseWithoutOne(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	exec := func(program string) string {
		return `<annotate key="org.freedesktop.policykit.exec.path">` + program + `</annotate>`
	}
	d.MustWriteFile(t, actionOpen, box.File{Content: anAction("org.example.open", defaults("no", "no", "yes"), exec("/usr/libexec/gsd-backlight-helper"))})
	d.converged(t)
	for _, active := range []string{"yes", "auth_self", "auth_self_keep"} {
		d.MustWriteFile(t, actionOpen, box.File{Content: anAction("org.example.open", defaults("no", "no", active), exec("/usr/bin/bash"))})
		d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
		if got := d.MustReadFile(t, ownRules); !strings.Contains(got, `"org.example.open"`) {
			t.Errorf("%s: the agent's rule is\n%s", active, got)
		}
		d.converged(t)
		d.sh(t, "rm -f "+actionOpen+" "+ownRules)
		d.apply(t, onlyDomainAdmins)
	}
}

// With a process of root's that is in the person's session, what goes by that holds too.
func TestWhatARuleGivesToASessionIsTakenBack(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	for name, condition := range map[string]string{
		"a session":        `subject.session`,
		"an active one":    `subject.active`,
		"a remote one":     `subject.session && !subject.local`,
		"a group's active": `subject.active && subject.isInGroup("user")`,
	} {
		t.Run(name, func(t *testing.T) {
			d.MustWriteFile(t, polkitRules+"50-x.rules", box.File{Content: rule(condition + ` && action.id == "org.freedesktop.policykit.exec"`)})
			d.converged(t) // nobody has a session
			service := "login"
			env := []string{"XDG_SESSION_TYPE=x11", "XDG_SEAT=seat0"}
			if strings.Contains(condition, "!") {
				service, env = "sshd", []string{"XDG_SESSION_TYPE=tty"}
				d.sh(t, "test -e /etc/pam.d/sshd || cp /etc/pam.d/login /etc/pam.d/sshd")
			}
			session, err := d.LoginBy(t.Context(), service, box.DesktopUser, env...)
			if err != nil {
				t.Fatal(err)
			}
			o := d.apply(t, onlyDomainAdmins)
			o.wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
			if t.Failed() {
				t.Log(d.sh(t, "loginctl show-session "+session.ID))
			}
			if got := d.MustReadFile(t, polkitRules+"50-x.rules"); !strings.HasPrefix(got, "// soe-agent: ") {
				t.Errorf("the rule is in force: %s", got)
			}
			d.converged(t)
			if err := session.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestARuleByWhichOnesOwnPasswordIsEnoughIsOverruled(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	own := `polkit.addRule(function(a, s) { if (a.id == "org.freedesktop.systemd1.manage-units") return polkit.Result.AUTH_SELF; });
`
	d.MustWriteFile(t, polkitRules+"50-self.rules", box.File{Content: own})
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
	if got := d.whoIsAsked(t); !strings.Contains(got, "dadmin") || strings.Contains(got, "Authenticating as: user") {
		t.Errorf("polkit asks: %s", got)
	}
	if d.MustReadFile(t, polkitRules+"50-self.rules") != own {
		t.Error("the rule was changed")
	}
	d.converged(t)
}

// Nothing of the person's runs when polkit is asked, so nothing of it can be stopped,
// killed or made to lie.
func TestNothingOfThePersonsRunsWhenPolkitIsAsked(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, polkitRules+"50-x.rules", box.File{Content: rule("true")})
	d.sh(t, `cat >/root/stop <<'E'
while :; do for p in /proc/[0-9]*; do
 [ "$(stat -c %u $p 2>/dev/null)" = 1000 ] || continue
 p=${p#/proc/}; [ $p = $$ ] || { kill -STOP $p && echo $p >>/tmp/stopped; }
done; done 2>/dev/null
E
cp /root/stop /tmp/stop; touch /tmp/stopped; chown user /tmp/stopped
systemd-run --quiet --unit=stopper --uid=user sh /tmp/stop`)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	if got := d.MustReadFile(t, polkitRules+"50-x.rules"); !strings.HasPrefix(got, "// soe-agent: ") {
		t.Errorf("the rule is in force: %s", got)
	}
	d.sh(t, "systemctl stop stopper")
	d.converged(t)
}

func TestAPolkitThatIsStartedAnewOrStoppedIsNotBelievedByHalf(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.sh(t, `systemd-run --quiet --unit=restarter sh -c 'while :; do systemctl restart polkit; systemctl reset-failed polkit; sleep 0.3; done'`)
	d.MustWriteFile(t, polkitRules+"50-x.rules", box.File{Content: rule("true")})
	state := d.plan(t).resource("sudo/polkit").State
	if state != converge.Drifted && state != converge.Unknown {
		t.Errorf("while polkit is restarted it is %s", state)
	}
	// In the midst of a repair too: what is called corrected or in line is so.
	for range 3 {
		state := d.apply(t, onlyDomainAdmins).resource("sudo/polkit").State
		overruled := strings.Contains(d.MustReadFile(t, ownRules), execID)
		if state.InLine() && !overruled && !strings.HasPrefix(d.MustReadFile(t, polkitRules+"50-x.rules"), rulesGone) {
			t.Errorf("while polkit is restarted a repair ends %s, and the rule is in force", state)
		}
		d.MustWriteFile(t, polkitRules+"50-x.rules", box.File{Content: rule("true")})
	}
	d.sh(t, "systemctl stop restarter; systemctl restart polkit")
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/polkit": converge.Corrected})
	d.sh(t, "systemctl kill --signal=STOP polkit")
	if r := d.plan(t).resource("sudo/polkit"); r.State != converge.Unknown || !strings.Contains(r.Reason, "has not answered within") {
		t.Errorf("of a polkit that is stopped it says %s: %s", r.State, r.Reason)
	}
	d.sh(t, "systemctl kill --signal=CONT polkit")
	d.converged(t)
}

func TestADsysIsToldApartAndNotFoughtOver(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const name = polkitRules + "00-adsys-privilege-enforcement.rules"
	content := "// This file is managed by adsys.\npolkit.addAdminRule(function(action, subject){\n\treturn [\"unix-user:user\"];\n});\n"
	d.MustWriteFile(t, name, box.File{Content: content})
	d.MustWriteFile(t, polkitRules+"00-soe-admin.rules", box.File{Content: "// Written by soe-agent: [sudo] allow of the policy. Changes here are undone.\npolkit.addAdminRule(function(action, subject) {\n    return [\"unix-user:user\"];\n});\n"})
	o := d.apply(t, onlyDomainAdmins)
	o.wants(t, sudoInLine)
	if got := d.whoIsAsked(t); !strings.Contains(got, "dadmin") || strings.Contains(got, "Authenticating as: user") {
		t.Errorf("polkit asks: %s", got)
	}
	if d.MustReadFile(t, name) != content {
		t.Error("the file of ADsys was changed")
	}
	if !d.fails(t.Context(), "test", "-e", polkitRules+"00-soe-admin.rules") {
		t.Error("the agent's file of the former name is still there")
	}
	d.converged(t)
	if reason := d.plan(t).resource("sudo/polkit").Reason; !strings.Contains(reason, "ADsys") || !strings.Contains(reason, "[sudo] allow") {
		t.Errorf("the reason is %q", reason)
	}
}
