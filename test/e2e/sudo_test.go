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
	d.wantsWorkingSudo(t)
	// With -f it passes over modes, which are not the agent's to change.
	if out, err := d.Exec(t.Context(), "visudo", "-c", "-f", "/etc/sudoers"); err != nil || out.Code != 0 {
		t.Errorf("visudo: %v %+v", err, out)
	}
}

// wantsWorkingSudo does so, whatever visudo says.
func (d *desktop) wantsWorkingSudo(t *testing.T) {
	t.Helper()
	for user, want := range map[string]bool{"root": true, box.DomainAdmin: true, box.DesktopUser: false} {
		if got := d.maySudo(t, user); got != want {
			t.Errorf("sudo for %s: %v, want %v", user, got, want)
		}
	}
}

func TestTheDesktopUserLosesSudoAndTheDomainAdministratorKeepsIt(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	for _, content := range []string{
		"dadmin ALL=(ALL) NOPASSWD: ALL\n",
		"dadmin nowhere = ALL : ALL = (ALL) NOPASSWD: ALL\n",
		"dadmin ALL=(ALL) CWD=/srv TIMEOUT=8h NOTAFTER=20990101000000Z NOPASSWD: ALL\n",
		"%domain-admins ALL=(ALL) ROLE=unconfined_r TYPE=unconfined_t NOPASSWD: ALL\n",
		"Defaults env_keep += \"LANG\", insults\nCmnd_Alias SHELLS = /bin/zsh\nDefaults!SHELLS noexec\ndadmin ALL=(ALL) NOPASSWD: ALL\n",
	} {
		for _, name := range []string{"50-site", "zzz"} { // in front of the denial, and behind it
			d.MustWriteFile(t, "/etc/sudoers.d/"+name, box.File{Content: content, Mode: 0o440})
			d.converged(t)
			if got := d.MustReadFile(t, "/etc/sudoers.d/"+name); got != content {
				t.Errorf("%s holds\n%s", name, got)
			}
			if out := d.MustExecAs(t, box.DomainAdmin, "sudo", "-n", "id", "-u"); strings.TrimSpace(out) != "0" {
				t.Errorf("%s: sudo without a password says %s", content, out)
			}
			d.sh(t, "rm /etc/sudoers.d/"+name)
		}
	}
}

func TestWhatVisudoRefusesAndSudoTakesStays(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	for name, content := range map[string]string{
		"/etc/sudoers.d/50-twice": "User_Alias A = dadmin\nUser_Alias A = dadmin\ndadmin ALL=(ALL) NOPASSWD: ALL\n",
		"/etc/sudoers.d/60-bogus": "Defaults bogus_setting\nDefaults timestamp_timeout=abc\n",
		"/etc/sudoers.d/70-lost":  "#include /etc/sudoers.lost\n",
	} {
		d.MustWriteFile(t, name, box.File{Content: content, Mode: 0o440})
		if !d.fails(t.Context(), "visudo", "-c") || d.fails(t.Context(), "sudo", "-n", "-l", "-U", "root") {
			t.Fatalf("%s: visudo takes no offence, or sudo does not work, to begin with", name)
		}
		d.apply(t, onlyDomainAdmins)
		d.wantsWorkingSudo(t)
		if got := d.MustReadFile(t, name); got != content {
			t.Errorf("%s holds\n%s", name, got)
		}
		d.converged(t)
		d.sh(t, "rm "+name)
	}
}

