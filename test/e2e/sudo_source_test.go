package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/sss"
)

// withSSS is a desktop whose sudo asks another source besides its files.
func withSSS(t *testing.T) *desktop {
	t.Helper()
	library, err := sss.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := newDesktop(t)
	path := strings.TrimSpace(d.sh(t, "grep -aoh '/[a-z0-9_/-]*/libsss_sudo.so' $(find /usr/lib /usr/libexec -name sudoers.so) | head -n 1"))
	if path == "" {
		t.Fatal("this sudo knows no SSSD")
	}
	d.MustWriteFile(t, filepath.Clean(path), box.File{Content: string(library), Mode: 0o644})
	d.sh(t, "sed -i '/^sudoers:/d' /etc/nsswitch.conf; echo 'sudoers: files sss' >> /etc/nsswitch.conf")
	return d
}

func (d *desktop) serves(t *testing.T, rules ...string) {
	t.Helper()
	d.MustWriteFile(t, sss.RulesPath, box.File{Content: strings.Join(rules, "\n\n") + "\n"})
}

// aRule is one of a directory.
func aRule(cn string, lines ...string) string {
	return "cn: " + cn + "\nsudoHost: ALL\n" + strings.Join(lines, "\n")
}

func TestWhatADirectoryGrantsIsNotCompliantAndItsSourceIsNamed(t *testing.T) {
	t.Parallel()
	d := withSSS(t)
	shell := aRule("shells", "sudoUser: user", "sudoCommand: /usr/bin/bash")
	d.serves(t, shell)
	if listed := d.sh(t, "sudo -ll -U user"); !strings.Contains(listed, "Role: shells") {
		t.Fatalf("sudo does not load the stand-in: %s", listed)
	}
	d.serves(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.converged(t)
	everything := aRule("all", "sudoUser: dadmin", "sudoRunAsUser: ALL", "sudoCommand: ALL")
	for name, test := range map[string]struct {
		rules []string
		state converge.State
		why   string
	}{
		"a shell":                      {[]string{shell}, converge.Failed, "user can still use sudo: (root) /usr/bin/bash, by LDAP Role: shells"},
		"a shell for a group":          {[]string{aRule("shells", "sudoUser: %sudo", "sudoCommand: /usr/bin/bash")}, converge.Failed, "user can still use sudo"},
		"a denial that is not of root": {[]string{shell, aRule("zz", "sudoOrder: 99", "sudoUser: ALL", "sudoRunAsUser: ALL", "sudoRunAsUser: !root", "sudoRunAsGroup: ALL", "sudoCommand: !ALL")}, converge.Failed, "user can still use sudo"},
		"a denial that is over":        {[]string{shell, aRule("zz", "sudoOrder: 99", "sudoUser: ALL", "sudoRunAsUser: ALL", "sudoRunAsGroup: ALL", "sudoNotAfter: 20200101000000Z", "sudoCommand: !ALL")}, converge.Failed, "user can still use sudo"},
		"for an administrator alone":   {[]string{everything}, converge.Compliant, ""},
		"no password for anybody":      {[]string{everything, aRule("defaults", "sudoOption: !authenticate")}, converge.Failed, "by \"Defaults !authenticate\" of a source that the agent cannot edit (files sss)"},
		"an administrator denied":      {[]string{aRule("no", "sudoUser: dadmin", "sudoRunAsUser: ALL", "sudoCommand: !ALL")}, converge.Failed, "dadmin is allowed, and sudo refuses all the same"},
	} {
		d.serves(t, test.rules...)
		// Of a directory nothing on the machine tells that it has changed.
		o := d.apply(t, onlyDomainAdmins)
		r := o.resource("sudo/allow")
		if r.State != test.state || !strings.Contains(r.Reason, test.why) {
			t.Errorf("%s: it is %s: %s", name, r.State, r.Reason)
		}
	}
	d.serves(t)
	d.converged(t)
}

// sudo lists the rules of every source, and asks not every one: what the user can do counts.
func TestWhatEndsTheSearchOfSudoDecidesWhetherARuleOfTheDirectoryCounts(t *testing.T) {
	t.Parallel()
	d := withSSS(t)
	everything := aRule("all", "sudoUser: user", "sudoRunAsUser: ALL", "sudoCommand: ALL")
	const notAsked = "sudoers: sss [NOTFOUND=return] files"
	source := func(line string) {
		t.Helper()
		d.sh(t, "sed -i '/^sudoers:/Id' /etc/nsswitch.conf; printf '"+line+"\\n' >> /etc/nsswitch.conf")
	}
	d.sh(t, "sed -i '/^[#%]/d' /etc/sudoers.d/01-ws-admin-user")
	d.serves(t, everything)
	source(notAsked)
	// Of whom the policy allows sudo asks the directory alone: the user is the one administrator.
	if r := d.apply(t, onlyDomainAdmins).resource("sudo/allow"); r.State != converge.Failed || !strings.Contains(r.Reason, "without an administrator") || !strings.Contains(r.Reason, "[NOTFOUND=return]") {
		t.Errorf("on a machine as it comes it is %s: %s", r.State, r.Reason)
	}
	d.serves(t)
	source("sudoers: files sss")
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
	d.serves(t, everything)
	d.keep(t)
	for line, want := range map[string]struct {
		state converge.State
		root  bool
		why   string
	}{
		"sudoers: sss files":                                  {converge.Compliant, false, ""},
		"sudoers: sss [SUCCESS=return] files":                 {converge.Failed, true, "user can still use sudo"},
		"SUDOERS: SSS [success=RETURN] Files\nsudoers: files": {converge.Failed, true, "user can still use sudo"},
		"sudoers: files sss":                                  {converge.Failed, true, "user can still use sudo"},
		"sudoers: files [SUCCESS=return] sss":                 {converge.Compliant, false, ""},
		notAsked:                                              {converge.Unknown, false, "[NOTFOUND=return]"},
	} {
		d.restore(t) // what another case has left must not decide
		source(line)
		d.apply(t, onlyDomainAdmins)
		r := d.plan(t).resource("sudo/allow")
		if r.State != want.state || !strings.Contains(r.Reason, want.why) {
			t.Errorf("%s: it is %s: %s", line, r.State, r.Reason)
		}
		if got := d.becomesRoot(t, box.DesktopUser); got != want.root {
			t.Errorf("%s: that the user is root is %t", line, got)
		}
	}
}

// While the directory is silent local grants are taken back, and what is left is unknown.
func TestWhileADirectoryIsSilentLocalGrantsAreTakenBackAllTheSame(t *testing.T) {
	t.Parallel()
	d := withSSS(t)
	d.serves(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.serves(t, "silent: 30")
	d.MustWriteFile(t, "/etc/sudoers.d/zzz", box.File{Mode: 0o440, Content: "user ALL=(ALL) ALL\n"})
	// What denies the allowed single programs takes the administration from nobody.
	site := "%domain-admins ALL=(ALL) ALL, !/usr/bin/chsh\nALL ALL=(ALL) !/usr/bin/chfn\n"
	d.MustWriteFile(t, "/etc/sudoers.d/50-site", box.File{Mode: 0o440, Content: site})
	began := time.Now()
	o := d.apply(t, onlyDomainAdmins)
	o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Unknown})
	if reason := o.resource("sudo/allow").Reason; !strings.Contains(reason, "files sss") || !strings.Contains(reason, "may not answer") {
		t.Errorf("the reason is %q", reason)
	}
	if got := d.MustReadFile(t, "/etc/sudoers.d/zzz"); !strings.HasPrefix(got, "# soe-agent: ") {
		t.Errorf("the grant is there: %s", got)
	}
	if got := d.MustReadFile(t, "/etc/sudoers.d/50-site"); got != site {
		t.Errorf("what denies single programs became: %s", got)
	}
	t.Logf("it took %s", time.Since(began))
	d.serves(t)
	d.wantsSudo(t)
	d.converged(t)
}

