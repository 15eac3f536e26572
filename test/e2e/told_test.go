package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// motd is a drop-in of a fragment, and where it is.
func motd(name string) (toml, file string) {
	file = "/etc/motd.d/" + name
	return "[dropins.\"" + file + "\"]\ncontent = \"" + name + "\\n\"\n", file
}

// refuses waits until the status names what is refused, and the report too.
func (w *workspace) refuses(t *testing.T, name string) {
	t.Helper()
	w.until(t, "what is refused is said to be", func() bool {
		s, code := w.status(t)
		return code == 2 && slices.ContainsFunc(s.Refused, func(said string) bool {
			return strings.Contains(said, name) && strings.Contains(said, "others may change it")
		})
	})
	if r := w.report(t); r.Compliant || !strings.Contains(strings.Join(r.Policy.Refused, "\n"), name) {
		t.Errorf("the report says %v, and compliant: %v", r.Policy.Refused, r.Compliant)
	}
}

func TestWhatAUserCouldHaveWrittenTellsTheAgentNothingAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	published, kept := motd("kept")
	local, glass := motd("glass")
	wish, evil := motd("evil")
	theirs, _ := motd("developer")
	publish := func(serial int, toml string) {
		t.Helper()
		if err := w.aws.PublishPolicy(policyPath, serial, map[string]string{
			"10-base": "schema = 1\n" + toml, "20-developer": "schema = 1\npersonas = [\"developer\"]\n" + theirs,
		}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, published)
	w.MustWriteFile(t, agent.LocalDir+"/90-glass.toml", box.File{Content: "schema = 1\n" + local})
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	stays := func() {
		t.Helper()
		for _, file := range []string{kept, glass} {
			if w.fails(t, "test", "-e", file) {
				t.Errorf("%s was taken away", file)
			}
		}
		if !w.fails(t, "test", "-e", evil) {
			t.Errorf("%s was made", evil)
		}
	}

	// The directory is everybody's.
	w.MustExec(t, "chmod", "0777", agent.LocalDir)
	w.MustExecAs(t, box.DesktopUser, "sh", "-ec", "cd "+agent.LocalDir+"; rm 90-glass.toml; cat >99-evil.toml <<'END'\nschema = 1\n"+wish+"END\n")
	w.refuses(t, agent.LocalDir)
	stays()
	w.MustExec(t, "systemctl", "restart", "soe-agent")
	w.refuses(t, agent.LocalDir)
	stays()
	more, second := motd("second")
	publish(2, published+more) // and what is published comes all the same
	w.until(t, "what is published is in force", func() bool { return !w.fails(t, "test", "-e", second) })
	stays()

	// The directory is root's again, and the fragments are not.
	w.MustExec(t, "chmod", "0755", agent.LocalDir)
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	w.refuses(t, "99-evil.toml")
	w.MustExec(t, "rm", agent.LocalDir+"/99-evil.toml")
	w.MustWriteFile(t, agent.LocalDir+"/90-glass.toml", box.File{Content: "schema = 1\n" + local})
	w.converged(t, 2)
	stays()
	w.MustExecAs(t, box.DesktopUser, "sh", "-c", "printf 'schema = 1\\n[dropins.\"/etc/motd.d/evil\"]\\ncontent = \"x\"\\n' >~/90-glass.toml")
	w.MustExec(t, "sh", "-c", "ln -sf ~"+box.DesktopUser+"/90-glass.toml "+agent.LocalDir+"/90-glass.toml")
	w.refuses(t, "90-glass.toml")
	stays()
	w.MustExec(t, "rm", agent.LocalDir+"/90-glass.toml")
	w.MustWriteFile(t, agent.LocalDir+"/90-glass.toml", box.File{Content: "schema = 1\n" + local})
	w.converged(t, 2)

	// The configuration is everybody's, from the start of the daemon on.
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	w.MustExec(t, "chmod", "0666", agent.ConfigFile)
	w.MustExecAs(t, box.DesktopUser, "sh", "-c", "echo 'personas = [\"kiosk\"]' >"+agent.ConfigFile)
	w.MustExec(t, "systemctl", "start", "soe-agent")
	w.refuses(t, agent.ConfigFile)
	stays()
	if s, _ := w.status(t); s.Serial != 2 || !slices.Equal(s.Personas, []string{"base", "developer"}) {
		t.Errorf("in force is serial %d for %v", s.Serial, s.Personas)
	}
	result, err := w.Exec(t.Context(), "soe-agent", "plan")
	if err != nil || result.Code != 1 || !strings.Contains(result.Stderr, "others may change it") {
		t.Errorf("%v, exit code %d: %s", err, result.Code, result.Stderr)
	}
}

func TestAProgramThatAUserCouldHaveWrittenIsNotRunAsRoot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "install", "-d", "-o", box.DesktopUser, "/srv/app")
	d.MustExecAs(t, box.DesktopUser, "sh", "-c", "cd /srv/app; printf '#!/bin/sh\\nid -u >/tmp/ran\\n' >run; chmod +x run")
	o := d.apply(t, `
[checks.program]
run = ["/srv/app/run"]
[checks.script]
run = ["/bin/sh", "-e", "/srv/app/run"]
[checks.theirs]
run = ["/srv/app/run"]
user = "user"
exit = 2
[dropins."/opt/app.d/x"]
content = "x\n"
activate = ["/srv/app/run"]
`)
	o.wants(t, map[policy.ID]converge.State{
		"check/program": converge.Unknown, "check/script": converge.Unknown, "check/theirs": converge.Compliant, "dropin/opt/app.d/x": converge.Failed,
	})
	for _, id := range []policy.ID{"check/program", "check/script", "dropin/opt/app.d/x"} {
		if r := o.resource(id); !strings.Contains(r.Reason, "others may change it: it belongs to user 1000") {
			t.Errorf("%s: %s", id, r.Reason)
		}
	}
	if !d.fails(t.Context(), "test", "-e", "/tmp/ran") {
		t.Error("it was run")
	}
}
