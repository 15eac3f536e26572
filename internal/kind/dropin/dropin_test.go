package dropin

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// machine is a temporary root with what the tests need in it.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := kindtest.Dir(t)
	kindtest.Put(t, root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nscan:x:5101:5101::/:/bin/false\n")
	kindtest.Put(t, root, "/etc/group", fmt.Sprintf("root:x:0:\nscan:x:%d:\n", os.Getgid()))
	kindtest.Put(t, root, "/etc/shadow", "root:*:1::::::\nscan:!:1::::::\n")
	for name, content := range readersOfAll() {
		kindtest.Put(t, root, name, content)
	}
	for name, content := range files {
		kindtest.Put(t, root, name, content)
	}
	return root
}

// readersOfAll are the programs that read drop-ins, and what makes them do so.
func readersOfAll() map[string]string {
	files := map[string]string{}
	for _, d := range dropindir.All() {
		if d.Reader != nil && len(d.Reader.Programs) > 0 {
			files[d.Reader.Programs[0]] = ""
		}
	}
	for name, content := range map[string]string{
		sshdMain: "Include /etc/ssh/sshd_config.d/*.conf\n", "/etc/ssh/ssh_config": "Include /etc/ssh/ssh_config.d/*.conf\n",
		"/etc/chrony.conf": "confdir /etc/chrony.d\nconfdir /etc/chrony/conf.d\n", "/etc/rsyslog.conf": "$IncludeConfig /etc/rsyslog.d/*.conf\n",
		"/etc/sudoers": "@includedir /etc/sudoers.d\n",
		logrotateMain:  "include /etc/logrotate.d\n", "/etc/ld.so.conf": "include ld.so.conf.d/*.conf\n",
		"/etc/nftables.conf": "include \"/etc/nftables.d/*.nft\"\n",
	} {
		files[name] = content
	}
	return files
}

func files(dropins map[string]policy.Dropin) *policy.Policy {
	p := &policy.Policy{}
	for name, dropin := range dropins {
		if dropin.Ensure == "" {
			dropin.Ensure = policy.Present
		}
		p.Resources = append(p.Resources, policy.Resource{ID: policy.NewID("dropin", name), Spec: dropin})
	}
	slices.SortFunc(p.Resources, func(a, b policy.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) }) // as Merge leaves them
	return p
}

func pass(t *testing.T, p *policy.Policy, root string, gate system.Gate) map[policy.ID]converge.Resource {
	t.Helper()
	ledger := kindtest.Ledger(t, root)
	s := kindtest.Open(t, system.Options{Root: root, Gate: gate, Backups: ledger})
	s.Runner = nobodyToAsk{}
	return kindtest.ByID(kindtest.Engine(p, New(p, s, ledger, schedule.Window{}), ledger, s.Clock).Pass(t.Context()).Resources)
}

// nobodyToAsk is a machine without any program.
type nobodyToAsk struct{}

func (nobodyToAsk) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{}, system.ErrNotInstalled
}

