package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// canary is the value of a secret. It must be in the file that wants it and in no
// other byte of the machine.
const canary = "c4n4ry-5ecret-8d1f0e"

var denied = awsfake.AccessDenied("ssm:GetParameters", "arn:aws:ssm:eu-west-1:123456789012:parameter/soe/prod/manifest")

const tokenFile = "/etc/soe-scan.d/token.conf"

// fleetPolicy is the policy of a fleet: enough of every kind to be real.
func (w *workspace) fleetPolicy() map[string]string {
	var packages, dropins strings.Builder
	for i := 1; i <= 24; i++ {
		fmt.Fprintf(&packages, "soe-pkg-%02d = \"present\"\n", i)
	}
	packages.WriteString("soe-pkg-30 = \"1.0-1\"\nsoe-service = \"present\"\nsoe-pkg-40 = \"absent\"\n")
	for i := range 36 {
		place := []string{"profile.d/soe-%02d.sh", "modprobe.d/soe-%02d.conf", "sysctl.d/70-soe-%02d.conf"}[i%3]
		fmt.Fprintf(&dropins, "[dropins.\"/etc/"+place+"\"]\ncontent = \"# managed, number %d\\n\"\n", i, i)
	}
	base := fmt.Sprintf(`schema = 1
personas = ["base"]
[system]
timezone = "Europe/Berlin"
[groups.soe-scan]
gid = 510
[users.soe-scan]
uid = 510
group = "soe-scan"
system = true
[groups.ops]
gid = 520
[users.opal]
uid = 521
group = "ops"
shell = "/bin/bash"
[sudo]
allow = ["root", "%%ops"]
[repositories.corp]
baseurl = "{{resolve:ssm:/soe/prod/repository}}"
gpgkey = %q
fingerprint = %q
[pcoip]
server_clipboard_state = 0
maximum_frame_rate = 30
[dconf."org/mate/screensaver"]
lock-enabled = true
[dconf."org/mate/desktop/session"]
idle-delay = 7
[dconf."org/mate/desktop/background"]
picture-options = { value = "centered", lock = false }
[services."soe-service.service"]
enabled = true
running = true
[checks.etc-is-there]
run = ["/usr/bin/test", "-d", "/etc"]
[dropins.%q]
content = "token = {{resolve:secretsmanager:soe/scanner:SecretString:token}}\n"
[packages]
%s
[[rules]]
match = ["sudo/*"]
severity = "critical"
controls = ["CIS-AL2-5.2.2"]
`, rpmrepo.KeyURL, w.repo.Fingerprint, tokenFile, packages.String())
	developer := `schema = 1
personas = ["developer"]
[pcoip]
maximum_frame_rate = 60
`
	files := "schema = 1\n" + dropins.String()
	return map[string]string{"10-base": base, "15-files": files, "20-developer": developer}
}

func (w *workspace) publish(t *testing.T, serial int, fragments map[string]string) {
	t.Helper()
	w.aws.PutParameter("/soe/prod/repository", rpmrepo.BaseURL)
	w.aws.PutSecret("soe/scanner", fmt.Sprintf(`{"token":%q}`, canary))
	w.publishOnly(t, serial, fragments)
}

