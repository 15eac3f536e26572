package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// A readerCase is a file, and how its reader is asked what it makes of it.
type readerCase struct {
	file, content, more string // more is of the policy's table
	ask                 string // a shell's command
	says                string // part of the answer while the file is there, and not once it has gone
	pending             bool   // until the reboot: what it says by then is asked
}

func readerCases(t *testing.T) []readerCase {
	authority := authorityPEM(t)
	return []readerCase{
		{file: "/etc/sysctl.d/60-soe.conf", content: "net.ipv4.tcp_fin_timeout = 30\nnet.ipv4.conf.*.log_martians = 1\n", ask: "sysctl -n net.ipv4.tcp_fin_timeout net.ipv4.conf.eth0.log_martians | tr '\\n' ' '", says: "30 1"},
		{file: "/etc/ssh/sshd_config.d/10-soe.conf", content: "MaxAuthTries 3\n", ask: "sshd -T", says: "maxauthtries 3\n"},
		{file: "/etc/ssh/ssh_config.d/10-soe.conf", content: "Host *\nConnectTimeout 77\n", ask: "ssh -G nowhere", says: "connecttimeout 77"},
		{file: "/etc/chrony/conf.d/soe.conf", content: "maxdistance 7.5\n", ask: "chronyd -p -f /etc/chrony/chrony.conf", says: "maxdistance 7.5"},
		{file: "/etc/rsyslog.d/60-soe.conf", content: "local7.* /var/log/soe-reader.log\n", ask: "rsyslogd -N1 -o /root/full.conf; cat /root/full.conf", says: "/var/log/soe-reader.log"},
		{file: "/etc/logrotate.d/soe", content: "/var/log/soe-reader.log {\n\tweekly\n\tmissingok\n}\n", ask: "logrotate -d /etc/logrotate.conf 2>&1", says: "/var/log/soe-reader.log"},
		{file: "/etc/nftables.d/soe.nft", content: "table inet soe_reader { }\n", more: "activate = [\"/usr/sbin/nft\", \"-f\", \"/etc/nftables.conf\"]\n", ask: "nft list ruleset", says: "soe_reader"},
		systemdSettings("journald", "Journal", "MaxLevelStore=info", false),
		{file: "/etc/systemd/system/soe-reader.service.d/10.conf", content: "[Unit]\nDescription=of the policy\n", ask: "systemctl show -p Description soe-reader.service", says: "of the policy"},
		{file: "/etc/systemd/system/soe-asked.service", content: "[Unit]\nDescription=of the policy\n[Service]\nExecStart=/bin/true\n", ask: "systemctl show -p Description soe-asked.service", says: "of the policy"},
		systemdSettings("logind", "Login", "HoldoffTimeoutSec=31s", true),
		systemdSettings("system", "Manager", "DefaultTimeoutStopSec=77s", true),
		systemdSettings("user", "Manager", "DefaultTimeoutStopSec=77s", false),
		systemdSettings("sleep", "Sleep", "HibernateDelaySec=77min", false),
		{file: "/etc/chrony.d/soe.conf", content: "maxslewrate 77\n", ask: "chronyd -p -f /etc/chrony/chrony.conf", says: "maxslewrate 77"},
		{file: "/etc/modules-load.d/soe.conf", content: "# soe-reader\n", ask: "SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console /usr/lib/systemd/systemd-modules-load 2>&1", says: "/etc/modules-load.d/soe.conf"},
		{file: "/etc/sysusers.d/soe.conf", content: "u soe-reader - \"The reader\"\n", ask: "systemd-analyze cat-config sysusers.d", says: "u soe-reader"},
		{file: "/etc/polkit-1/rules.d/60-soe.rules", content: "polkit.addRule(function(action, subject) { if (action.id == 'org.freedesktop.login1.inhibit-delay-shutdown') { return polkit.Result.NO; } });\n", ask: "su dadmin -s /bin/sh -c 'pkcheck -a org.freedesktop.login1.inhibit-delay-shutdown -p $$ 2>&1'", says: "Not authorized"},
		{file: "/etc/xdg/autostart/soe-reader.desktop", content: "[Desktop Entry]\nType=Application\nName=soe\nExec=/bin/true\n", ask: "d=$(mktemp -d); /usr/lib/systemd/user-generators/systemd-xdg-autostart-generator $d $d $d; ls $d", says: `app-soe\x2dreader@autostart.service`},
		{file: "/etc/update-motd.d/60-soe-reader", content: "#!/bin/sh\necho soe-reader\n", ask: "run-parts --lsbsysinit /etc/update-motd.d", says: "soe-reader"},
		cronJob("hourly"),
		cronJob("daily"),
		cronJob("weekly"),
		cronJob("monthly"),
		{file: "/etc/tmpfiles.d/soe.conf", content: "d /run/soe-reader 0750 root root\n", ask: "systemd-analyze cat-config tmpfiles.d; stat -c 'mode %a' /run/soe-reader", says: "/run/soe-reader 0750"},
		{file: "/etc/sudoers.d/60-soe", content: "Defaults:dadmin passwd_tries=7\n", ask: "sudo -l -U dadmin", says: "passwd_tries=7"},
		{file: "/etc/profile.d/soe-reader.sh", content: "export SOE_READER=here\n", ask: "bash -lc 'echo $SOE_READER'", says: "here"},
		{file: "/etc/ld.so.conf.d/soe.conf", content: "/opt/soe-reader\n", ask: "ldconfig -N -v 2>&1", says: "/opt/soe-reader"},
		{file: "/etc/security/limits.d/60-soe.conf", content: "dadmin soft nofile 777\n", ask: "su dadmin -s /bin/sh -c 'ulimit -Sn'", says: "777"},
		{file: "/etc/environment.d/60-soe.conf", content: "SOE_READER=here\n", ask: "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator", says: "SOE_READER=here"},
		{file: "/usr/local/share/ca-certificates/soe.crt", content: authority, ask: "cat /etc/ssl/certs/ca-certificates.crt", says: strings.Split(authority, "\n")[1]},
	}
}