func TestAPolicyThatLeavesNoAdministratorChangesNothing(t *testing.T) {
	t.Parallel()
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

func TestAGrantBehindTheIncludeOfTheMainFileIsTakenBackAndNotGivenAgain(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	main := d.MustReadFile(t, "/etc/sudoers")
	d.MustWriteFile(t, "/etc/sudoers", box.File{Content: main + "user ALL=(ALL) ALL\nuser, dadmin ALL=(ALL) NOPASSWD: ALL\n", Mode: 0o440})
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.wantsSudo(t)
	d.converged(t)
	want := main + "# soe-agent: not in [sudo] allow: user ALL=(ALL) ALL\n" +
		"# soe-agent: not all in [sudo] allow, who keep the next line: user, dadmin ALL=(ALL) NOPASSWD: ALL\ndadmin ALL=(ALL) NOPASSWD: ALL\n"
	if got := d.MustReadFile(t, "/etc/sudoers"); got != want {
		t.Errorf("it holds\n%s", got)
	}
	if out := d.MustExecAs(t, box.DomainAdmin, "sudo", "-n", "id", "-u"); strings.TrimSpace(out) != "0" {
		t.Errorf("sudo without a password says %s", out)
	}
	if kept := d.sh(t, "cat /var/lib/soe-agent/backups/*"); !strings.Contains(kept, `"/etc/sudoers"`) {
		t.Error("the original is not kept")
	}
	d.MustExec(t, "soe-agent", "purge", "--yes")
	if got := d.MustReadFile(t, "/etc/sudoers"); got != want {
		t.Errorf("after a purge it holds\n%s", got)
	}
}

func TestAPurgeBringsBackNoGrantThatSomebodyHasDeletedOrChanged(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	for _, name := range []string{"50-deleted", "51-changed", "52-kept", "53-renamed"} {
		d.MustWriteFile(t, "/etc/sudoers.d/"+name, box.File{Content: "user, dadmin ALL=(ALL) ALL\nuser ALL=(bin) ALL\n", Mode: 0o440})
	}
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.sh(t, "rm /etc/sudoers.d/50-deleted; sed -i 's/^dadmin .*/dadmin ALL=(ALL) NOPASSWD: ALL/' /etc/sudoers.d/51-changed; cd /etc/sudoers.d; cp 53-renamed 53-copied.bak; mv 53-renamed 54-renamed")
	d.MustExec(t, "soe-agent", "purge", "--yes")
	if got := d.sh(t, "cd /etc/sudoers.d; ls -A; cat 51-changed 52-kept 54-renamed; grep -c soe-agent 53-copied.bak"); got != `00-domain-admins
01-ws-admin-user
51-changed
52-kept
53-copied.bak
54-renamed
README
# soe-agent: not all in [sudo] allow, who keep the next line: user, dadmin ALL=(ALL) ALL
dadmin ALL=(ALL) NOPASSWD: ALL
user ALL=(bin) ALL
user, dadmin ALL=(ALL) ALL
user ALL=(bin) ALL
user, dadmin ALL=(ALL) ALL
user ALL=(bin) ALL
2
` {
		t.Errorf("there is\n%s", got)
	}
}

func TestAGrantIsTakenWhereTheDiskHasNoRoom(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	// A file system of its own for all of /etc: one over /etc/sudoers.d alone would be taken away.
	d.sh(t, `cp -a /etc /root/etc; mount -t tmpfs -o size=$(($(du -sk /etc | cut -f1) + 4096))k,mode=0755 none /etc; cp -a /root/etc/. /etc`)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	const fill = "cat /dev/zero > /etc/sudoers.d/.fill 2>/dev/null || ! { echo x > /etc/sudoers.d/.more; } 2>/dev/null\n"
	// Two: the room that is kept is for one of them.
	d.sh(t, "for f in 50-x zzz; do echo 'user ALL=(ALL) ALL' > /etc/sudoers.d/$f; chmod 440 /etc/sudoers.d/$f; done\n"+fill)
	d.apply(t, onlyDomainAdmins)
	d.wantsWorkingSudo(t)
	d.sh(t, "rm -f /etc/sudoers.d/.fill /etc/sudoers.d/.more")
	d.apply(t, onlyDomainAdmins)
	d.wantsSudo(t)
	d.converged(t)
	if got := d.sh(t, "cd /etc/sudoers.d; ls -A; cat 50-x zzz"); got != `.soe-agent.spare
0-soe-sudo
00-domain-admins
01-ws-admin-user
50-x
README
zz-soe-sudo
zzz
# soe-agent: not in [sudo] allow: user ALL=(ALL) ALL
# soe-agent: not in [sudo] allow: user ALL=(ALL) ALL
` {
		t.Errorf("there is\n%s", got)
	}
}

// The names that the agent writes are those that sudo reads, by sudo's own word.
func TestSudoReadsBackTheNamesThatThePolicyHas(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	rule := d.MustReadFile(t, "/etc/polkit-1/rules.d/00-0soe-admin.rules")
	if !strings.Contains(rule, `["unix-user:root", "unix-group:domain-admins"]`) {
		t.Errorf("the rule is %s", rule)
	}
	d.MustExec(t, "setpriv", "--reuid=polkitd", "--regid=polkitd", "--clear-groups", "cat", "/etc/polkit-1/rules.d/00-0soe-admin.rules")
}