func TestAThinImageBecomesItsPersonasDesktopUnattendedAndStaysIt(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	r := w.bootWith(t, 7, w.fleetPolicy())

	t.Run("packages come from the signed repository", func(t *testing.T) {
		for i := 1; i <= 24; i++ {
			w.MustExec(t, "rpm", "-q", fmt.Sprintf("soe-pkg-%02d", i))
		}
		if got := strings.TrimSpace(w.MustExec(t, "rpm", "-q", "soe-pkg-30")); got != "soe-pkg-30-1.0-1.noarch" {
			t.Errorf("the version wanted is not there: %s", got)
		}
	})
	t.Run("drop-ins are there as the policy has them", func(t *testing.T) {
		if got := w.MustReadFile(t, "/etc/modprobe.d/soe-01.conf"); got != "# managed, number 1\n" {
			t.Errorf("got %q", got)
		}
		n := strings.Count(w.MustExec(t, "sh", "-c", "ls /etc/profile.d/soe-[0-9]* /etc/modprobe.d/soe-* /etc/sysctl.d/70-soe-*"), "\n")
		if n != 36 {
			t.Errorf("%d drop-ins of 36", n)
		}
	})
	t.Run("PCoIP settings are merged into the file that was there", func(t *testing.T) {
		got := w.MustReadFile(t, box.PCoIPConf)
		for _, line := range []string{
			"# PCoIP agent configuration", "pcoip.desktop_session = mate", "#pcoip.minimum_image_quality = 100",
			"pcoip.license_server_path = /opt/pcoip/license", "pcoip.server_clipboard_state = 0", "pcoip.maximum_frame_rate = 60",
		} {
			if !slices.Contains(strings.Split(got, "\n"), line) {
				t.Errorf("the line %q is not in\n%s", line, got)
			}
		}
		if strings.Count(got, "server_clipboard_state") != 1 {
			t.Errorf("a key stands twice:\n%s", got)
		}
	})
	t.Run("locks hold for the user, whatever profile the user sets", func(t *testing.T) {
		for _, env := range []string{"A=b", "DCONF_PROFILE=/home/user/profile"} {
			w.MustExec(t, "sh", "-c", "echo user-db:user > /home/user/profile; chown user /home/user/profile")
			got := w.MustExecAs(t, box.DesktopUser, "env", env, "gsettings", "writable", "org.mate.screensaver", "lock-enabled")
			if strings.TrimSpace(got) != "false" {
				t.Errorf("with %s the lock is writable: %s", env, got)
			}
			if got := strings.TrimSpace(w.MustExecAs(t, box.DesktopUser, "env", env, "gsettings", "get", "org.mate.session", "idle-delay")); got != "7" {
				t.Errorf("with %s idle-delay is %s", env, got)
			}
			if got := strings.TrimSpace(w.MustExecAs(t, box.DesktopUser, "env", env, "gsettings", "writable", "org.mate.background", "picture-options")); got != "true" {
				t.Errorf("with %s a default cannot be changed: %s", env, got)
			}
		}
	})
	t.Run("accounts have their ids", func(t *testing.T) {
		if got := strings.TrimSpace(w.MustExec(t, "id", "soe-scan")); got != "uid=510(soe-scan) gid=510(soe-scan) groups=510(soe-scan)" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the user's sudo is gone, and administrators keep theirs", func(t *testing.T) {
		for user, may := range map[string]bool{box.DesktopUser: false, box.DomainAdmin: false, "opal": true, "root": true} {
			if fails := w.fails(t, "sudo", "-l", "-U", user, "/usr/bin/id"); fails == may {
				t.Errorf("%s may use sudo: %v, want %v", user, !fails, may)
			}
		}
		w.MustExec(t, "visudo", "-c")
	})
	t.Run("polkit asks an administrator and not the user", func(t *testing.T) {
		got := w.administrators(t)
		if !strings.Contains(got, "Authenticating as: root") {
			t.Errorf("polkit would ask: %s", got)
		}
	})
	t.Run("services are as told", func(t *testing.T) {
		w.MustExec(t, "systemctl", "is-active", "soe-service.service")
		w.MustExec(t, "systemctl", "is-enabled", "soe-service.service")
		w.MustExec(t, "systemctl", "is-active", "soe-configured.target")
	})
	t.Run("the secret is in the one file that wants it and nowhere else", func(t *testing.T) {
		if got := w.MustReadFile(t, tokenFile); got != "token = "+canary+"\n" {
			t.Errorf("the file has %q", got)
		}
		if got := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%a %U", tokenFile)); got != "600 root" {
			t.Errorf("the file is %s", got)
		}
		w.wantsNoCanary(t)
	})
	t.Run("the compliance items that arrived are those of the report", func(t *testing.T) {
		w.wantsDelivered(t)
		sudo := r.Resources[slices.IndexFunc(r.Resources, func(r converge.Resource) bool { return r.ID == "sudo/allow" })]
		if sudo.Severity != policy.Critical || !slices.Equal(sudo.Controls, []string{"CIS-AL2-5.2.2"}) {
			t.Errorf("the rule is not in the report: %+v", sudo)
		}
	})
	t.Run("a plan finds nothing to do", func(t *testing.T) {
		if result, err := w.Exec(t.Context(), "soe-agent", "plan"); err != nil || result.Code != 0 {
			t.Errorf("plan: %v, exit code %d\n%s%s", err, result.Code, result.Stdout, result.Stderr)
		}
	})
	t.Run("a second apply writes nothing", func(t *testing.T) {
		w.MustExec(t, "systemctl", "stop", "soe-agent")
		before := w.snapshot(t)
		if result, err := w.Exec(t.Context(), "soe-agent", "apply"); err != nil || result.Code != 0 {
			t.Fatalf("apply: %v, exit code %d\n%s%s", err, result.Code, result.Stdout, result.Stderr)
		}
		if after := w.snapshot(t); after != before {
			t.Errorf("apply has written: %s", firstDifference(before, after))
		}
	})
}

