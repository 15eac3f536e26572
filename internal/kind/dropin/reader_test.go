package dropin

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// one is what became of the one file of a policy.
func (m *running) one(t *testing.T, name, content string) converge.Resource {
	t.Helper()
	return m.pass(t, files(map[string]policy.Dropin{name: {Content: content}}))[policy.NewID("dropin", name)]
}

func TestAFileThatNobodyReadsIsNeverCompliantAndTheReasonSaysWhoWould(t *testing.T) {
	for _, test := range []struct {
		name, content string
		gone          string            // what is not installed
		mains         map[string]string // what its reader reads instead
		says          string
	}{
		{"/etc/ssh/sshd_config.d/10.conf", "X11Forwarding no\n", "", map[string]string{sshdMain: "X11Forwarding yes\n#Include /etc/ssh/sshd_config.d/*.conf\n"}, sshdMain},
		{"/etc/ssh/sshd_config.d/10.conf", "X11Forwarding no\n", "", map[string]string{sshdMain: "Include /etc/ssh/other.d/*.conf\n"}, sshdMain},
		{"/etc/ssh/sshd_config.d/10.conf", "X11Forwarding no\n", "/usr/sbin/sshd", nil, "sshd, which is not installed"},
		{"/etc/ssh/ssh_config.d/10.conf", "ForwardX11 no\n", "", map[string]string{"/etc/ssh/ssh_config": "Host *\n"}, "/etc/ssh/ssh_config"},
		{"/etc/chrony.d/a.conf", "maxdistance 16\n", "", map[string]string{"/etc/chrony.conf": "pool x\n! confdir /etc/chrony.d\n"}, "/etc/chrony.conf"},
		{"/etc/chrony.d/a.conf", "maxdistance 16\n", "/etc/chrony.conf", nil, "chronyd"},
		{"/etc/rsyslog.d/a.conf", "*.* /var/log/a\n", "", map[string]string{"/etc/rsyslog.conf": "*.* /var/log/all\n"}, "/etc/rsyslog.conf"},
		{"/etc/logrotate.d/a", "/var/log/a {\n}\n", "", map[string]string{logrotateMain: "weekly\n"}, logrotateMain},
		{"/etc/nftables.d/a.nft", "table inet a {}\n", "", map[string]string{"/etc/nftables.conf": "flush ruleset\n"}, "/etc/nftables.conf"},
		{"/etc/sudoers.d/a", "Defaults !lecture\n", "", map[string]string{"/etc/sudoers": "root ALL=(ALL) ALL\n# includedir /etc/sudoers.d\n"}, "/etc/sudoers"},
		{"/etc/iptables.d/a.rules", "*filter\n", "", nil, "/etc/sysconfig/iptables"},
		{"/etc/dnf/dnf.conf.d/a.conf", "[main]\n", "", nil, "/etc/dnf/dnf.conf"},
		{"/etc/audit/rules.d/a.rules", "-w /etc/a -p wa\n", "/usr/sbin/augenrules", nil, "auditd, which is not installed"},
		{"/etc/cron.d/a", "@daily root true\n", "/usr/sbin/crond", nil, "cron, which is not installed"},
		{"/etc/firefox/policies/policies.json", "{}\n", "/usr/sbin/firefox", nil, "Firefox, which is not installed"},
		{"/etc/opt/chrome/policies/managed/a.json", "{}\n", "/usr/sbin/google-chrome", nil, "Chrome, which is not installed"},
		{"/etc/X11/xinit/xinitrc.d/a.sh", "#!/bin/sh\n", "/etc/X11/xinit/xinitrc-common", nil, "xinit, which is not installed"},
		{"/etc/polkit-1/rules.d/a.rules", "// none\n", "/usr/lib/polkit-1/polkitd", nil, "polkit, since 0.106, which is not installed"},
		{"/etc/environment.d/a.conf", "A=b\n", "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator", nil, "233"},
		{"/etc/systemd/timesyncd.conf.d/a.conf", "[Time]\n", "/usr/lib/systemd/systemd-timesyncd", nil, "systemd-timesyncd"},
		{"/etc/ld.so.conf.d/a.conf", "/opt/a\n", "", map[string]string{"/etc/ld.so.conf": "/usr/local/lib\n"}, "/etc/ld.so.conf"},
	} {
		m := &running{root: machine(t, test.mains)}
		if test.gone != "" {
			if err := os.Remove(filepath.Join(m.root, test.gone)); err != nil {
				t.Fatal(err)
			}
		}
		for pass := range 2 {
			r := m.one(t, test.name, test.content)
			if r.State != converge.Failed || !strings.Contains(r.Reason, notRead) || !strings.Contains(r.Reason, test.says) || r.Public().Reason != r.Reason {
				t.Errorf("pass %d: %s without %s is %s: %s", pass, test.name, test.gone, r.State, r.Reason)
			}
			if pass > 0 && len(m.calls) > 0 {
				t.Errorf("%s: %q ran for what nobody reads", test.name, m.calls)
			}
		}
		if got := kindtest.Read(t, m.root, test.name); got != test.content {
			t.Errorf("%s holds %q: it is as the policy wants it for whoever comes to read it", test.name, got)
		}
		for name, content := range readersOfAll() {
			kindtest.Put(t, m.root, name, content)
		}
		if r := m.one(t, test.name, test.content); nobodys()[filepath.Base(filepath.Dir(test.name))] == "" && !r.Tolerable() {
			t.Errorf("once it is read, %s is %s: %s", test.name, r.State, r.Reason)
		}
	}
}

