package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

// bundle has the machine make a support bundle and unpacks it.
func (w *workspace) bundle(t *testing.T, file string) map[string]string {
	t.Helper()
	w.MustExec(t, "soe-agent", "support-bundle", "--output", file)
	if attr := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%a %U", file)); attr != "600 root" {
		t.Errorf("the bundle is %s", attr)
	}
	zip, err := gzip.NewReader(strings.NewReader(w.MustReadFile(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Base(header.Name)] = header.Name + "\n" + string(content)
	}
}

// What an engineer is sent goes through many hands. The secrets are in the policy, in
// what the policy says in clear, in the agent's configuration, in its journal, in its
// unit, and in what the package manager says.
func TestASupportBundleHasWhatAnEngineerAsksForAndNoSecret(t *testing.T) {
	t.Parallel()
	const clear, inConfig, inJournal, inRepository = "cl34r-5c19-c4n4ry", "c0nf1g-88a2-c4n4ry", "j0urn4l-17fe-c4n4ry", "r3p0-90bd-c4n4ry"
	w := newWorkspace(t)
	w.putCanaries(oldCanaries)
	secrets, _ := secretPolicy()
	w.publishOnly(t, 1, map[string]string{"10-base": "schema = 1\n" + secrets + fmt.Sprintf(`
[dropins."/etc/soe-scan.d/clear.conf"]
content = "user = me\npassword = %s\n"
[dropins."/etc/yum.repos.d/away.repo"]
content = "[away]\nname=away\nbaseurl=http://me:%s@127.0.0.1:9/\nenabled=1\nskip_if_unavailable=1\nretries=1\ntimeout=1\n"
[packages]
soe-none-such = "present"
`, clear, inRepository)})
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: "# proxy: http://me:" + inConfig + "@proxy/\n# old_token = " + inConfig + "\n" + w.MustReadFile(t, agent.ConfigFile)})
	w.MustWriteFile(t, "/etc/systemd/system/soe-agent.service.d/50-debug.conf", box.File{
		Content: "[Service]\nEnvironment=SCANNER_PASSWORD=" + inJournal + "\nExecStartPre=/bin/echo the password=" + inJournal + " was used, and AKIA" + "C4N4RYC4N4RYC4N4\n",
	})
	w.activate(t)
	w.boot(t)
	w.until(t, "the policy was tried, and the package is not to be had", func() bool {
		r := w.report(t)
		return r.Policy.Serial == 1 && r.resource("package/soe-none-such").State == "failed" && r.resource(policy.ID("dropin"+tokenFile)).State.InLine()
	})
	for what, where := range map[string]string{
		inJournal: w.journal(t), oldCanaries[0]: w.MustReadFile(t, tokenFile), inConfig: w.MustReadFile(t, agent.ConfigFile),
	} {
		if !strings.Contains(where, what) {
			t.Fatalf("%s is not there, and this test shows nothing:\n%s", what, where)
		}
	}
	own := awsfake.DefaultCredentials()
	h := newHunt(w, slices.Concat(oldCanaries, []string{clear, inConfig, inJournal, inRepository, "C4N4RYC4N4RYC4N4", own.SecretAccessKey, own.SessionToken})...)
	wantsClean := func(files map[string]string) {
		t.Helper()
		for name, content := range files {
			for _, secret := range h.in([]byte(content)) {
				t.Errorf("%s is in %s:\n%s", secret, name, content)
			}
		}
	}

	files := w.bundle(t, "/root/running.tar.gz")
	wantsClean(files)
	for name, want := range map[string]string{
		"README.txt": "Look in this order", "status.json": `"serial":`, "report.json": "soe-none-such", "machine.txt": "managed-node  " + nodeID,
		"journal.txt": "the password=[removed]", "history.jsonl": tokenFile, "unit.txt": "50-debug.conf", "policy.toml": "{{resolve:ssm-secure:/soe/prod/key}}",
		"agent.toml": "http://[removed]@proxy/", "credentials.txt": "there are some, which are used until", "packages.txt": "soe-agent-", "disk.txt": "Filesystem",
		"clock.txt": "Universal time", "os-release.txt": "ID=", "files.txt": "/var/lib/soe-agent/ledger.jsonl", "transaction.txt": "/run/soe-agent/",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %q:\n%s", name, want, files[name])
		}
	}

	// AWS and the daemon are away: then it is needed most.
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	w.aws.Down()
	files = w.bundle(t, "/root/stopped.tar.gz")
	wantsClean(files)
	for _, name := range []string{"status.json", "report.json", "journal.txt", "history.jsonl", "policy.toml"} {
		if files[name] == "" {
			t.Errorf("with the daemon stopped there is no %s:\n%s", name, files["README.txt"])
		}
	}

	before := w.MustReadFile(t, "/root/stopped.tar.gz")
	if result, err := w.Exec(t.Context(), "soe-agent", "support-bundle", "--output", "/root/stopped.tar.gz"); err != nil || result.Code != 1 || !strings.Contains(result.Stderr, "name another file") {
		t.Errorf("over another bundle: %v, %+v", err, result)
	}
	if !bytes.Equal([]byte(before), []byte(w.MustReadFile(t, "/root/stopped.tar.gz"))) {
		t.Error("the first bundle was replaced")
	}
	w.MustExecAs(t, box.DesktopUser, "ln", "-s", "/etc/sudoers.d", "/home/user/out")
	if result, err := w.Exec(t.Context(), "soe-agent", "support-bundle", "--output", "/home/user/out/bundle"); err != nil || result.Code != 1 || !strings.Contains(result.Stderr, "is a link") {
		t.Errorf("through a link of the user's: %v, %+v", err, result)
	}
	if out := w.MustExec(t, "ls", "/etc/sudoers.d"); strings.Contains(out, "bundle") {
		t.Errorf("there is %s", out)
	}
}