// systemdSettings is a file with one setting of one of systemd's programs.
func systemdSettings(program, section, setting string, pending bool) readerCase {
	return readerCase{
		file: "/etc/systemd/" + program + ".conf.d/soe.conf", content: "[" + section + "]\n" + setting + "\n",
		ask: "systemd-analyze cat-config systemd/" + program + ".conf", says: "\n" + setting, pending: pending,
	}
}

// cronJob is a job that cron has run-parts start so often.
func cronJob(often string) readerCase {
	dir := "/etc/cron." + often
	return readerCase{file: dir + "/soe-reader", content: "#!/bin/sh\ntrue\n", ask: "run-parts --test " + dir, says: "soe-reader"}
}

// askedNowhere says of families why nobody can be asked in a box.
func askedNowhere() map[string]string {
	const noBrowser = "a browser has a page for its policies and no command, and none is in the box: TestAFileThatNobodyReadsIsNeverCompliantAndTheReasonSaysWhoWould"
	const notThere = "its program is not in the box, and then nothing is called in effect: TestAFileThatNobodyReadsIsNeverCompliantAndTheReasonSaysWhoWould"
	return map[string]string{
		"/etc/cron.d":                      "cron tells nobody what it has read; what it passes over: TestFilesThatTheirReadersAcceptAreWritten, TestANameThatItsReaderPassesOverIsRefused",
		"/etc/X11/xinit/xinitrc.d":         notThere,
		"/etc/audit/rules.d":               "a container has no audit of its own: TestRulesOfTheAuditThatTheKernelDoesNotShowAreLoadedAgain",
		"/etc/udev/rules.d":                "a container has no udev",
		"/etc/pki/ca-trust/source/anchors": notThere,
		"/etc/systemd/timesyncd.conf.d":    notThere,
		"/etc/systemd/resolved.conf.d":     notThere,
		"/etc/systemd/oomd.conf.d":         notThere,
		"/etc/systemd/coredump.conf.d":     notThere,
		"/etc/systemd/networkd.conf.d":     "no network is to be changed under the box; it is read at the boot, like logind's",
		"/etc/firefox/policies":            noBrowser,
		"/etc/opt/*/policies/managed":      noBrowser,
		"/etc/opt/chrome/policies/managed": noBrowser,
		"/etc/opt/edge/policies/managed":   noBrowser,
		"/etc/chromium/policies/managed":   noBrowser,
	}
}

