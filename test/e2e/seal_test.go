package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	seal "github.com/soe-agent/soe-agent/internal/image"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

// audit is what soe-agent image audit finds, and its exit code.
func (w *workspace) audit(t *testing.T) (seal.Audit, int) {
	t.Helper()
	result, err := w.Exec(t.Context(), "soe-agent", "image", "audit", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var found seal.Audit
	if err := json.Unmarshal([]byte(result.Stdout), &found); err != nil {
		t.Fatalf("%v: %+v", err, result)
	}
	return found, result.Code
}

// The life of an image, from the desktop of its maker to a desktop that is made of it.
func TestASealedImageIsFitToBeCapturedAndItsDesktopsBeginWithTheSeed(t *testing.T) {
	t.Parallel()
	running := unit(stays, wanted)
	w := newWorkspace(t, box.WithFiles(map[string]box.File{
		unitDir + "cloud-init.service": running, unitDir + "skylight-agent.service": running, unitDir + "amazon-ssm-agent.service": running,
		"/etc/sudoers.d/50-maker": {Content: "%makers ALL=(ALL) ALL\n", Mode: 0o440},
	}))
	w.MustExec(t, "systemctl", "enable", "cloud-init", "skylight-agent", "amazon-ssm-agent")
	fragments := w.fleetPolicy()
	secrets, secretFiles := secretPolicy()
	secrets, _, _ = strings.Cut(secrets, "[checks.")
	fragments["60-secrets"] = "schema = 1\n" + secrets
	h := newHunt(w, oldCanaries...)
	w.publish(t, 1, fragments)
	w.putCanaries(oldCanaries)
	w.activate(t)
	// No account of an image has a password; those of the box have.
	w.MustExec(t, "sh", "-c", "usermod -p '*' "+box.DesktopUser+"; usermod -p '*' "+box.DomainAdmin+"; rm -f /etc/shadow- /etc/passwd-")
	w.boot(t)
	w.converged(t, 1)
	if found := h.files(t); len(found) != len(secretFiles) {
		t.Errorf("the secrets are in %v", found)
	}
	machineID := w.MustReadFile(t, "/etc/machine-id")

	found, code := w.audit(t)
	checks := map[string]bool{}
	for _, f := range found.Findings {
		checks[f.Check] = true
	}
	if code != 2 || len(checks) != 3 || !checks["registration"] || !checks["credentials"] || !checks["state"] || len(found.Unknown) > 0 {
		t.Errorf("exit code %d, found %+v, unknown %+v", code, found.Findings, found.Unknown)
	}
	if text, err := w.Exec(t.Context(), "soe-agent", "image", "audit"); err != nil || text.Code != 2 || !strings.Contains(text.Stdout, "✗ registration: ") || !strings.Contains(text.Stdout, "    do   systemctl") {
		t.Errorf("for people: %v, %+v", err, text)
	}

	refused := func(why string, args ...string) {
		t.Helper()
		result, err := w.Exec(t.Context(), append([]string{"soe-agent", "image", "seal", "--yes"}, args...)...)
		if err != nil || result.Code != 1 || !strings.Contains(result.Stderr, why) {
			t.Errorf("seal says %v, %+v and not %q", err, result, why)
		}
	}
	refused("stop it first with: systemctl stop soe-agent")
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	refused("amazon-ssm-agent.service runs", "--ssm-registration")
	w.MustExec(t, "systemctl", "stop", "amazon-ssm-agent")
	if _, err := w.ReadFile(agent.StateDir + "/ledger.jsonl"); err != nil {
		t.Errorf("what was refused has been done: %v", err)
	}
	if would, err := w.Exec(t.Context(), "soe-agent", "image", "seal", "--ssm-registration"); err != nil || would.Code != 2 || !strings.Contains(would.Stdout, "would remove "+agent.StateDir+"/ledger.jsonl\n") {
		t.Errorf("it would %v, %+v", err, would)
	}
	said := w.MustExec(t, "soe-agent", "image", "seal", "--yes", "--ssm-registration")
	for _, file := range secretFiles {
		if !strings.Contains(said, "done: remove "+file+", which holds a secret of the policy\n") {
			t.Errorf("of %s it says nothing:\n%s", file, said)
		}
	}
	if found := h.files(t); len(found) > 0 {
		t.Errorf("the secrets are still in %v", found)
	}
	if left := w.MustExec(t, "sh", "-c", "find "+agent.StateDir+" /var/lib/amazon/ssm /run/soe-agent /root/.aws -mindepth 1"); left != "" {
		t.Errorf("left is %s", left)
	}
	if got := w.MustReadFile(t, "/etc/machine-id"); got != machineID {
		t.Error("the machine-id was touched")
	}
	if out := w.MustExec(t, "soe-agent", "image", "seal", "--yes", "--ssm-registration"); out != "nothing is to be removed\n" {
		t.Errorf("a second time: %s", out)
	}
	if found, code := w.audit(t); code != 0 {
		t.Errorf("a sealed image has %+v, unknown is %+v", found.Findings, found.Unknown)
	}

	// The capture, and a desktop that cannot reach AWS yet.
	if err := w.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.aws.Down()
	w.MustExec(t, "rm", "-r", "/etc/sudoers.d")
	w.MustExec(t, "sh", "-c", "echo A-1CLONE >/etc/hostname; echo 127.0.1.1 A-1CLONE >>/etc/hosts")
	w.boot(t)
	w.until(t, "the desktop waits for its activation", func() bool { s, _ := w.status(t); return s.Waiting != "" && s.Phase == agent.Bootstrapping })
	if s, _ := w.status(t); s.Serial != 0 {
		t.Errorf("it goes by serial %d", s.Serial)
	}
	if log := w.journal(t); strings.Contains(log, "starting afresh") {
		t.Errorf("it has found state of another machine:\n%s", log)
	}
	if !w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
		t.Error("the desktop user has sudo")
	}
	w.MustReadFile(t, "/etc/sysctl.d/60-soe-seed.conf")
	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	w.activate(t)
	w.converged(t, 1)
	for _, file := range secretFiles {
		w.MustReadFile(t, file)
	}
}

