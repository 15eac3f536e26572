package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Somebody who may change a parameter and no policy, with a program at the desktop.
func TestAParameterWithALineBreakMakesNoJobOfRoots(t *testing.T) {
	t.Parallel()
	const (
		job      = "/etc/cron.d/soe-inventory"
		evil     = "/tmp/evil"
		password = "s3cr3t-of-two-lines"
	)
	w := newWorkspace(t)
	w.aws.PutParameter("/soe/prod/contact", "x\n* * * * * root "+evil)
	w.aws.PutSecureParameter("/soe/prod/password", password+"\nallow *")
	parts := map[string]string{ // of a secret of JSON: each comes out as it went in, byte for byte
		"number": "12345678901234567890.10", "object": `{"b" :1.0,"a":{"url":"http://x/?a=1&b=<2>"},  "list":[1e3, "\u0026"]}`,
		"text": `"a&b<c>"`, "flag": "true",
	}
	w.aws.PutSecret("soe/parts", fmt.Sprintf(`{"number": %s, "object": %s, "text":%s, "flag" : %s}`, parts["number"], parts["object"], parts["text"], parts["flag"]))
	w.publish(t, 1, map[string]string{"10-base": `schema = 1
[dropins."` + job + `"]
content = "# ask {{resolve:ssm:/soe/prod/contact}}\n@daily root /bin/true\n"
[dropins."/etc/app.d/password"]
content = "deny *\npassword = {{resolve:ssm-secure:/soe/prod/password}}\n"
activate = []
[dropins."/etc/profile.d/soe.sh"]
content = "export SOE=1\n"
[dropins."/etc/app.d/parts"]
content = """
{{resolve:secretsmanager:soe/parts:SecretString:number}}
{{resolve:secretsmanager:soe/parts:SecretString:object}}
"{{resolve:secretsmanager:soe/parts:SecretString:text}}"
{{resolve:secretsmanager:soe/parts:SecretString:flag}}
"""
activate = []
`})
	w.activate(t)
	w.boot(t)
	w.MustExecAs(t, "user", "sh", "-c", "printf '#!/bin/sh\\nid > /tmp/ran\\n' > "+evil+" && chmod 755 "+evil)
	var r outcome
	w.until(t, "the policy is enforced", func() bool {
		r = w.report(t)
		return r.resource("dropin/etc/profile.d/soe.sh").State.InLine()
	})
	for id, of := range map[policy.ID]string{
		"dropin" + job: "{{resolve:ssm:/soe/prod/contact}}", "dropin/etc/app.d/password": "{{resolve:ssm-secure:/soe/prod/password}}",
	} {
		got := r.resource(id)
		if got.State != converge.Failed || !strings.Contains(got.Reason, "the value of "+of+" holds a line break") {
			t.Errorf("%s is %s: %s", id, got.State, got.Reason)
		}
		if !w.fails(t, "test", "-e", "/"+id.Name()) {
			t.Errorf("%s was written", id)
		}
	}
	w.until(t, "the parts of the secret are in place", func() bool {
		return r.resource("dropin/etc/app.d/parts").State.InLine() || !w.fails(t, "test", "-e", "/etc/app.d/parts")
	})
	if got, want := w.MustReadFile(t, "/etc/app.d/parts"), parts["number"]+"\n"+parts["object"]+"\n"+parts["text"]+"\n"+parts["flag"]+"\n"; got != want {
		t.Errorf("the parts of the secret are %q and not %q", got, want)
	}
	told := w.journal(t) + w.MustExec(t, "sh", "-c", "cat /run/soe-agent/*.json /var/lib/soe-agent/history/*")
	if strings.Contains(told, evil) || strings.Contains(told+w.MustExec(t, "sh", "-c", "cat /var/lib/soe-agent/*.json"), password) {
		t.Error("a value is told of")
	}
	w.aws.PutParameter("/soe/prod/contact", "operations@example.com")
	w.aws.PutSecureParameter("/soe/prod/password", password)
	w.until(t, "the values that fit are in place", func() bool {
		r = w.report(t)
		return r.resource("dropin"+job).State.InLine() && r.resource("dropin/etc/app.d/password").State.InLine()
	})
	if got := w.MustReadFile(t, job); got != "# ask operations@example.com\n@daily root /bin/true\n" {
		t.Errorf("the job is %q", got)
	}
	if !w.fails(t, "test", "-e", "/tmp/ran") {
		t.Error("the user's program ran")
	}
}

// Ten kilobytes of it kept an agent busy for half a minute.
func TestAFragmentThatIsNestedDeeplyIsRefusedAtOnceWithItsLine(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.publish(t, 1, map[string]string{"10-base": "schema = 1\n[dropins.\"/etc/profile.d/soe.sh\"]\ncontent = \"export SOE=1\\n\"\n"})
	w.activate(t)
	w.boot(t)
	w.until(t, "the policy is enforced", func() bool {
		return w.report(t).resource("dropin/etc/profile.d/soe.sh").State.InLine()
	})
	before := w.cpu(t)
	deep := "schema = 1\n[packages]\nx = " + strings.Repeat("{a=", 2400) + "1" + strings.Repeat("}", 2400) + "\n"
	w.publish(t, 2, map[string]string{"10-base": deep})
	w.until(t, "the fragment is refused", func() bool {
		s, _ := w.status(t)
		return slices.ContainsFunc(s.Refused, func(why string) bool {
			return strings.Contains(why, "10-base:3: ") && strings.Contains(why, "nested more than 32 deep")
		})
	})
	if spent := w.cpu(t) - before; spent > 3*time.Second {
		t.Errorf("that took %s", spent)
	}
	if got := w.MustReadFile(t, "/etc/profile.d/soe.sh"); got != "export SOE=1\n" {
		t.Errorf("the last good policy is not in force: %q", got)
	}
}

// cpu is how long the agent has kept the processor busy.
func (w *workspace) cpu(t *testing.T) time.Duration {
	t.Helper()
	n, err := strconv.ParseInt(w.shows(t, "CPUUsageNSec"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n)
}
