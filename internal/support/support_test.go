package support_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/support"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An image is a system that does not run, with these files.
func image(t *testing.T, files map[string]string) *system.System {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root, Gate: system.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func options(s *system.System, p *policy.Policy, err error) support.Options {
	return support.Options{
		System: s, Version: "1.2.3", ConfigFile: "/etc/soe-agent/agent.toml", LocalDir: "/etc/soe-agent/policy.d", SeedDir: "/usr/share/soe-agent/policy.d",
		StateDir: "/var/lib/soe-agent", HistoryDir: "/var/lib/soe-agent/history", RunDir: "/run/soe-agent",
		Policy: func(context.Context) (*policy.Policy, []string, error) { return p, nil, err },
	}
}

// unpack returns the files of a bundle by their names, and its index as "README.txt".
func unpack(t *testing.T, b support.Bundle) map[string]string {
	t.Helper()
	packed, err := b.Archive()
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
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
		if err != nil || header.Mode != 0o600 || header.Typeflag != tar.TypeReg || path.Dir(header.Name) != b.Name {
			t.Fatalf("%+v: %v", header, err)
		}
		files[path.Base(header.Name)] = string(content)
	}
}

func expanded(t *testing.T, toml string, values map[string]string) *policy.Policy {
	t.Helper()
	fragment, err := policy.ParseAll([]policy.Source{{Name: "10-base", Layer: policy.Remote, Text: toml}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge(fragment, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Expand(func(r policy.Reference) (string, bool) { value, ok := values[r.String()]; return value, ok })
}

func TestNoSecretIsInABundle(t *testing.T) {
	const (
		known  = "kn0wn+c4n4ry&<1>" // to the policy
		onDisk = "d1sk-c4n4ry-2"    // to a file alone, AWS being away
		looks  = "l00ks-c4n4ry-3"
	)
	p := expanded(t, `schema = 1
[dropins."/etc/a.d/known.conf"]
content = "token = {{resolve:secretsmanager:soe/a:SecretString:token}}\n"
[dropins."/etc/a.d/disk.conf"]
content = "# of the scanner\nkey {{resolve:ssm-secure:/soe/key}} end\n"
[dropins."/etc/a.d/literal.conf"]
content = "user = me\npassword = `+looks+`\n"
`, map[string]string{"{{resolve:secretsmanager:soe/a:SecretString:token}}": known})
	b := support.Collect(t.Context(), options(image(t, map[string]string{
		"/etc/a.d/known.conf":                                    "token = " + known + "\n",
		"/etc/a.d/disk.conf":                                     "# of the scanner\nkey " + onDisk + " end\n",
		"/etc/soe-agent/agent.toml":                              "# keep\n[aws]\nendpoint = \"https://me:" + looks + "@proxy/\"\n[aws.credentials]\nprocess = [\"/bin/x\", \"--secret\", \"" + looks + "\"]\n",
		"/run/soe-agent/status.json":                             `{"waiting": "it says ` + onDisk + `", "refused": ["kn0wn+c4n4ry\u0026\u003c1\u003e"]}`,
		"/run/soe-agent/report.json":                             `{"reason": "aws_secret_access_key = ` + looks + `"}`,
		"/run/soe-agent/soe-packages.out":                        "cannot get https://me:" + looks + "@repo/\n",
		"/run/soe-agent/soe-packages.err":                        "said " + known + "\n",
		"/var/lib/soe-agent/history/00000001.jsonl":              `{"reason": "first ` + known + `"}` + "\n",
		"/var/lib/soe-agent/history/00000002.jsonl":              `{"reason": "-----BEGIN PRIVATE KEY-----\n` + looks + `\n-----END PRIVATE KEY-----\n"}` + "\n",
		"/var/lib/soe-agent/backups/one":                         "password = " + looks,
		"/root/.aws/credentials":                                 "[default]\naws_secret_access_key = " + looks + "\n",
		"/etc/sudoers.d/50-x":                                    "# " + looks + "\n",
		"/var/lib/amazon/ssm/Vault/Store/RegistrationKey":        looks,
		"/var/lib/amazon/ssm/runtimeconfig/identity_config.json": `{"InstanceId": "mi-0123", "ShareFile": "/root/.aws/credentials", "CredentialSource": "SSM"}`,
		"/etc/hostname":                                          "A-1\n",
	}), p, errors.New("cannot reach AWS with "+known)))
	files := unpack(t, b)
	for name, content := range files {
		for _, secret := range []string{known, onDisk, looks, "c4n4ry"} {
			if strings.Contains(content, secret) {
				t.Errorf("%s is in %s:\n%s", secret, name, content)
			}
		}
	}
	for name, want := range map[string]string{
		"README.txt": "policy.toml: cannot reach AWS with ‹secret›", "agent.toml": "https://[removed]@proxy/", "status.json": "it says ‹secret›",
		"report.json": "aws_secret_access_key = [removed]", "transaction.txt": "said ‹secret›", "history.jsonl": "first ‹secret›",
		"policy.toml": "{{resolve:secretsmanager:soe/a:SecretString:token}}", "files.txt": `"/var/lib/soe-agent/backups/one"`, "credentials.txt": "mi-0123",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %q:\n%s", name, want, files[name])
		}
	}
	if !strings.Contains(files["files.txt"], `- 0600 `) || !strings.Contains(files["files.txt"], `"/etc/sudoers.d/50-x"`) {
		t.Errorf("the listing: %s", files["files.txt"])
	}
}

func TestABundleSaysWhatCouldNotBeHadAndHasTheRest(t *testing.T) {
	b := support.Collect(t.Context(), options(image(t, map[string]string{"/etc/os-release": "ID=amzn\n", "/etc/hostname": "../A 1\n"}), nil, errors.New("cannot open the ledger")))
	files := unpack(t, b)
	if files["os-release.txt"] != "ID=amzn\n" {
		t.Errorf("os-release: %q", files["os-release.txt"])
	}
	for _, name := range []string{"status.json", "report.json", "journal.txt", "history.jsonl", "policy.toml", "agent.toml", "packages.txt", "transaction.txt", "disk.txt"} {
		if _, there := files[name]; there || !slices.ContainsFunc(b.Missing, func(why string) bool { return strings.HasPrefix(why, name+": ") }) {
			t.Errorf("%s is there, or it is not said why it is not: %q", name, b.Missing)
		}
		if !strings.Contains(files["README.txt"], "\n  "+name+": ") {
			t.Errorf("the index does not say that %s is missing:\n%s", name, files["README.txt"])
		}
	}
	if !strings.HasPrefix(b.Name, "soe-agent-support-A-1-2") {
		t.Errorf("it is called %q", b.Name)
	}
}

func TestABundleIsBounded(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	files := map[string]string{"/run/soe-agent/soe-packages.out": strings.Repeat(line, 15_000) + "last\n", "/etc/soe-agent/agent.toml": "first\n" + strings.Repeat(line, 15_000)}
	for i := range 3000 {
		files["/var/lib/soe-agent/backups/"+strings.Repeat("a", 1+i%200)+string(rune('a'+i/200))] = ""
	}
	unpacked := unpack(t, support.Collect(t.Context(), options(image(t, files), nil, nil)))
	for name, content := range unpacked {
		if len(content) > 1<<20+100 {
			t.Errorf("%s has %d bytes", name, len(content))
		}
	}
	if log := unpacked["transaction.txt"]; !strings.HasPrefix(log, "… what was before is left out\nxxx") || !strings.Contains(log, "\nlast\n") {
		t.Errorf("of a log the end is not kept: %.60q", log)
	}
	if config := unpacked["agent.toml"]; !strings.HasPrefix(config, "first\n") || !strings.HasSuffix(config, "\n… the rest is left out\n") {
		t.Errorf("of a file the beginning is not kept: %.60q", config)
	}
	if n := strings.Count(unpacked["files.txt"], "\n"); n < 2000 || n > 2001 {
		t.Errorf("%d files are listed", n)
	}
}
