package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// An image is a desktop that does not run yet, and a policy for it.
type image struct {
	*desktop
	dir string
}

func newImage(t *testing.T, toml string, options ...box.Option) image {
	t.Helper()
	i := image{newDesktop(t, append(options, box.NotBooted())...), t.TempDir()}
	if err := os.WriteFile(filepath.Join(i.dir, "50-test.toml"), []byte("schema = 1\n"+toml), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// below runs the agent of another machine, this one, for what is below the root.
func (i image) below(t *testing.T, verb string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "--json", "--root", i.Root, verb, "--policy", i.dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	o := outcome{Code: cmd.ProcessState.ExitCode(), Stderr: stderr.String()}
	if len(stdout) == 0 {
		t.Fatalf("soe-agent %s printed no report: %v\n%s", verb, err, o.Stderr)
	}
	if err := json.Unmarshal(stdout, &o.Report); err != nil {
		t.Fatal(err)
	}
	return o
}

func (i image) files(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "find", i.Root+"/etc", i.Root+"/usr", i.Root+"/run", i.Root+"/home", "-printf", "%p %i %T@ %C@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestTheUnitsOfAnImageAreEnabledAndMasked(t *testing.T) {
	t.Parallel()
	i := newImage(t, `
[services]
"on.service"       = { enabled = true, running = true }
"off.service"      = { enabled = false, running = false }
"hidden.service"   = { masked = true, running = false }
"unmasked.service" = { running = true }
"kept.service"     = { running = true }
"static.service"   = { enabled = true }
"none.service"     = { enabled = true }
"gone.service"     = { enabled = false }
`, box.WithFiles(map[string]box.File{
		unitDir + "on.service":       unit(stays, wanted),
		unitDir + "off.service":      unit(stays, wanted),
		unitDir + "hidden.service":   unit(stays, wanted),
		unitDir + "unmasked.service": unit(stays, wanted),
		unitDir + "kept.service":     unit(stays, ""),
		unitDir + "static.service":   unit(stays, ""),
	}))
	etc := filepath.Join(i.Root, "etc/systemd/system")
	for link, target := range map[string]string{
		"multi-user.target.wants/off.service": unitDir + "off.service", "unmasked.service": "/dev/null",
	} {
		if err := os.Symlink(target, filepath.Join(etc, link)); err != nil {
			t.Fatal(err)
		}
	}
	states := map[policy.ID]converge.State{
		"service/on.service": converge.Corrected, "service/off.service": converge.Corrected,
		"service/hidden.service": converge.Corrected, "service/unmasked.service": converge.Corrected,
		"service/kept.service": converge.Compliant, "service/static.service": converge.Failed,
		"service/none.service": converge.Failed, "service/gone.service": converge.Compliant,
	}
	o := i.below(t, "apply")
	o.wants(t, states)
	for name, reason := range map[policy.ID]string{
		"service/static.service": "it is static", "service/none.service": "there is no such unit; does a package bring it?",
		"service/kept.service": "seen when the machine runs",
	} {
		if r := o.resource(name); !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: the reason is %q and does not say %q", name, r.Reason, reason)
		}
	}
	for name, state := range states {
		if state == converge.Corrected {
			states[name] = converge.Compliant
		}
	}
	before := i.files(t)
	i.below(t, "apply").wants(t, states)
	if after := i.files(t); after != before {
		t.Error("a second apply has written something")
	}
	if err := i.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := i.sh(t, "systemctl is-enabled on.service off.service hidden.service unmasked.service || :; systemctl is-active on.service off.service || :"); got != "enabled\ndisabled\nmasked\ndisabled\nactive\ninactive\n" {
		t.Errorf("after the boot: %s", got)
	}
}

// What a golden image is for: nothing is left to do at the first boot but what only
// a machine that runs can have.
func TestAnImageIsMadeOfAWholePolicyAndWhatBootsFromItIsInLine(t *testing.T) {
	t.Parallel()
	repo, err := rpmrepo.Open()
	if err != nil {
		t.Fatal(err)
	}
	withRepository := box.WithSetup(func(root string) error { return os.CopyFS(filepath.Join(root, rpmrepo.MountPoint), os.DirFS(repo.Dir)) })
	i := newImage(t, "[checks.its-user]\nrun = [\"/usr/bin/id\", \"-un\"]\nuser = \"nobody\"\nstdout = \"^nobody$\"\n", withRepository, box.WithFiles(map[string]box.File{
		"/etc/soe-agent/agent.toml": {Content: "personas = [\"base\", \"developer\"]\n"},
	}))
	known := strings.NewReplacer(
		"{{resolve:ssm:/soe/prod/repository/baseurl}}", rpmrepo.BaseURL,
		"{{resolve:ssm:/soe/prod/repository/gpgkey}}", rpmrepo.KeyURL,
		"{{resolve:ssm:/soe/prod/repository/fingerprint}}", repo.Fingerprint,
		"{{resolve:secretsmanager:soe/scanner:SecretString:token}}", "hush-hush",
	)
	for _, name := range []string{"10-base.toml", "20-developer.toml"} {
		content, err := os.ReadFile("../../policies/example/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(i.dir, name), []byte(known.Replace(string(content))), 0o600); err != nil {
			t.Fatal(err)
		}
		i.MustWriteFile(t, policyDir+"/"+name, box.File{Content: known.Replace(string(content))})
	}
	o := i.below(t, "apply")
	for _, r := range o.Resources {
		if !r.State.InLine() {
			t.Errorf("%s is %s: %s %v", r.ID, r.State, r.Reason, r.Diff)
		}
	}
	if o.Code != 0 || len(o.Resources) < 30 {
		t.Errorf("exit code %d, %d resources: %s", o.Code, len(o.Resources), o.Stderr)
	}
	if o := i.below(t, "plan"); o.Code != 0 {
		t.Errorf("a plan after the apply exits %d: %s", o.Code, o.Stderr)
	}
	before := i.files(t)
	i.below(t, "apply")
	if after := i.files(t); after != before {
		t.Errorf("a second apply has written something: %s", difference(before, after))
	}
	if err := i.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range i.command(t, "plan", "--policy", policyDir).Resources {
		// In an image there is no /run to hold the profile that nobody walks around.
		if !r.State.InLine() && (r.ID != "dconf/profile" || !strings.HasPrefix(r.Diff[0].Want, "/run/dconf/user/")) {
			t.Errorf("at the first boot %s is %s: %s %v", r.ID, r.State, r.Reason, r.Diff)
		}
	}
	if o := i.command(t, "apply", "--policy", policyDir); o.Code != 0 {
		t.Errorf("at the first boot an apply exits %d: %s", o.Code, o.Stderr)
	}
}

// difference are the lines of two texts that are not in both.
func difference(before, after string) string {
	var only strings.Builder
	for _, texts := range [][2]string{{before, after}, {after, before}} {
		for line := range strings.Lines(texts[0]) {
			if !strings.Contains(texts[1], line) {
				only.WriteString(line)
			}
		}
	}
	return only.String()
}
