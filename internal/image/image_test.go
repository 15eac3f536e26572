package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/image"
	"github.com/soe-agent/soe-agent/internal/system"
)

// link marks a symbolic link among a test's files.
const link = "-> "

// good returns the files of an Amazon Linux 2 image that is ready to be captured.
func good() map[string]string {
	return map[string]string{
		"/etc/os-release":           "ID=\"amzn\"\nVERSION_ID=\"2\"\n",
		"/etc/passwd":               "root:x:0:0::/root:/bin/bash\nec2-user:x:1000:1000::/home/ec2-user:/bin/bash\n",
		"/etc/group":                "root:x:0:\nwheel:x:10:ec2-user\n",
		"/etc/soe-agent/agent.toml": "personas = [\"base\"]\n[aws]\npath = \"/soe/prod\"\n[aws.credentials]\nsource = \"ssm-agent\"\n",
		"/usr/share/soe-agent/policy.d/10-seed.toml":                         "schema = 1\n[groups.soe-admins]\ngid = 480\n[sudo]\nallow = [\"root\", \"%soe-admins\", \"%wheel\"]\n",
		"/etc/sudoers.d/01-ws-admin-user":                                    "#1000 ALL=(ALL) ALL\n",
		"/etc/sudoers.d/zz-soe-last":                                         "# Written by soe-agent: [sudo] allow\nALL ALL=!ALL\n",
		"/usr/lib/systemd/system/cloud-init.service":                         "[Unit]\n",
		"/usr/lib/systemd/system/pcoip.service":                              "[Unit]\n",
		"/usr/lib/systemd/system/skylight-agent.service":                     "[Unit]\n",
		"/usr/lib/systemd/system/soe-agent.service":                          "[Unit]\n",
		"/etc/systemd/system/multi-user.target.wants/cloud-init.service":     link + "/usr/lib/systemd/system/cloud-init.service",
		"/etc/systemd/system/multi-user.target.wants/pcoip.service":          link + "/usr/lib/systemd/system/pcoip.service",
		"/etc/systemd/system/multi-user.target.wants/skylight-agent.service": link + "/usr/lib/systemd/system/skylight-agent.service",
		"/etc/systemd/system/multi-user.target.wants/soe-agent.service":      link + "/usr/lib/systemd/system/soe-agent.service",
	}
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if target, isLink := strings.CutPrefix(content, link); isLink {
			err = errors.Join(err, os.Symlink(target, file))
		} else {
			err = errors.Join(err, os.WriteFile(file, []byte(content), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func options(t *testing.T, root string, how system.Options) image.Options {
	t.Helper()
	how.Root = root
	s, err := system.Open(how)
	if err != nil {
		t.Fatal(err)
	}
	return image.Options{
		System: s, ConfigFile: "/etc/soe-agent/agent.toml", LocalDir: "/etc/soe-agent/policy.d", SeedDir: "/usr/share/soe-agent/policy.d",
		StateDir: "/var/lib/soe-agent", RunDir: "/run/soe-agent",
	}
}

func audit(t *testing.T, root string) image.Audit {
	t.Helper()
	return image.Run(t.Context(), options(t, root, system.Options{Gate: system.ReadOnly}))
}

func TestAnImageThatIsFitIsFoundFit(t *testing.T) {
	root := t.TempDir()
	write(t, root, good())
	a := audit(t, root)
	if len(a.Findings) > 0 || len(a.Unknown) > 0 {
		t.Errorf("found: %+v\nunknown: %+v", a.Findings, a.Unknown)
	}
	if diff := cmp.Diff([]string{"transaction", "components", "agent", "registration", "credentials", "wiped", "state", "administrator"}, a.Fine); diff != "" {
		t.Error(diff)
	}
	if len(a.Skipped) != 1 || a.Skipped[0].Check != "disk" {
		t.Errorf("skipped: %+v", a.Skipped)
	}
}

func TestWhatWouldGoWrongIsFoundAndItIsSaidWhatToDo(t *testing.T) {
	const unit = "/usr/lib/systemd/system/"
	for name, test := range map[string]struct {
		change map[string]string // files to add or replace
		gone   []string
		check  string
		what   string
	}{
		"yum was killed":             {map[string]string{"/var/lib/yum/transaction-all.2026-11-20.10:00.00": "x"}, nil, "transaction", "yum has not finished"},
		"dpkg was killed":            {map[string]string{"/var/lib/dpkg/updates/0001": "x"}, nil, "transaction", "dpkg has not finished"},
		"no cloud-init":              {nil, []string{unit + "cloud-init.service"}, "components", "cloud-init is not there"},
		"cloud-init is disabled":     {map[string]string{"/etc/cloud/cloud-init.disabled": ""}, nil, "components", "cloud-init is disabled"},
		"no PCoIP agent":             {nil, []string{unit + "pcoip.service"}, "components", "the PCoIP agent is not there"},
		"PCoIP agent is masked":      {map[string]string{"/etc/systemd/system/pcoip.service": link + "/dev/null"}, nil, "components", "the PCoIP agent is not there"},
		"WorkSpaces agent is off":    {nil, []string{"/etc/systemd/system/multi-user.target.wants/skylight-agent.service"}, "components", "the WorkSpaces agent is not enabled"},
		"DCV without its adapter":    {map[string]string{unit + "dcvserver.service": "", "/etc/systemd/system/multi-user.target.wants/dcvserver.service": link + "x"}, nil, "components", "the host adapter of DCV is not there"},
		"DCV on Rocky":               {map[string]string{"/etc/os-release": "ID=rocky\n", unit + "wspdcvhostadapter.service": "", "/etc/systemd/system/multi-user.target.wants/wspdcvhostadapter.service": link + "x"}, nil, "components", "the DCV agent is not there"},
		"the agent is off":           {nil, []string{"/etc/systemd/system/multi-user.target.wants/soe-agent.service"}, "agent", "soe-agent.service is not enabled"},
		"no agent":                   {nil, []string{unit + "soe-agent.service"}, "agent", "is not installed"},
		"registered":                 {map[string]string{"/var/lib/amazon/ssm/registration": `{"ManagedInstanceID":"mi-1"}`}, nil, "registration", "is registered"},
		"only its key is left":       {map[string]string{"/var/lib/amazon/ssm/Vault/Store/RegistrationKey": "x"}, nil, "registration", "RegistrationKey is there"},
		"credentials of AWS":         {map[string]string{"/root/.aws/credentials": "[default]\naws_secret_access_key = abc\n"}, nil, "credentials", "/root/.aws/credentials"},
		"secret in agent.toml":       {map[string]string{"/etc/soe-agent/agent.toml": "# AKIA0123456789ABCDEF\n"}, nil, "credentials", "agent.toml"},
		"secret in a local fragment": {map[string]string{"/etc/soe-agent/policy.d/x.toml": "schema = 1\n[dropins.\"/etc/a.d/x\"]\ncontent = \"password = hunter2\\n\"\n"}, nil, "credentials", "policy.d/x.toml"},
		"secret in the unit":         {map[string]string{"/etc/systemd/system/soe-agent.service.d/x.conf": "[Service]\nEnvironment=AWS_SECRET_ACCESS_KEY=abc\n"}, nil, "credentials", "service.d/x.conf"},
		"private key of root":        {map[string]string{"/root/.ssh/id_rsa": "-----BEGIN OPENSSH PRIVATE KEY-----\n"}, nil, "credentials", "id_rsa"},
		"unit that runs from /home":  {map[string]string{"/etc/systemd/system/scan.service": "[Service]\nExecStart=/home/ec2-user/scan --all\n", "/home/ec2-user/scan": ""}, nil, "wiped", "needs /home/ec2-user/scan"},
		"repository in /var/cache":   {map[string]string{"/etc/yum.repos.d/x.repo": "[x]\nbaseurl=file:///var/cache/repo/\n", "/var/cache/repo/x": ""}, nil, "wiped", "needs /var/cache/repo"},
		"job that runs from /tmp":    {map[string]string{"/etc/cron.d/x": "@daily root /tmp/job\n", "/tmp/job": ""}, nil, "wiped", "needs /tmp/job"},
		"grant of the image's own":   {map[string]string{"/etc/sudoers.d/50-helpdesk": "# ours\n%helpdesk ALL=(ALL) ALL\n"}, nil, "wiped", "/etc/sudoers.d/50-helpdesk"},
		"grant by number":            {map[string]string{"/etc/sudoers.d/50-helpdesk": "#1001 ALL=(ALL) ALL\n"}, nil, "wiped", "/etc/sudoers.d/50-helpdesk"},
		"state of this machine":      {map[string]string{"/var/lib/soe-agent/ledger.jsonl": "x"}, nil, "state", "(1 files)"},
		"nobody in wheel":            {map[string]string{"/etc/group": "root:x:0:\nwheel:x:10:root\n"}, nil, "administrator", "means nobody here"},
		"policy that is no policy":   {map[string]string{"/usr/share/soe-agent/policy.d/20-x.toml": "schema = 1\nnonsense = 1\n"}, nil, "administrator", "cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := good()
			for file, content := range test.change {
				files[file] = content
			}
			for _, file := range test.gone {
				delete(files, file)
			}
			write(t, root, files)
			a := audit(t, root)
			if len(a.Findings) != 1 || len(a.Unknown) > 0 {
				t.Fatalf("found %+v, unknown %+v", a.Findings, a.Unknown)
			}
			f := a.Findings[0]
			if f.Check != test.check || !strings.Contains(f.What, test.what) || f.Why == "" || f.Do == "" || slices.Contains(a.Fine, test.check) {
				t.Errorf("it is %+v", f)
			}
		})
	}
}

func TestWhatIsNoTroubleIsNotFound(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a path that is not there":                {"/etc/profile.d/x.sh": "test -x /home/user/.profile && . /tmp/nothing\n"},
		"a masked unit and a link to a directory": {"/etc/systemd/system/a.timer": link + "/dev/null", "/etc/cron.d/b": link + "/etc/systemd", "/etc/cron.d/c": link + "/nowhere"},
		"a path in a comment":                     {"/etc/cron.d/x": "# was /tmp/job\n", "/tmp/job": ""},
		"configuration without keys":              {"/root/.aws/config": "[default]\nregion = eu-west-1\n"},
		"a public key":                            {"/root/.ssh/authorized_keys": "ssh-ed25519 AAAA\n"},
		"a group of the directory":                {"/usr/share/soe-agent/policy.d/10-seed.toml": "schema = 1\n[sudo]\nallow = [\"root\", \"%EXAMPLE\\\\Linux_WorkSpaces_Admins\"]\n"},
		"a seed that leaves sudo alone":           {"/usr/share/soe-agent/policy.d/10-seed.toml": "schema = 1\n"},
		"what sudo passes over for its name":      {"/etc/sudoers.d/.soe-agent.spare": "\x00\x01room\n", "/etc/sudoers.d/50-x.rpmsave": "%helpdesk ALL=(ALL) ALL\n", "/etc/sudoers.d/50-x~": "%helpdesk ALL=(ALL) ALL\n"},
		"a grant that is a comment":               {"/etc/sudoers.d/50-x": "# nothing\n"},
		"a reference to a secret":                 {"/etc/soe-agent/policy.d/x.toml": "schema = 1\n[dropins.\"/etc/a.d/x\"]\ncontent = \"password = {{resolve:ssm-secure:/x}}\\n\"\n"},
		"amazon-ssm-agent, unregistered":          {"/var/lib/amazon/ssm/daemons/x": ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			all := good()
			for file, content := range files {
				all[file] = content
			}
			write(t, root, all)
			if a := audit(t, root); len(a.Findings) > 0 || len(a.Unknown) > 0 {
				t.Errorf("found %+v, unknown %+v", a.Findings, a.Unknown)
			}
		})
	}
}

func TestWhatCannotBeLookedAtIsSaid(t *testing.T) {
	root := t.TempDir()
	files := good()
	files["/var/lib/rpm/Packages"] = "x" // but rpm is not installed
	files["/var/lib/soe-agent"] = "a file"
	write(t, root, files)
	a := audit(t, root)
	if len(a.Unknown) != 2 || a.Unknown[0].Check != "transaction" || a.Unknown[1].Check != "state" || slices.Contains(a.Fine, "state") {
		t.Errorf("%+v", a.Unknown)
	}
}

// names returns all paths below a root except directories.
func names(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, strings.TrimPrefix(name, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func stateful() map[string]string {
	files := good()
	for name, content := range map[string]string{
		"/etc/machine-id":                                        "0123456789abcdef0123456789abcdef\n",
		"/var/lib/soe-agent/ledger.jsonl":                        "\n{\"made\":\"/etc/x\"}",
		"/var/lib/soe-agent/lastgood.json":                       "{}",
		"/var/lib/soe-agent/backups/1":                           "x",
		"/var/lib/soe-agent/history/00000001.jsonl":              "x",
		"/run/soe-agent/status.json":                             "x",
		"/var/lib/amazon/ssm/registration":                       "x",
		"/var/lib/amazon/ssm/Vault/Store/RegistrationKey":        "x",
		"/var/lib/amazon/ssm/mi-1/inventory/x":                   "x",
		"/var/lib/amazon/ssm/runtimeconfig/identity_config.json": `{"ShareFile":"/root/.aws/credentials"}`,
		"/root/.aws/credentials":                                 "[default]\naws_secret_access_key = abc\n",
	} {
		files[name] = content
	}
	return files
}

func TestASealTakesAwayWhatIsThisMachinesAloneAndNothingElse(t *testing.T) {
	root := t.TempDir()
	write(t, root, stateful())
	sealing, err := image.Sealing(options(t, root, system.Options{Gate: system.ReadOnly}), false)
	if err != nil {
		t.Fatal(err)
	}
	done, err := image.Seal(t.Context(), options(t, root, system.Options{}), false)
	if err != nil {
		t.Fatal(err)
	}
	paths := func(all []image.Removal) (said []string) {
		for _, r := range all {
			if said = append(said, r.Path); r.Left != "" {
				t.Errorf("%s is left: %s", r.Path, r.Left)
			}
		}
		return said
	}
	want := []string{
		"/var/lib/soe-agent/backups/1", "/var/lib/soe-agent/backups", "/var/lib/soe-agent/history/00000001.jsonl", "/var/lib/soe-agent/history",
		"/var/lib/soe-agent/lastgood.json", "/var/lib/soe-agent/ledger.jsonl", "/run/soe-agent/status.json",
	}
	if diff := cmp.Diff(want, paths(done)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(paths(sealing), paths(done)); diff != "" {
		t.Errorf("it was said otherwise: %s", diff)
	}
	var kept []string
	for name := range stateful() {
		if !strings.Contains(name, "/soe-agent/") || strings.HasPrefix(name, "/etc/") || strings.HasPrefix(name, "/usr/") {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	left := names(t, root)
	slices.Sort(left)
	if diff := cmp.Diff(kept, left); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(filepath.Join(root, "var/lib/soe-agent")); err != nil || !info.IsDir() {
		t.Errorf("the directory itself is the package's: %v", err)
	}

	again, err := image.Seal(t.Context(), options(t, root, system.Options{}), false)
	if err != nil || len(again) > 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestASealTakesTheRegistrationWithItsCredentials(t *testing.T) {
	for name, test := range map[string]struct{ shared, rest string }{
		"alone":       {"[default]\naws_secret_access_key = abc\n", ""},
		"with others": {"[ours]\nregion = x\n[default]\naws_secret_access_key = abc\n[more]\nregion = y\n", "[ours]\nregion = x\n[more]\nregion = y\n"},
		"of others":   {"[ours]\nregion = x\n", "[ours]\nregion = x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := stateful()
			files["/root/.aws/credentials"] = test.shared
			write(t, root, files)
			done, err := image.Seal(t.Context(), options(t, root, system.Options{Unregister: true}), true)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range done {
				if r.Left != "" {
					t.Errorf("%s: %s", r, r.Left)
				}
			}
			rest, err := os.ReadFile(filepath.Join(root, "root/.aws/credentials"))
			if string(rest) != test.rest || test.rest == "" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what is left is %q, %v", rest, err)
			}
			if a := audit(t, root); len(a.Findings) > 0 {
				t.Errorf("afterwards: %+v", a.Findings)
			}
			if entries, err := os.ReadDir(filepath.Join(root, "var/lib/amazon/ssm")); err != nil || len(entries) > 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
			again, err := image.Seal(t.Context(), options(t, root, system.Options{Unregister: true}), true)
			if err != nil || len(again) > 0 {
				t.Errorf("a second time: %+v, %v", again, err)
			}
		})
	}
}

// Only an explicit option lifts the protection of amazon-ssm-agent's registration.
func TestASealThatWasNotToldToLeavesTheRegistration(t *testing.T) {
	root := t.TempDir()
	write(t, root, stateful())
	done, err := image.Seal(t.Context(), options(t, root, system.Options{}), true)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, r := range done {
		if strings.HasPrefix(r.Path, "/var/lib/amazon/ssm") && r.Left != "" {
			left++
		}
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/amazon/ssm/registration")); err != nil || left == 0 {
		t.Errorf("%d are left: %v", left, err)
	}
}

func TestASealFollowsNoLink(t *testing.T) {
	root := t.TempDir()
	files := stateful()
	files["/etc/precious/file"] = "x"
	files["/var/lib/soe-agent/backups/dir"] = link + "/etc/precious"
	files["/var/lib/soe-agent/backups/relative"] = link + "../../../../etc/precious/file"
	files["/var/lib/amazon/ssm/dir"] = link + "/etc/precious"
	write(t, root, files)
	if _, err := image.Seal(t.Context(), options(t, root, system.Options{Unregister: true}), true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/precious/file")); err != nil {
		t.Error(err)
	}

	if err := errors.Join(os.Remove(filepath.Join(root, "var/lib/soe-agent")), os.Symlink("/etc/precious", filepath.Join(root, "var/lib/soe-agent"))); err != nil {
		t.Fatal(err)
	}
	if done, err := image.Seal(t.Context(), options(t, root, system.Options{}), false); err == nil {
		t.Errorf("the directory is a link, and it did %+v", done)
	}
}

func TestWhatCouldNotBeTakenAwayIsSaid(t *testing.T) {
	root := t.TempDir()
	write(t, root, stateful())
	done, err := image.Seal(t.Context(), options(t, root, system.Options{Gate: system.FailNth(1)}), false)
	if err != nil {
		t.Fatal(err)
	}
	if done[0].Left == "" || len(done) < 5 {
		t.Errorf("%+v", done)
	}
}
