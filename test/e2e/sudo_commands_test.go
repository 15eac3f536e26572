package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/test/box"
)

// someCommands are what the desktop's user may run, by name and by group, and others.
const someCommands = onlyDomainAdmins + `
[sudo.commands]
"%developers" = ["(root) NOPASSWD: /usr/bin/id -u", "(bin:adm) NOPASSWD: /usr/bin/id -un", '(root) NOPASSWD: /usr/bin/id ""', "(:adm) NOPASSWD: /usr/bin/id -gn"]
user = ["NOPASSWD: /usr/bin/env LANG\\=C", "/usr/bin/dmesg --level\\=err", "sudoedit /etc/motd"]
dadmin = ["(root) /usr/bin/id"]
carol = ["/usr/bin/whoami"]
'%EXAMPLE\domain users' = ["(root) NOPASSWD: /usr/bin/id -u"]
nobody-knows = ["/usr/bin/id"]
`

// developers are a group with the desktop's user in it, and with somebody who never logged in.
const developers = "groupadd developers; useradd -M carol; gpasswd -a user developers; gpasswd -a carol developers\n"

func (d *desktop) wantsCommands(t *testing.T) {
	t.Helper()
	for user, runs := range map[string]map[string]bool{
		box.DesktopUser: {
			"/usr/bin/id -u": true, "-u bin -g adm /usr/bin/id -un": true, "-g adm /usr/bin/id -gn": true, "/usr/bin/id": true, "/usr/bin/env LANG=C": true,
			"/usr/bin/id -G": false, "-u bin /usr/bin/id -u": false, "/usr/bin/dmesg --level=err": false, "/usr/bin/env": false, "/bin/sh -c id": false, "-s": false,
		},
		"carol":         {"/usr/bin/id -u": true, "/usr/bin/id": true, "/usr/bin/env LANG=C": false, "-i": false},
		"dean":          {"/usr/bin/id -u": false},
		box.DomainAdmin: {"/usr/bin/id": false, "/usr/bin/id -G": false}, // a password is asked for
	} {
		for command, want := range runs {
			result, err := d.ExecAs(t.Context(), user, append([]string{"sudo", "-n"}, strings.Fields(command)...)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := result.Code == 0; got != want {
				t.Errorf("sudo %s as %s: %v, want %v: %s%s", command, user, got, want, result.Stdout, result.Stderr)
			}
		}
	}
	if said := d.MustExec(t, "sudo", "-l", "-U", box.DesktopUser); !strings.Contains(said, "/usr/bin/dmesg --level") {
		t.Errorf("sudo does not list what a password is asked for:\n%s", said)
	}
	d.wantsWorkingSudoOf(t)
}

// wantsWorkingSudoOf fails the test unless the administrators can use sudo.
func (d *desktop) wantsWorkingSudoOf(t *testing.T) {
	t.Helper()
	for _, user := range []string{"root", box.DomainAdmin} {
		if !d.maySudo(t, user) {
			t.Errorf("sudo refuses %s", user)
		}
	}
}

func TestWhoeverThePolicyNamesMayRunTheCommandsThatItNamesAndNoOther(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *desktop{
		"the sudo that is installed": func(t *testing.T) *desktop { return newDesktop(t) },
		"an old sudo":                oldSudo,
	} {
		t.Run(name, func(t *testing.T) {
			d := make(t)
			d.sh(t, developers+"useradd -M dean\n"+knowsPerson)
			// An administrator is not asked for a password where the policy's commands would ask for one.
			d.MustWriteFile(t, "/etc/sudoers.d/50-site", box.File{Content: "dadmin ALL=(ALL) NOPASSWD: /usr/bin/true\n", Mode: 0o440})
			d.apply(t, someCommands).wants(t, sudoInLine)
			d.wantsCommands(t)
			d.converged(t)
			if out := d.MustExecAs(t, box.DomainAdmin, "sudo", "-n", "/usr/bin/true"); out != "" {
				t.Errorf("it says %s", out)
			}
			// They end with the policy, and the group is the name service's word.
			d.sh(t, "gpasswd -d carol developers")
			d.converged(t)
			if d.ask(t, "carol", "/usr/bin/id") {
				t.Error("somebody who has left the group may still run its commands")
			}
			d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
			d.wantsSudo(t)
			if d.ask(t, box.DesktopUser, "/usr/bin/id") {
				t.Error("what left the policy can still be run")
			}
		})
	}
}

// ask says whether a user may run a command as root without a password.
func (d *desktop) ask(t *testing.T, user string, argv ...string) bool {
	t.Helper()
	result, err := d.ExecAs(t.Context(), user, append([]string{"sudo", "-n"}, argv...)...)
	if err != nil {
		t.Fatal(err)
	}
	return result.Code == 0
}

func TestMoreOrLessThanThePolicysCommandsIsNotCompliant(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, developers+knowsPerson)
	d.apply(t, someCommands).wants(t, sudoInLine)
	d.keep(t)
	for name, test := range map[string]struct {
		harm string
		want converge.State
		why  string
	}{
		"more, in a file behind":             {"echo '%developers ALL=(root) /usr/bin/id -u, /usr/bin/vi' > /etc/sudoers.d/zzz", converge.Corrected, ""},
		"more, in the agent's own":           {"echo 'user ALL=(root) /usr/bin/vi' >> /etc/sudoers.d/zz-soe-sudo", converge.Corrected, ""},
		"less, in the agent's own":           {"sed -i '/^user/d' /etc/sudoers.d/zz-soe-sudo", converge.Corrected, ""},
		"denied again behind":                {"echo 'ALL ALL = (ALL) !/usr/bin/id' > /etc/sudoers.d/zzz", converge.Failed, "sudo refuses all the same"},
		"everything denied behind":           {"echo '%developers ALL = (ALL) !ALL' > /etc/sudoers.d/zzz", converge.Failed, "sudo refuses all the same"},
		"a denial of something else":         {"echo 'ALL ALL = (ALL) !/usr/bin/su' > /etc/sudoers.d/zzz", converge.Compliant, ""},
		"no password where one is asked for": {"sed -i '1i Defaults:user !authenticate' /etc/sudoers", converge.Corrected, ""},
	} {
		d.restore(t)
		d.sh(t, test.harm+"; chmod 440 /etc/sudoers.d/*")
		r := d.apply(t, someCommands).resource("sudo/allow")
		if r.State != test.want || !strings.Contains(r.Reason, test.why) {
			t.Errorf("%s: it is %s: %s", name, r.State, r.Reason)
		}
		if test.want != converge.Failed {
			d.wantsCommands(t)
			d.converged(t)
		}
	}
}