func TestFilesAreMadeReplacedAndRemoved(t *testing.T) {
	root := machine(t, map[string]string{"/etc/tmpfiles.d/old.conf": "old\n", "/etc/modprobe.d/gone.conf": "gone\n"})
	p := files(map[string]policy.Dropin{
		"/etc/tmpfiles.d/old.conf":    {Content: "new\n"},
		"/etc/modprobe.d/gone.conf":   {Ensure: policy.Absent},
		"/etc/cron.daily/scan":        {Content: "#!/bin/true\n", Group: "scan"},
		"/etc/firefox/policies/p.txt": {Content: "{}"},
	})
	for id, r := range pass(t, p, root, nil) {
		if r.State != converge.Corrected {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	if got := kindtest.Read(t, root, "/etc/tmpfiles.d/old.conf"); got != "new\n" {
		t.Errorf("the file holds %q", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "/etc/modprobe.d/gone.conf")); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	info, err := kindtest.Open(t, system.Options{Root: root}).FS.Stat("/etc/cron.daily/scan")
	if want := (system.Attr{Mode: 0o755, GID: os.Getgid()}); err != nil || info.Attr != want {
		t.Errorf("the script has %+v, want %+v (%v)", info.Attr, want, err)
	}
	recorder := &system.Recorder{}
	for id, r := range pass(t, p, root, recorder.Gate) {
		if r.State != converge.Compliant {
			t.Errorf("the second time %s is %s: %v", id, r.State, r.Diff)
		}
	}
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the second pass changed something: %v", changes)
	}
}

func TestModesFollowTheFamilyThePolicyAndSecrets(t *testing.T) {
	mode := func(m fs.FileMode) *fs.FileMode { return &m }
	for _, test := range []struct {
		name    string
		mode    *fs.FileMode
		secrets []string
		want    fs.FileMode
	}{
		{"/etc/sysctl.d/a.conf", nil, nil, 0o644},
		{"/etc/sudoers.d/a", nil, nil, 0o440},
		{"/etc/cron.hourly/a", nil, nil, 0o755},
		{"/etc/profile.d/a.sh", nil, nil, 0o644},
		{"/etc/profile.d/a.sh", mode(0o600), nil, 0o600},
		{"/etc/rsyslog.d/a.conf", nil, []string{"s"}, 0o600},
		{"/etc/rsyslog.d/a.conf", mode(0o640), []string{"s"}, 0o640},
		{"/etc/rsyslog.d/a.conf", mode(0o400), []string{"s"}, 0o400},
		{"/etc/rsyslog.d/a.conf", mode(0o644), []string{"s"}, 0o640},
		{"/etc/rsyslog.d/a.conf", nil, []string{""}, 0o600},
		{"/etc/cron.daily/a", nil, []string{"s"}, 0o700},
		{"/etc/audit/rules.d/a.rules", nil, []string{"s"}, 0o640},
	} {
		want := policy.Want[policy.Dropin]{Spec: policy.Dropin{Mode: test.mode}}
		want.ID, want.Secrets = policy.NewID("dropin", test.name), test.secrets
		if got := modeOf(want); got != test.want {
			t.Errorf("%s with mode %v and %d secrets gets %04o, want %04o", test.name, test.mode, len(test.secrets), got, test.want)
		}
	}
}

func TestASecretIsNeverShown(t *testing.T) {
	const newSecret, oldSecret = "correct-horse", "battery-staple"
	root := machine(t, map[string]string{"/etc/rsyslog.d/60.conf": "token " + oldSecret, "/etc/rsyslog.d/70.conf": "token " + oldSecret})
	if err := os.Chmod(filepath.Join(root, "/etc/rsyslog.d/70.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := files(map[string]policy.Dropin{"/etc/rsyslog.d/60.conf": {Content: "token " + newSecret}, "/etc/rsyslog.d/70.conf": {Content: "none now"}})
	for i := range p.Resources {
		if p.Resources[i].ID == "dropin/etc/rsyslog.d/60.conf" {
			p.Resources[i].Secrets = []string{newSecret}
		}
	}
	for _, r := range (&running{root: root}).pass(t, p) {
		text := fmt.Sprintf("%+v", r)
		if r.State != converge.Corrected || strings.Contains(text, newSecret) || strings.Contains(text, oldSecret) {
			t.Errorf("got %s", text)
		}
	}
}

func TestIntoAnImageNoSecretIsWritten(t *testing.T) {
	const secret, there, gone = "correct-horse", "/etc/scan.d/there", "/etc/scan.d/gone"
	root := machine(t, map[string]string{there: "as it was"})
	p := files(map[string]policy.Dropin{
		there: {Content: secret, Activate: []string{}}, gone: {Content: secret, Activate: []string{}}, "/etc/scan.d/unknown": {Content: "{{}}", Activate: []string{}},
		"/etc/scan.d/public": {Content: "public", Activate: []string{}},
	})
	for i, r := range p.Resources {
		switch r.Spec.(policy.Dropin).Content {
		case secret:
			p.Resources[i].Secrets = []string{secret}
		case "{{}}":
			p.Resources[i].Missing = []policy.Reference{{Service: "secretsmanager", Name: "x"}}
		}
	}
	found := pass(t, p, root, nil)
	wants(t, found, map[policy.ID]converge.State{
		"dropin" + gone: converge.Pending, "dropin" + there: converge.Failed, "dropin/etc/scan.d/unknown": converge.Pending, "dropin/etc/scan.d/public": converge.Corrected,
	})
	if r := found["dropin"+gone]; !strings.Contains(r.Reason, "none is written into an image") || !r.Tolerable() {
		t.Errorf("%+v", r)
	}
	if r := found["dropin"+there]; !strings.Contains(r.Reason, "soe-agent --root "+root+" image seal") {
		t.Errorf("%+v", r)
	}
	if got := kindtest.Read(t, root, there); got != "as it was" {
		t.Errorf("it holds %q", got)
	}
	err := filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if strings.Contains(string(content), secret) {
			t.Errorf("the secret is in %s", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheLedgerKnowsWhichFilesHoldASecretWhateverBecomesOfThePolicy(t *testing.T) {
	const name = "/etc/scan.d/token"
	m := &running{root: machine(t, nil)}
	known := func() []string {
		t.Helper()
		names, err := converge.SecretFiles(kindtest.Open(t, system.Options{Root: m.root}).FS, "/var/lib/soe-agent")
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	with := func(content string, secrets ...string) *policy.Policy {
		p := files(map[string]policy.Dropin{name: {Content: content, Activate: []string{}}})
		p.Resources[0].Secrets = secrets
		return p
	}
	m.pass(t, with("hunter2", "hunter2"))
	if got := known(); !slices.Equal(got, []string{name}) {
		t.Errorf("it is written, and known is %q", got)
	}
	refused := files(nil)
	refused.Partial = true // so nothing is taken away
	m.pass(t, refused)
	if got := known(); !slices.Equal(got, []string{name}) {
		t.Errorf("the policy no longer names it, and known is %q", got)
	}
	m.pass(t, with("nothing"))
	if got := known(); len(got) > 0 {
		t.Errorf("it holds none any more, and known is %q", got)
	}
	m.pass(t, with("hunter3", "hunter3"))
	m.pass(t, files(nil))
	if got := known(); len(got) > 0 {
		t.Errorf("it has gone, and known is %q", got)
	}
	// What cannot be noted is not written.
	m.gate = func(c system.Change) error {
		if strings.HasSuffix(c.Target, "ledger.jsonl") {
			return system.ErrInjected
		}
		return nil
	}
	m.pass(t, with("hunter4", "hunter4"))
	if _, err := os.Stat(filepath.Join(m.root, name)); err == nil && len(known()) == 0 {
		t.Error("a secret is on disk, and nobody knows of it")
	}
}

func TestWhatIsNoFileIsNotReplaced(t *testing.T) {
	root := machine(t, nil)
	if err := os.MkdirAll(filepath.Join(root, "/etc/modprobe.d/dir.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(root, "/etc/modprobe.d/link.conf")); err != nil {
		t.Fatal(err)
	}
	p := files(map[string]policy.Dropin{"/etc/modprobe.d/dir.conf": {Content: "x"}, "/etc/modprobe.d/link.conf": {Content: "x"}})
	for id, r := range pass(t, p, root, nil) {
		if r.State != converge.Failed || !strings.Contains(r.Reason, "by hand") {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestAFileThatItsReaderWouldRefuseIsNotWritten(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/sysctl.d/60.conf":                  "kernel.dmesg_restrict 1\n",
		"/etc/sysctl.d/61.conf":                  "net/../kernel/core_pattern = x\n",
		"/etc/sysctl.d/62.conf":                  "../../etc/shadow = y\n",
		"/etc/sysctl.d/63.conf":                  "- a.//.b = y\n",
		"/etc/sysctl.d/64.conf":                  "-/../b\n",
		"/etc/sysctl.d/65.conf":                  "- = 1\n",
		"/etc/sysctl.d/66.conf":                  "net/./x = 1\n",
		"/etc/firefox/policies/policies.json":    "{",
		"/etc/pki/ca-trust/source/anchors/a.pem": "no certificate\n",
		"/etc/cron.d/scan":                       "* * * * * /bin/scan\n",
		"/etc/cron.d/end":                        "* * * * * root /bin/scan",
		"/etc/cron.d/time":                       "a,b ? * * * root /bin/scan\n",
		"/etc/security/limits.d/60.conf":         "* medium nofile 10\n",
		"/etc/security/limits.d/70.conf":         "\ufeff* hard core 0\n",
		"/etc/profile.d/70.sh":                   "\ufeffexport EDITOR=vi\n",
		"/etc/systemd/system/a.service.d/b.conf": "Environment=A=b\n",
		"/etc/systemd/journald.conf.d/b.conf":    "[Journal]\nStorage persistent\n",
		"/etc/systemd/logind.conf.d/b.conf":      "KillUserProcesses=no\n",
		"/etc/audit/rules.d/a.rules":             "-D\nwatch /etc/passwd\n",
		"/etc/modules-load.d/a.conf":             "loop dm_mod\n",
		"/etc/udev/rules.d/a.rules":              "SUBSYSTEM==\"usb\", MODE=0666\n",
		"/etc/udev/rules.d/b.rules":              "SUBSYSTEM==\"usb, MODE=\"0666\"\n",
		"/etc/xdg/autostart/a.desktop":           "[Desktop Entry]\nType=Application\nName=A\n",
		"/etc/xdg/autostart/b.desktop":           "Type=Application\nName=A\nExec=/bin/true\n",
		"/etc/xdg/autostart/c.desktop":           "[Desktop Entry]\nType=Link\nName=A\nExec=/bin/true\n",
		"/etc/xdg/autostart/d.desktop":           "# nothing\n",
		"/etc/environment.d/a.conf":              "export A=b\n",
		"/etc/polkit-1/rules.d/a.rules":          "polkit.addRule(function(action) {\n  return 1;\n});\n}\n",
		"/etc/polkit-1/rules.d/b.rules":          "polkit.addRule(function(action) {\n",
		"/etc/polkit-1/rules.d/c.rules":          "polkit.log(\"no end);\n",
		"/etc/polkit-1/rules.d/d.rules":          "/* no end\n",
	} {
		root := machine(t, nil)
		for id, r := range pass(t, files(map[string]policy.Dropin{name: {Content: content}}), root, nil) {
			if r.State != converge.Failed || !strings.Contains(r.Reason, "cannot bring "+name) {
				t.Errorf("%s is %s: %s", id, r.State, r.Reason)
			}
		}
		if _, err := os.Lstat(filepath.Join(root, name)); !os.IsNotExist(err) {
			t.Errorf("%s was written", name)
		}
	}
}

func TestFilesThatTheirReadersAcceptAreWritten(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/sysctl.d/60.conf":                  "# x\n; y\nkernel.dmesg_restrict = 1\n-net/ipv4/conf/eth0.1/rp_filter=1\n-net.ipv4.conf.*.x\n",
		"/etc/cron.d/scan":                       "MAILTO=\"\"\n# x\n*/5 1-3 * jan mon,tue root /bin/scan a\n@daily root /bin/scan\n",
		"/etc/security/limits.d/60.conf":         "# x\n* soft nofile 10 # y\n@staff - nproc unlimited\nbob -\n",
		"/etc/systemd/system/a.service.d/b.conf": "; x\n[Service]\nExecStart=\nExecStart=/bin/a \\\n  b\n",
		"/etc/systemd/logind.conf.d/b.conf":      "# x\n[Login]\nKillUserProcesses=no\n",
		"/etc/audit/rules.d/a.rules":             "# x\n-D\n-b 8192\n-w /etc/passwd -p wa -k identity\n-a always,exit -F arch=b64 -S adjtimex -k time\n--backlog_wait_time 60000\n-e 2\n",
		"/etc/modules-load.d/a.conf":             "# x\n; y\nloop\ndm_mod\nusb-storage\n",
		"/etc/udev/rules.d/a.rules":              "# x\nACTION!=\"remove\", SUBSYSTEM==\"usb\", \\\n  ATTR{idVendor}==\"1234\" MODE:=\"0660\", ENV{a}+=\"b, \\\"c\\\"\", RUN+=\"/bin/x\",\nLABEL=\"end\"\n",
		"/etc/xdg/autostart/a.desktop":           "# x\n[Desktop Entry]\nType=Application\nName=A\nName[de]=B\nExec=/bin/true\n[Desktop Action x]\nName=x\n",
		"/etc/xdg/autostart/b.desktop":           "[Desktop Entry]\nHidden=true\n",
		"/etc/environment.d/a.conf":              "# x\nA=b c\nPATH=/opt/bin:$PATH\n",
		"/etc/polkit-1/rules.d/a.rules":          "// it's (one\n/* and [\nmore */\npolkit.addRule(function(action, subject) {\n  if (action.id.indexOf(\"a{\") == 0 && x['\\'('] ) { return polkit.Result.YES; }\n});\n",
		"/etc/polkit-1/rules.d/b.rules":          "polkit.addRule(function(action) { if (/[(]/.test(action.id)) { return 'no'; } });\n",
	} {
		root := machine(t, nil)
		for id, r := range pass(t, files(map[string]policy.Dropin{name: {Content: content}}), root, nil) {
			if r.State != converge.Corrected {
				t.Errorf("%s is %s: %s", id, r.State, r.Reason)
			}
		}
	}
}

func TestAfterAnyFaultEachFileIsOldOrNewAndTheNextPassConverges(t *testing.T) {
	contents := map[string][2]string{
		"/etc/sysctl.d/10.conf":   {"a.b = 1\n", "a.b = 2\n"},
		"/etc/modprobe.d/20.conf": {"blacklist a\n", "blacklist b\n"},
		"/etc/cron.d/30":          {"# old\n", "# new\n"},
	}
	wanted := map[string]policy.Dropin{}
	for name, content := range contents {
		wanted[name] = policy.Dropin{Content: content[1]}
	}
	p := files(wanted)
	for _, fault := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n, hit := 1, true; hit; n++ {
			root := machine(t, nil)
			for name, content := range contents {
				kindtest.Put(t, root, name, content[0])
			}
			hit = false
			gate := fault(n)
			pass(t, p, root, func(c system.Change) error {
				err := gate(c)
				hit = hit || err != nil
				return err
			})
			for name, content := range contents {
				if got := kindtest.Read(t, root, name); got != content[0] && got != content[1] {
					t.Fatalf("fault %d: %s holds %q", n, name, got)
				}
			}
			for id, r := range pass(t, p, root, nil) {
				if !r.State.InLine() {
					t.Fatalf("fault %d: the pass after it leaves %s %s: %s", n, id, r.State, r.Reason)
				}
			}
			for _, left := range leftovers(t, root) {
				t.Fatalf("fault %d: %s is left", n, left)
			}
		}
	}
}

func leftovers(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(root, "etc"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".soe.swp") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnEffectThatACrashPreventedIsMadeUpFor(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sysctl.d/10.conf": "a.b = 1\n", awaiting: "/etc/sysctl.d/10.conf\n"})
	r := pass(t, files(map[string]policy.Dropin{"/etc/sysctl.d/10.conf": {Content: "a.b = 1\n"}}), root, nil)["dropin/etc/sysctl.d/10.conf"]
	if r.State != converge.Corrected || r.Diff[0].Aspect != "effect" {
		t.Errorf("got %+v", r)
	}
	if _, err := os.Lstat(filepath.Join(root, awaiting)); !os.IsNotExist(err) {
		t.Errorf("it is still noted: %v", err)
	}
}

func TestSysctlKeysBecomePaths(t *testing.T) {
	want := map[string]string{
		"kernel/dmesg_restrict":          "1",
		"net/ipv4/conf/eth0.1/rp_filter": "2",
		"net/ipv4/ip_local_port_range":   "1024 65535",
	}
	got := sysctlSettings("kernel.dmesg_restrict=1\n-net.ipv4.conf.eth0/1.rp_filter = 2\nnet/ipv4/ip_local_port_range = 1024\t65535\n#a.b=1\nnet.ipv4.conf.*.x = 1\n../../etc/passwd = x\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkCheckOf208FilesInLine(b *testing.B) {
	root := b.TempDir()
	dropins := map[string]policy.Dropin{}
	for i := range 208 {
		name := fmt.Sprintf("/etc/modprobe.d/%03d.conf", i)
		dropins[name] = policy.Dropin{Content: strings.Repeat("# a line of some length\n", 20)}
		kindtest.Put(b, root, name, dropins[name].Content)
	}
	s := kindtest.Open(b, system.Options{Root: root})
	ledger := kindtest.LedgerIn(b, s.FS)
	k := New(files(dropins), s, ledger, schedule.Window{})
	for b.Loop() {
		resources, _ := k.Check(context.Background())
		for _, r := range resources {
			if r.State != converge.Compliant {
				b.Fatal(r)
			}
		}
	}
}