func TestOfADirectoryWhoseReaderNobodyKnowsTheReportSaysSo(t *testing.T) {
	m := &running{root: machine(t, nil)}
	const unheard, told, known = "/etc/unheard-of.d/a.conf", "/etc/told.d/a.conf", "/etc/modprobe.d/a.conf"
	p := files(map[string]policy.Dropin{
		unheard: {Content: "a\n"}, told: {Content: "a\n", Activate: []string{}}, known: {Content: "install cramfs /bin/true\n"},
		"/etc/gone.d/a.conf": {Ensure: policy.Absent},
	})
	for pass, state := range []converge.State{converge.Corrected, converge.Compliant} {
		for id, r := range m.pass(t, p) {
			says := strings.Contains(r.Reason, "it is not known who reads /etc/unheard-of.d") && r.Public().Reason == r.Reason
			if says != (fileOf(id) == unheard) || !r.State.InLine() || says && r.State != state {
				t.Errorf("pass %d: %s is %s: %s", pass, id, r.State, r.Reason)
			}
		}
	}
}

func TestWhereCronDoesNotRunTheReportSaysSoOfItsJobs(t *testing.T) {
	m := &running{root: machine(t, nil)}
	for _, test := range []struct {
		active []string
		says   bool
	}{{nil, true}, {[]string{"crond.service"}, false}, {[]string{"cron.service"}, false}} {
		m.active = test.active
		for range 2 {
			if r := m.one(t, "/etc/cron.d/a", "@daily root true\n"); strings.HasPrefix(r.Reason, "cron does not run") != test.says || !r.State.InLine() {
				t.Errorf("with %v it is %s: %s", test.active, r.State, r.Reason)
			}
		}
	}
}

func TestEachDirectoryOfWhichTheReaderIsKnownIsKnownToThePolicyToo(t *testing.T) {
	for _, d := range dropindir.All() {
		known := d.Check != dropindir.NoCheck || d.Effect != dropindir.None || d.Reader != nil
		if known && !policy.ReaderIsKnown(strings.ReplaceAll(d.Dir, "*", "any")) {
			t.Errorf("the policy does not know %s", d.Dir)
		}
	}
}

// The table of directories names checks and effects; what they are is done here.
func TestEachCheckAndEachEffectOfTheTableIsOneThatIsDone(t *testing.T) {
	for check, does := range checkers() {
		if (does == nil) != (dropindir.Check(check) == dropindir.NoCheck) {
			t.Errorf("check %d of package dropindir: there is one: %v", check, does != nil)
		}
	}
	m := &running{root: machine(t, nil)}
	s := kindtest.Open(t, system.Options{Root: m.root})
	s.Root, s.Runner, s.Units = "/", m, system.Units{UnitStates: m, UnitJobs: m, UnitFiles: m, UnitManager: m}
	for effect := range dropindir.Effects {
		if err := activation(effect).run(t.Context(), s, nil); err != nil && strings.Contains(err.Error(), "a bug of the agent") {
			t.Error(err)
		}
	}
	if err := activation(dropindir.Effects).run(t.Context(), s, nil); err == nil {
		t.Error("an effect that is none is passed over")
	}
}

