package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// The agent's own package: what it does when it comes, is renewed, and goes.
func TestThePackageComesIsRenewedAndGoesAndTheDesktopStaysAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: "personas = [\"base\"] # mine\n"})
	w.bootAlone(t)
	if got := strings.TrimSpace(w.MustExec(t, "systemctl", "is-enabled", "soe-agent")); got != "enabled" {
		t.Errorf("after the install the unit is %s", got)
	}
	pid := w.MustExec(t, "systemctl", "show", "-p", "MainPID", "soe-agent")
	theAgentsAlone := func() {
		t.Helper()
		for unit, want := range map[string]string{"soe-agent.service": "MemoryMax=1073741824", "soe-somebodys.service": "MemoryMax=infinity", "soe-agent-too.service": "MemoryMax=infinity"} {
			if got := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MemoryMax", unit)); got != want {
				t.Errorf("%s has %s and not %s", unit, got, want)
			}
		}
	}
	for _, name := range []string{"soe-somebodys.service", "soe-agent-too.service"} {
		w.MustWriteFile(t, unitDir+name, unit(stays, ""))
	}
	w.MustExec(t, "systemctl", "daemon-reload")
	theAgentsAlone()

	w.MustExec(t, "rpm", "-U", "--force", "--nodeps", "/root/soe-agent.rpm")
	w.until(t, "the renewed agent runs", func() bool {
		_, code := w.status(t)
		return code == 0 && w.MustExec(t, "systemctl", "show", "-p", "MainPID", "soe-agent") != pid
	})
	if got := w.MustReadFile(t, agent.ConfigFile); !strings.Contains(got, "# mine") {
		t.Errorf("the configuration was replaced: %s", got)
	}
	theAgentsAlone()

	w.MustExec(t, "rpm", "-e", "soe-agent")
	if !w.fails(t, "systemctl", "is-active", "soe-agent") {
		t.Error("the daemon still runs")
	}
	for _, gone := range []string{"/usr/bin/soe-agent", "/run/soe-agent", "/usr/lib/systemd/system/soe-agent.service", "/usr/lib/systemd/system/soe-agent.service.d"} {
		if !w.fails(t, "test", "-e", gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	if left := w.MustExec(t, "sh", "-c", "find /var/lib/soe-agent -type f ! -path '*/backups/*'"); left != "" {
		t.Errorf("of what it knew there is still %s", left)
	}
	w.MustExec(t, "test", "-e", "/etc/sysctl.d/60-soe-seed.conf")
	w.MustExec(t, "visudo", "-c")
}

func TestTheUnitIsOneThatSystemdAcceptsWithoutAWord(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.boot(t)
	result, err := w.Exec(t.Context(), "systemd-analyze", "verify", "--man=no",
		"/usr/lib/systemd/system/soe-agent.service", "/usr/lib/systemd/system/soe-configured.target")
	if err != nil || result.Code != 0 {
		t.Errorf("%v, exit code %d", err, result.Code)
	}
	if about := result.Stdout + result.Stderr; strings.Contains(about, "soe-") {
		t.Errorf("systemd says:\n%s", about)
	}
	loaded := w.MustExec(t, "journalctl", "--no-pager", "--output=cat", "_PID=1")
	for line := range strings.Lines(loaded) {
		if strings.Contains(line, "/soe-") {
			t.Errorf("systemd says: %s", line)
		}
	}
	const key = "Overall exposure level for soe-agent.service: "
	_, rated, _ := strings.Cut(w.MustExec(t, "systemd-analyze", "security", "--no-pager", "soe-agent.service"), key)
	figure := strings.Fields(rated + " none")[0]
	recorded, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "`systemd-analyze security`: " + figure; !strings.Contains(string(recorded), want) {
		t.Errorf("docs/operations.md does not say %s", want)
	}
}

// Every persona of the examples, on a machine that is as thin as theirs.
func TestTheExamplesMakeADesktopOfEachPersona(t *testing.T) {
	t.Parallel()
	for _, personas := range []string{`"base"`, `"base", "developer"`, `"base", "finance"`, `"base", "kiosk"`} {
		t.Run(personas, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t)
			fragments := map[string]string{}
			files, err := filepath.Glob("../../policies/example/*.toml")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				fragments[strings.TrimSuffix(filepath.Base(file), ".toml")] = string(text)
			}
			w.aws.PutParameter("/soe/prod/repository/baseurl", rpmrepo.BaseURL)
			w.aws.PutParameter("/soe/prod/repository/gpgkey", rpmrepo.KeyURL)
			w.aws.PutParameter("/soe/prod/repository/fingerprint", w.repo.Fingerprint)
			w.publish(t, 3, fragments)
			config := strings.Replace(w.MustReadFile(t, agent.ConfigFile), `"base", "developer"`, personas, 1)
			w.MustWriteFile(t, agent.ConfigFile, box.File{Content: config})
			w.activate(t)
			w.boot(t)
			r := w.converged(t, 3)
			for _, resource := range r.Resources {
				switch resource.State {
				case converge.Compliant, converge.Corrected, converge.Pending, converge.Waived:
				default:
					t.Errorf("%s is %s: %s", resource.ID, resource.State, resource.Reason)
				}
			}
			if len(r.Resources) < 30 {
				t.Error(fmt.Sprint("only ", len(r.Resources), " resources"))
			}
		})
	}
}
