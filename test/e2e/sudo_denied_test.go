package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// appended and inserted are lines at the end, and at the beginning, of /etc/sudoers.
func appended(content string) string {
	return "cat >> /etc/sudoers <<'END'\n" + content + "\nEND\n"
}

func inserted(content string) string {
	return "cat - /etc/sudoers > /root/s <<'END'\n" + content + "\nEND\ncat /root/s > /etc/sudoers\n"
}

func dropin(name, content string) string {
	return "cat > /etc/sudoers.d/" + name + " <<'END'\n" + content + "\nEND\nchmod 440 /etc/sudoers.d/" + name + "\n"
}

// becomesRoot says whether somebody is root by sudo with the right password, and a terminal.
func (d *desktop) becomesRoot(t *testing.T, user string) bool {
	t.Helper()
	return strings.Contains(d.sh(t, `echo thin | runuser -u `+user+` -- sudo -S -k /bin/sh -c '/usr/bin/id -u; :' 2>/dev/null || :`), "0\n")
}

// Each keeps the administrator, or root, from becoming root by sudo, as the real one says.
func TestWhoeverIsAllowedBecomesRootWhateverOthersDeny(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "sed -i '/^[#%]/d' /etc/sudoers.d/01-ws-admin-user")
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.keep(t)
	for name, setup := range map[string]string{
		"everybody, as root":         dropin("zzz", "# why\nALL ALL=(root) !ALL\ndadmin ALL=(ALL) NOPASSWD: /usr/bin/id"),
		"somebody behind the denial": appended("dadmin ALL=!ALL"),
		"somebody, as root":          dropin("zzz", "dadmin ALL=(root) !ALL"),
		"by their group":             dropin("zzz", "%domain-admins ALL=(ALL, !bin) !ALL"),
		"directories":                dropin("zzz", "dadmin ALL=(ALL) !/usr/bin/, !/usr/sbin/, !/bin/, !/sbin/"),
		"an alias of patterns":       dropin("zzz", "Cmnd_Alias MANY = /usr/bin/*, /bin/*\ndadmin ALL=(ALL) !MANY"),
		"tries":                      dropin("50-x", "Defaults passwd_tries=0"),
		"tries of all":               inserted("Defaults passwd_tries=0"),
		"a user's settings":          dropin("50-x", "Defaults:dadmin noexec, passwd_tries=0"),
		"whom it is run as":          dropin("50-x", "Defaults:dadmin runas_default=nobody"),
		"a directory that is gone":   dropin("zzz", "dadmin ALL=(ALL) CWD=/nowhere ALL"),
		"a user's directory":         dropin("50-x", "Defaults:dadmin insults, runcwd=/nowhere"),
		"another root directory":     dropin("50-x", "Defaults:dadmin runchroot=/srv"),
		"a limit of all":             inserted("Defaults rlimit_as=1"),
		"a limit":                    dropin("50-x", "Defaults rlimit_nproc=1, rlimit_as=1000"),
		"a second":                   dropin("50-x", "Defaults command_timeout=1"),
		"a second of a grant":        dropin("zzz", "dadmin ALL=(ALL) TIMEOUT=1 ALL"),
		"an alias of everything":     dropin("50-x", "Cmnd_Alias MOST = /bin/id, ALL\nDefaults!MOST noexec"),
		"run without running":        dropin("zzz", "dadmin ALL=(ALL) NOEXEC: ALL"),
	} {
		d.restore(t)
		d.sh(t, setup)
		o := d.apply(t, onlyDomainAdmins)
		o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		if !d.becomesRoot(t, box.DomainAdmin) || d.fails(t.Context(), "sudo", "-n", "/usr/bin/id") {
			t.Errorf("%s: root, or the administrator, cannot become root: %s", name, o.resource("sudo/allow").Reason)
		}
		if d.becomesRoot(t, box.DesktopUser) {
			t.Errorf("%s: the user is root", name)
		}
		d.converged(t)
	}
	// The line at fault alone has become a comment, and the reason stands before it.
	d.restore(t)
	d.sh(t, dropin("zzz", "# why\nALL ALL=(root) !ALL\ndadmin ALL=(ALL) NOPASSWD: /usr/bin/id"))
	d.apply(t, onlyDomainAdmins)
	if got, want := d.MustReadFile(t, "/etc/sudoers.d/zzz"), "# why\n# soe-agent: keeps [sudo] allow from root: ALL ALL=(root) !ALL\ndadmin ALL=(ALL) NOPASSWD: /usr/bin/id\n"; got != want {
		t.Errorf("it holds\n%s", got)
	}
	d.MustExec(t, "soe-agent", "purge", "--yes")
	if got := d.MustReadFile(t, "/etc/sudoers.d/zzz"); !strings.Contains(got, "\nALL ALL=(root) !ALL\n") {
		t.Errorf("after the purge it holds\n%s", got)
	}
}