func TestAPolicyWhoseOwnSudoersFileContradictsItIsRefused(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, developers)
	site := func(who string) string {
		return onlyDomainAdmins + "[dropins.\"/etc/sudoers.d/60-site\"]\ncontent = \"" + who + " ALL=(root) NOPASSWD: /usr/bin/id\\n\"\n"
	}
	d.setPolicy(t, site("%developers"))
	for _, argv := range [][]string{{"soe-agent", "policy", "lint", "--policy", policyDir}, {"soe-agent", "plan", "--policy", policyDir}, {"soe-agent", "apply", "--policy", policyDir}} {
		result, err := d.Exec(t.Context(), argv...)
		if err != nil {
			t.Fatal(err)
		}
		said := result.Stdout + result.Stderr
		if result.Code == 0 || !strings.Contains(said, "50-test.toml:4: cannot merge dropin/etc/sudoers.d/60-site") || !strings.Contains(said, "50-test.toml:3") || !strings.Contains(said, "[sudo.commands]") {
			t.Errorf("%v: %d, %s", argv, result.Code, said)
		}
	}
	// Who may be in an allowed group only the machine can tell, and it does so at the first pass.
	o := d.apply(t, site("user"))
	if r := o.resource("sudo/allow"); r.State.InLine() || !strings.Contains(d.plan(t).resource("sudo/allow").Reason, "[sudo.commands]") {
		t.Errorf("the first time it is %s: %s", r.State, r.Reason)
	}
	if d.ask(t, box.DesktopUser, "/usr/bin/id") {
		t.Error("the file of the policy's is in force")
	}
}

// The commands that lint takes are read by sudo as one grant each, whatever is in them.
func TestEveryCommandThatThePolicyTakesIsOneGrantToSudo(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	parts := []string{
		"/usr/bin/id", "/x", "/", " ", " ", " ", "a", "-x", `\,`, `\:`, `\=`, `\#`, `\\`, `\ `, `\*`, `\?`, `\[`, `\]`, `\!`, "*", "?", "[a-z]", "!", "(", ")", "%", "@", "+", "$", "~", "é", "{", "}", ";", "|", "&", "<", ">", "`", "^", "ALL", "NOPASSWD", "sudoedit", "sha256", `""`, "#", ",", "=", ":", `"`,
		"NOPASSWD: ", "SETENV: ", "(root) ", "(ALL:ALL) ", "(:adm) ", "(#0, bin) ", "sudoedit /etc/motd", "Defaults", "#include /etc/passwd", "@include /etc/passwd",
	}
	random := rand.New(rand.NewPCG(1, 2))
	var content strings.Builder
	taken := 0
	for taken < 4000 {
		var text strings.Builder
		for range 1 + random.IntN(9) {
			text.WriteString(parts[random.IntN(len(parts))])
		}
		if c, err := sudotext.ParseCommand(text.String()); err == nil {
			fmt.Fprintf(&content, "user ALL = %s\n", c)
			taken++
		}
	}
	d.MustWriteFile(t, "/etc/sudoers", box.File{Content: "root ALL=(ALL) ALL\n" + content.String(), Mode: 0o440})
	if said, err := d.Exec(t.Context(), "visudo", "-c", "-f", "/etc/sudoers"); err != nil || said.Code != 0 {
		t.Fatalf("visudo: %v %s%s", err, said.Stdout, said.Stderr)
	}
	listed := d.MustExec(t, "env", "COLUMNS=1000000", "sudo", "-n", "-ll", "-U", "user")
	if n := strings.Count(listed, "\nSudoers entry:"); n != taken {
		t.Errorf("sudo lists %d entries for %d commands", n, taken)
	}
	if n := strings.Count(listed, "\n\t"); n != taken {
		t.Errorf("sudo lists %d commands for %d", n, taken)
	}
}