// Whoever makes an image from outside has credentials at hand, and the image gets nothing of it.
func TestAnImageGetsNoSecretAndItsDesktopsFetchTheirs(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	secrets, files := secretPolicy()
	secrets, _, _ = strings.Cut(secrets, "[checks.")
	const plain = "/etc/motd.d/soe"
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: strings.Replace(w.MustReadFile(t, agent.ConfigFile), `, "developer"`, "", 1)})
	fragment := "schema = 1\n" + secrets + "[dropins.\"" + plain + "\"]\ncontent = \"{{resolve:ssm:/soe/prod/motd}}\\n\"\n"
	w.putCanaries(oldCanaries)
	w.aws.PutParameter("/soe/prod/motd", "welcome")
	h := newHunt(w, oldCanaries...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-base.toml"), []byte(fragment), 0o600); err != nil {
		t.Fatal(err)
	}
	credentials := awsfake.DefaultCredentials()
	cmd := exec.CommandContext(t.Context(), binary, "--json", "--root", w.Root, "apply", "--policy", dir)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+credentials.SecretAccessKey, "AWS_SESSION_TOKEN="+credentials.SessionToken)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var o outcome
	if jsonErr := json.Unmarshal(out, &o.Report); err != nil || jsonErr != nil {
		t.Fatalf("%v, %v: %s%s", err, jsonErr, out, stderr.String())
	}
	states := map[policy.ID]converge.State{"dropin" + plain: converge.Corrected}
	for _, file := range files {
		states[policy.ID("dropin"+file)] = converge.Pending
	}
	o.wants(t, states)
	if got, err := w.ReadFile(plain); err != nil || got != "welcome\n" {
		t.Errorf("what is no secret is %q, %v", got, err)
	}
	err = filepath.WalkDir(w.Root, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if found := h.in(content); len(found) > 0 {
			t.Errorf("%v is in %s", found, name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	if err := w.aws.PublishPolicy(policyPath, 1, map[string]string{"10-base": fragment}); err != nil {
		t.Fatal(err)
	}
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	for _, file := range files {
		if content := w.MustReadFile(t, file); len(h.in([]byte(content))) == 0 {
			t.Errorf("a desktop of the image has no secret in %s", file)
		}
	}
}