func TestOfEachFamilyOfDropinsTheReaderIsAskedOrThereIsAReason(t *testing.T) {
	t.Parallel()
	for _, family := range dropindir.All() {
		if family.Check == dropindir.NoCheck && family.Effect == dropindir.None {
			continue // nothing is done for its reader
		}
		asked := slices.ContainsFunc(readerCases(t), func(c readerCase) bool {
			return dropindir.Of(path.Dir(c.file)).Dir == family.Dir
		})
		if why := askedNowhere()[family.Dir]; asked == (why != "") {
			t.Errorf("the reader of %s is asked: %v; why not: %q", family.Dir, asked, why)
		}
	}
}

// authorityPEM is the certificate of an authority that nobody knows.
func authorityPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "soe"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// readersDesktop is a desktop on which whoever reads drop-ins can be asked.
func readersDesktop(t *testing.T) *desktop {
	t.Helper()
	d := newDesktop(t, box.WithNetwork())
	d.MustWriteFile(t, "/etc/nftables.conf", box.File{Content: "flush ruleset\ninclude \"/etc/nftables.d/*.nft\"\n"})
	d.MustWriteFile(t, "/etc/systemd/system/soe-reader.service", box.File{Content: "[Unit]\nDescription=nobody's\n[Service]\nExecStart=/bin/sleep inf\n"})
	// The network's sysctls are its own; nspawn lets nobody set them all the same.
	d.MustExec(t, "sh", "-ec", "mount --bind /proc/sys/net /proc/sys/net; mount -o remount,bind,rw /proc/sys/net")
	d.MustExec(t, "sh", "-ec", "mkdir -p /opt/soe-reader /etc/nftables.d; echo 'confdir /etc/chrony.d' >>/etc/chrony/chrony.conf; ssh-keygen -q -A; systemctl daemon-reload; systemctl start ssh.service")
	return d
}

func TestWhatIsWrittenIsInEffectAndWhatIsRemovedIsNotWhoeverIsAsked(t *testing.T) {
	t.Parallel()
	d := readersDesktop(t)
	asked := readerCases(t)
	var toml strings.Builder
	states := map[policy.ID]converge.State{}
	for _, c := range asked {
		fmt.Fprintf(&toml, "[dropins.%q]\ncontent = '''\n%s'''\n%s", c.file, c.content, c.more)
		states[policy.NewID("dropin", c.file)] = converge.Corrected
		if c.pending {
			states[policy.NewID("dropin", c.file)] = converge.Pending
		}
	}
	answers := func(there bool) {
		t.Helper()
		for _, c := range asked {
			said, err := d.Exec(t.Context(), "sh", "-c", c.ask)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(said.Stdout, c.says) != there {
				t.Errorf("%s is there: %v; asked with %q its reader says\n%s\n%s", c.file, there, c.ask, said.Stdout, said.Stderr)
			}
		}
	}
	answers(false)
	d.apply(t, toml.String()).wants(t, states)
	answers(true)
	d.converged(t)
	d.apply(t, "").wants(t, states)
	answers(false)
	d.converged(t)
}