// snapshot describes every file that anything could have written, but for the report: inode, change
// time and size. Readers of rpm's database touch the -shm and -wal files beside it, and write nothing
// else.
func (w *workspace) snapshot(t *testing.T) string {
	t.Helper()
	return w.MustExec(t, "sh", "-c",
		"find /etc /usr /var /root /home /boot /opt /srv -xdev -not -path '/var/log/*' -not -name 'rpmdb.sqlite-*' -not -path /var/lib/soe-agent -not -path /var/lib/soe-agent/report.json -printf '%p %i %C@ %s\\n' | sort")
}

func firstDifference(before, after string) string {
	was := map[string]bool{}
	for line := range strings.Lines(before) {
		was[line] = true
	}
	for line := range strings.Lines(after) {
		if !was[line] {
			return line
		}
	}
	return "something is gone"
}

// administrators is whom polkit asks when the desktop user wants to become root.
func (w *workspace) administrators(t *testing.T) string {
	t.Helper()
	// The agent built into pkcheck names on its terminal those who could say yes.
	result, err := w.ExecAs(t.Context(), box.DesktopUser, "script", "-qec",
		"timeout 5 pkcheck --action-id org.freedesktop.policykit.exec --process $$ --allow-user-interaction --enable-internal-agent", "/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	return result.Stdout + result.Stderr
}

// wantsNoCanary looks for the secret in all files but one, the journal, the
// environment and arguments of all processes.
func (w *workspace) wantsNoCanary(t *testing.T) {
	t.Helper()
	found, err := w.Exec(t.Context(), "grep", "-rlIa", "--exclude-dir=proc", "--exclude-dir=sys", "--exclude-dir=dev", "--", canary, "/")
	if err != nil {
		t.Fatal(err)
	}
	if files := strings.TrimSpace(found.Stdout); files != tokenFile {
		t.Errorf("the secret is in %q", files)
	}
	inProcesses, err := w.Exec(t.Context(), "sh", "-c", `for p in /proc/[0-9]*; do [ "$p" = "/proc/$$" ] && continue; cat "$p/cmdline" "$p/environ" 2>/dev/null; done | grep -ac 'c4n4ry-5[e]cret'`)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.TrimSpace(inProcesses.Stdout); n != "0" {
		t.Errorf("%s processes have the secret in arguments or environment", n)
	}
	if journal := w.MustExec(t, "journalctl", "--no-pager"); strings.Contains(journal, canary) {
		t.Error("the secret is in the journal")
	}
}

// wantsDelivered waits until the endpoint has the report as it is.
func (w *workspace) wantsDelivered(t *testing.T) {
	t.Helper()
	w.until(t, "the report has arrived as it is", func() bool {
		stored, ok := w.aws.Compliance(nodeID, report.ComplianceType)
		if !ok {
			return false
		}
		arrived := map[string]string{}
		for _, item := range stored.Items {
			arrived[item.ID] = item.Status + " " + item.Details["state"]
		}
		r := w.report(t)
		if len(r.Resources) != len(arrived) {
			return false
		}
		for _, resource := range r.Resources {
			status := "NON_COMPLIANT"
			if resource.State.InLine() {
				status = "COMPLIANT"
			}
			if arrived[string(resource.ID)] != status+" "+string(resource.State) {
				return false
			}
		}
		return true
	})
}

func (w *workspace) fails(t *testing.T, args ...string) bool {
	t.Helper()
	result, err := w.Exec(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return result.Code != 0
}

func TestTheMachineIsReadyBeforeItTouchesTheNetwork(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, w.fleetPolicy())
	show := w.MustExec(t, "systemctl", "show", "-p", "ExecMainStartTimestamp,ActiveEnterTimestamp", "--timestamp=us+utc", "soe-agent")
	started, ready := timestamp(t, show, "ExecMainStartTimestamp="), timestamp(t, show, "ActiveEnterTimestamp=")
	if took := ready.Sub(started); took > soon { // 0.3 s on a machine that does nothing else
		t.Errorf("READY=1 came %s after the start", took)
	} else {
		t.Logf("READY=1 came %s after the start", took)
	}
	requests := w.aws.Requests()
	if len(requests) == 0 {
		t.Fatal("no request has arrived")
	}
	// When systemd heard of it depends on what else it had to do.
	var said float64
	line := w.MustExec(t, "sh", "-c", "journalctl --no-pager -u soe-agent -o short-unix | grep -m 1 ': ready$'")
	if _, err := fmt.Sscan(line, &said); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if first := requests[0].Time; first.Before(time.UnixMicro(int64(said * 1e6))) {
		t.Errorf("the first request, %s, came before READY=1 was said: %s, at %s", requests[0].Action, line, first)
	}
}

func timestamp(t *testing.T, show, key string) time.Time {
	t.Helper()
	for line := range strings.Lines(show) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			at, err := time.Parse("Mon 2006-01-02 15:04:05.000000 MST", value)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatalf("no %s in %s", key, show)
	return time.Time{}
}

func TestWithoutCredentialsTheSeedLocksDownAndStatusSaysWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.publish(t, 1, w.fleetPolicy())
	w.boot(t)
	w.until(t, "the daemon waits", func() bool { s, _ := w.status(t); return s.Waiting != "" })
	s, _ := w.status(t)
	if s.Phase != agent.Bootstrapping || !strings.Contains(s.Waiting, "waiting for activation") {
		t.Errorf("status: %s, waiting for %q", s.Phase, s.Waiting)
	}
	if !w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
		t.Error("the desktop user has sudo")
	}
	if got := w.MustReadFile(t, "/etc/sysctl.d/60-soe-seed.conf"); !strings.Contains(got, "fs.suid_dumpable = 0") {
		t.Errorf("the seed's drop-in is not there: %q", got)
	}
	w.activate(t)
	w.converged(t, 1)
}