// Each gives the user everything, in a way that is easily read otherwise than sudo does.
func TestWhatOnlyLooksLikeADenialOrIsReadFromElsewhereIsTakenBack(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "sed -i '/^[#%]/d' /etc/sudoers.d/01-ws-admin-user; sed -i '/^%sudo/d' /etc/sudoers")
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.keep(t)
	for name, setup := range map[string]string{
		"a host in quotes":             dropin("zzz", `user ALL, "x=!y" = ALL`+"\nALL, !dadmin, !root ALL=(ALL, !root) !ALL"),
		"whom it is run as, in quotes": dropin("zzz", `user ALL = (root, "a)!b") ALL`+"\nALL, !root ALL=(ALL, !root) !ALL"),
		"that in the main file":        appended(`user ALL = (root, "a)!b") ALL`),
		"a denial of nobody":           dropin("zzz", `user ALL = (ALL:ALL) ALL`+"\n"+`user ALL = ("ALL":"ALL") !ALL`),
		"an alias that is there":       dropin("10-a", "User_Alias ADM = user") + dropin("20-b", "User_Alias ADM = dadmin") + dropin("zzz", "ADM ALL=(ALL) NOPASSWD: ALL"),
		"a file of the host's":         appended("@include /opt/more.%h") + `echo 'user ALL=(ALL) NOPASSWD: ALL' > /opt/more.$(hostname -s); chmod 440 /opt/more.*`,
	} {
		d.restore(t)
		d.sh(t, setup)
		if !d.becomesRoot(t, box.DesktopUser) {
			t.Errorf("%s: it gives nothing to begin with", name)
		}
		o := d.apply(t, onlyDomainAdmins)
		o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		if d.becomesRoot(t, box.DesktopUser) || !d.becomesRoot(t, box.DomainAdmin) {
			t.Errorf("%s: the user is still root, or the administrator is not: %s", name, o.resource("sudo/allow").Reason)
		}
		d.wantsWorkingSudo(t)
		d.converged(t)
	}
	// Where nothing includes the directory there is no denial, and no grant that it would undo.
	d.restore(t)
	d.sh(t, "sed -i '/^@includedir/d' /etc/sudoers\n"+appended("%domain-admins ALL=(ALL) ALL\nuser ALL=(ALL) NOPASSWD: ALL"))
	o := d.apply(t, onlyDomainAdmins)
	if r := o.resource("sudo/allow"); r.State != converge.Failed || !strings.Contains(r.Reason, "does not include") || d.becomesRoot(t, box.DesktopUser) || !d.becomesRoot(t, box.DomainAdmin) {
		t.Errorf("without the directory it is %s: %s\n%s", r.State, r.Reason, d.MustReadFile(t, "/etc/sudoers"))
	}
}

// What keeps the agent, which has no terminal, or root from sudo keeps nobody else from it.
func TestGrantsAreTakenBackWhereSudoWantsATerminalOrNoRoot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "sed -i '/^[#%]/d' /etc/sudoers.d/01-ws-admin-user")
	d.keep(t)
	const grants = "dadmin ALL=(ALL) NOPASSWD: ALL\nuser ALL=(ALL) NOPASSWD: ALL"
	const kept = "dadmin ALL=(ALL) NOPASSWD: ALL\n# soe-agent: not in [sudo] allow: user ALL=(ALL) NOPASSWD: ALL\n"
	isRoot := func(user string) bool {
		// sudo 1.9.13 now and then waits for its terminal after the command has ended, and has said all.
		return strings.Contains(d.sh(t, "timeout -k 1 20 runuser -u "+user+" -- script -qefc 'sudo -n /usr/bin/id -u' /dev/null </dev/null || :"), "0\r\n")
	}
	for name, test := range map[string]struct{ setup, line string }{
		"a terminal, in the main file": {inserted("Defaults requiretty") + dropin("50-x", grants), ""},
		"a terminal":                   {dropin("50-x", "Defaults requiretty\n"+grants), "Defaults requiretty\n"},
		"no root, in the main file":    {inserted("Defaults !root_sudo") + dropin("50-x", grants), ""},
		"no root":                      {dropin("50-x", "Defaults !root_sudo\n"+grants), "# soe-agent: keeps [sudo] allow from root: Defaults !root_sudo\n"},
	} {
		d.restore(t)
		d.sh(t, test.setup)
		if !isRoot(box.DesktopUser) {
			t.Fatalf("%s: it gives nothing to begin with", name)
		}
		d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		if isRoot(box.DesktopUser) || !isRoot(box.DomainAdmin) {
			t.Errorf("%s: the user is still root, or the administrator is not", name)
		}
		if got := d.MustReadFile(t, "/etc/sudoers.d/50-x"); got != test.line+kept {
			t.Errorf("%s: it holds\n%s", name, got)
		}
		d.converged(t)
	}
}