func TestWhoIncludesADirectoryInWhateverWordsReadsIt(t *testing.T) {
	for name, mains := range map[string]map[string]string{
		"/etc/ssh/sshd_config.d/10.conf": {sshdMain: "include \"sshd_config.d/*\"\n"},
		"/etc/ssh/sshd_config.d/20.conf": {sshdMain: "Include /etc/ssh/a.conf /etc/ssh/sshd_config.d/*.conf\n"},
		"/etc/ssh/sshd_config.d/30.conf": {sshdMain: "Include /etc/ssh/more.conf\n", "/etc/ssh/more.conf": "Include=/etc/ssh/sshd_config.d/30.conf\n"},
		"/etc/chrony.d/a.conf":           {"/etc/chrony.conf": "include /etc/chrony.d/*.conf\n"},
		"/etc/rsyslog.d/a.conf":          {"/etc/rsyslog.conf": "include(file=\"/etc/rsyslog.d/*.conf\" mode=\"optional\")\n"},
		"/etc/logrotate.d/a":             {logrotateMain: "include /etc/logrotate.d/\n"},
	} {
		m := &running{root: machine(t, mains)}
		if r := m.one(t, name, "# nothing\n"); !r.State.InLine() {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
}

func TestWhatDecidesWhetherAFileIsReadIsWatched(t *testing.T) {
	s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
	ledger := kindtest.LedgerIn(t, s.FS)
	k := New(files(map[string]policy.Dropin{"/etc/ssh/sshd_config.d/10.conf": {Content: "X11Forwarding no\n"}}), s, ledger, schedule.Window{})
	if !slices.ContainsFunc(k.Watches(), func(w converge.Watch) bool { return w.Dir == "/etc/ssh" && slices.Contains(w.Names, "sshd_config") }) {
		t.Errorf("watched is %v", k.Watches())
	}
}

func TestWhatACommandOfThePolicyReadsIsRead(t *testing.T) {
	m := &running{root: machine(t, map[string]string{"/etc/nftables.conf": "flush ruleset\n"})}
	p := files(map[string]policy.Dropin{
		"/etc/nftables.d/a.nft":   {Content: "table inet a {}\n", Activate: []string{"/usr/sbin/nft", "-f", "/etc/nftables.d/a.nft"}},
		"/etc/iptables.d/a.rules": {Content: "*filter\n", Activate: []string{}},
	})
	for id, r := range m.pass(t, p) {
		if !r.State.InLine() {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestASettingOfSSHDThatAnotherFileMakesBeforeIsNotCalledCompliant(t *testing.T) {
	const ours = "/etc/ssh/sshd_config.d/50-soe.conf"
	m := &running{root: machine(t, map[string]string{sshdMain: "X11Forwarding yes\nInclude /etc/ssh/sshd_config.d/*.conf\n"})}
	m.sshd = &kindtest.SSHD{Root: m.root}
	if r := m.one(t, ours, "X11Forwarding no\nMatch User a\n"); r.State != converge.Failed || !strings.Contains(r.Reason, `"x11forwarding no"`) {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	kindtest.Put(t, m.root, sshdMain, "Include /etc/ssh/sshd_config.d/*.conf\nX11Forwarding yes\n")
	if r := m.one(t, ours, "X11Forwarding no\nMatch User a\n"); r.State != converge.Compliant {
		t.Errorf("once it comes first, it is %s: %s", r.State, r.Reason)
	}
}

func TestAPatternOfSysctlsMeansWhatNoLineNames(t *testing.T) {
	const ours, vendor = "/etc/sysctl.d/60-soe.conf", "/usr/lib/sysctl.d/50-default.conf"
	m := &running{root: machine(t, map[string]string{vendor: "net.ipv4.conf.default.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n"})}
	kernel := func(key, want string) {
		t.Helper()
		if got := strings.TrimSpace(kindtest.Read(t, m.root, "/proc/sys/net/ipv4/conf/"+key)); got != want {
			t.Errorf("%s is %s and not %s", key, got, want)
		}
	}
	for _, key := range []string{"all", "default", "lo", "eth0", "eth1.5"} {
		m.sysctl("net/ipv4/conf/"+key+"/rp_filter", "0")
	}
	content := "net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.eth0.rp_filter = 2\nnet.ipv4.conf.*.none = 1\n"
	if r := m.one(t, ours, content); r.State != converge.Failed || !strings.Contains(r.Reason, notRead+"the kernel has no net/ipv4/conf/*/none") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	content = strings.Replace(content, "net.ipv4.conf.*.none", "-net.ipv4.conf.*.none", 1)
	if r := m.one(t, ours, content); !r.State.InLine() {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	for key, want := range map[string]string{"all": "0", "default": "0", "lo": "1", "eth0": "2", "eth1.5": "1"} {
		kernel(key+"/rp_filter", want)
	}
	m.sysctl("net/ipv4/conf/eth2/rp_filter", "0")
	if r := m.one(t, ours, content); r.State != converge.Corrected {
		t.Errorf("a new interface: it is %s: %s", r.State, r.Reason)
	}
	kernel("eth2/rp_filter", "1")
	m.pass(t, files(nil))
	for key, want := range map[string]string{"default": "2", "lo": "0", "eth0": "0", "eth1.5": "0"} {
		kernel(key+"/rp_filter", want)
	}
}

func TestAKeyThatTheKernelDoesNotHaveIsSaid(t *testing.T) {
	const ours = "/etc/sysctl.d/60-soe.conf"
	m := &running{root: machine(t, nil)}
	m.sysctl("net/ipv4/conf/all/accept_redirects", "1")
	r := m.one(t, ours, "net.ipv4.conf.all.acept_redirects = 0\nnet.ipv4.conf.all.accept_redirects = 0\n-net.bridge.none = 1\n")
	if r.State != converge.Failed || !strings.Contains(r.Reason, "acept_redirects") || strings.Contains(r.Reason, "bridge") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if got := kindtest.Read(t, m.root, "/proc/sys/net/ipv4/conf/all/accept_redirects"); got != "0\n" {
		t.Errorf("the other key is %s", got)
	}
}

func TestANumberThatTheKernelWritesInItsOwnWayIsTheSame(t *testing.T) {
	for _, test := range []struct {
		want, got string
		same      bool
	}{
		{"0x10", "16", true}, {"010", "8", true}, {"1 2\t3", "1\t2\t3", true}, {"30", "3", false}, {"a", "a", true}, {"1", "a", false}, {"1 2", "1", false},
	} {
		if got := sameSysctl(test.want, test.got); got != test.same {
			t.Errorf("%q and %q: %v", test.want, test.got, got)
		}
	}
}