// Another file of sudoers is another source.
func TestASudoThatGoesByAnotherFileIsNotCompliantAndTheLineIsNamed(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.sh(t, `printf 'root ALL=(ALL) ALL\n%%domain-admins ALL=(ALL) ALL\n' > /opt/sudoers; cp /opt/sudoers /opt/sudoers.user; echo 'user ALL=(ALL) /usr/bin/bash' >> /opt/sudoers.user; chmod 440 /opt/sudoers*`)
	for name, test := range map[string]struct{ conf, why string }{
		"one that grants a shell":  {"Plugin sudoers_policy sudoers.so sudoers_file=/opt/sudoers.user\n", "user can still use sudo: (ALL) /usr/bin/bash"},
		"one that grants nothing":  {"Plugin sudoers_policy sudoers.so sudoers_file=/opt/sudoers\n", "sudoers_file=/opt/sudoers"},
		"with a mode of its own":   {"Plugin\tsudoers_policy  sudoers.so\tsudoers_mode=0400 sudoers_file=/opt/sudoers.user\n", "sudoers_file=/opt/sudoers.user"},
		"a line that goes on":      {"Plugin sudoers_policy sudoers.so \\\n  sudoers_file=/opt/sudoers.user\n", "user can still use sudo"},
		"its keyword in lowercase": {"plugin sudoers_policy sudoers.so sudoers_file=/opt/sudoers.user\n", "user can still use sudo"},
	} {
		d.MustWriteFile(t, "/etc/sudo.conf", box.File{Content: test.conf})
		r := d.apply(t, onlyDomainAdmins).resource("sudo/allow")
		if r.State != converge.Failed || !strings.Contains(r.Reason, test.why) || !strings.Contains(r.Reason, "/etc/sudo.conf has sudo go by something else") {
			t.Errorf("%s: it is %s: %s", name, r.State, r.Reason)
		}
	}
	d.sh(t, "rm /etc/sudo.conf")
	d.converged(t)
}