func TestDeniedAndUnreachableAreToldApart(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.publish(t, 1, w.fleetPolicy())
	w.activate(t)
	w.aws.FailAlways("GetParameters", denied)
	w.boot(t)
	w.until(t, "status says denied", func() bool { s, _ := w.status(t); return strings.Contains(s.Waiting, "denied") })
	w.aws.Down()
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	w.until(t, "status says that there is no network", func() bool { s, _ := w.status(t); return strings.Contains(s.Waiting, "no network") })
	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	w.aws.Heal()
	w.MustExec(t, "systemctl", "reload", "soe-agent")
	w.converged(t, 1)
}

func TestAfterARebootWithoutAWSTheLastGoodPolicyHoldsAndThenTheAgentCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	fragments := w.fleetPolicy()
	w.bootWith(t, 1, fragments)

	w.aws.Down()
	if err := w.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.MustWriteFile(t, "/etc/modprobe.d/soe-01.conf", box.File{Content: "changed while it was off\n"})
	w.boot(t)
	w.until(t, "the last good policy is enforced without AWS", func() bool {
		s, _ := w.status(t)
		return s.Serial == 1 && strings.Contains(s.Waiting, "no network") && !s.LastPass.IsZero()
	})
	if got := w.MustReadFile(t, "/etc/modprobe.d/soe-01.conf"); got != "# managed, number 1\n" {
		t.Errorf("the drop-in is %q", got)
	}
	if got := w.MustReadFile(t, tokenFile); got != "token = "+canary+"\n" {
		t.Errorf("the secret's file is %q", got)
	}

	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	fragments["20-developer"] = strings.Replace(fragments["20-developer"], "60", "50", 1)
	w.publish(t, 2, fragments)
	w.converged(t, 2)
	if got := w.MustReadFile(t, box.PCoIPConf); !strings.Contains(got, "pcoip.maximum_frame_rate = 50") {
		t.Errorf("the newer policy is not in force:\n%s", got)
	}
	w.wantsNoCanary(t)
}

func TestAMachineThatHasLostThePublishedPolicyTakesNothingOfItAway(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, w.fleetPolicy())

	w.aws.Down()
	if err := w.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.MustWriteFile(t, "/var/lib/soe-agent/lastgood.json", box.File{Content: "{ torn"})
	w.boot(t)
	w.until(t, "the seed is enforced without AWS", func() bool {
		s, _ := w.status(t)
		return s.Serial == 0 && strings.Contains(s.Waiting, "no network") && !s.LastPass.IsZero()
	})
	for _, name := range []string{"/etc/modprobe.d/soe-01.conf", tokenFile} {
		w.MustReadFile(t, name)
	}
}