func TestWhatTheReaderDoesNotTakeInIsNeverCompliant(t *testing.T) {
	t.Parallel()
	d := readersDesktop(t)
	files := map[string]string{
		"/etc/ssh/sshd_config.d/10-soe.conf": "MaxAuthTries 3\n", "/etc/chrony/conf.d/soe.conf": "maxdistance 7.5\n", "/etc/chrony.d/soe.conf": "maxdistance 7.5\n",
		"/etc/nftables.d/soe.nft": "table inet soe_reader { }\n", "/etc/iptables.d/soe.rules": "*filter\n", "/etc/dnf/dnf.conf.d/soe.conf": "[main]\n",
		"/etc/audit/rules.d/soe.rules": "-w /etc/soe -p wa\n", "/etc/logrotate.d/soe": "/var/log/soe-reader.log {\n\tweekly\n}\n", "/etc/rsyslog.d/60-soe.conf": "local7.* /var/log/soe-reader.log\n",
		"/etc/sysctl.d/60-soe.conf": "net.ipv4.conf.all.acept_redirects = 0\n", "/etc/systemd/system/soe-none.service.d/a.conf": "[Service]\nNice=1\n",
		"/etc/systemd/journald.conf.d/50-soe.conf": "[Journal]\nMaxLevelStore=info\n",
		"/etc/security/limits.d/10-soe.conf":       "* soft nofile 777\n", "/etc/systemd/system/soe-reader.service.d/10-soe.conf": "[Service]\nNice=3\n",
	}
	const sysctls = "/etc/sysctl.d/50-soe.conf"
	d.MustExec(t, "sh", "-ec", `sed -i '/^Include/d' /etc/ssh/sshd_config; sed -i '/^confdir/d' /etc/chrony/chrony.conf
mkdir -p /etc/systemd/journald.conf.d; printf '[Journal]\nMaxLevelStore=debug\n' >/etc/systemd/journald.conf.d/90-theirs.conf
sed -i '/^include/d' /etc/logrotate.conf /etc/nftables.conf; sed -i '/^\$IncludeConfig/d' /etc/rsyslog.conf`)
	d.MustExec(t, "sh", "-ec", `echo '* soft nofile 888' >/etc/security/limits.d/20-theirs.conf; mkdir /etc/systemd/system/soe-reader.service.d
printf '[Service]\nNice=4\n' >/etc/systemd/system/soe-reader.service.d/override.conf; echo net.ipv4.tcp_fin_timeout=44 >/etc/sysctl.d/99-theirs.conf`)
	toml := strings.Builder{}
	fmt.Fprintf(&toml, "[dropins.%q]\ncontent = \"net.ipv4.tcp_fin_timeout = 33\\n\"\n", sysctls)
	for name, content := range files {
		fmt.Fprintf(&toml, "[dropins.%q]\ncontent = '''\n%s'''\n", name, content)
	}
	for range 2 {
		o := d.apply(t, toml.String())
		for name := range files {
			if r := o.resource(policy.NewID("dropin", name)); r.State != converge.Failed || !strings.HasPrefix(r.Reason, "not read here: ") {
				t.Errorf("%s is %s: %s", name, r.State, r.Reason)
			}
		}
	}
	for ask, says := range map[string]string{"su dadmin -s /bin/sh -c 'ulimit -Sn'": "888\n", "systemctl show -p Nice soe-reader.service": "Nice=4\n", "sysctl -n net.ipv4.tcp_fin_timeout": "33\n"} {
		if got := d.MustExec(t, "sh", "-c", ask); got != says {
			t.Errorf("%s says %q, so that this test tests nothing", ask, got)
		}
	}
	// What the kernel has, it has until the boot.
	if r := d.plan(t).resource(policy.NewID("dropin", sysctls)); r.State != converge.Compliant || !strings.Contains(r.Reason, "at each boot /etc/sysctl.d/99-theirs.conf sets net/ipv4/tcp_fin_timeout = 44 after it") {
		t.Errorf("%s is %s: %s", sysctls, r.State, r.Reason)
	}
	d.MustExec(t, "sh", "-ec", "(echo MaxAuthTries 5; echo Include /etc/ssh/sshd_config.d/*.conf) >>/etc/ssh/sshd_config; sshd -t")
	if r := d.plan(t).resource("dropin/etc/ssh/sshd_config.d/10-soe.conf"); r.State != converge.Failed || !strings.Contains(r.Reason, `"maxauthtries 3"`) {
		t.Errorf("behind another setting it is %s: %s", r.State, r.Reason)
	}
	d.MustExec(t, "sed", "-i", "/^MaxAuthTries/d", "/etc/ssh/sshd_config")
	d.plan(t).wants(t, map[policy.ID]converge.State{"dropin/etc/ssh/sshd_config.d/10-soe.conf": converge.Compliant})
}

