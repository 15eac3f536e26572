package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/sudo18"
)

// oldSudo is a desktop with what stands in for sudo 1.8.23, which reads /etc/sudoers.d
// by the directive that it knows.
func oldSudo(t *testing.T) *desktop {
	t.Helper()
	d := newDesktop(t)
	for name, content := range sudo18.Programs() {
		d.MustWriteFile(t, name, box.File{Content: content, Mode: 0o755})
	}
	d.sh(t, "sed -i 's/^@includedir/#includedir/' /etc/sudoers")
	return d
}

var onHost = regexp.MustCompile(` on [^ :]+([:.])`)

func TestTheStandInForOldSudoDoesWhatTheRealOneWasRecordedToDo(t *testing.T) {
	t.Parallel()
	d := oldSudo(t)
	d.sh(t, "rm /etc/sudoers.d/*; printf 'root ALL=(ALL) ALL\\n#includedir /etc/sudoers.d\\n' > /etc/sudoers")
	records, err := sudo18.Records()
	if err != nil {
		t.Fatal(err)
	}
	said := func(argv ...string) (stdout, whole string) {
		result, err := d.Exec(t.Context(), argv...)
		if err != nil {
			t.Fatal(err)
		}
		stdout = onHost.ReplaceAllString(result.Stdout, " on HOST$1")
		return stdout, fmt.Sprintf("%s%sexit %d\n", result.Stderr, stdout, result.Code)
	}
	for _, r := range records {
		d.MustWriteFile(t, "/etc/sudoers.d/a", box.File{Content: r.File, Mode: 0o440})
		if _, got := said("visudo", "-c"); got != r.Visudo {
			t.Errorf("%q: visudo: %s", r.File, cmp.Diff(r.Visudo, got))
		}
		stdout, got := said("sudo", "-n", "-l", "-U", "root")
		if strings.HasSuffix(r.Sudo, "exit 0\n") { // its warnings are those of the sudo that is installed
			got = stdout + "exit 0\n"
			_, r.Sudo, _ = strings.Cut("\n"+r.Sudo, "\n"+firstLineOf(stdout)+"\n")
			_, got, _ = strings.Cut("\n"+got, "\n"+firstLineOf(stdout)+"\n")
		}
		if got != r.Sudo {
			t.Errorf("%q: sudo: %s", r.File, cmp.Diff(r.Sudo, got))
		}
	}
}

func firstLineOf(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// Each file stops sudo 1.8.23 for everybody, or makes visudo find fault. Somebody else's
// loses the line that is to blame and no other; the policy's own is not written.
func TestWhatStopsAnOldSudoIsFoundToTheLineAndNotWrittenByThePolicy(t *testing.T) {
	t.Parallel()
	d := oldSudo(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	d.keep(t)
	const (
		stays   = "dadmin ALL=(ALL) NOPASSWD: ALL\n"
		comment = "# soe-agent: sudo cannot read this: "
	)
	for name, test := range map[string]struct{ content, after, reason string }{
		"the newer include":        {stays + "@include /etc/sudoers.local\n" + stays, stays + comment + "@include /etc/sudoers.local\n" + stays, ":2: syntax error"},
		"the newer includedir":     {"@includedir /etc/more\n", comment + "@includedir /etc/more\n", ":1: syntax error"},
		"a quoted name":            {"# x\n#include \"/etc/passwd\"\n", "# x\n" + comment + "#include \"/etc/passwd\"\n", `it includes /etc/sudoers.d/"/etc/passwd"`},
		"a name with a backslash":  {"#include /a\\ b\n", comment + "#include /a\\ b\n", `it includes /a\: No such file`},
		"what is not there":        {stays + "#include nowhere\n", stays + comment + "#include nowhere\n", "it includes /etc/sudoers.d/nowhere"},
		"an alias twice":           {"User_Alias A = dadmin\nUser_Alias A = dadmin\n", "User_Alias A = dadmin\n" + comment + "User_Alias A = dadmin\n", ":2: Alias"},
		"Defaults that it ignores": {"Defaults bogus_setting\n" + stays, "Defaults bogus_setting\n" + stays, ":1: unknown defaults entry"},
	} {
		d.restore(t)
		d.MustWriteFile(t, "/etc/sudoers.d/50-x", box.File{Content: test.content, Mode: 0o440})
		d.apply(t, onlyDomainAdmins)
		if got := d.MustReadFile(t, "/etc/sudoers.d/50-x"); got != test.after {
			t.Errorf("%s: it holds\n%s", name, got)
		}
		d.wantsWorkingSudo(t)
		d.converged(t)
		d.restore(t)
		o := d.apply(t, onlyDomainAdmins+"[dropins.\"/etc/sudoers.d/60-site\"]\ncontent = '''\n"+test.content+"'''\n")
		o.wants(t, map[policy.ID]converge.State{"dropin/etc/sudoers.d/60-site": converge.Failed})
		if reason := o.resource("dropin/etc/sudoers.d/60-site").Reason; !strings.Contains(reason, "visudo refuses it: /etc/sudoers.d/60-site") || !strings.Contains(reason, test.reason) {
			t.Errorf("%s: the reason is %q", name, reason)
		}
		d.wantsWorkingSudo(t)
	}
}