func TestAFileIsCheckedWithAllThatItsReaderReadsAndNoPackagesFileIsPutOutOfForce(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/nftables.conf", box.File{Content: "flush ruleset\ninclude \"/etc/nftables.d/*.nft\"\n"})
	const first, log = "/etc/logrotate.d/00-soe", "/var/log/dpkg.log" // which is dpkg's
	rotated := func() bool {
		said, err := d.Exec(t.Context(), "sh", "-c", "logrotate -d /etc/logrotate.conf 2>&1")
		return err == nil && strings.Contains(said.Stdout, "rotating pattern: "+log+"  monthly") && !strings.Contains(said.Stdout, "duplicate")
	}
	if !rotated() {
		t.Fatal("dpkg has no file for its log")
	}
	o := d.apply(t, `
[dropins."`+first+`"]
content = "`+log+` {\n\tweekly\n\tmissingok\n}\n"
[dropins."/etc/logrotate.d/soe"]
content = "/var/log/soe-none.log {\n\tweekly\n}\n"
[dropins."/etc/nftables.d/soe.nft"]
content = "table inet soe { chain a { bad; } }\n"
[dropins."/etc/tmpfiles.d/zz-soe.conf"]
content = "d /tmp 1777 root root 1d\n"
[dropins."/etc/logrotate.d/soe-wrong"]
content = "/var/log/soe-other.log {\n\tweakly\n}\n"
`)
	o.wants(t, map[policy.ID]converge.State{"dropin/etc/logrotate.d/soe": converge.Corrected, "dropin/etc/logrotate.d/soe-wrong": converge.Failed})
	for id, why := range map[policy.ID]string{"dropin/etc/nftables.d/soe.nft": "nft refuses it: ", "dropin/etc/tmpfiles.d/zz-soe.conf": "/usr/lib/tmpfiles.d/tmp.conf has a line for /tmp"} {
		if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, why) {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	if r := o.resource(policy.NewID("dropin", first)); r.State != converge.Failed || !strings.Contains(r.Reason, " dpkg:1 ") || !strings.Contains(r.Reason, "duplicate log entry for "+log) {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if !rotated() {
		t.Error("dpkg's own file is out of force")
	}
}

func TestWhatAFileHasOthersWriteIsHeldToTheProtectedListOnTheMachineToo(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/cron.deny", box.File{Content: "x\n"})
	const toml = `
[dropins."/etc/tmpfiles.d/soe.conf"]
content = "d /run/soe-tmpfiles 0750\nr /etc/cron.deny\n"
[dropins."/etc/tmpfiles.d/soe-boot.conf"]
content = "f! /run/soe-boot 0600\n"
[dropins."/etc/sysusers.d/soe.conf"]
content = "u soe-reader - \"The reader\"\n"
[dropins."/etc/skel/.soerc"]
content = "export SOE=1\n"
`
	const boot = "dropin/etc/tmpfiles.d/soe-boot.conf"
	o := d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{
		"dropin/etc/tmpfiles.d/soe.conf": converge.Corrected, boot: converge.Pending, "dropin/etc/sysusers.d/soe.conf": converge.Corrected, "dropin/etc/skel/.soerc": converge.Corrected,
	})
	if r := o.resource(boot); r.Effect != converge.Reboot {
		t.Errorf("it waits for %s: %s", r.Effect, r.Reason)
	}
	d.MustExec(t, "sh", "-ec", "test -d /run/soe-tmpfiles; test ! -e /etc/cron.deny; test ! -e /run/soe-boot; id soe-reader; useradd -m soe-new; test -e /home/soe-new/.soerc")
	if err := d.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.plan(t).wants(t, map[policy.ID]converge.State{boot: converge.Compliant})
	d.MustExec(t, "test", "-e", "/run/soe-boot")
	d.setPolicy(t, "[dropins.\"/etc/tmpfiles.d/soe.conf\"]\ncontent = \"F /etc/pam.d/soe - - - - auth sufficient pam_permit.so\\n\"\n")
	refused, err := d.Exec(t.Context(), "soe-agent", "apply", "--policy", policyDir)
	if err != nil || refused.Code != 1 || !strings.Contains(refused.Stderr, "/etc/pam.d/soe") || !d.fails(t.Context(), "test", "-e", "/etc/pam.d/soe") {
		t.Errorf("exit code %d: %s (%v)", refused.Code, refused.Stderr, err)
	}
}
